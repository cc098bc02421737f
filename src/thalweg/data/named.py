"""The data sets known by name: those that scikit-learn bundles, and two constructions."""

from __future__ import annotations

import importlib.util
import math
import os
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from thalweg.data.dataset import Dataset, pair
from thalweg.data.inline import is_finite, is_number
from thalweg.data.words import list_columns, them
from thalweg.errors import InputError, MissingPackageError, unknown_name


class Named(NamedTuple):
    """A data set that is known by name."""

    about: str
    make: Callable[[str], Dataset]
    make_test: Callable[[str], Dataset] | None = None


def names() -> dict[str, str]:
    """The known data sets, each with one line on what it holds."""
    return {name: named.about for name, named in NAMED.items()}


def photograph() -> npt.NDArray[np.float64]:
    """A grey photograph, 427 x 640, 0 (black) to 1 (white): the temple of scikit-learn's `china.jpg`.

    Source: danielbuechele, Creative Commons Attribution 2.0, as bundled with scikit-learn.
    """
    from PIL import Image

    with Image.open(_bundled("images/china.jpg")) as image:
        return np.asarray(image.convert("L"), dtype=np.float64) / 255


def standardised(X: npt.NDArray[np.float64], columns: Sequence[str]) -> npt.NDArray[np.float64]:
    """Every column of X `(n, d)` shifted to mean 0 and scaled to variance 1 (dividing by n, not n - 1).

    Raises:
        InputError: columns are constant, and so have no scale; the message names them.
    """
    # Compared with the first row, because the computed deviation of a constant column need not be exactly zero.
    constant = [name for name, varies in zip(columns, (X[0] != X).any(axis=0), strict=True) if not varies]
    if constant:
        raise InputError(
            f"Cannot standardise {list_columns(constant)}: every value is the same; leave {them(constant)} out."
        )
    scaled: npt.NDArray[np.float64] = (X - X.mean(axis=0)) / X.std(axis=0)
    return scaled


def _bundled(file: str) -> Path:
    """The path of a file below scikit-learn's `datasets`; importing scikit-learn to find it would take a second."""
    spec = importlib.util.find_spec("sklearn")
    if spec is None or spec.origin is None:
        raise MissingPackageError(
            "The named data sets are those bundled with scikit-learn, which is not installed; "
            "install it with: pip install scikit-learn."
        )
    return Path(spec.origin).parent / "datasets" / file


def _no_parameters(name: str, parameters: str) -> None:
    if parameters:
        raise InputError(f"The data set {name!r} has no parameters, but got {parameters!r}.")


def digit_images() -> tuple[npt.NDArray[np.float64], npt.NDArray[np.int64]]:
    """1797 handwritten digits: the images `(1797, 8, 8)`, 0 (empty) to 1 (ink), and which digit each is, `(1797,)`."""
    table = np.loadtxt(_bundled("data/digits.csv.gz"), delimiter=",")
    return table[:, :-1].reshape(-1, 8, 8) / 16, table[:, -1].astype(np.int64)


def _digits(parameters: str) -> Dataset:
    _no_parameters("digits", parameters)
    images, digit = digit_images()
    columns = [f"pixel_{row}_{column}" for row in range(8) for column in range(8)]
    t = np.where(digit % 2 == 0, 1.0, -1.0)
    return pair("digits", images.reshape(-1, 64), t, columns, "even", NAMED["digits"].about)


def _diabetes(parameters: str) -> Dataset:
    _no_parameters("diabetes", parameters)
    X = np.loadtxt(_bundled("data/diabetes_data_raw.csv.gz"))
    t = np.loadtxt(_bundled("data/diabetes_target.csv.gz"))
    columns = ("age", "sex", "bmi", "bp", "s1", "s2", "s3", "s4", "s5", "s6")
    target = "progression"
    t = standardised(t[:, None], [target])[:, 0]
    return pair("diabetes", standardised(X, columns), t, columns, target, NAMED["diabetes"].about)


def _breast_cancer(parameters: str) -> Dataset:
    _no_parameters("breast_cancer", parameters)
    X, t, columns = _tumours()
    return pair("breast_cancer", standardised(X, columns), t, columns, "benign", NAMED["breast_cancer"].about)


