"""The right values against closed forms, float loops and complex steps, and the kinds of all symbols."""

from __future__ import annotations

import random
from fractions import Fraction

import numpy as np
import pytest

from numpy_reader import gradient, loss, truth
from thalweg.textbook.checking.cases import Case
from thalweg.textbook.checking.evaluation import Identity
from thalweg.textbook.checking.targets import TARGETS

QUANTITIES = [(fact, name) for fact, target in TARGETS.items() for name in target.quantities]


def floats(case: Case) -> dict[str, object]:
    symbols = {}
    for name in case.setting.symbols:
        if name != "I":
            array = np.asarray(case(name), dtype=object).astype(float)
            symbols[name] = array if array.ndim else float(array)
    return symbols


def random_cases(fact: str, name: str, count: int) -> list[Case]:
    setting = TARGETS[fact].quantities[name].setting
    rng = random.Random(f"{fact} {name}")
    all_sizes = setting.all_sizes(small=False)
    return [
        setting.random_case(rng, rng.choice(all_sizes), decimals=bool(setting.arrays) and number % 2 == 0)
        for number in range(count)
    ]


@pytest.mark.parametrize(("fact", "name"), QUANTITIES)
def test_truth_agrees_with_closed_forms_in_floats(fact: str, name: str) -> None:
    for case in random_cases(fact, name, 12):
        right = TARGETS[fact].quantities[name].truth(case)
        if right is None:
            continue
        computed = np.asarray(right, dtype=object).astype(float)
        tolerance = 1e-3 if name.startswith("d2L") else 1e-7  # a second difference of floats is no better
        scale = max(1.0, float(np.max(np.abs(computed))))
        assert computed / scale == pytest.approx(np.asarray(truth(fact, name, floats(case))) / scale, abs=tolerance)


@pytest.mark.parametrize(("fact", "name"), QUANTITIES)
def test_symbols_have_the_kinds_they_declare(fact: str, name: str) -> None:
    case = random_cases(fact, name, 1)[0]
    for symbol_name, symbol in case.setting.symbols.items():
        value = case(symbol_name)
        dimensions = 2 if isinstance(value, Identity) else np.ndim(value)
        assert dimensions == {"number": 0, "vector": 1, "matrix": 2}[symbol.kind], symbol_name
        assert symbol.meaning
    assert set(TARGETS[fact].quantities[name].needs) <= {*case.setting.symbols, *case.setting.sizes}


def test_derived_symbols_are_what_the_docstring_says() -> None:
    """g is the gradient by central differences, H its slope, and the gradient vanishes at w_lam."""
    case = random_cases("F2.9", "L_T", 1)[0]
    s = floats(case)
    units = np.eye(round(s["d"]))
    differences = [(loss(s, s["w0"] + unit) - loss(s, s["w0"] - unit)) / 2 for unit in units]
    assert s["g"] == pytest.approx(np.array(differences))
    assert s["H"] == pytest.approx(np.array([gradient(s, unit) - gradient(s, 0 * unit) for unit in units]))
    assert gradient(s, s["w_lam"]) == pytest.approx(0 * s["w0"], abs=1e-10)
    assert s["e"] == pytest.approx(s["w0"] - s["w_lam"])
    assert s["S"] == pytest.approx(2 * s["eta"] / s["n"] * s["X"] @ s["X"].T)
    assert s["h"] * s["K"] == pytest.approx(s["S"])
    assert float(case("L")(case("w0"))) == pytest.approx(loss(s, s["w0"]))


@pytest.mark.parametrize("name", ["w_star", "limit"])
def test_the_limit_is_where_gradient_descent_goes(name: str) -> None:
    """F1.3, literally: 20,000 small steps from 0, or from w0."""
    case = TARGETS["F1.3"].quantities[name].setting.case({"n": 1, "d": 2}, X=[[1, 2]], t=[3], w0=[1, -1], eta=1)
    X, t = np.array([[1.0, 2.0]]), np.array([3.0])
    w = np.zeros(2) if name == "w_star" else np.array([1.0, -1.0])
    for _ in range(2000):
        w = w - 0.05 * 2 * X.T @ (X @ w - t)
    right = TARGETS["F1.3"].quantities[name].truth(case)
    assert np.asarray(right, dtype=float) == pytest.approx(w)


def test_the_best_rate_is_undefined_where_nothing_moves() -> None:
    quantity = TARGETS["F2.6"].quantities["best_rate"]
    case = quantity.setting.case({"n": 2, "d": 1}, X=[[1], [0]], t=[0, 1], w0=[0], eta=1)
    assert quantity.truth(case) is None  # K a = 0


def test_the_textbook_network_and_stacks_of_layers() -> None:
    layer = TARGETS["F3.2"].quantities["parameters"]
    sizes = {"k": 3, "c_in": 3, "c_out": 64, "height": 1, "width": 1}
    assert layer.truth(layer.setting.case(sizes)) == 1792
    stack = TARGETS["F3.3"].quantities["receptive_field"]
    assert stack.truth(stack.setting.case({"k": 3, "stride": 1, "dilation": 1, "layers": 3})) == 7
    assert stack.truth(stack.setting.case({"k": 3, "stride": 2, "dilation": 1, "layers": 2})) == 7
    assert stack.truth(stack.setting.case({"k": 3, "stride": 1, "dilation": 2, "layers": 1})) == Fraction(5)
