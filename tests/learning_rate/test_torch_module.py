"""PyTorch modules: the same answer as JAX for the same weights, and a module that is left as it was."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import thalweg as tw
from thalweg.errors import InputError

torch = pytest.importorskip("torch", reason="needs torch, which CI installs")

from thalweg.learning_rate.torch_module import ModuleNetwork  # noqa: E402

X = np.random.default_rng(0).standard_normal((20, 6))
CLASSES = np.random.default_rng(1).integers(3, size=20)
VALUES = np.random.default_rng(2).standard_normal((20, 3))
cross_entropy, squared = torch.nn.functional.cross_entropy, torch.nn.functional.mse_loss


def module(dtype=torch.float64):
    torch.manual_seed(0)
    return torch.nn.Sequential(torch.nn.Linear(6, 8), torch.nn.Tanh(), torch.nn.Linear(8, 3)).to(dtype)


def data(dtype=torch.float64, classes=True):
    return torch.tensor(X, dtype=dtype), torch.tensor(CLASSES) if classes else torch.tensor(VALUES, dtype=dtype)


def in_jax(weights, classes):
    """The same network as a Training."""

    def predict(p, batch, hyper):
        return jnp.tanh(batch[0] @ p[0].T + p[1]) @ p[2].T + p[3]

    def criterion(outputs, batch):
        if classes:
            return -jnp.mean(jnp.take_along_axis(jax.nn.log_softmax(outputs), batch[1][:, None], axis=1))
        return jnp.mean((outputs - batch[1]) ** 2)

    return tw.Training(
        lambda p, batch, hyper: criterion(predict(p, batch, hyper), batch),
        lambda key: weights,
        lambda key: (X[None], (CLASSES if classes else VALUES)[None]),
        lambda hyper: optax.sgd(0.1),
        predict=predict,
        criterion=criterion,
    )


@pytest.mark.parametrize("classes", [True, False])
def test_the_answer_is_that_of_jax_on_the_same_weights(classes):
    net = module()
    ours = tw.rates(net, steps=3, data=data(classes=classes), loss=cross_entropy if classes else squared)
    with jax.enable_x64(True):
        theirs = tw.rates(in_jax([p.detach().numpy() for p in net.parameters()], classes), steps=3)
    assert (ours.parameters, ours.examples, ours.kind) == (theirs.parameters, theirs.examples, "float64")
    for name in ("hessian", "gauss_newton"):
        assert ours.stability[name] == pytest.approx(theirs.stability[name], rel=1e-9)
    np.testing.assert_allclose(ours.model.curvatures, theirs.model.curvatures, rtol=1e-8)
    np.testing.assert_allclose(ours.best, theirs.best, rtol=1e-8)
    np.testing.assert_allclose(ours.decreases, theirs.decreases, rtol=1e-8)
    np.testing.assert_allclose(ours.predictions, theirs.predictions, rtol=1e-8)


def test_what_is_measured_is_what_torch_optim_does():
    net = module(torch.float32)
    inputs, targets = data(torch.float32)
    answer = tw.rates(net, data=(inputs, targets), loss=cross_entropy)
    optimizer = torch.optim.SGD(net.parameters(), lr=answer.best_rate(5))
    losses = []
    for _ in range(6):
        loss = cross_entropy(net(inputs), targets)
        losses.append(loss.item())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert answer.measured(5) == pytest.approx(losses[0] - losses[-1], rel=1e-4)


class Everything(torch.nn.Module):
    """Batch normalisation, dropout, attention, tied and frozen parameters, a module held twice, and two inputs."""

    def __init__(self):
        super().__init__()
        self.first = torch.nn.Linear(6, 8)
        self.norm = torch.nn.BatchNorm1d(8)
        self.drop = torch.nn.Dropout(0.4)
        self.attend = torch.nn.MultiheadAttention(4, 2, batch_first=True)
        self.last = torch.nn.Linear(8, 3)
        self.again = self.last
        self.tied = torch.nn.Linear(8, 3, bias=False)
        self.tied.weight = self.last.weight
        self.last.bias.requires_grad_(False)

    def forward(self, x, *, scale):
        x = self.drop(torch.relu(self.norm(self.first(x)))).reshape(-1, 2, 4)
        x = self.attend(x, x, x, need_weights=False)[0].reshape(-1, 8)
        return scale * (self.last(x) + self.again(x) + self.tied(x))


@pytest.mark.parametrize("training", [True, False])
def test_a_module_is_left_as_it_was(training):
    torch.manual_seed(1)
    net = Everything().train(training)
    held = dict(net.named_parameters(remove_duplicate=False))
    before = {name: value.clone() for name, value in net.state_dict().items()}
    random = torch.get_rng_state()
    inputs, targets = data(torch.float32)
    answer = tw.rates(net, steps=2, data=({"x": inputs, "scale": torch.tensor(2.0)}, targets), loss=cross_entropy)
    assert (answer.decreases > 0).all()
    assert answer.parameters == sum(p.numel() for p in net.parameters() if p.requires_grad)
    assert all(held[name] is value for name, value in net.named_parameters(remove_duplicate=False))
    assert all(torch.equal(before[name], value) for name, value in net.state_dict().items())
    assert torch.equal(random, torch.get_rng_state())
    assert net.training is training
    assert all(p.grad is None for p in net.parameters())


def test_products_of_a_module_agree_with_finite_differences():
    torch.manual_seed(2)
    net = Everything().double().eval()
    inputs, targets = data()
    network = ModuleNetwork(net, ({"x": inputs, "scale": torch.tensor(0.5)}, targets), cross_entropy)
    w, step = network.start, 1e-5
    v = np.random.default_rng(3).standard_normal(len(w))
    up, down = network.loss_and_gradient(w + step * v), network.loss_and_gradient(w - step * v)
    _, gradient = network.loss_and_gradient(w)
    assert gradient @ v == pytest.approx((up[0] - down[0]) / (2 * step), rel=1e-7)
    np.testing.assert_allclose(network.hessian(w, v), (up[1] - down[1]) / (2 * step), rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"loss": squared}, "need data=(inputs, targets), but data is missing."),
        ({"data": torch.zeros(3, 6), "loss": squared}, "but data is a Tensor."),
        ({"data": data()}, "need loss=(outputs, targets) -> scalar, such as torch.nn.functional"),
        ({"data": (torch.zeros(3, 5), torch.zeros(3, 3)), "loss": squared}, "The module cannot be called on these"),
        ({"data": (torch.zeros(3, 6).double(), torch.zeros(2)), "loss": cross_entropy}, "cannot be computed from"),
        ({"data": (torch.zeros(0, 6), torch.zeros(0, 3)), "loss": squared}, "The data hold no examples: a tensor"),
        ({"data": (torch.full((2, 6), torch.nan), torch.zeros(2, 3)), "loss": squared}, "not finite at [0, 0] of a"),
        ({"data": data(), "loss": lambda z, y: z}, "one real number, but it returned a tensor of shape (20, 3)"),
        ({"data": data(), "loss": cross_entropy, "steps": 0}, "steps must be at least 1"),
    ],
)  # fmt: skip
def test_a_mistake_is_one_sentence(settings, sentence):
    with pytest.raises(InputError) as refused:
        tw.rates(module(), **settings)
    assert sentence in str(refused.value)
    assert "\n" not in str(refused.value)


def test_a_module_of_frozen_parameters_is_refused():
    with pytest.raises(InputError, match="There is nothing to train"):
        tw.rates(module().requires_grad_(False), data=data(), loss=cross_entropy)
