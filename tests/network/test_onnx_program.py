"""ONNX files as functions of JAX: against the answers that ONNX gives for each of its operations."""

from __future__ import annotations

import collections
import warnings

import numpy as np
import pytest

onnx = pytest.importorskip("onnx", reason="needs onnx, which CI installs")

import jax.numpy as jnp  # noqa: E402

from thalweg.errors import InputError  # noqa: E402
from thalweg.network.onnx_program import Program  # noqa: E402


def cases():
    """ONNX's own tests of single operations on arrays of numbers, those without any left out."""
    from onnx.backend.test.loader import load_model_tests

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        tests = load_model_tests(kind="node")
    for test in tests:
        for inputs, outputs in test.data_sets or ():
            arrays = [*inputs, *outputs]
            if not all(isinstance(each, np.ndarray) and each.dtype.kind in "fib" and each.size for each in arrays):
                continue
            if outputs[0].dtype == np.float32 and any(each.dtype.kind == "f" for each in inputs):
                yield test, inputs, outputs[0]


def answer(test, inputs):
    """What we make of the numbers as arrays that may be traced, and of whole numbers as known ones."""
    graph = test.model.graph
    values = dict(zip([each.name for each in graph.input], inputs, strict=False))
    values = {name: jnp.asarray(each) if each.dtype.kind == "f" else each for name, each in values.items()}
    values |= {"": None}
    return np.asarray(Program(test.model).made(graph.output[0].name, values))


def check(chosen):
    """How many operations gave what ONNX says; the others must be refused."""
    right, wrong = collections.Counter(), []
    for test, inputs, expected in chosen:
        try:
            made = answer(test, inputs)
        except InputError:
            continue
        if made.shape == expected.shape and np.allclose(made, expected, rtol=1e-3, atol=1e-5, equal_nan=True):
            right[test.model.graph.node[0].op_type] += 1
        else:
            wrong.append(test.name)
    assert not wrong
    return right


def test_operations_give_what_onnx_says():
    found = check([case for number, case in enumerate(cases()) if number % 7 == 0])
    assert sum(found.values()) > 100
    assert len(found) > 50


@pytest.mark.long
def test_all_operations_give_what_onnx_says():
    found = check(cases())
    assert sum(found.values()) > 800
    assert len(found) > 100
