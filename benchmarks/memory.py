"""The memory of a training step: what `size` foretells beside what PyTorch really saves and holds on this CPU.

Saved activations are counted in a forward pass with data by hooks on what autograd saves, each storage once, parameters
left out. The peak is that of the second training step as PyTorch's CPU allocator reports every array that it makes and
frees (`torch.profiler` with `profile_memory`); memory that kernels get elsewhere, such as oneDNN's scratch pads, is in
neither number.
"""

from __future__ import annotations

import functools
import importlib.util
import sys
import time
from pathlib import Path

from thalweg.network.rehearsal import Rehearsal
from thalweg.network.training_step import Setup
from thalweg.report import Table

sys.path.append(str(Path(__file__).resolve().parents[1] / "tests"))


def cases():
    import torch_networks as networks

    yield "ResNet-18", functools.partial(networks.resnet, 18), (3, 224, 224), 8
    yield "ResNet-50", functools.partial(networks.resnet, 50), (3, 224, 224), 4
    yield "U-Net", networks.UNet, (3, 256, 256), 2
    yield "ViT-B/16, 4 blocks", functools.partial(networks.VisionTransformer, depth=4), (3, 224, 224), 4


def main():
    if importlib.util.find_spec("torch") is None:
        print("Left out: the memory of a training step needs PyTorch.")
        return
    import torch

    from torch_allocator import saved_bytes, step_peak

    rows = []
    for name, make, shape, batch in cases():
        for optimizer in ("sgd", "momentum", "adam"):
            torch.manual_seed(0)
            module = make().train()
            began = time.perf_counter()
            stage = Rehearsal(module, lambda count, shape=shape: (torch.zeros(count, *shape),))
            step = stage.train(Setup(batch, optimizer=optimizer))
            seconds = time.perf_counter() - began
            inputs = torch.randn(batch, *shape)
            saved = saved_bytes(module, inputs)
            peak = step_peak(module, optimizer_of(optimizer, module), inputs)
            same = "yes" if step.saved == saved else "NO"
            rows.append((name, batch, optimizer, step.saved, same, step.peak, peak, step.peak / peak, seconds))
    columns = ("network", "batch", "optimizer", "saved", "exact", "peak foretold", "peak", "ratio", "seconds")
    print(Table("Memory of a training step: foretold without data, and measured", columns, rows).to_text())


def optimizer_of(name, module):
    import torch

    make = {
        "sgd": functools.partial(torch.optim.SGD, lr=1e-3),
        "momentum": functools.partial(torch.optim.SGD, lr=1e-3, momentum=0.9),
        "adam": functools.partial(torch.optim.Adam, lr=1e-3),
    }
    return make[name](module.parameters())


if __name__ == "__main__":
    main()
