"""The memory of training on a GPU: what `size` foretells beside `torch.cuda.max_memory_allocated`.

Needs a CUDA machine with PyTorch, and the two folders `src` and `tests` of thalweg on the path:

    PYTHONPATH=src:tests python benchmarks/device_memory.py

For each network, precision, optimizer and batch: the peak foretold without data, with the kernels that this GPU gets;
the peak foretold by a process that sees no GPU, as on a laptop; and the largest that the allocator gave out in the
second training step (the loss is the mean of the outputs). Then, for a cap on the process's memory, the largest batch
foretold beside the largest that really runs under that cap.
"""

from __future__ import annotations

import functools
import gc
import importlib
import json
import os
import subprocess
import sys
import types

import torch

from thalweg.network.byte_sizes import written_bytes
from thalweg.network.memory import most_that_fit
from thalweg.network.rehearsal import Rehearsal
from thalweg.network.training_step import Setup
from thalweg.report import Table

OPTIMIZERS = {"sgd": torch.optim.SGD, "adam": torch.optim.Adam}
AUTOCAST = {"mixed-bfloat16": torch.bfloat16}
CAP = 8 * 2**30
FORETELL = "--foretell"


def networks():
    """The networks of the tests, which ask pytest for PyTorch: it is here also where there is no pytest."""
    try:
        importlib.import_module("pytest")
    except ImportError:
        sys.modules["pytest"] = types.SimpleNamespace(importorskip=lambda name, **_: importlib.import_module(name))
    found = importlib.import_module("torch_networks")
    llama = functools.partial(found.Llama, words=8000, width=1024, depth=8, heads=16, hidden=2816)
    lstm = functools.partial(found.Tagger, words=8000, width=256, hidden=512)
    return {
        "ResNet-50": (functools.partial(found.resnet, 50), (3, 224, 224), (16, 64)),
        "U-Net": (functools.partial(found.UNet, width=64), (3, 256, 256), (4, 16)),
        "ViT-B/16": (found.VisionTransformer, (3, 224, 224), (16, 64)),
        "LLaMA, 8 layers": (llama, (1024,), (4, 16)),
        "LSTM, 2 layers both ways": (lstm, (256,), (16, 64)),
    }


def sample(batch, shape, device):
    """Images, or the ids of words."""
    if len(shape) > 1:
        return torch.randn(batch, *shape, device=device)
    return torch.zeros(batch, *shape, dtype=torch.int64, device=device)


def rehearsal(make, shape):
    with torch.device("meta"):
        module = make()
    return Rehearsal(module, lambda batch: (sample(batch, shape, "cpu"),))


def setups():
    """Every network with what is foretold and measured of it."""
    for name, (_, _, batches) in networks().items():
        for precision in ("float32", *AUTOCAST):
            for optimizer in OPTIMIZERS:
                for batch in batches:
                    yield name, Setup(batch, precision, optimizer, device="cuda")


def foretold():
    """The peak of every setup, in order; None where PyTorch refuses it."""
    stages = {name: rehearsal(make, shape) for name, (make, shape, _) in networks().items()}
    peaks = []
    for name, setup in setups():
        try:
            peaks.append(stages[name].train(setup).peak)
        except Exception as error:
            print(f"{name}, {setup}: {error}", file=sys.stderr)
            peaks.append(None)
    return peaks


def foretold_without_a_gpu():
    """The same, of a process that sees none."""
    command = [sys.executable, __file__, FORETELL]
    blind = os.environ | {"CUDA_VISIBLE_DEVICES": ""}
    return json.loads(subprocess.run(command, env=blind, check=True, stdout=subprocess.PIPE).stdout)


def measured(make, shape, setup):
    """The most bytes allocated in the second step; whatever ran before has its workspace already."""
    gc.collect()
    torch.cuda.empty_cache()
    module = make().cuda().train()
    updates = OPTIMIZERS[setup.optimizer](module.parameters(), lr=1e-3)
    inputs = sample(setup.batch, shape, "cuda")
    kind = AUTOCAST.get(setup.dtype)

    def step():
        updates.zero_grad(set_to_none=True)
        with torch.autocast("cuda", kind, enabled=kind is not None):
            loss = module(inputs).mean()
        loss.backward()
        del loss
        updates.step()

    step()
    torch.cuda.synchronize()
    torch.cuda.reset_peak_memory_stats()
    step()
    torch.cuda.synchronize()
    return torch.cuda.max_memory_allocated()


def peaks():
    made, rows = networks(), []
    for (name, setup), here, elsewhere in zip(setups(), foretold(), foretold_without_a_gpu(), strict=True):
        make, shape, _ = made[name]
        found = measured(make, shape, setup)
        told = [(written_bytes(each), each / found) if each else ("refused", "") for each in (here, elsewhere)]
        rows.append(
            (name, setup.dtype, setup.optimizer, setup.batch, written_bytes(found), *told[0], *told[1])
        )  # fmt: skip
    columns = (
        "network", "precision", "optimizer", "batch", "allocated", "foretold here", "ratio", "foretold without a GPU",
        "ratio there",
    )  # fmt: skip
    title = f"Peak memory of a training step on {torch.cuda.get_device_name()}"
    print(Table(title, columns, rows).to_text(), flush=True)


def runs(make, shape, batch):
    try:
        measured(make, shape, Setup(batch, device="cuda"))
    except torch.cuda.OutOfMemoryError:
        return False
    return True


def largest_batches():
    total = torch.cuda.get_device_properties(0).total_memory
    torch.cuda.set_per_process_memory_fraction(CAP / total)
    rows = []
    for name, (make, shape, _) in networks().items():
        stage = rehearsal(make, shape)
        try:
            most, _ = most_that_fit(lambda batch, stage=stage: stage.train(Setup(batch, device="cuda")).held, CAP)
        except RuntimeError as error:  # PyTorch does not rehearse recurrent layers on a GPU
            print(f"{name}: not rehearsed on this GPU ({str(error).splitlines()[0]})", flush=True)
            continue
        low, high = 0, 2 * most
        while high - low > max(1, most // 64):
            middle = (low + high) // 2
            low, high = (middle, high) if runs(make, shape, middle) else (low, middle)
        rows.append((name, most, low, most / low))
    columns = ("network", "foretold", "runs", "ratio")
    print(Table(f"Largest batch with Adam in {written_bytes(CAP)}", columns, rows).to_text(), flush=True)


if __name__ == "__main__":
    if FORETELL in sys.argv:
        print(json.dumps(foretold()))
        sys.exit()
    if not torch.cuda.is_available():
        sys.exit("This benchmark needs a CUDA GPU.")
    peaks()
    largest_batches()
