"""What `size` takes for ONNX files, each in a fresh process after the imports: processor seconds and peak memory.

The targets: the file of a 7-billion-parameter transformer, without its weights, in 0.3 s and 80 MB; ResNet-152, all
columns, in 0.4 s and 330 MB. Beside it onnx-tool, where an interpreter that has it is named in PEER_PYTHON; it needs
the weights, and counts elementwise operations too.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import warnings
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from thalweg.report import Table

OURS = """
import json, sys, time
import numpy, onnx, thalweg as tw
tw.size("input 8x8x3; conv3-4").to_json()
import thalweg.network.readers.onnx
began = time.process_time()
answer = tw.size(sys.argv[1], sys.argv[2])
answer.to_json()
print(json.dumps([time.process_time() - began, answer.totals.macs]))
"""

PEER = """
import json, sys, time
import numpy, onnx_tool
shape = [1, *map(int, sys.argv[2].split("x"))]
began = time.process_time()
model = onnx_tool.Model(sys.argv[1], {"verbose": False, "constant_folding": True})
name = model.graph.input[0]
model.graph.shape_infer({name: numpy.zeros(shape, numpy.int64 if len(shape) == 2 else numpy.float32)})
model.graph.profile()
macs = model.graph.macs
print(json.dumps([time.process_time() - began, int(macs[0] if isinstance(macs, list) else macs)]))
"""
PEAK = "print(__import__('re').search(r'VmHWM:\\s+(\\d+)', open('/proc/self/status').read())[1])"
REPEATS = 5


def measured(python, code, path, shape):
    """The median processor seconds, the MACs and the peak memory of fresh processes; None where they fail."""
    runs = []
    for _ in range(REPEATS):
        done = subprocess.run([python, "-c", code + PEAK, str(path), shape], capture_output=True, text=True)
        if done.returncode:
            return None, None, None
        answer, peak = done.stdout.splitlines()[-2:]
        runs.append((*json.loads(answer), int(peak) / 1000))
    return sorted(runs)[len(runs) // 2]


def files(folder):
    """Name, file and input of each network."""
    from onnx_files import Llama, textbook

    yield "textbook, no weights", textbook(folder / "textbook.onnx"), "3x112x112"
    yield "LLaMA-7B, no weights", Llama().save_to(folder / "llama.onnx"), "2048"
    try:
        import torch
    except ImportError:
        return
    from torch_networks import VisionTransformer, resnet

    for name, network in (("ResNet-50", resnet(50)), ("ResNet-152", resnet(152)), ("ViT-B/16", VisionTransformer())):
        path = folder / f"{name.replace('/', '-')}.onnx"
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            torch.onnx.export(network.eval(), (torch.zeros(1, 3, 224, 224),), str(path), dynamo=False, verbose=False)
        yield name, path, "3x224x224"


def main():
    peer, rows = os.environ.get("PEER_PYTHON"), []
    with tempfile.TemporaryDirectory() as folder:
        for name, path, shape in files(Path(folder)):
            ours = measured(sys.executable, OURS, path, shape)
            theirs = measured(peer, PEER, path, shape) if peer else (None, None, None)
            rows.append((name, path.stat().st_size / 1e6, *ours, *theirs))
    columns = ("network", "file, MB", "s", "MACs", "peak, MB", "onnx-tool, s", "its MACs", "its peak, MB")
    print(Table("size of an ONNX file, after the imports", columns, rows).to_text())


if __name__ == "__main__":
    main()
