"""The derivatives of one unit of a PyTorch module by its input, for one input after the other.

A copy of the module that shares its weights runs, in evaluation mode; the result of the layer is taken hold of by a
hook on the module of that name, so that the given module, its gradients and the state of the random generators stay
as they are. Inputs go through one at a time: none can influence the derivatives of another.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from thalweg.errors import InputError
from thalweg.network.given_inputs import batches_of, numbers_of
from thalweg.network.graph import Graph, written
from thalweg.network.layer_call import Call
from thalweg.network.readers.lazy_torch import torch

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


def gradients(
    model: Any, graph: Graph, call: Call, given: Any, samples: int, seed: int
) -> Iterator[NDArray[np.float64]]:
    """The derivatives of a unit, summed over its channels, by the first input, in the shape of that input.

    Args:
        model: the module.
        graph: what was read of it.
        call: the layer, and the unit in it.
        given: a batch for every input, or the batch of the only one; None for standard normal numbers.
        samples: how many random inputs.
        seed: of the random inputs, and of what the module draws when it runs.

    Raises:
        InputError: as for `thalweg.network.measured_field.measured_field`.
    """
    from thalweg.network.readers.torch import unwrapped
    from thalweg.network.readers.torch_copy import twin
    from thalweg.network.readers.torch_inputs import given_input

    original = unwrapped(model)
    arrays = [*original.parameters(), *original.buffers()]
    if any(torch.nn.parameter.is_lazy(each) or each.is_meta for each in arrays):
        raise InputError("The module holds no weights; build it with weights, and not on the meta device.")
    like = next((each for each in arrays if each.is_floating_point()), torch.empty(0))
    run = given_input(original, tuple(each.shape for each in graph.given)).run
    looked_up = graph.looked_up
    batches = None if given is None else batches_of(given, graph.given, _read)
    with torch.inference_mode(False):
        module = twin(original)
    generator = torch.Generator().manual_seed(seed)
    for number in range(samples if batches is None else len(batches[0])):
        inputs = []
        for place, tensor in enumerate(graph.given):
            if batches is not None:
                values = batches[place][number : number + 1]
            elif tensor.id in looked_up:
                values = torch.zeros((1, *tensor.shape))
            else:
                values = torch.randn((1, *tensor.shape), generator=generator)
            kind = torch.int64 if tensor.id in looked_up else like.dtype
            with torch.inference_mode(False):
                inputs.append(values.to(like.device, kind, copy=True))
        with torch.inference_mode(False), torch.enable_grad(), _own_random_numbers(like.device, seed + number):
            found = _derivatives(module, run, inputs, call)
        yield found


def _derivatives(
    module: torch.nn.Module, run: Callable[..., Any], inputs: list[torch.Tensor], call: Call
) -> NDArray[np.float64]:
    import numpy as np

    inputs[0].requires_grad_()
    units: list[torch.Tensor | None] = []
    with _watched(module, call, units):
        # Networks may write into what they are given, as an activation in place does: not into a leaf.
        first = inputs[0].clone()
        try:
            run(module, (first, *inputs[1:]))
        except InputError:
            raise
        except Exception as error:
            reason = str(error).strip().partition("\n")[0].rstrip(".") or type(error).__name__
            shapes = " and ".join(written(tuple(each.shape)) for each in inputs)
            raise InputError(f"The network does not run on an input of {shapes} (batch included): {reason}.") from error
    unit = call.own(units)
    if not unit.requires_grad:
        return np.zeros(tuple(inputs[0].shape[1:]))
    (found,) = torch.autograd.grad(unit, inputs[0], allow_unused=True)
    if found is None:
        return np.zeros(tuple(inputs[0].shape[1:]))
    array: NDArray[np.float64] = found[0].detach().to("cpu", torch.float64).numpy()
    return array


@contextlib.contextmanager
def _watched(module: torch.nn.Module, call: Call, units: list[torch.Tensor | None]) -> Iterator[None]:
    """While this runs, the unit is added to `units`, and None for every other call of the layer."""
    parts = dict(module.named_modules(remove_duplicate=False))
    if call.name not in parts or call.parts:
        raise InputError(
            f"The layer {call.name!r} is not a module of its own, whose result could be taken hold of; ask about "
            "a layer that is one."
        )

    def after(_: torch.nn.Module, args: Any, output: Any) -> None:
        result = next(iter(output)) if isinstance(output, tuple | list) and output else output
        place = call.place_in(tuple(result.shape) if isinstance(result, torch.Tensor) else None, len(units))
        # Taken at once: what comes next may write into the same array.
        units.append(None if place is None else result[place].sum())

    def before(each: torch.nn.Module, args: Any) -> None:
        x = args[0] if args else None
        if isinstance(x, torch.Tensor) and x.dim() == 3 and x.shape[0] == 1 and x.shape[1] != 1:
            kind = type(each).__name__
            raise InputError(f"A {kind} of the network takes the batch in the middle; build it with batch_first=True.")

    hooks = [parts[call.name].register_forward_hook(after)]
    middle = (each for each in module.modules() if getattr(each, "batch_first", None) is False)
    hooks += [each.register_forward_pre_hook(before) for each in middle]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def _read(given: Any) -> torch.Tensor:
    return given.detach() if isinstance(given, torch.Tensor) else torch.from_numpy(numbers_of(given))


@contextlib.contextmanager
def _own_random_numbers(device: torch.device, seed: int) -> Iterator[None]:
    """What is drawn meanwhile repeats with the seed, and leaves no trace in the generators that all share."""
    cuda = device.type == "cuda"
    with torch.random.fork_rng(devices=[device] if cuda else []):
        torch.default_generator.manual_seed(seed)
        if cuda:
            with torch.cuda.device(device):
                torch.cuda.manual_seed(seed)
        yield
