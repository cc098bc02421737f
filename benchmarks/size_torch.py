"""`size` of PyTorch modules against torchinfo, fvcore and PyTorch's own counter, in one process after the imports.

Peers count parameters and multiply-accumulates; `size` also counts neurons and connections, and works out what every
layer sees. Targets: ResNet-152 in 0.4 s and 330 MB of memory in all, 7 billion parameters in 1 s. Each contestant gets
modules without data where it can work on them (fvcore cannot). Peers that are not installed are left out. rfa_toolbox,
which works out receptive fields, does not import on Python 3.10 and later.
"""

from __future__ import annotations

import contextlib
import importlib
import resource
import sys
import time
from pathlib import Path

import torch

import thalweg as tw
from harness import interleaved_medians
from thalweg.report import Table

sys.path.append(str(Path(__file__).parent.parent / "tests"))
import torch_networks as networks

IMAGE = (3, 224, 224)
TOKENS = (2048,)


def torchinfo(module, shape, dtype):
    summary = importlib.import_module("torchinfo").summary
    found = summary(module, (1, *shape), dtypes=[dtype], device="meta", verbose=0)
    return found.total_mult_adds


def fvcore(module, shape, dtype):
    analysis = importlib.import_module("fvcore.nn").FlopCountAnalysis(module, torch.zeros(1, *shape, dtype=dtype))
    return analysis.unsupported_ops_warnings(False).uncalled_modules_warnings(False).total()


def flop_counter(module, shape, dtype):
    from torch.utils.flop_counter import FlopCounterMode

    with FlopCounterMode(display=False) as counter, torch.no_grad():
        module(torch.empty(1, *shape, dtype=dtype, device="meta"))
    return counter.get_total_flops() // 2


def ours(module, shape, dtype):
    return tw.size(module, shape).totals.macs


def installed(name):
    with contextlib.suppress(ImportError):
        importlib.import_module(name)
    return name in sys.modules


def megabytes():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main():
    with torch.device("meta"):
        bare = {
            "ResNet-50": (networks.resnet(50), IMAGE, torch.float32),
            "ResNet-152": (networks.resnet(152), IMAGE, torch.float32),
            "ViT-B/16": (networks.VisionTransformer(), IMAGE, torch.float32),
            "LLaMA-7B": (networks.Llama(), TOKENS, torch.int64),
        }
    for module, *_ in bare.values():
        module.eval()
    before = megabytes()
    began = time.perf_counter()
    ours(*bare["ResNet-152"])
    seconds = time.perf_counter() - began
    print(
        f"ResNet-152, first call: {seconds:.2f} s; memory of the process: {before:.0f} MB, then {megabytes():.0f} MB."
    )
    contestants = {"thalweg": ours, "PyTorch's counter": flop_counter}
    if installed("torchinfo"):
        contestants["torchinfo"] = torchinfo
    weighted = {name: (networks.resnet(int(name[7:])).eval(), IMAGE, torch.float32) for name in list(bare)[:2]}
    rows = []
    for name, case in bare.items():
        runs = {who: lambda run=run, case=case: run(*case) for who, run in contestants.items()}
        if name in weighted and installed("fvcore"):
            runs["fvcore"] = lambda case=weighted[name]: fvcore(*case)
        times = interleaved_medians(runs, repeats=5)
        rows += [(name, who, times[who], run() / 1e9) for who, run in runs.items()]
    print(Table("Modules of PyTorch", ("network", "who", "seconds", "billions of MACs"), rows).to_text())


if __name__ == "__main__":
    main()
