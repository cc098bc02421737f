"""The memory of a training step of a PyTorch module, from a run of that step with tensors that hold no data.

PyTorch itself runs the step: a copy of the module made of tensors without data (`FakeTensorMode`) goes forward and
backward, chooses the same kernels as with data, and one of its own optimizers updates the weights. Every array that is
made is counted from its making to its end, so that what is saved for the way back, and the most that is held at one
moment, are those of a run with data, up to what kernels allocate inside themselves. The loss is the mean of the
outputs. Nothing of the given module is changed, and no weight is read.

With checkpointing each block is run again on the way back by `torch.utils.checkpoint`. Blocks are the members of
`Sequential` and `ModuleList` containers that have parts of their own and hold no such member themselves: the residual
blocks of a ResNet, the layers of a transformer. Where there are none, the parts of the network that have parts.
"""

from __future__ import annotations

import contextlib
import copy
import fnmatch
import functools
import logging
import sys
import warnings
import weakref
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import Any

from thalweg.errors import InputError
from thalweg.network.graph import Graph
from thalweg.network.optimizers import optimizer_named, state_size
from thalweg.network.rehearsed_lstm import as_with_data, with_workspace
from thalweg.network.training_step import (
    BACKWARD,
    FORWARD,
    INFERENCE,
    UPDATE,
    Moment,
    Precision,
    Setup,
    TrainingStep,
)

Inputs = Callable[[int], tuple[Any, ...]]
"""Makes the inputs for a batch of so many examples; called where tensors hold no data."""


class Rehearsal:
    """A PyTorch module whose training can be rehearsed.

    Args:
        module: it; its weights may be on any device, `meta` too.
        inputs: makes its inputs.
        run: runs it, or a copy of it, on its inputs; where there is none, they are its arguments in their order.
    """

    def __init__(self, module: Any, inputs: Inputs, run: Callable[[Any, Any], Any] | None = None) -> None:
        self._module, self._inputs = module, inputs
        self._run = run or (lambda module, inputs: module(*inputs))

    def train(self, setup: Setup) -> TrainingStep:
        """The memory of one training step.

        Raises:
            InputError: a module that should be checkpointed is not there.
            Exception: whatever the module raises, which cannot be foreseen.
        """
        try:
            return self._train(setup)
        except ValueError:  # normalisation over a batch refuses one value for each channel
            if setup.batch != 1:
                raise
            return _before(self._train(replace(setup, batch=2)), self._train(replace(setup, batch=3)))

    def _train(self, setup: Setup) -> TrainingStep:
        with self._stage(setup) as (module, ledger):
            module.train()
            if setup.checkpointing:
                _checkpoint(module, setup.checkpointing)
            inputs = self._made_inputs(setup)
            weights = ledger.hold_all(_arrays(module))
            trained = [each for each in module.parameters() if each.requires_grad]
            ledger.begin(FORWARD, inputs)
            before = ledger.now
            kept = _Saved(module)
            with kept.watched(), _autocast(setup):
                loss = _mean(self._run(module, inputs))
            made = ledger.now - before - loss.untyped_storage().nbytes()
            saved = made + ledger.held(inputs) if setup.checkpointing else kept.bytes
            kept.forget()
            ledger.phase = BACKWARD
            handles = [each.register_post_accumulate_grad_hook(ledger.learned) for each in trained]
            if loss.requires_grad:
                loss.backward()
            del loss
            for handle in handles:
                handle.remove()
            gradients, ledger.phase = ledger.gradients, ""
            moments = [Moment(phase, learned, now - weights - learned) for phase, learned, now in ledger.moments]
            learned = [each for each in trained if each.grad is not None]
            state, room = _update(learned, setup, ledger)
            moments.append(Moment(UPDATE, gradients, ledger.held(inputs) + room))
        return TrainingStep(weights, gradients, state, saved, tuple(moments))

    def infer(self, setup: Setup) -> TrainingStep:
        """The memory while a batch is run forward only.

        Raises:
            Exception: whatever the module raises, which cannot be foreseen.
        """
        import torch

        with self._stage(setup) as (module, ledger), torch.no_grad(), _autocast(setup):
            module.eval()
            inputs = self._made_inputs(setup)
            weights = ledger.hold_all(_arrays(module))
            ledger.begin(INFERENCE, inputs)
            self._run(module, inputs)
        moments = tuple(Moment(phase, 0, now - weights) for phase, _, now in ledger.moments)
        return TrainingStep(weights, 0, 0, 0, moments)

    @contextlib.contextmanager
    def _stage(self, setup: Setup) -> Iterator[tuple[Any, Any]]:
        """A copy of the module without data, and a ledger of the arrays that are made meanwhile."""
        from torch._subclasses.fake_tensor import FakeTensorMode

        ledger = _ledger_class()()
        with _silence(), FakeTensorMode(allow_non_fake_inputs=True):
            module = _without_data(self._module, _device(setup), setup.precision)
            with ledger, as_with_data(module):
                yield module, ledger

    def _made_inputs(self, setup: Setup) -> tuple[Any, ...]:
        dtype = _torch_type(setup.precision.weights_in)
        made = (each.to(_device(setup)) for each in self._inputs(setup.batch))
        return tuple(each.to(dtype) if each.is_floating_point() else each for each in made)


