"""Reads damaged and hostile ONNX files, each in a process of its own, and says what went wrong.

Run as a script: `python damaged_onnx.py COUNT SEED [--everything] [--keep]`; with `--everything` the cases of ONNX's
own tests are damaged too, with `--keep` the files that are answered wrongly stay in the current folder. Everything is
imported and warmed up once; then every file is read in a fork, which may use a second of processor time and 256 MiB
more than it has. Whatever is not an answer or an error of ours is printed as one line of JSON: a signal, another
exception, too much time.
"""

from __future__ import annotations

import contextlib
import gc
import json
import os
import random
import resource
import signal
import sys
import tempfile
import traceback
import warnings
from pathlib import Path

import onnx
from google.protobuf.message import DecodeError

import thalweg as tw
from onnx_files import Llama, many_operations
from thalweg.errors import ThalwegError

SECONDS = 1.0
MEMORY = 256 << 20
EXTREMES = (0, -1, 1, 2, 3, 7, 255, -(2**31), 2**31 - 1, 2**31, 2**40, 2**62, 2**63 - 1, -(2**63))
NAMES = ("", "x", "\x1b[31mred", "<script>alert(1)</script>", "[bold]", "a" * 5000, "é\u0000\u202e")
PLACES = ("weights.bin", "/etc/passwd", "../../etc/passwd", "", ".", "\0", "a/" * 500)


# -------------------------------------------------------------------------------------------------- damage to bytes


def flipped(draw, content):
    for _ in range(draw.choice([1, 1, 2, 8, 64])):
        content[draw.randrange(len(content))] = draw.randrange(256)


def cut(draw, content):
    del content[draw.randrange(len(content)) :]


def left_out(draw, content):
    start = draw.randrange(len(content))
    del content[start : start + draw.choice([1, 2, 10, 100])]


def put_in(draw, content):
    start = draw.randrange(len(content))
    content[start:start] = draw.randbytes(draw.choice([1, 2, 10, 100]))


def doubled(draw, content):
    start = draw.randrange(len(content))
    content[start:start] = content[start : start + draw.choice([1, 10, 200, 2000])]


def moved(draw, content):
    start, length = draw.randrange(len(content)), draw.choice([1, 10, 200])
    piece = content[start : start + length]
    del content[start : start + length]
    where = draw.randrange(len(content) + 1)
    content[where:where] = piece


BYTES = (flipped, flipped, cut, left_out, put_in, doubled, moved)


# ------------------------------------------------------------------------------------------------- damage to fields


def graphs_in(graph):
    """A graph, and those inside its nodes."""
    yield graph
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.HasField("g"):
                yield from graphs_in(attribute.g)


def some_node(draw, model):
    nodes = [node for graph in graphs_in(model.graph) for node in graph.node]
    return draw.choice(nodes + [node for function in model.functions for node in function.node])


def an_attribute(draw, model):
    node = some_node(draw, model)
    if not node.attribute:
        node.attribute.add(name=draw.choice(["axis", "axes", "pads", "perm", "group"]), type=draw.randrange(12))
    attribute = draw.choice(node.attribute)
    what = draw.randrange(6)
    if what == 0:
        attribute.i = draw.choice(EXTREMES)
    elif what == 1 and attribute.ints:
        attribute.ints[draw.randrange(len(attribute.ints))] = draw.choice(EXTREMES)
    elif what == 2:
        attribute.ints.extend(draw.choice(EXTREMES) for _ in range(draw.choice([1, 2, 100])))
    elif what == 3:
        attribute.type = draw.randrange(15)
    elif what == 4:
        attribute.s = draw.choice([b"SAME_UPPER", b"\xff\xfe", b"linear", b"bij,bjk->bik", b"..." * 400])
    else:
        node.attribute.remove(attribute)


def extents(draw, model):
    graph = draw.choice(list(graphs_in(model.graph)))
    if draw.random() < 0.6 and graph.initializer:
        tensor = draw.choice(graph.initializer)
        if tensor.dims and draw.random() < 0.7:
            tensor.dims[draw.randrange(len(tensor.dims))] = draw.choice(EXTREMES)
        else:
            tensor.dims.extend(draw.choice(EXTREMES) for _ in range(draw.choice([1, 2, 80])))
    elif graph.input:
        shape = draw.choice(graph.input).type.tensor_type.shape
        if shape.dim and draw.random() < 0.7:
            draw.choice(shape.dim).dim_value = draw.choice(EXTREMES)
        elif shape.dim:
            draw.choice(shape.dim).dim_param = draw.choice(NAMES)
        else:
            shape.dim.add(dim_value=draw.choice(EXTREMES))


