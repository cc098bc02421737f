"""Convolutional networks: facts F3.1 to F3.3 as one would write them on a board, counted with Python's integers.

>>> print(convolve(IMAGE, LAPLACIAN))
[[ 0  0 -1 -1 -1]
 [-1 -2  2  1  3]
 [ 3  1  0  1 -2]
 [-2  2  0  2 -1]
 [ 0 -2  3 -2  0]]
>>> detects(PREWITT)[:2]
('oriented edge', 270.0)
>>> receptive_field(WINDOWS)
(30, 8)
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import product
from typing import Any, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

Array: TypeAlias = NDArray[Any]

IMAGE = np.array([[0, 0, 0, 0, 0], [0, 0, 1, 1, 1], [1, 1, 1, 1, 0], [0, 1, 1, 1, 0], [0, 0, 1, 0, 0]])
LAPLACIAN = np.array([[0, -1, 0], [-1, 4, -1], [0, -1, 0]])
PREWITT = np.array([[-1, -1, -1], [0, 0, 0], [1, 1, 1]])
WAVES = 64  # the frequencies at which a filter is tried, along each axis

# F3.1: filtering an image ----------------------------------------------------------------------------------------


def correlate(image: Array, kernel: Array) -> Array:
    """F3.1: cross-correlation with zero padding, same size: what convolutional networks compute (odd kernel sides)."""
    rows, columns = image.shape
    middle_row, middle_column = kernel.shape[0] // 2, kernel.shape[1] // 2
    output = np.zeros_like(image, dtype=np.result_type(image, kernel))
    for row, column in product(range(rows), range(columns)):
        for i, j in product(range(kernel.shape[0]), range(kernel.shape[1])):
            y, x = row + i - middle_row, column + j - middle_column
            if 0 <= y < rows and 0 <= x < columns:
                output[row, column] += kernel[i, j] * image[y, x]
    return output


def convolve(image: Array, kernel: Array) -> Array:
    """F3.1: true convolution: the kernel is turned by half a turn first, which shows unless it is symmetric."""
    return correlate(image, kernel[::-1, ::-1])


def frequency_response(kernel: Array, size: int) -> Array:
    """F3.1: how strongly the filter passes waves of 0, 1/size, 2/size, ... cycles per pixel, down and across."""
    return np.abs(np.fft.fft2(kernel, (size, size)))


class Detection(NamedTuple):
    """F3.1: what a filter answers to: the kind, its direction in degrees if it has one, and the reason in words."""

    kind: str
    direction: float | None
    reason: str


def detects(kernel: Array) -> Detection:
    """F3.1: what a filter (sides up to 64), used for cross-correlation, detects, by the patterns it may look for.

    Directions are counted anticlockwise from "to the right": an edge's points to its bright side (0 to 360), a line's
    and a Gabor wave's runs along its stripes (0 to 180). True convolution turns an edge's direction by 180.
    """
    k = _trimmed(np.asarray(kernel, dtype=float))
    y, x = np.indices(k.shape).astype(float)
    y, x = (k.shape[0] - 1) / 2 - y, x - (k.shape[1] - 1) / 2
    middle = k[(x == 0) & (y == 0)].sum()
    flat, size = k.sum(), np.abs(k).sum()

    if not k.any():
        return Detection("other", None, "every tap is zero: it answers nothing")
    if np.count_nonzero(k) == 1:
        if middle > 0:
            return Detection("identity", None, f"its one tap, {middle:g}, is in the middle: every pixel passes unmixed")
        return Detection("other", None, f"its one tap, {flat:g}, is off the middle or negative: it shifts or inverts")
    if flat > 0.999 * frequency_response(k, WAVES).max():
        return Detection("blur", None, f"flat areas, times {flat:g}, pass more strongly than any wave")

    angle = np.arctan2((k * y).sum(), (k * x).sum())
    step = np.sign(np.round(x * np.cos(angle) + y * np.sin(angle), 9))
    if (match := _likeness(k, step)) > 0.7:
        direction = round(float(np.degrees(angle)) % 360, 1)
        why = f"{match:.0%} like a step that brightens towards {direction:g} deg"
        return Detection("oriented edge", direction, why)

    if k.shape[0] == k.shape[1] and (match := _likeness(k, _round(k, x * x + y * y))) > 0.95:
        why = f"{match:.0%} the same in every direction, flat areas come out times {flat:g}"
        if middle > flat > 0.1 * size:
            return Detection("sharpen", None, f"{why}, fine detail more strongly")
        if abs(flat) <= 0.1 * size and abs((k * (x * x + y * y)).sum()) > 0.01 * size:
            return Detection("unoriented edge", None, f"{why}, edges of any direction remain")
        return Detection("other", None, f"{why}: neither an edge detector nor sharpening")

    along = np.arctan2(2 * (k * x * y).sum(), (k * (x * x - y * y)).sum()) / 2
    angle = max((along, along + np.pi / 2), key=lambda theta: abs(_likeness(k, _line(x, y, theta))))
    if abs(match := _likeness(k, _line(x, y, angle))) > 0.9:
        direction = round(float(np.degrees(angle)) % 180, 1)
        why = f"{abs(match):.0%} like a {'bright' if match > 0 else 'dark'} line along {direction:g} deg"
        return Detection("line", direction, why)

    if (wave := _wave(k, x, y)) is not None and wave.match > 0.9:
        why = f"{wave.match:.0%} like a fading wave of {wave.period:.1f} pixels with stripes along {wave.stripes:g} deg"
        return Detection("Gabor-like", wave.stripes, why)
    return Detection("other", None, "like none of: identity, blur, sharpening, edge, line, Gabor wave")


def _trimmed(k: Array) -> Array:
    """`k` without the outer rows and columns that are zero on both sides."""
    while k.any() and not k[[0, -1]].any():
        k = k[1:-1]
    while k.any() and not k[:, [0, -1]].any():
        k = k[:, 1:-1]
    return k


def _likeness(k: Array, pattern: Array) -> float:
    """The cosine of the angle between a filter and a pattern: 1 for the same up to a positive factor."""
    lengths = float(np.linalg.norm(k) * np.linalg.norm(pattern))
    return float((k * pattern).sum()) / lengths if lengths else 0.0


def _round(k: Array, squared_radius: Array) -> Array:
    """`k` with every tap replaced by the mean of all taps as far from the middle."""
    rounded = np.empty_like(k)
    for r in np.unique(squared_radius):
        rounded[squared_radius == r] = k[squared_radius == r].mean()
    return rounded


def _line(x: Array, y: Array, theta: float) -> Array:
    """A bright line through the middle in direction theta, fading within a pixel, on a ground that makes the mean 0."""
    distance = np.abs(y * np.cos(theta) - x * np.sin(theta))
    line: Array = np.maximum(0, 1 - distance) - np.maximum(0, 1 - distance).mean()
    return line


class Wave(NamedTuple):
    """F3.1: how much a filter is like a fading wave, the direction of its stripes in degrees, its period in pixels."""

    match: float
    stripes: float
    period: float


def _wave(k: Array, x: Array, y: Array) -> Wave | None:
    """The best fading wave at the frequency that `k` passes best; None where that is 0 or `k` is too small for one."""
    response = frequency_response(k, WAVES)
    down, across = np.unravel_index(np.argmax(response), response.shape)
    fy, fx = -np.fft.fftfreq(WAVES)[down], np.fft.fftfreq(WAVES)[across]
    if fx == fy == 0 or min(k.shape) < 5:
        return None
    squared_width = (k * k * (x * x + y * y)).sum() / (k * k).sum()
    window = np.exp(-(x * x + y * y) / (2 * squared_width))
    phase = 2 * np.pi * (fx * x + fy * y)
    waves = np.stack([(window * np.cos(phase)).ravel(), (window * np.sin(phase)).ravel()], axis=1)
    best = waves @ np.linalg.lstsq(waves, k.ravel())[0]
    # Stripes run at right angles to the wave's direction (fx, fy).
    stripes = round(float(np.degrees(np.arctan2(fx, -fy))) % 180, 1)
    return Wave(_likeness(k, best.reshape(k.shape)), stripes, float(1 / np.hypot(fx, fy)))


# F3.2: the size of a network -------------------------------------------------------------------------------------


class Conv(NamedTuple):
    """F3.2: a convolution, kernel x kernel weights for every input channel, zero padding that keeps the size."""

    kernel: int
    outputs: int


class Pool(NamedTuple):
    """F3.2: max pooling of window x window pixels, with a stride as wide as the window."""

    window: int


class Full(NamedTuple):
    """F3.2: a fully connected layer."""

    outputs: int


Layer: TypeAlias = Conv | Pool | Full


class Size(NamedTuple):
    """F3.2: one row of the table: the shape of a layer's units, and three counts."""

    units: tuple[int, ...]
    neurons: int
    parameters: int
    connections: int


