"""What PyTorch really keeps and holds on a CPU: from a run with data, counted by hooks and by its allocator."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch", reason="needs PyTorch, which CI installs")


def saved_bytes(module, *inputs, **named):
    """The bytes of what autograd saves in a forward pass: each storage once, parameters left out."""
    parameters = {each.untyped_storage().data_ptr() for each in module.parameters()}
    storages = {}

    def pack(tensor):
        storage = tensor.untyped_storage()
        storages[storage.data_ptr()] = storage  # held, so that no other array gets its place
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        outputs = module(*inputs, **named)
    saved = sum(storage.nbytes() for place, storage in storages.items() if place not in parameters)
    del outputs
    return saved


def step_peak(module, optimizer, *inputs, forward=None):
    """The most bytes held in the second training step, as PyTorch's allocator reports each array it makes or frees.

    The loss is the mean of the outputs. What held arrays take before the step is added up by hand.
    """
    from torch.profiler import ProfilerActivity, profile

    def step():
        optimizer.zero_grad(set_to_none=True)
        loss = (forward or module)(*inputs).mean()
        loss.backward()
        del loss
        optimizer.step()

    step()
    optimizer.zero_grad(set_to_none=True)
    states = [each for state in optimizer.state.values() for each in state.values() if isinstance(each, torch.Tensor)]
    held = [*module.parameters(), *module.buffers(), *inputs, *states]
    now = most = sum({each.untyped_storage().data_ptr(): each.untyped_storage().nbytes() for each in held}.values())
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        step()
    events = [each for each in profiler.profiler.kineto_results.events() if each.name() == "[memory]"]
    for event in sorted(events, key=lambda each: each.start_ns()):
        now += event.nbytes()
        most = max(most, now)
    return most
