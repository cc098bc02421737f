"""The tasks known by name: small networks on real data that come with the package's requirements.

Every task is minibatch SGD with momentum and weight decay; an epoch is ten batches, drawn anew from the run's key, and
a run twenty epochs. Examples are shuffled once, by a fixed seed, into those for training, for validation (the
objective) and for the test; features are standardised by the training examples.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from thalweg.data import digit_images, load
from thalweg.errors import unknown_name
from thalweg.tasks.task import Task
from thalweg.training import Training

Array = NDArray[np.float64]
Params = list[dict[str, Any]]

_BATCHES = 10  # in an epoch
_EPOCHS = 20


class Named(NamedTuple):
    """A task that is known by name.

    Attributes:
        about: one line on what it is.
        data: the examples and what their outputs should be, `(n, ...)` and `(n, outputs)`.
        parts: how many examples train, and how many validate; the others are for the test.
        init: the first parameters from a key.
        network: the outputs `(n, outputs)` for parameters and examples.
        loss: the name of its criterion.
    """

    about: str
    data: Callable[[], tuple[Array, Array]]
    parts: tuple[int, int]
    init: Callable[[Any], Params]
    network: Callable[[Params, Any], Any]
    loss: str


def names() -> dict[str, str]:
    """The known tasks, each with one line on what it is."""
    return {name: named.about for name, named in _NAMED.items()}


def built_in(name: str, loss: str | None = None) -> Task:
    """A task by name.

    Args:
        name: one of `names()`, or `digits`, `diabetes`, `breast_cancer` for their networks of dense layers.
        loss: `cross-entropy` or `mse`, in place of the task's own.

    Raises:
        InputError: there is no such task or loss.
    """
    full = f"{name}-mlp" if f"{name}-mlp" in _NAMED else name
    if full not in _NAMED:
        raise unknown_name("task", name, _NAMED)
    named = _NAMED[full]
    chosen = named.loss if loss is None else loss
    if chosen not in _CRITERIA:
        raise unknown_name("loss", chosen, _CRITERIA)
    return _task(named, _CRITERIA[chosen])


def _task(named: Named, criterion: Callable[[Any, Any], Any]) -> Task:
    x, y = (values.astype(np.float32) for values in named.data())
    train, validate = named.parts
    order = np.random.default_rng(0).permutation(len(x))
    training, validation, test = np.split(order, [train, train + validate])
    x = _scaled(x, training)
    size = train // _BATCHES

    def batches(key: Any) -> tuple[Any, Any]:
        import jax

        keys = jax.random.split(key, _EPOCHS)
        rows = jax.vmap(lambda k: jax.random.permutation(k, train))(keys).reshape(_BATCHES * _EPOCHS, size)
        return jax.numpy.asarray(x[training])[rows], jax.numpy.asarray(y[training])[rows]

    def predict(params: Params, batch: Any, hyper: Any) -> Any:
        return named.network(params, batch[0])

    def of(outputs: Any, batch: Any) -> Any:
        return criterion(outputs, batch[1])

    def loss_on(rows: NDArray[np.intp]) -> Callable[[Params], Any]:
        return lambda params: criterion(named.network(params, x[rows]), y[rows])

    return Task(
        Training(
            lambda params, batch, hyper: of(predict(params, batch, hyper), batch),
            named.init,
            batches,
            _sgd,
            predict=predict,
            criterion=of,
        ),
        hyper={"rate": 0.05, "momentum": 0.9, "decay": 1e-4},
        objective=loss_on(validation),
        test=loss_on(test),
    )


def _sgd(hyper: Any) -> Any:
    import optax

    return optax.chain(optax.add_decayed_weights(hyper["decay"]), optax.sgd(hyper["rate"], momentum=hyper["momentum"]))


def _scaled(x: NDArray[np.float32], training: NDArray[np.intp]) -> NDArray[np.float32]:
    """Tables standardised by their training rows; pictures, whose pixels share a scale, as they are."""
    if x.ndim > 2:
        return x
    scaled: NDArray[np.float32] = (x - x[training].mean(axis=0)) / x[training].std(axis=0)
    return scaled


def _cross_entropy(outputs: Any, y: Any) -> Any:
    """The mean over examples of `-log softmax(outputs)` at the right class; y is one-hot."""
    import jax

    return -jax.numpy.mean(jax.numpy.sum(y * jax.nn.log_softmax(outputs), axis=-1))


def _squared_error(outputs: Any, y: Any) -> Any:
    """The mean over examples of the squared distance."""
    import jax.numpy as jnp

    return jnp.mean(jnp.sum((outputs - y) ** 2, axis=-1))


def _digits() -> tuple[Array, Array]:
    images, digit = digit_images()
    return images[..., None], np.eye(10)[digit]


def _diabetes() -> tuple[Array, Array]:
    data = load("diabetes")
    return data.X, data.t[:, None]


def _breast_cancer() -> tuple[Array, Array]:
    data = load("breast_cancer")
    return data.X, np.stack([data.t < 0, data.t > 0], axis=1).astype(np.float64)


def _dense(key: Any, inputs: int, outputs: int) -> dict[str, Any]:
    import jax

    return {"w": jax.random.normal(key, (inputs, outputs)) * inputs**-0.5, "b": jax.numpy.zeros(outputs)}


def _convolution(key: Any, inputs: int, outputs: int) -> dict[str, Any]:
    import jax

    w = jax.random.normal(key, (3, 3, inputs, outputs)) * (2 / (9 * inputs)) ** 0.5  # K. He et al. (2015), for ReLU
    return {"w": w, "b": jax.numpy.zeros(outputs)}


def _mlp_init(sizes: Sequence[int]) -> Callable[[Any], Params]:
    def init(key: Any) -> Params:
        import jax

        keys = jax.random.split(key, len(sizes) - 1)
        return [_dense(*layer) for layer in zip(keys, sizes[:-1], sizes[1:], strict=True)]

    return init


def _mlp(params: Params, x: Any) -> Any:
    """Dense layers with tanh between them."""
    import jax.numpy as jnp

    x = x.reshape(len(x), -1)
    for layer in params[:-1]:
        x = jnp.tanh(x @ layer["w"] + layer["b"])
    return x @ params[-1]["w"] + params[-1]["b"]


def _cnn_init(key: Any) -> Params:
    import jax

    first, second, last = jax.random.split(key, 3)
    return [_convolution(first, 1, 8), _convolution(second, 8, 16), _dense(last, 2 * 2 * 16, 10)]


def _cnn(params: Params, x: Any) -> Any:
    """3 x 3 convolutions with ReLU, each followed by 2 x 2 max pooling, and a dense layer."""
    import jax

    for layer in params[:-1]:
        x = jax.lax.conv_general_dilated(x, layer["w"], (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"))
        x = jax.nn.relu(x + layer["b"])
        n, height, width, channels = x.shape
        x = x.reshape(n, height // 2, 2, width // 2, 2, channels).max(axis=(2, 4))
    return x.reshape(len(x), -1) @ params[-1]["w"] + params[-1]["b"]


_CRITERIA = {"cross-entropy": _cross_entropy, "mse": _squared_error}

_NAMED = {
    "digits-mlp": Named(
        "Handwritten digits, ten classes: a 64-128-10 network with tanh, cross-entropy, batches of 100.",
        _digits,
        (1000, 400),
        _mlp_init((64, 128, 10)),
        _mlp,
        "cross-entropy",
    ),
    "digits-cnn": Named(
        "Handwritten digits, ten classes: two 3 x 3 convolutions of 8 and 16 channels with pooling, cross-entropy.",
        _digits,
        (1000, 400),
        _cnn_init,
        _cnn,
        "cross-entropy",
    ),
    "diabetes-mlp": Named(
        "The progression of diabetes from 10 measurements: a 10-32-1 network with tanh, squared error, batches of 30.",
        _diabetes,
        (300, 71),
        _mlp_init((10, 32, 1)),
        _mlp,
        "mse",
    ),
    "breast_cancer-mlp": Named(
        "Benign or malignant from 30 measurements: a 30-32-2 network with tanh, cross-entropy, batches of 38.",
        _breast_cancer,
        (380, 94),
        _mlp_init((30, 32, 2)),
        _mlp,
        "cross-entropy",
    ),
}