INPUT = (112, 112, 3)
NETWORK = (
    Conv(3, 64),
    Pool(2),
    Conv(3, 128),
    Pool(2),
    Conv(3, 256),
    Conv(3, 256),
    Pool(2),
    Full(1024),
    Full(100),
)


def layer_sizes(shape: tuple[int, ...], layers: Sequence[Layer]) -> list[Size]:
    """F3.2: units, neurons, parameters with biases and input connections without biases of every layer.

    Args:
        shape: height, width and channels of the input.
        layers: in order, fully connected layers last.
    """
    sizes = []
    for layer in layers:
        match layer:
            case Conv(kernel, outputs):
                inputs = kernel * kernel * shape[-1]
                parameters = outputs * inputs + outputs
                shape = (*shape[:-1], outputs)
            case Pool(window):
                inputs, parameters = window * window, 0
                shape = (shape[0] // window, shape[1] // window, shape[2])
            case Full(outputs):
                inputs = math.prod(shape)
                parameters = outputs * inputs + outputs
                shape = (outputs,)
        neurons = math.prod(shape)
        sizes.append(Size(shape, neurons, parameters, neurons * inputs))
    return sizes


def total_size(sizes: Sequence[Size]) -> tuple[int, int, int]:
    """F3.2: neurons, parameters and connections of the whole network."""
    return (
        sum(size.neurons for size in sizes),
        sum(size.parameters for size in sizes),
        sum(size.connections for size in sizes),
    )


def sizes_by_walking(shape: tuple[int, ...], layers: Sequence[Layer]) -> list[tuple[int, int, int]]:
    """F3.2: neurons, parameters and connections found by visiting every unit and every one of its inputs."""
    counts = []
    units = list(product(*(range(side) for side in shape)))
    for layer in layers:
        weights: set[object] = set()  # the name of every weight and bias met on the way
        connections = 0
        match layer:
            case Conv(kernel, outputs):
                taps = list(product(range(kernel), range(kernel), {unit[-1] for unit in units}))
                units = list(product({y for y, _, _ in units}, {x for _, x, _ in units}, range(outputs)))
                for (_, _, output), tap in product(units, taps):
                    weights |= {output, (output, tap)}
                    connections += 1
            case Pool(window):
                corners = [(y, x, c) for y, x, c in units if y % window == x % window == window - 1]
                units = [(y // window, x // window, c) for y, x, c in corners]
                for _ in product(units, range(window), range(window)):
                    connections += 1
            case Full(outputs):
                inputs, units = units, list(product(range(outputs)))
                for unit, seen in product(units, inputs):
                    weights |= {unit, (unit, seen)}
                    connections += 1
        counts.append((len(units), len(weights), connections))
    return counts


def wrong_last_layer_parameters() -> int:
    """F3.2, WRONG: the parameters printed for FC-100; 1024 weights and a bias for each of 100 units are 102,500."""
    return 105_200


# F3.3: the receptive field ---------------------------------------------------------------------------------------


class Window(NamedTuple):
    """F3.3: what a layer does along one axis: kernel width, stride, dilation and zero padding on either side."""

    kernel: int
    stride: int
    dilation: int
    padding: int


CONV, POOL = Window(3, 1, 1, 1), Window(2, 2, 1, 0)
WINDOWS = (CONV, POOL, CONV, POOL, CONV, CONV, POOL)


def inputs_seen(windows: Sequence[Window], unit: int) -> set[int]:
    """F3.3: the input positions that a unit of the last layer depends on, padding included, followed tap by tap."""
    seen = {unit}
    for kernel, stride, dilation, padding in reversed(windows):
        seen = {stride * i + dilation * tap - padding for i in seen for tap in range(kernel)}
    return seen


def receptive_field(windows: Sequence[Window]) -> tuple[int, int]:
    """F3.3: width and stride of the last layer's receptive fields: a stride enlarges only the windows after it."""
    width, stride = 1, 1
    for window in windows:
        width = width + (window.kernel - 1) * window.dilation * stride
        stride = stride * window.stride
    return width, stride


def output_width(windows: Sequence[Window], width: int) -> int:
    """F3.3: how many units the last layer has along an axis of `width` input pixels."""
    for kernel, stride, dilation, padding in windows:
        width = (width + 2 * padding - dilation * (kernel - 1) - 1) // stride + 1
    return width


def enlarged(windows: Sequence[Window], index: int) -> dict[str, int]:
    """F3.3: the receptive field's width after each change to layer `index` that may enlarge it."""
    window = windows[index]
    changes = {
        "kernel wider by 2": [window._replace(kernel=window.kernel + 2)],
        "dilation larger by 1": [window._replace(dilation=window.dilation + 1)],
        "stride doubled": [window._replace(stride=2 * window.stride)],
        "one more conv3 after it": [window, CONV],
        "one more pool after it": [window, POOL],
    }
    before, after = windows[:index], windows[index + 1 :]
    return {name: receptive_field([*before, *change, *after])[0] for name, change in changes.items()}


def path_counts(windows: Sequence[Window], unit: int) -> dict[int, int]:
    """F3.3: the number of paths from every input position to a unit: its share of the effect if weights are equal."""
    paths = {unit: 1}
    for kernel, stride, dilation, padding in reversed(windows):
        earlier: dict[int, int] = {}
        for i, count in paths.items():
            for tap in range(kernel):
                position = stride * i + dilation * tap - padding
                earlier[position] = earlier.get(position, 0) + count
        paths = earlier
    return paths


def effective_width(paths: dict[int, int]) -> float:
    """F3.3: the effective receptive field, as the standard deviation of position over all paths, in pixels."""
    total = sum(paths.values())
    mean = sum(position * count for position, count in paths.items()) / total
    variance = sum((position - mean) ** 2 * count for position, count in paths.items()) / total
    return float(np.sqrt(variance))


def wrong_width_seen(windows: Sequence[Window], accepted: int) -> int:
    """F3.3, WRONG: a unit of the last layer sees what the network accepts."""
    return accepted


def wrong_receptive_field(windows: Sequence[Window]) -> int:
    """F3.3, WRONG: a layer's own stride enlarges its own windows already."""
    width, stride = 1, 1
    for window in windows:
        stride = stride * window.stride
        width = width + (window.kernel - 1) * window.dilation * stride
    return width