@contextlib.contextmanager
def _silence() -> Iterator[None]:
    """Without what PyTorch logs and warns of: where a run fails, we say so."""
    logger = logging.getLogger("torch._subclasses.fake_tensor")
    before, logger.disabled = logger.disabled, True
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.disabled = before


def _device(setup: Setup) -> str:
    """Where the tensors are thought to be: on a GPU only where PyTorch has one, whose kernels it then chooses."""
    import torch

    return setup.device if setup.device != "cuda" or torch.cuda.is_available() else "cpu"


def _autocast(setup: Setup) -> Any:
    import torch

    if setup.precision.computed_in is None:
        return contextlib.nullcontext()
    return torch.autocast(_device(setup), dtype=_torch_type(setup.precision.computed_in))


def _update(learned: list[Any], setup: Setup, ledger: Any) -> tuple[int, int]:
    """What the optimizer remembers of weights, and the room that it needs besides while it updates them."""
    from torch._subclasses.fake_tensor import DataDependentOutputException

    if not learned:
        return 0, 0
    # On CPUs arrays are updated one after the other, on GPUs all together.
    together = setup.device == "cuda"
    some = learned if together else _in_turn(learned)
    try:
        optimizer = _optimizer(setup.optimizer, some, together)
        optimizer.step()
        remembered = {
            tuple(each.shape): sum(
                kept.untyped_storage().nbytes() for kept in state.values() if hasattr(kept, "untyped_storage")
            )
            for each, state in optimizer.state.items()
        }
        ledger.begin(UPDATE, ())
        before = ledger.now
        optimizer.step()
    except DataDependentOutputException:  # its steps depend on values: by rule
        state = sum(state_size(setup.optimizer, tuple(each.shape)) * each.element_size() for each in learned)
        return state, 2 * max(each.untyped_storage().nbytes() for each in learned)
    most = max(now for phase, _, now in ledger.moments if phase == UPDATE)
    return sum(remembered.get(tuple(each.shape), 0) for each in learned), most - before


def rehearsal_of(model: object, graph: Graph) -> Rehearsal | None:
    """A rehearsal of a model, where it is a module of PyTorch.

    Args:
        model: it.
        graph: what was read of it, which shows what its inputs are.
    """
    torch = sys.modules.get("torch")  # whoever holds a module has imported it
    if torch is None or not isinstance(model, torch.nn.Module):
        return None
    from thalweg.network.readers.torch import unwrapped
    from thalweg.network.readers.torch_inputs import given_input

    module = unwrapped(model)
    looked_up = graph.looked_up

    def inputs(batch: int) -> tuple[Any, ...]:
        made = []
        for place, each in enumerate(graph.given):
            axis = graph.batch_axis(place)
            shape = (*each.shape[:axis], batch, *each.shape[axis:])
            made.append(torch.zeros(shape, dtype=torch.int64 if each.id in looked_up else torch.float32))
        return tuple(made)

    return Rehearsal(module, inputs, given_input(module, tuple(each.shape for each in graph.given)).run)