def _breast_cancer_raw(parameters: str) -> Dataset:
    _no_parameters("breast_cancer_raw", parameters)
    X, t, columns = _tumours()
    return pair("breast_cancer_raw", X, t, columns, "benign", NAMED["breast_cancer_raw"].about)


def _tumours() -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64], list[str]]:
    table = np.loadtxt(_bundled("data/breast_cancer.csv"), delimiter=",", skiprows=1)
    measures = ["radius", "texture", "perimeter", "area", "smoothness"]
    measures += ["compactness", "concavity", "concave points", "symmetry", "fractal dimension"]
    columns = [f"mean {measure}" for measure in measures]
    columns += [f"{measure} error" for measure in measures] + [f"worst {measure}" for measure in measures]
    return table[:, :-1], 2 * table[:, -1] - 1, columns


def _digits_features(parameters: str) -> Dataset:
    """The first n digits, the others being for the test: `sqrt(2/d) cos(G x + b)` of the pixels x.

    `G ~ N(0, 1)`, `(64, d)`, and `b ~ U(0, 2 pi)` are drawn in this order from `default_rng(seed)`: an approximation
    of the Gaussian kernel of width 1.

    Source: A. Rahimi, B. Recht, "Random Features for Large-Scale Kernel Machines" (2007), algorithm 1.
    """
    return _digits_through_features(parameters, test=False)


def _digits_through_features(parameters: str, test: bool) -> Dataset:
    name = "digits_features"
    given = _parse_parameters(name, parameters, {"d": 2000, "n": 500, "seed": 0})
    n, d, seed = given["n"], given["d"], given["seed"]
    digits = _digits("")
    _require(name, "n", n, 1 <= n < digits.n, f"1 to {digits.n - 1}")
    _require(name, "d", d, d >= 1, "at least 1")
    _require(name, "seed", seed, seed >= 0, "at least 0")
    _require_memory(name, digits.n, d)
    generator = np.random.default_rng(seed)
    G, b = generator.standard_normal((digits.d, d)), generator.uniform(0, 2 * math.pi, d)
    kept = slice(n, None) if test else slice(n)
    X = math.sqrt(2 / d) * np.cos(digits.X[kept] @ G + b)
    title = f"{name}:d={d},n={n},seed={seed}" + (" (test)" if test else "")
    return pair(title, X, digits.t[kept], target="even", about=NAMED[name].about)


def _gaussian(parameters: str) -> Dataset:
    """`X ~ N(0, 1)`, `w ~ N(0, 1/d)`, `t = X w + noise N(0, 1)`, drawn in this order from `default_rng(seed)`."""
    given = _parse_parameters("gaussian", parameters, {"n": 20, "d": 100, "seed": 0, "noise": 0.0})
    n, d, seed, noise = given["n"], given["d"], given["seed"], given["noise"]
    _require("gaussian", "n", n, n >= 1, "at least 1")
    _require("gaussian", "d", d, d >= 1, "at least 1")
    _require("gaussian", "seed", seed, seed >= 0, "at least 0")
    _require("gaussian", "noise", noise, noise >= 0, "at least 0")
    _require_memory("gaussian", n, d)
    generator = np.random.default_rng(seed)
    X = generator.standard_normal((n, d))
    t = X @ (generator.standard_normal(d) / math.sqrt(d)) + noise * generator.standard_normal(n)
    name = f"gaussian:n={n},d={d},seed={seed}" + (f",noise={noise:g}" if noise else "")
    return pair(name, X, t, about=NAMED["gaussian"].about)