def numbers(draw, model):
    tensors = [tensor for tensor in model.graph.initializer if tensor.data_type == onnx.TensorProto.INT64]
    tensor = draw.choice(tensors or list(model.graph.initializer) or [onnx.TensorProto()])
    if tensor.data_type == onnx.TensorProto.INT64 and len(tensor.raw_data) >= 8:
        place = draw.randrange(len(tensor.raw_data) // 8) * 8
        value = draw.choice(EXTREMES).to_bytes(8, "little", signed=True)
        tensor.raw_data = tensor.raw_data[:place] + value + tensor.raw_data[place + 8 :]
    elif draw.random() < 0.5:
        tensor.raw_data = tensor.raw_data[: draw.randrange(9)]
    else:
        tensor.data_type = draw.randrange(-1, 30)


def elsewhere(draw, model):
    if model.graph.initializer:
        tensor = draw.choice(model.graph.initializer)
        tensor.data_location = draw.choice([0, 1, 1])
        for key in ("location", "offset", "length"):
            value = draw.choice(PLACES) if key == "location" else str(draw.choice(EXTREMES))
            tensor.external_data.add(key=key, value=value)


def wiring(draw, model):
    nodes = model.graph.node
    node, other = some_node(draw, model), some_node(draw, model)
    what = draw.randrange(9)
    if what == 0 and node.input:
        node.input[draw.randrange(len(node.input))] = draw.choice([*other.input, *other.output, *NAMES])
    elif what == 1 and node.input:
        del node.input[draw.randrange(len(node.input)) :]
    elif what == 2:
        node.input.extend(draw.choice([*other.input, *other.output, ""]) for _ in range(draw.choice([1, 5])))
    elif what == 3 and node.output:
        node.output[0] = draw.choice([*other.input, *other.output, *NAMES])
    elif what == 4:
        nodes.insert(draw.randrange(len(nodes) + 1), nodes.pop(draw.randrange(len(nodes))))
    elif what == 5:
        del nodes[draw.randrange(len(nodes))]
    elif what == 6:
        nodes.add().CopyFrom(draw.choice(nodes))
    elif what == 7:
        node.output.extend(["", "more", "more"][: draw.randrange(4)])
    else:
        model.graph.output.add(name=draw.choice([*node.input, *node.output, "nothing"]))


def meaning(draw, model):
    node, what = some_node(draw, model), draw.randrange(7)
    if what < 3:
        node.op_type = draw.choice(OPERATORS)
    elif what == 3:
        node.domain = draw.choice(["", "com.microsoft", "own", "ai.onnx", "ai.onnx.ml"])
    elif what == 4:
        node.name = draw.choice(NAMES)
    elif what == 5:
        draw.choice(model.opset_import).version = draw.choice([*EXTREMES, *range(6, 30)])
    elif node.attribute:
        draw.choice(node.attribute).ref_attr_name = draw.choice(["split", "axis", "x"])


def nesting(draw, model):
    """Graphs inside graphs, and functions that call each other or themselves."""
    what = draw.randrange(3)
    if what == 0:
        node = model.graph.node.add(op_type="If", input=[model.graph.input[0].name], output=["deep"])
        for _ in range(draw.choice([2, 20, 90])):
            graph = node.attribute.add(name="then_branch", type=5).g
            graph.output.add(name="deep")
            node = graph.node.add(op_type="If", input=["x"], output=["deep"])
        model.graph.output.add(name="deep")
    elif what == 1:
        levels = draw.choice([1, 3, 30])
        for level in range(levels):
            function = model.functions.add(domain="own", name=f"F{level}", input=["a"], output=["b"])
            for place in range(draw.choice([1, 2, 10])):
                after = f"F{(level + 1) % (levels + draw.choice([0, 1]))}"
                output = ["b" if not place else f"b{place}"]
                function.node.add(op_type=after, domain="own", input=["a"], output=output)
        model.graph.node.insert(0, onnx.helper.make_node("F0", [model.graph.input[0].name], ["deep"], domain="own"))
        model.graph.output.add(name="deep")
    else:
        count = model.graph.initializer.add(name="count", data_type=7, int64_data=[draw.choice(EXTREMES)])
        body = onnx.helper.make_graph(
            [
                onnx.helper.make_node("Concat", ["h", "h"], ["k"], axis=0),
                onnx.helper.make_node("Identity", ["g"], ["f"]),
            ],
            "body",
            [onnx.helper.make_tensor_value_info(name, 1, None) for name in ("n", "g", "h")],
            [onnx.helper.make_tensor_value_info(name, 1, None) for name in ("f", "k")],
        )
        first = model.graph.input[0].name
        model.graph.node.append(onnx.helper.make_node("Loop", [count.name, "", first], ["grown"], body=body))
        model.graph.output.add(name="grown")


FIELDS = (an_attribute, an_attribute, extents, numbers, numbers, elsewhere, wiring, wiring, meaning, nesting)


# ------------------------------------------------------------------------------------------------------ the trials


def damaged(draw, content):
    """Some bytes that were a file."""
    if draw.random() < 0.5:
        kept = bytearray(content)
        for _ in range(draw.choice([1, 1, 1, 3])):
            if kept:
                draw.choice(BYTES)(draw, kept)
        return bytes(kept)
    model = onnx.ModelProto.FromString(content)
    for _ in range(draw.choice([1, 1, 2, 5])):
        if model.graph.node and model.graph.input:
            with contextlib.suppress(DecodeError):  # protobuf itself copies no node that is nested this deep
                draw.choice(FIELDS)(draw, model)
    return model.SerializeToString()


def read_in_a_fork(path, shape, report):
    """How a fork ended that read the file: its status and the processor time it took."""
    pid = os.fork()
    if not pid:
        code = 70
        try:
            used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
            resource.setrlimit(resource.RLIMIT_AS, (used + MEMORY, used + MEMORY))
            signal.alarm(30)
            try:
                answer = tw.size(path, shape)
                answer.to_json()
                answer.table().to_text()
                code = 0
            except ThalwegError as error:
                code = 0 if len(str(error)) < 5_000 else 72
        except BaseException:
            report.write_text(traceback.format_exc()[-1500:])
            code = 71
        finally:
            os._exit(code)
    _, status, usage = os.wait4(pid, 0)
    return os.waitstatus_to_exitcode(status), usage.ru_utime + usage.ru_stime


def seeds(folder, everything):
    """Whole files: `(bytes, input)`."""
    found = [(model.SerializeToString(), shape) for _, model, shape in many_operations()]
    small = Llama(layers=2, width=8, heads=2, hidden=12, words=10).save_to(folder / "seed.onnx")
    found.append((small.read_bytes(), (5,)))
    if everything:
        from onnx.backend.test.case.node import collect_testcases

        found += [(case.model.SerializeToString(), None) for case in collect_testcases() if case.model.graph.input]
    return found


def main(count, seed, everything=False, keep=False):
    draw, wrong, slowest = random.Random(seed), 0, 0.0
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        path, report = folder / "damaged.onnx", folder / "report"
        files = seeds(folder, everything)
        for content, shape in files[:9]:  # once in this process, so that forks find everything imported
            path.write_bytes(content)
            tw.size(path, shape).table()
        gc.freeze()  # so that forks share what is there already
        for number in range(count):
            content, shape = draw.choice(files)
            path.write_bytes(damaged(draw, content))
            code, seconds = read_in_a_fork(path, draw.choice([shape, shape, None]), report)
            slowest = max(slowest, seconds)
            if code or seconds > SECONDS:
                wrong += 1
                told = report.read_text() if code == 71 else ""
                print(json.dumps({"number": number, "code": code, "seconds": seconds, "told": told}))
                if keep:
                    Path(f"damaged-{seed}-{number}.onnx").write_bytes(path.read_bytes())
    print(json.dumps({"read": count, "wrong": wrong, "slowest": slowest}))


OPERATORS = sorted({schema.name for schema in onnx.defs.get_all_schemas()})

if __name__ == "__main__":
    warnings.simplefilter("ignore")
    main(int(sys.argv[1]), int(sys.argv[2]), "--everything" in sys.argv, "--keep" in sys.argv)
