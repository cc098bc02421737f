"""Rows shared among threads give what one thread gives, and each thread multiplies by itself."""

from __future__ import annotations

import os
import subprocess
import sys
import threading

import numpy as np
import pytest
from threadpoolctl import threadpool_limits

from thalweg.operators import checked_operator, stored
from thalweg.operators.threads import in_threads, threads


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("rows", [1, 2, 7, 100])
def test_any_number_of_threads_gives_the_same_products(monkeypatch, dtype, rows):
    monkeypatch.setattr(stored, "_ONE_THREAD", 0)
    monkeypatch.setattr(stored, "_BLOCK", 16)
    generator = np.random.default_rng(0)
    X = generator.standard_normal((rows, 5)).astype(dtype)
    v, subtract = generator.standard_normal(5), generator.standard_normal(rows)
    operator = checked_operator(X)
    expected = X.astype(float) @ v - subtract
    for count in (1, 2, 3, 8):  # with 8, float64 is left to BLAS
        monkeypatch.setattr(stored, "threads", lambda count=count: count)
        r, Xt_r = operator.sweep(v, subtract)
        np.testing.assert_allclose(r, expected, rtol=0, atol=1e-12)
        np.testing.assert_allclose(Xt_r, X.T.astype(float) @ expected, rtol=0, atol=1e-11)


def test_the_same_number_of_threads_gives_the_same_digits(monkeypatch):
    monkeypatch.setattr(stored, "threads", lambda: 3)
    X = np.random.default_rng(0).standard_normal((3000, 1000))
    operator = checked_operator(X)
    first, *others = (operator.sweep(X[0], X[:, 0])[1] for _ in range(4))
    assert all(np.array_equal(first, other) for other in others)


def test_the_user_says_how_many_and_each_multiplies_by_itself():
    with threadpool_limits(3):
        assert threads() == 3
        seen = in_threads(lambda part: (part, threads(), threading.current_thread().name), [5, 6, 7])
        assert threads() == 3
    assert [part for part, _, _ in seen] == [5, 6, 7]
    assert all(inside == 1 for _, inside, _ in seen)
    assert all(name.startswith("thalweg-rows") for _, _, name in seen)


FORK = """
import os
from thalweg.operators.threads import in_threads

assert list(in_threads(abs, [-1, -2])) == [1, 2]
child = os.fork()
if child == 0:
    os._exit(0 if list(in_threads(abs, [-3, -4])) == [3, 4] else 1)
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork, which Windows has not")
def test_a_forked_process_makes_threads_of_its_own():
    # In a process of its own: this one may have threads of other libraries, which warn of a fork.
    subprocess.run([sys.executable, "-W", "ignore::DeprecationWarning", "-c", FORK], check=True, timeout=60)