def _wilson(parameters: str) -> Dataset:
    """The construction on which methods with a rate per coordinate learn nothing of use.

    Example i (from 1) has feature 1 equal to its label, features 2 and 3 equal to 1, and features of its own from
    4 + 5 (i - 1) on: one of them is 1 where the label is +1, five where it is -1. The first round(p n) labels are +1.

    Source: A. C. Wilson et al., "The Marginal Value of Adaptive Gradient Methods in Machine Learning" (2017),
    section 3.3.
    """
    given = _parse_parameters("wilson", parameters, {"n": 40, "p": 0.75})
    n, p = given["n"], given["p"]
    _require("wilson", "n", n, n >= 1, "at least 1")
    _require("wilson", "p", p, 0.5 < p <= 1, "above 0.5 and at most 1")
    positive = round(p * n)
    _require("wilson", "p", p, 2 * positive > n, f"larger, so that most of the {n} labels are +1")
    _require_memory("wilson", n, 3 + 5 * n)
    t = np.where(np.arange(n) < positive, 1.0, -1.0)
    X = np.zeros((n, 3 + 5 * n))
    X[:, 0] = t
    X[:, 1:3] = 1
    for i in range(n):
        own = 3 + 5 * i
        X[i, own : own + (1 if t[i] > 0 else 5)] = 1
    columns = ["label", "one", "one again", *(f"own {i + 1}.{j + 1}" for i in range(n) for j in range(5))]
    return pair(f"wilson:n={n},p={p:g}", X, t, columns, "label", NAMED["wilson"].about)


def _wilson_test(parameters: str) -> Dataset:
    """New examples with the labels of the training examples.

    Their own features are none of the training examples', so that nothing has been learnt of them from a start at
    zero and they would only add columns of zero weight; they are left out.
    """
    training = _wilson(parameters)
    seen = training.X.copy()
    seen[:, 3:] = 0
    return pair(f"{training.name} (test)", seen, training.t, training.columns, training.target, training.about)


def _require_memory(name: str, n: int, d: int) -> None:
    """Refuse an n x d matrix larger than the machine: asking for one would not fail but freeze it."""
    if hasattr(os, "sysconf") and 8 * n * d > os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"):
        raise InputError(
            f"{name!r} with n={n} needs {8e-9 * n * d:.3g} GB, more memory than there is; make it smaller."
        )


def _require(name: str, parameter: str, value: float, holds: bool, wanted: str) -> None:
    if not holds:
        raise InputError(f"In {name!r}, {parameter} must be {wanted}, but it is {value:g}.")


def _parse_parameters(name: str, text: str, defaults: dict[str, float]) -> dict[str, Any]:
    """The parameters of a named set, written `key=value,key=value`; integers where the default is one."""
    given: dict[str, Any] = dict(defaults)
    for item in text.split(",") if text.strip() else []:
        key, _, value = (part.strip() for part in item.partition("="))
        if key not in defaults:
            raise unknown_name(f"parameter of {name!r}", key, defaults)
        integer = isinstance(defaults[key], int)
        if not (re.fullmatch(r"[+-]?\d{1,18}", value) if integer else is_number(value) and is_finite(value)):
            kind = "an integer" if integer else "a finite number"
            raise InputError(f"In {name!r}, {key} must be {kind}, as in '{name}:{key}={defaults[key]}'; got {item!r}.")
        given[key] = int(value) if integer else float(value)
    return given


NAMED = {
    "digits": Named(
        "1797 images of 8 x 8 pixels, divided by 16, no intercept; target +1 for even and -1 for odd digits.", _digits
    ),
    "diabetes": Named(
        "442 patients, 10 measurements; columns and target (disease progression) standardised, no intercept.", _diabetes
    ),
    "breast_cancer": Named(
        "569 tumours, 30 measurements, columns standardised, no intercept; target +1 benign, -1 malignant.",
        _breast_cancer,
    ),
    "breast_cancer_raw": Named(
        "569 tumours, 30 measurements in their own units, no intercept; target +1 benign, -1 malignant.",
        _breast_cancer_raw,
    ),
    "digits_features": Named(
        "The first n digits through d random cosine features, target as for digits, the other digits for the test: "
        "digits_features:d=2000,n=500,seed=0.",
        _digits_features,
        lambda parameters: _digits_through_features(parameters, test=True),
    ),
    "gaussian": Named(
        "n examples of d standard normal features; t = X w + noise, w normal with variance 1/d: gaussian:n=20,d=100.",
        _gaussian,
    ),
    "wilson": Named(
        "The construction of Wilson et al. (2017), a share p of labels +1: wilson:n=40,p=0.75.",
        _wilson,
        _wilson_test,
    ),
}
