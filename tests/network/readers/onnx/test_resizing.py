"""Resize, rule by rule: which positions every unit is made of, against ONNX's own reference implementation."""

from __future__ import annotations

import itertools
from fractions import Fraction

import numpy as np
import pytest

onnx = pytest.importorskip("onnx", reason="needs onnx, which CI installs")

from onnx import TensorProto, helper, numpy_helper  # noqa: E402
from onnx.reference import ReferenceEvaluator  # noqa: E402

import thalweg as tw  # noqa: E402

PLACES = ("asymmetric", "align_corners", "half_pixel", "half_pixel_symmetric", "pytorch_half_pixel")
ROUNDINGS = ("round_prefer_floor", "round_prefer_ceil", "floor", "ceil")
FACTORS = (2.0, 3.0, 4.0, 0.5, 0.25, 1.5)


def resized(extent, factor, by_sizes=False, **attributes):
    """A model with one Resize along one axis, by scales or by sizes."""
    after = int(extent * factor)
    numbers = np.array([after]) if by_sizes else np.array([factor], np.float32)
    inputs = ["x", "", "", "n"] if by_sizes else ["x", "", "n"]
    graph = helper.make_graph(
        [helper.make_node("Resize", inputs, ["y"], axes=[2], **attributes)],
        "resize",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 1, extent])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", 1, after])],
        [numpy_helper.from_array(numbers, "n")],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 19)], ir_version=9)


def made_of(model, extent):
    """For every unit the first and the last position on which it depends, as the reference works it out."""
    (values,) = ReferenceEvaluator(model).run(None, {"x": np.eye(extent, dtype=np.float32)[:, None]})
    depends = np.abs(values[:, 0]) > 1e-6
    return [(int(np.flatnonzero(unit).min()), int(np.flatnonzero(unit).max())) for unit in depends.T]


def told(model, folder):
    """What `size` says that every unit sees; None where it says that it cannot be followed."""
    onnx.save(model, folder / "resize.onnx")
    answer = tw.size(folder / "resize.onnx")
    if answer.layers[-1].receptive_field is None:
        return None
    return [answer.unit(-1, (unit,)).clipped[0] for unit in range(answer.layers[-1].output[-1])]


@pytest.mark.parametrize("by_sizes", [False, True])
@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("mode", ["nearest", "linear", "cubic"])
def test_every_unit_sees_what_the_reference_makes_it_of(mode, place, by_sizes, tmp_path):
    followed = 0
    for factor, extent in itertools.product(FACTORS, (4, 8, 12)):
        for rounding in ROUNDINGS if mode == "nearest" else ROUNDINGS[:1]:
            options = {"mode": mode, "coordinate_transformation_mode": place, "nearest_mode": rounding}
            model = resized(extent, factor, by_sizes, **options)
            ours, expected = told(model, tmp_path), made_of(model, extent)
            if ours is None:
                continue
            followed += 1
            if (mode, place, len(ours)) == ("cubic", "pytorch_half_pixel", 1):
                assert ours == [(0, 0)], "a single unit stands at 0, as the standard says; the reference takes -0.5"
                continue
            for (first, last), (low, high) in zip(ours, expected, strict=True):
                if mode == "cubic":  # some of whose four taps have no weight where a unit stands on a position
                    assert first <= low <= high <= last <= first + 3, (factor, extent)
                else:
                    assert (first, last) == (low, high), (factor, extent, rounding)
    assert followed >= 3, "where nothing is followed nothing was tested"


@pytest.mark.parametrize("factor", [0.5, 0.25])
@pytest.mark.parametrize("mode", ["linear", "cubic"])
def test_what_is_smoothed_before_it_is_made_smaller_sees_more(mode, factor, tmp_path):
    model = resized(16, factor, mode=mode, coordinate_transformation_mode="half_pixel", antialias=1)
    ours, expected = told(model, tmp_path), made_of(model, 16)
    assert ours == expected
    assert ours[2] != told(resized(16, factor, mode=mode, coordinate_transformation_mode="half_pixel"), tmp_path)[2]


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("mode", ["nearest", "linear", "cubic"])
def test_ratios_that_are_not_whole_are_followed(mode, place, tmp_path):
    for extent, after in ((7, 10), (9, 4), (5, 18), (12, 11), (3, 64)):
        for rounding in ROUNDINGS if mode == "nearest" else ROUNDINGS[:1]:
            options = {"mode": mode, "coordinate_transformation_mode": place, "nearest_mode": rounding}
            model = resized(extent, Fraction(after, extent), True, **options)
            assert told(model, tmp_path) == made_of(model, extent), (extent, after, rounding)


def test_factors_that_are_no_ratio_of_small_numbers_are_followed_as_far_as_they_repeat(tmp_path):
    for factor in (1.5, 0.4, 2 / 3, 1.7):
        model = resized(12, factor, mode="linear", coordinate_transformation_mode="half_pixel")
        assert told(model, tmp_path) == made_of(model, 12)
