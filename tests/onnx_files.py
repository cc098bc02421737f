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


def many_operations():
    """Small networks that together use most kinds of operations, as `(name, model, input)`."""
    return [(make.__name__, *make()) for make in _SMALL]


def residual():
    net = Writer(1)
    x = net.conv(net.input("x", ["n", 3, "h", "w"]), 3, 8, (3, 3), "stem", pads=(1, 1, 1, 1), strides=(2, 2))
    scale, shift, mean, variance = (net.weight((8,)) for _ in range(4))
    y = net.node("Relu", [net.node("BatchNormalization", [x, scale, shift, mean, variance])])
    y = net.conv(y, 8, 8, (3, 3), auto_pad="SAME_UPPER", group=2)
    x = net.node("MaxPool", [net.node("Add", [x, y])], kernel_shape=(3, 3), strides=(2, 2), ceil_mode=1)
    x = net.node("Flatten", [net.node("GlobalAveragePool", [x])])
    return net.model(net.linear(x, 8, 5)), (3, 17, 19)


def shapes_at_work():
    net = Writer(2, opset=13)
    x = net.conv(net.input("x", [1, 3, 12, 12]), 3, 8, (3, 3))
    shape = net.node("Shape", [x])
    batch, height = (net.node("Gather", [shape, net.numbers(place)]) for place in (0, 2))
    rest = net.node("Div", [net.node("Mul", [height, net.numbers(8)]), net.numbers(1)])
    x = net.node("Reshape", [x, net.node("Concat", [batch, rest, net.numbers(-1)], axis=0)])
    x = net.node("Transpose", [x], perm=(0, 2, 1))
    parts = net.node("Split", [x, net.numbers(30, 50)], outputs=2, axis=2)
    x = net.node("Concat", [parts[1], parts[0]], axis=2)
    x = net.node("Slice", [x, net.numbers(0), net.numbers(-1), net.numbers(1), net.numbers(2)])
    x = net.node("Unsqueeze", [net.node("Squeeze", [x, net.numbers(0)]), net.numbers(0)])
    count = net.node(
        "Range", [net.tensor(np.int64(0)), net.node("Size", [net.tensor(np.zeros(80))]), net.tensor(np.int64(1))]
    )
    x = net.node("Gather", [x, count], axis=2)
    x = net.node(
        "Where", [net.tensor(np.array(True)), x, net.node("Expand", [net.weight((1,)), net.numbers(1, 5, 80)])]
    )
    x = net.node("Tile", [x, net.numbers(1, 1, 2)])
    x = net.node("ReduceMean", [x], axes=[1], keepdims=0)
    return net.model(net.node("TopK", [x, net.numbers(3)], outputs=2)[0]), None


def up_and_down():
    net = Writer(3)
    x = net.conv(net.input("x", [1, 4, 6, 8]), 4, 8, (3, 3), pads=(1, 1, 1, 1), dilations=(1, 1))
    y = net.node("ConvTranspose", [x, net.weight((8, 4, 2, 2))], strides=(2, 2))
    y = net.node("DepthToSpace", [net.node("SpaceToDepth", [y], blocksize=2)], blocksize=2, mode="CRD")
    z = net.node("Resize", [x, "", net.tensor(np.array([1, 1, 2, 2], np.float32))], mode="linear")
    x = net.node("Concat", [y, z], axis=1)
    x = net.node("Pad", [x, net.numbers(0, 0, 1, 2, 0, 0, 1, -1)])
    x = net.node("InstanceNormalization", [x, net.weight((12,)), net.weight((12,))])
    x = net.node("Softmax", [net.node("Clip", [x, net.tensor(np.float32(0))])], axis=1)
    return net.model(net.node("AveragePool", [x], kernel_shape=(2, 2), pads=(1, 0, 0, 1))), None


def tokens():
    net = Writer(4)
    ids = net.input("ids", ["batch", "length"], onnx.TensorProto.INT64)
    x = net.node("Gather", [net.weight((20, 12), "words.weight"), ids])
    x = net.node("LayerNormalization", [x, net.weight((12,)), net.weight((12,))])
    heads = [
        net.node("Reshape", [net.node("MatMul", [x, net.weight((12, 12))]), net.numbers(0, 0, 3, 4)]) for _ in range(3)
    ]
    heads = [net.node("Transpose", [each], perm=(0, 2, 1, 3)) for each in heads]
    scores = net.node("Einsum", heads[:2], equation="bhqd,bhkd->bhqk")
    mixed = net.node("MatMul", [net.node("Softmax", [scores], axis=-1), heads[2]])
    mixed = net.node("Transpose", [mixed], perm=(0, 2, 1, 3))
    x = net.node("Add", [x, net.node("Reshape", [mixed, net.numbers(0, 0, 12)])])
    x = net.node("Transpose", [net.node("Gelu" if net.opset > 19 else "Erf", [x])], perm=(1, 0, 2))
    every, last = net.node("LSTM", [x, net.weight((1, 20, 12)), net.weight((1, 20, 5))], outputs=2, hidden_size=5)
    gru = net.node("GRU", [net.node("Squeeze", [every, net.numbers(1)]), net.weight((2, 9, 5)), net.weight((2, 9, 3))],
                   outputs=2, direction="bidirectional", hidden_size=3)  # fmt: skip
    return net.model(last, gru[0]), (7,)


