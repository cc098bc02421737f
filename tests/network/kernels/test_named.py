"""Named kernels: the figures of textbooks, parameters, and refusals."""

from __future__ import annotations

import numpy as np
import pytest

from kernel_zoo import LAPLACIANS, degrees_apart, gabor, gaussian
from thalweg.errors import InputError
from thalweg.network.kernels.judging import judge
from thalweg.network.kernels.named import NAMED, named_kernel


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("sobel", [[-1, 0, 1], [-2, 0, 2], [-1, 0, 1]]),
        ("Sobel:angle=270", [[-1, -2, -1], [0, 0, 0], [1, 2, 1]]),
        ("sobel:size=5", np.outer([1, 4, 6, 4, 1], [-1, -2, 0, 2, 1])),
        ("prewitt : angle = 90", [[1, 1, 1], [0, 0, 0], [-1, -1, -1]]),
        ("scharr", [[-3, 0, 3], [-10, 0, 10], [-3, 0, 3]]),
        ("roberts", [[1, 0], [0, -1]]),
        ("roberts:angle=45", [[0, 1], [-1, 0]]),
        ("laplacian", LAPLACIANS[4]),
        ("laplacian:centre=8", LAPLACIANS[8]),
        ("gaussian:size=7,sigma=1.5", gaussian(7, 1.5)),
        ("box", np.full((3, 3), 1 / 9)),
        ("sharpen", [[0, -1, 0], [-1, 5, -1], [0, -1, 0]]),
        ("sharpen:centre=9", [[-1, -1, -1], [-1, 9, -1], [-1, -1, -1]]),
        ("identity", [[0, 0, 0], [0, 1, 0], [0, 0, 0]]),
        ("gabor:size=9,wavelength=4,angle=30,phase=90,aspect=1", gabor(9, 4, 30, 90, 1)),
    ],
)
def test_a_name_is_the_kernel_of_textbooks(text, expected):
    np.testing.assert_allclose(named_kernel(text), expected, atol=1e-12)


def test_a_wide_laplacian_is_that_of_a_gaussian():
    # Second differences of a finely sampled Gaussian, at the taps.
    fine = np.arange(-40, 41) / 10
    window = np.exp(-(fine[:, None] ** 2 + fine[None] ** 2) / 2)
    laplacian = -sum(np.gradient(np.gradient(window, 0.1, axis=axis), 0.1, axis=axis) for axis in (0, 1))
    taps = laplacian[::10, ::10]
    ours = named_kernel("laplacian:sigma=1,size=9")
    assert abs(ours.sum()) < 1e-12
    np.testing.assert_allclose(ours, taps - taps.mean(), atol=0.03)


@pytest.mark.parametrize("name", NAMED)
def test_every_name_is_judged_to_be_what_it_says(name):
    labels = {
        "sobel": "oriented edge", "prewitt": "oriented edge", "scharr": "oriented edge", "roberts": "oriented edge",
        "laplacian": "unoriented edge", "gaussian": "blur", "box": "blur", "gabor": "Gabor-like",
    }  # fmt: skip
    (judged,) = judge([named_kernel(name)])
    assert judged.label == labels.get(name, name)


@pytest.mark.parametrize("name", ["sobel", "prewitt", "scharr", "roberts", "gabor"])
@pytest.mark.parametrize("angle", [0, 20, 45, 110, 315])
def test_an_angle_is_the_direction_that_is_found(name, angle):
    (judged,) = judge([named_kernel(f"{name}:angle={angle}")])
    assert degrees_apart(judged.direction.angle, angle, 180 if name == "gabor" else 360) < 0.7


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("sobell", "did you mean 'sobel'"),
        ("sobel:sise=3", "There is no parameter of 'sobel' named 'sise'; did you mean 'size'?"),
        ("sobel:size=1", "size must be from 2 to 64, but it is 1"),
        ("sobel:size=65", "size must be from 2 to 64"),
        ("sobel:size=3.5", "size must be a whole number"),
        ("sobel:angle=nan", "angle must be a finite number, as in 'sobel:angle=0'; got 'nan'"),
        ("sobel:angle", "angle must be a finite number"),
        ("laplacian:centre=6", "centre must be 4 or 8, but it is 6"),
        ("laplacian:size=4", "size must be odd where sigma is 0"),
        ("laplacian:sigma=-1", "sigma must be at least 0.1"),
        ("gaussian:sigma=0", "sigma must be at least 0.1"),
        ("gaussian:size=0", "size must be from 1 to 64"),
        ("sharpen:centre=4", "centre must be 5 or 9"),
        ("identity:size=2", "size must be odd"),
        ("gabor:wavelength=1", "wavelength must be at least 2"),
        ("gabor:aspect=0", "aspect must be above 0"),
    ],
)
def test_a_mistake_gets_one_sentence(text, sentence):
    with pytest.raises(InputError) as refused:
        named_kernel(text)
    assert sentence in str(refused.value)
    assert "\n" not in str(refused.value)
