"""The built-in tasks: real data split once, networks that learn, parts that fit together."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sklearn.datasets import load_digits

from thalweg.errors import InputError
from thalweg.tasks import Task, built_in, names


@pytest.mark.parametrize("name", ["digits-mlp", "digits-cnn", "diabetes", "breast_cancer"])
def test_a_task_learns(name):
    task = built_in(name)
    run = task.training.run(task.hyper)
    parts, _, _ = task.training.prepare()
    before = task.objective(parts.trained)
    assert run.losses.shape == (200,)
    assert float(task.objective(run.params)) < 0.8 * float(before)
    assert float(task.test(run.params)) < 0.8 * float(task.test(parts.trained))
    assert float(run.losses[-20:].mean()) < 0.6 * float(run.losses[0])


def test_an_epoch_sees_every_training_example_once_and_no_other():
    training = built_in("digits-mlp").training
    x, y = training.draw(jax.random.key(5)).stacked
    assert x.shape == (200, 100, 8, 8, 1)
    rows = np.asarray(jnp.concatenate([x.reshape(20, 1000, 64), y.reshape(20, 1000, 10)], axis=-1))
    first = rows[0][np.lexsort(rows[0].T)]
    for epoch in rows[1:]:
        assert (epoch[np.lexsort(epoch.T)] == first).all()
    assert (rows[0] != rows[1]).any()
    X, digit = load_digits(return_X_y=True)
    known = {tuple(row) for row in np.column_stack([X / 16, np.eye(10)[digit]]).astype(np.float32)}
    assert {tuple(row) for row in first} <= known


def test_the_loss_is_the_criterion_of_the_outputs():
    for name in names():
        for loss in ("mse", "cross-entropy"):
            training = built_in(name, loss).training
            parts, _, batches = training.prepare()
            batch = training.batch(batches, 0)
            outputs = training.predict(parts.trained, batch, None)
            assert float(training.criterion(outputs, batch)) == pytest.approx(
                float(training.loss(parts.trained, batch, None)), rel=1e-6
            )


def test_cross_entropy_and_squared_error_are_what_they_say():
    outputs = jnp.array([[1.0, 2.0, 0.5], [0.0, -1.0, 3.0]])
    y = jnp.array([[0.0, 1.0, 0.0], [1.0, 0.0, 0.0]])
    p = np.exp(outputs) / np.exp(outputs).sum(axis=1, keepdims=True)
    cross = built_in("digits", "cross-entropy").training.criterion(outputs, (None, y))
    assert float(cross) == pytest.approx(-np.mean([np.log(p[0, 1]), np.log(p[1, 0])]), rel=1e-6)
    squared = built_in("digits", "mse").training.criterion(outputs, (None, y))
    assert float(squared) == pytest.approx((1 + 1 + 0.25 + 1 + 1 + 9) / 2, rel=1e-6)


def test_short_names_mean_dense_networks():
    assert isinstance(built_in("digits"), Task)
    parts = built_in("digits").training.prepare()[0]
    assert [layer["w"].shape for layer in parts.trained] == [(64, 128), (128, 10)]


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [(("digits-mpl",), "did you mean 'digits-mlp'?"), (("digits", "mce"), "There is no loss named 'mce'")],
)
def test_an_unknown_name_is_refused(arguments, sentence):
    with pytest.raises(InputError) as refused:
        built_in(*arguments)
    assert sentence in str(refused.value)


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"training": 3}, "A Task's training must be a tw.Training, but it is a int."),
        ({"objective": None}, "A Task's objective must be a function, but it is a NoneType."),
        ({"test": 1.0}, "A Task's test must be a function, but it is a float."),
    ],
)
def test_a_task_of_wrong_parts_is_refused(changes, sentence):
    task = built_in("digits")
    parts = {"training": task.training, "hyper": task.hyper, "objective": task.objective}
    with pytest.raises(InputError) as refused:
        Task(**(parts | changes))
    assert sentence in str(refused.value)