def _before(two: TrainingStep, three: TrainingStep) -> TrainingStep:
    """The step with one example, on the straight lines through two and three."""
    if len(two.moments) != len(three.moments):
        raise ValueError("the steps with two and with three examples do not go the same way")
    moments = tuple(
        Moment(one.phase, 2 * one.gradients - other.gradients, 2 * one.others - other.others)
        for one, other in zip(two.moments, three.moments, strict=True)
    )
    return replace(two, saved=2 * two.saved - three.saved, moments=moments)


@functools.cache
def _ledger_class() -> Any:
    """The class of ledgers, which needs PyTorch to be defined."""
    import torch
    from torch.utils._python_dispatch import TorchDispatchMode
    from torch.utils._pytree import tree_leaves

    base: Any = TorchDispatchMode
    onednn_layer = torch.ops.aten.mkldnn_rnn_layer.default

    class Ledger(base):  # type: ignore[misc]
        """Counts the bytes of every array from its making to its end."""

        def __init__(self) -> None:
            super().__init__()
            self.now = self.gradients = 0
            self.phase = ""
            self.moments: list[tuple[str, int, int]] = []
            self._sizes: dict[int, int] = {}

        def begin(self, phase: str, inputs: tuple[Any, ...]) -> None:
            """From here on what is held belongs to a phase; the inputs are held already."""
            self.hold_all(inputs)
            self.phase = phase
            self._note()

        def hold_all(self, tensors: Any) -> int:
            for tensor in tensors:
                self._hold(tensor)
            return self.held(tensors)

        def held(self, tensors: Any) -> int:
            """The bytes of several arrays, each once."""
            storages = {id(each.untyped_storage()): each.untyped_storage().nbytes() for each in tensors}
            return sum(storages.values())

        def learned(self, weight: Any) -> None:
            """A weight has its gradient."""
            self.gradients += weight.grad.untyped_storage().nbytes()

        def _hold(self, tensor: Any) -> bool:
            storage = tensor.untyped_storage()
            key = id(storage)
            if key in self._sizes:
                return False
            self._sizes[key] = storage.nbytes()
            self.now += self._sizes[key]
            weakref.finalize(storage, self._drop, key).atexit = False
            return True

        def _drop(self, key: int) -> None:
            self.now -= self._sizes.pop(key)

        def _note(self) -> None:
            self.moments.append((self.phase, self.gradients, self.now))

        def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            made = func(*args, **(kwargs or {}))
            if func is onednn_layer:
                made = with_workspace(args, made)
            found = [self._hold(each) for each in tree_leaves(made) if isinstance(each, torch.Tensor)]
            if self.phase and any(found):
                self._note()
            return made

    return Ledger


class _Saved:
    """The arrays that autograd saves for the backward pass: each once, parameters left out."""

    def __init__(self, module: Any) -> None:
        self._parameters = {id(each.untyped_storage()) for each in module.parameters()}
        self._storages: dict[int, Any] = {}

    def watched(self) -> Any:
        import torch

        return torch.autograd.graph.saved_tensors_hooks(self._pack, lambda saved: saved)

    def _pack(self, tensor: Any) -> Any:
        storage = tensor.untyped_storage()
        if id(storage) not in self._parameters:
            self._storages[id(storage)] = storage
        return tensor

    @property
    def bytes(self) -> int:
        return sum(storage.nbytes() for storage in self._storages.values())

    def forget(self) -> None:
        """Hold on to the arrays no longer."""
        self._storages.clear()


def _without_data(module: Any, device: str, precision: Precision) -> Any:
    """A copy of a module whose arrays have shapes and types, and no data."""
    import torch

    floating = _torch_type(precision.weights_in)
    memo: dict[int, Any] = {}

    def alike(tensor: Any) -> Any:
        dtype = floating if tensor.is_floating_point() else tensor.dtype
        return torch.empty_strided(tensor.size(), tensor.stride(), dtype=dtype, device=device)

    for parameter in module.parameters():
        memo[id(parameter)] = torch.nn.Parameter(alike(parameter), requires_grad=parameter.requires_grad)
    for part in module.modules():
        for value in [*vars(part).values(), *part.buffers(recurse=False)]:
            if isinstance(value, torch.Tensor) and id(value) not in memo:
                memo[id(value)] = alike(value)
    return copy.deepcopy(module, memo)


