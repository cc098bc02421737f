"""The memory of training on a GPU: what `size` foretells beside `torch.cuda.max_memory_allocated`.

Needs a CUDA machine with PyTorch, and the two folders `src` and `tests` of thalweg on the path:

    PYTHONPATH=src:tests python benchmarks/device_memory.py

For each network, optimizer and batch: the peak foretold without data, with the kernels that this GPU gets, and the
largest that the allocator gave out in the second training step (the loss is the mean of the outputs). Then, for a cap
on the process's memory, the largest batch foretold beside the largest that really runs under that cap.
"""

from __future__ import annotations

import functools
import gc
import importlib
import sys
import types

import torch

from thalweg.network.byte_sizes import written_bytes
from thalweg.network.memory import most_that_fit
from thalweg.network.rehearsal import Rehearsal
from thalweg.network.training_step import Setup
from thalweg.report import Table

OPTIMIZERS = {"sgd": torch.optim.SGD, "adam": torch.optim.Adam}
CAP = 8 * 2**30


def networks():
    """The networks of the tests, which ask pytest for PyTorch: it is here also where there is no pytest."""
    try:
        importlib.import_module("pytest")
    except ImportError:
        sys.modules["pytest"] = types.SimpleNamespace(importorskip=lambda name, **_: importlib.import_module(name))
    found = importlib.import_module("torch_networks")
    return {
        "ResNet-50": (functools.partial(found.resnet, 50), (3, 224, 224), (16, 64)),
        "U-Net": (functools.partial(found.UNet, width=64), (3, 256, 256), (4, 16)),
        "ViT-B/16": (found.VisionTransformer, (3, 224, 224), (16, 64)),
    }


def rehearsal(make, shape):
    with torch.device("meta"):
        module = make()
    return Rehearsal(module, lambda batch: (torch.zeros(batch, *shape),))


def measured(make, shape, batch, optimizer):
    """The most bytes allocated in the second step; whatever ran before has its workspace already."""
    gc.collect()
    torch.cuda.empty_cache()
    module = make().cuda().train()
    updates = OPTIMIZERS[optimizer](module.parameters(), lr=1e-3)
    inputs = torch.randn(batch, *shape, device="cuda")

    def step():
        updates.zero_grad(set_to_none=True)
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
    rows = []
    for name, (make, shape, batches) in networks().items():
        stage = rehearsal(make, shape)
        for optimizer in OPTIMIZERS:
            for batch in batches:
                foretold = stage.train(Setup(batch, optimizer=optimizer, device="cuda")).peak
                found = measured(make, shape, batch, optimizer)
                rows.append((name, optimizer, batch, written_bytes(foretold), written_bytes(found), foretold / found))
    columns = ("network", "optimizer", "batch", "foretold", "allocated", "ratio")
    title = f"Peak memory of a training step on {torch.cuda.get_device_name()}"
    print(Table(title, columns, rows).to_text(), flush=True)


def runs(make, shape, batch):
    try:
        measured(make, shape, batch, "adam")
    except torch.cuda.OutOfMemoryError:
        return False
    return True


def largest_batches():
    total = torch.cuda.get_device_properties(0).total_memory
    torch.cuda.set_per_process_memory_fraction(CAP / total)
    rows = []
    for name, (make, shape, _) in networks().items():
        stage = rehearsal(make, shape)
        foretold, _ = most_that_fit(
            lambda batch, stage=stage: stage.train(Setup(batch, optimizer="adam", device="cuda")).held, CAP
        )
        low, high = 0, 2 * foretold
        while high - low > max(1, foretold // 64):
            middle = (low + high) // 2
            low, high = (middle, high) if runs(make, shape, middle) else (low, middle)
        rows.append((name, foretold, low, foretold / low))
    columns = ("network", "foretold", "runs", "ratio")
    print(Table(f"Largest batch with Adam in {written_bytes(CAP)}", columns, rows).to_text(), flush=True)


if __name__ == "__main__":
    if not torch.cuda.is_available():
        sys.exit("This benchmark needs a CUDA GPU.")
    peaks()
    largest_batches()
