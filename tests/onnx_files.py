"""ONNX files of small networks, written node by node."""

from __future__ import annotations

import numpy as np
import pytest

onnx = pytest.importorskip("onnx", reason="needs onnx, which CI installs")
helper = onnx.helper


class Writer:
    """A network in the making: every method adds a node and returns the name of its output."""

    def __init__(self, seed=0, opset=17):
        self.random = np.random.default_rng(seed)
        self.opset = opset
        self.nodes, self.tensors, self.inputs, self.functions = [], [], [], []
        self._count = 0

    def input(self, name, shape, kind=onnx.TensorProto.FLOAT):
        self.inputs.append(helper.make_tensor_value_info(name, kind, shape))
        return name

    def node(self, operator, inputs, name="", outputs=1, domain="", **attributes):
        self._count += 1
        made = [f"v{self._count}" if place == 0 else f"v{self._count}_{place}" for place in range(outputs)]
        self.nodes.append(
            helper.make_node(operator, inputs, made, name or f"{operator}_{self._count}", domain=domain, **attributes)
        )
        return made[0] if outputs == 1 else made

    def tensor(self, values, name=""):
        self._count += 1
        name = name or f"t{self._count}"
        self.tensors.append(onnx.numpy_helper.from_array(np.asarray(values), name))
        return name

    def numbers(self, *values):
        return self.tensor(np.array(values, np.int64))

    def weight(self, shape, name=""):
        """Positive numbers, so that what depends on something shows it."""
        return self.tensor(self.random.uniform(0.5, 1.5, shape).astype(np.float32), name)

    def absent(self, shape, name="", kind=onnx.TensorProto.FLOAT):
        """A weight whose numbers are in another file, which is not there."""
        self._count += 1
        tensor = onnx.TensorProto(name=name or f"t{self._count}", data_type=kind, dims=shape)
        tensor.data_location = onnx.TensorProto.EXTERNAL
        tensor.external_data.add(key="location", value="weights.bin")
        self.tensors.append(tensor)
        return tensor.name

    def conv(self, x, inputs, outputs, kernel, name="", bias=True, **attributes):
        names = [x, self.weight((outputs, inputs // attributes.get("group", 1), *kernel), name and f"{name}.weight")]
        if bias:
            names.append(self.tensor(np.zeros(outputs, np.float32), name and f"{name}.bias"))
        return self.node("Conv", names, name, kernel_shape=kernel, **attributes)

    def linear(self, x, inputs, outputs, name="", bias=True):
        names = [x, self.weight((outputs, inputs), name and f"{name}.weight")]
        if bias:
            names.append(self.tensor(np.zeros(outputs, np.float32), name and f"{name}.bias"))
        return self.node("Gemm", names, name, transB=1)

    def model(self, *outputs, value_info=(), domains=()):
        graph = helper.make_graph(
            self.nodes,
            "network",
            self.inputs,
            [helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None) for name in outputs],
            self.tensors,
            value_info=value_info,
        )
        imports = [helper.make_opsetid("", self.opset), *(helper.make_opsetid(domain, 1) for domain in domains)]
        return helper.make_model(graph, opset_imports=imports, functions=self.functions, ir_version=9)

    def save(self, path, *outputs, **options):
        path.write_bytes(self.model(*outputs, **options).SerializeToString())
        return path


def textbook(path):
    """The network of the textbook's table, with names as PyTorch's exporter writes them and without its weights."""
    net = Writer()
    x, channels = net.input("image", ["batch", 3, 112, 112]), 3
    for number, (width, pooled) in enumerate([(64, True), (128, True), (256, False), (256, True)]):
        weights = [
            net.absent((width, channels, 3, 3), f"conv{number}.weight"),
            net.absent((width,), f"conv{number}.bias"),
        ]
        x = net.node("Conv", [x, *weights], f"/conv{number}/Conv", pads=(1, 1, 1, 1))
        if pooled:
            x = net.node("MaxPool", [x], f"/pool{number}/MaxPool", kernel_shape=(2, 2), strides=(2, 2))
        channels = width
    x = net.node("Flatten", [x], "/Flatten")
    for name, wide, units in (("fc1", 256 * 14 * 14, 1024), ("fc2", 1024, 100)):
        weights = [net.absent((units, wide), f"{name}.weight"), net.absent((units,), f"{name}.bias")]
        x = net.node("Gemm", [x, *weights], f"/{name}/Gemm", transB=1)
    return net.save(path, x)


class Llama(Writer):
    """A transformer of the shape of LLaMA, operation by operation as PyTorch's exporter writes it, without weights.

    Args:
        layers: how many.
        width: of the residual stream.
        heads: of attention.
        hidden: the width inside the feed-forward part.
        words: in the vocabulary.
    """

    def __init__(self, layers=32, width=4096, heads=32, hidden=11008, words=32000):
        super().__init__()
        self.width, self.heads, self.hidden, self.words, self.layers = width, heads, hidden, words, layers

    def save_to(self, path):
        ids = self.input("input_ids", ["batch", "sequence"], onnx.TensorProto.INT64)
        self.half = self.numbers(self.width // self.heads // 2)
        self.zero, self.one, self.two, self.end = (self.numbers(each) for each in (0, 1, 2, 1 << 62))
        self.split = self.numbers(0, 0, self.heads, self.width // self.heads)
        self.together = self.numbers(0, 0, self.width)
        self._positions(ids)
        x = self.node("Gather", [self.absent((self.words, self.width), "model.embed_tokens.weight"), ids])
        for number in range(self.layers):
            x = self._layer(x, f"model.layers.{number}")
        x = self._norm(x, "model.norm")
        return self.save(path, self._linear(x, self.width, self.words, "lm_head"))

    def _positions(self, ids):
        """Tables of cosines and sines, and a mask of what comes later, for as many places as there are ids."""
        length = self.node("Gather", [self.node("Shape", [ids]), self.tensor(np.int64(1))])
        places = self.node("Range", [self.tensor(np.int64(0)), length, self.tensor(np.int64(1))])
        places = self.node("Unsqueeze", [self.node("Cast", [places], to=1), self.one])
        depth = self.width // self.heads
        rates = self.absent((1, depth // 2), "model.rotary_emb.inv_freq")
        angles = self.node("MatMul", [places, rates])
        angles = self.node("Concat", [angles, angles], axis=-1)
        self.cosines, self.sines = self.node("Cos", [angles]), self.node("Sin", [angles])
        square = self.node("Concat", [self.node("Unsqueeze", [length, self.zero])] * 2, axis=0)
        lowest = self.tensor(np.array(-3e38, np.float32))
        self.mask = self.node("Trilu", [self.node("Expand", [lowest, square]), self.tensor(np.int64(1))])

    def _linear(self, x, inputs, outputs, name):
        path = "/" + name.replace(".", "/").replace("layers/", "layers.")
        return self.node("MatMul", [x, self.absent((inputs, outputs), f"onnx::{name}")], f"{path}/MatMul")

    def _norm(self, x, name):
        path = "/" + name.replace(".", "/").replace("layers/", "layers.")
        square = self.node("Pow", [x, self.tensor(np.array(2, np.float32))], f"{path}/Pow")
        mean = self.node("ReduceMean", [square], f"{path}/ReduceMean", axes=[-1])
        root = self.node("Sqrt", [self.node("Add", [mean, self.tensor(np.array(1e-6, np.float32))], f"{path}/Add")])
        x = self.node("Mul", [x, self.node("Reciprocal", [root])], f"{path}/Mul")
        return self.node("Mul", [self.absent((self.width,), f"{name}.weight"), x], f"{path}/Mul_1")

    def _rotated(self, x):
        front = self.node("Slice", [x, self.zero, self.half, self.tensor(np.array([3]))])
        back = self.node("Slice", [x, self.half, self.end, self.tensor(np.array([3]))])
        turned = self.node("Concat", [self.node("Neg", [back]), front], axis=-1)
        return self.node("Add", [self.node("Mul", [x, self.cosines]), self.node("Mul", [turned, self.sines])])

    def _heads(self, x):
        return self.node("Transpose", [self.node("Reshape", [x, self.split])], perm=(0, 2, 1, 3))

    def _layer(self, x, name):
        normed = self._norm(x, f"{name}.input_layernorm")
        q, k, v = (
            self._heads(self._linear(normed, self.width, self.width, f"{name}.self_attn.{each}_proj")) for each in "qkv"
        )
        q, k = self._rotated(q), self._rotated(k)
        path = f"/{name.replace('.', '/').replace('layers/', 'layers.')}/self_attn"
        scores = self.node("MatMul", [q, self.node("Transpose", [k], perm=(0, 1, 3, 2))], f"{path}/MatMul")
        scores = self.node("Div", [scores, self.tensor(np.array(11.3, np.float32))], f"{path}/Div")
        shares = self.node(
            "Softmax", [self.node("Add", [scores, self.mask], f"{path}/Add")], f"{path}/Softmax", axis=-1
        )
        mixed = self.node("MatMul", [shares, v], f"{path}/MatMul_1")
        mixed = self.node("Reshape", [self.node("Transpose", [mixed], perm=(0, 2, 1, 3)), self.together])
        x = self.node(
            "Add", [x, self._linear(mixed, self.width, self.width, f"{name}.self_attn.o_proj")], f"{path}/Add_1"
        )
        normed = self._norm(x, f"{name}.post_attention_layernorm")
        gate, up = (self._linear(normed, self.width, self.hidden, f"{name}.mlp.{each}_proj") for each in ("gate", "up"))
        gate = self.node("Mul", [gate, self.node("Sigmoid", [gate])])
        down = self._linear(self.node("Mul", [gate, up]), self.hidden, self.width, f"{name}.mlp.down_proj")
        return self.node("Add", [x, down])