def _arrays(module: Any) -> list[Any]:
    return [*module.parameters(), *module.buffers()]


def _torch_type(name: str) -> Any:
    import torch

    return getattr(torch, name)


def _mean(outputs: Any) -> Any:
    """A loss: the mean of every output."""
    import torch
    from torch.utils._pytree import tree_leaves

    # Of outputs by name only those that are arrays by themselves: not what a language model caches.
    given = list(outputs.values()) if isinstance(outputs, Mapping) else tree_leaves(outputs)
    means = [each.mean() for each in given if isinstance(each, torch.Tensor) and each.is_floating_point()]
    return functools.reduce(torch.add, means)


def _checkpoint(module: Any, which: bool | tuple[str, ...]) -> None:
    """Let blocks forget their activations and compute them again."""
    from torch.utils.checkpoint import checkpoint

    parts = dict(module.named_modules())
    names = _blocks(module) if which is True else _matching(parts, which or ())
    for name in names:
        run = functools.partial(checkpoint, parts[name].forward, use_reentrant=False, preserve_rng_state=False)
        parts[name].forward = run


def _matching(parts: dict[str, Any], patterns: tuple[str, ...]) -> list[str]:
    found: list[str] = []
    for pattern in patterns:
        names = [name for name in parts if name and fnmatch.fnmatchcase(name, pattern)]
        if not names:
            known = ", ".join([name for name in parts if name][:6])
            raise InputError(f"There is no module {pattern!r} to checkpoint; the first ones are {known}.")
        found += names
    return list(dict.fromkeys(found))


def _blocks(module: Any) -> list[str]:
    """The paths of the parts that are computed again where nobody says which."""
    import torch

    containers = (torch.nn.Sequential, torch.nn.ModuleList)
    members = [
        f"{path}.{name}" if path else name
        for path, container in module.named_modules()
        if isinstance(container, containers)
        for name, member in container.named_children()
        if next(member.children(), None) is not None
    ]
    inner = [each for each in members if not any(other.startswith(f"{each}.") for other in members)]
    parts = [name for name, part in module.named_children() if next(part.children(), None) is not None]
    return inner or parts


def _in_turn(weights: list[Any]) -> list[Any]:
    """Weights that stand for all when each is updated by itself: every pair of neighbours of other shapes once.

    Neighbours, because the room for one is given back only while the next is updated; small ones stand between pairs.
    """
    import torch

    chosen: list[Any] = []
    seen: set[tuple[tuple[int, ...], ...]] = set()
    for before, weight in zip([None, *weights], weights, strict=False):
        shapes = (() if before is None else tuple(before.shape), tuple(weight.shape))
        if shapes not in seen:
            seen.add(shapes)
            if before is not None and (not chosen or chosen[-1] is not before):
                small = torch.nn.Parameter(torch.zeros(1, dtype=weight.dtype))
                small.grad = torch.zeros_like(small)
                chosen += [small, before]
            chosen.append(weight)
    return list(dict.fromkeys(chosen))


def _optimizer(name: str, weights: Any, together: bool = False) -> Any:
    import torch

    known = optimizer_named(name)
    if known.torch:
        options = {"foreach": True} if together else {}
        return getattr(torch.optim, known.torch)(weights, lr=1e-3, **known.options, **options)
    return _lion_class()(weights, {})


@functools.cache
def _lion_class() -> Any:
    """Lion, which PyTorch does not have: X. Chen et al. 2023, algorithm 2."""
    import torch

    base: Any = torch.optim.Optimizer

    class Lion(base):  # type: ignore[misc]
        """The sign of a mean of gradients."""

        @torch.no_grad()  # type: ignore[untyped-decorator]
        def step(self) -> None:
            for group in self.param_groups:
                for weight in group["params"]:
                    state = self.state[weight]
                    if not state:
                        state["mean"] = torch.zeros_like(weight)
                    mean = state["mean"]
                    weight.add_(mean.mul(0.9).add_(weight.grad, alpha=0.1).sign_(), alpha=-1e-4)
                    mean.mul_(0.99).add_(weight.grad, alpha=0.01)

    return Lion