def quantised():
    net = Writer(5)
    scale, zero = net.tensor(np.float32(0.1)), net.tensor(np.uint8(3))
    x = net.node("QuantizeLinear", [net.input("x", [1, 3, 8, 8]), scale, zero])
    kernel = net.tensor(np.full((4, 3, 3, 3), 7, np.int8), "conv.weight")
    bias, plain = net.tensor(np.zeros(4, np.int32)), net.tensor(np.int8(0))
    x = net.node("QLinearConv", [x, scale, zero, kernel, scale, plain, scale, zero, bias])
    x = net.node("Reshape", [net.node("DequantizeLinear", [x, scale, zero]), net.numbers(1, -1)])
    table = net.tensor(np.arange(144 * 5, dtype=np.int16).reshape(144, 5).astype(np.int8), "fc.weight")
    x = net.node("MatMul", [x, net.node("DequantizeLinear", [table, scale, plain])])
    whole = net.node("DynamicQuantizeLinear", [x], outputs=3)
    more = net.tensor(np.ones((5, 2), np.int8), "last.weight")
    return net.model(net.node("MatMulInteger", [whole[0], more, whole[2]])), None


def loops():
    net = Writer(6)
    x = net.conv(net.input("x", [1, 2, 6]), 2, 2, (1,), "first")
    weight = net.weight((2, 2, 3), "again.weight")
    value = helper.make_tensor_value_info
    body = helper.make_graph(
        [
            helper.make_node("Conv", ["inner", weight], ["next"], "again", pads=(1, 1)),
            helper.make_node("Identity", ["going"], ["still"]),
        ],
        "body",
        [value("number", 7, []), value("going", 9, []), value("inner", 1, None)],
        [value("still", 9, []), value("next", 1, None), value("next", 1, None)],
    )
    count, yes = net.tensor(np.int64(3)), net.tensor(np.array(True))
    x, every = net.node("Loop", [count, yes, x], "loop", outputs=2, body=body)
    same = helper.make_graph([helper.make_node("Relu", [x], ["same"])], "same", [], [value("same", 1, None)])
    other = helper.make_graph([helper.make_node("Neg", [x], ["other"])], "other", [], [value("other", 1, None)])
    big = net.node("Greater", [net.node("Size", [net.tensor(np.zeros(4))]), net.tensor(np.int64(3))])
    x = net.node("If", [big], then_branch=same, else_branch=other)
    step = helper.make_graph(
        [helper.make_node("Add", ["held", "now"], ["sum"]), helper.make_node("Identity", ["sum"], ["told"])],
        "step",
        [value("held", 1, None), value("now", 1, None)],
        [value("sum", 1, None), value("told", 1, None)],
    )
    first = net.node(
        "Squeeze", [net.node("Slice", [x, net.numbers(0), net.numbers(1), net.numbers(2)]), net.numbers(2)]
    )
    scanned = net.node("Scan", [first, x], outputs=2, body=step, num_scan_inputs=1, scan_input_axes=[2])
    members = net.node("SplitToSequence", [x, net.tensor(np.int64(2))], axis=2)
    last = net.node("SequenceAt", [members, net.tensor(np.int64(-1))])
    return net.model(scanned[1], every, net.node("ConcatFromSequence", [members], axis=2), last), None


def functions():
    net = Writer(7)
    inner = helper.make_function(
        "own", "Scaled", ["x", "w"], ["y"],
        [_referring("Conv", ["x", "w"], ["c"], "group", "split"), helper.make_node("Relu", ["c"], ["y"])],
        [helper.make_opsetid("", 17)], ["split"],
    )  # fmt: skip
    outer = helper.make_function(
        "own", "Twice", ["x", "w"], ["z"],
        [helper.make_node("Scaled", ["x", "w"], ["y"], domain="own", split=2),
         helper.make_node("Scaled", ["y", "w"], ["z"], domain="own", split=2)],
        [helper.make_opsetid("", 17), helper.make_opsetid("own", 1)],
    )  # fmt: skip
    net.functions += [inner, outer]
    x = net.node("Twice", [net.input("x", [1, 4, 5, 5]), net.weight((4, 2, 1, 1), "both.weight")], domain="own")
    return net.model(net.node("Mystery", [x], "who knows", domain="elsewhere"), domains=("own", "elsewhere")), None


def fused():
    net = Writer(8)
    ids = net.input("ids", [1, 6], onnx.TensorProto.INT32)
    x = net.node(
        "EmbedLayerNormalization",
        [ids, "", net.weight((9, 8)), net.weight((10, 8)), "", net.weight((8,)), net.weight((8,))],
        outputs=2, domain="com.microsoft",
    )[0]  # fmt: skip
    y = net.node("Attention", [x, net.weight((8, 24)), net.weight((24,))], domain="com.microsoft", num_heads=2)
    x = net.node("SkipLayerNormalization", [x, y, net.weight((8,)), net.weight((8,))], domain="com.microsoft")
    x = net.node("FusedMatMul", [x, net.weight((8, 8))], domain="com.microsoft", transB=1)
    x = net.node("BiasGelu", [x, net.weight((8,))], domain="com.microsoft")
    q = net.node("MultiHeadAttention", [x, x, x], domain="com.microsoft", num_heads=4)
    g = net.node("GroupQueryAttention", [q, q, q], domain="com.microsoft", num_heads=4, kv_num_heads=4)
    return net.model(g, domains=("com.microsoft",)), None


def _referring(operator, inputs, outputs, attribute, to):
    node = helper.make_node(operator, inputs, outputs)
    node.attribute.add(name=attribute, ref_attr_name=to, type=onnx.AttributeProto.INT)
    return node


_SMALL = (residual, shapes_at_work, up_and_down, tokens, quantised, loops, functions, fused)
