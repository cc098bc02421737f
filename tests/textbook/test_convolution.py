"""F3.1 to F3.3 against the textbook's numbers, shifted images, visits to every unit, and filters of known purpose."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from thalweg.textbook import convolution as book
from thalweg.textbook.convolution import CONV, POOL, WINDOWS, Conv, Full, Pool, Window

# F3.1


def test_textbook_case():
    """F3.1: the 5 x 5 image with the Laplacian, number for number, and with the Prewitt filter."""
    image = [[0, 0, 0, 0, 0], [0, 0, 1, 1, 1], [1, 1, 1, 1, 0], [0, 1, 1, 1, 0], [0, 0, 1, 0, 0]]
    np.testing.assert_array_equal(book.IMAGE, image)
    np.testing.assert_array_equal(book.LAPLACIAN, [[0, -1, 0], [-1, 4, -1], [0, -1, 0]])
    np.testing.assert_array_equal(book.PREWITT, [[-1, -1, -1], [0, 0, 0], [1, 1, 1]])
    edges = [[0, 0, -1, -1, -1], [-1, -2, 2, 1, 3], [3, 1, 0, 1, -2], [-2, 2, 0, 2, -1], [0, -2, 3, -2, 0]]
    np.testing.assert_array_equal(book.convolve(book.IMAGE, book.LAPLACIAN), edges)
    np.testing.assert_array_equal(book.correlate(book.IMAGE, book.LAPLACIAN), edges)
    downwards = [[0, 1, 2, 3, 2], [2, 3, 3, 2, 1], [1, 1, 1, -1, -1], [-2, -2, -2, -1, -1], [-1, -2, -3, -2, -1]]
    np.testing.assert_array_equal(book.correlate(book.IMAGE, book.PREWITT), downwards)
    np.testing.assert_array_equal(book.convolve(book.IMAGE, book.PREWITT), np.negative(downwards))
    assert book.convolve(book.IMAGE, book.LAPLACIAN).dtype.kind == "i"


odd = st.sampled_from([1, 3, 5])


@st.composite
def images_and_kernels(draw):
    shape, kernel = (draw(st.integers(1, 5)), draw(st.integers(1, 5))), (draw(odd), draw(odd))
    values = st.integers(-5, 5)
    image = draw(st.lists(values, min_size=shape[0] * shape[1], max_size=shape[0] * shape[1]))
    taps = draw(st.lists(values, min_size=kernel[0] * kernel[1], max_size=kernel[0] * kernel[1]))
    return np.reshape(image, shape), np.reshape(taps, kernel)


@given(images_and_kernels())
def test_convolution_is_a_product_of_polynomials(pair):
    """F3.1: its numbers are the middle coefficients of image(x, y) kernel(x, y); correlation turns the kernel."""
    image, kernel = pair
    product = {}
    for (i, j), pixel in np.ndenumerate(image):
        for (k, l), tap in np.ndenumerate(kernel):
            product[i + k, j + l] = product.get((i + k, j + l), 0) + pixel * tap
    up, left = kernel.shape[0] // 2, kernel.shape[1] // 2
    middle = [[product[i + up, j + left] for j in range(image.shape[1])] for i in range(image.shape[0])]
    np.testing.assert_array_equal(book.convolve(image, kernel), middle)
    np.testing.assert_array_equal(book.correlate(image, kernel[::-1, ::-1]), middle)


def test_convolution_and_correlation_are_told_apart():
    """F3.1, WRONG version: they are the same. On a single bright pixel convolution draws the filter itself."""
    point, kernel = np.zeros((3, 3)), np.arange(9.0).reshape(3, 3)
    point[1, 1] = 1
    np.testing.assert_array_equal(book.convolve(point, kernel), kernel)
    np.testing.assert_array_equal(book.correlate(point, kernel), kernel[::-1, ::-1])


def test_frequency_response_is_what_happens_to_a_wave():
    """F3.1: the filter multiplies a wave that fits the image by the response at its frequency."""
    kernel = np.array([[1.0, 2, 0], [0, 1, -1], [3, 0, 1]])
    response = book.frequency_response(kernel, 8)
    row, column = np.indices((8, 8))
    for down, across in ((0, 0), (1, 0), (3, 2), (0, 5)):
        wave = np.exp(2j * np.pi * (down * row + across * column) / 8)
        interior = [sum(kernel[1 + i, 1 + j] * wave[3 - i, 3 - j] for i in (-1, 0, 1) for j in (-1, 0, 1)) / wave[3, 3]]
        assert response[down, across] == pytest.approx(abs(interior[0]), rel=1e-12)


def turned(kernel, quarters):
    return np.rot90(np.array(kernel), quarters)


SOBEL = [[-1, 0, 1], [-2, 0, 2], [-1, 0, 1]]
VERTICAL_LINE = [[-1, 2, -1]] * 3


@pytest.mark.parametrize("quarters", range(4))
@pytest.mark.parametrize(
    ("kernel", "direction"),
    [
        (book.PREWITT, 270),
        (SOBEL, 0),
        ([[-3, 0, 3], [-10, 0, 10], [-3, 0, 3]], 0),
        ([[0, 1, 2], [-1, 0, 1], [-2, -1, 0]], 45),
        ([[5, 5, 5], [-3, 0, -3], [-3, -3, -3]], 90),
        ([[1, 1, 1], [1, -2, 1], [-1, -1, -1]], 90),
        ([[1, 0], [0, -1]], 135),
        ([[-1, 1]], 0),
        ([[-2, -1, 0], [-1, 1, 1], [0, 1, 2]], 315),
        ([[-1, -1, 0, 1, 1]] * 5, 0),
    ],
    ids=["prewitt", "sobel", "scharr", "diagonal", "kirsch", "compass", "roberts", "difference", "emboss", "wide"],
)
def test_oriented_edges_point_to_the_bright_side(kernel, direction, quarters):
    """F3.1: and a quarter turn of the filter turns the direction by 90 degrees."""
    found = book.detects(turned(kernel, quarters))
    assert found[:2] == ("oriented edge", (direction + 90 * quarters) % 360)
    assert f"brightens towards {found.direction:g} deg" in found.reason


def test_an_edge_between_two_directions():
    """F3.1: its first moment is 6 to the right and 1 down."""
    found = book.detects(np.array([[-1, 0, 1], [-1, 0, 1], [-1, 1, 1]]))
    assert found.direction == round(360 - math.degrees(math.atan2(1, 6)), 1)


def told_to_a_tenth(direction):
    return direction == round(direction, 1)


@pytest.mark.parametrize("angle", [10, 30, 60, 100, 200, 340])
def test_edges_of_any_angle(angle):
    """F3.1: derivatives of a Gaussian; their direction is found to half a degree and told to a tenth."""
    row, column = np.indices((7, 7)) - 3
    across = column * math.cos(math.radians(angle)) - row * math.sin(math.radians(angle))
    found = book.detects(across * np.exp(-(row**2 + column**2) / 4))
    assert found.kind == "oriented edge"
    assert found.direction == pytest.approx(angle, abs=0.5)
    assert told_to_a_tenth(found.direction)


@pytest.mark.parametrize("colour", ["bright", "dark"])
@pytest.mark.parametrize("quarters", [0, 1])
@pytest.mark.parametrize(
    ("kernel", "direction"),
    [
        (VERTICAL_LINE, 90),
        ([[-1, -1, 2], [-1, 2, -1], [2, -1, -1]], 45),
        ([[-1, 2, -1]], 90),
        ([[0, -1, 2, -1, 0]] * 5, 90),
        ([[-1, -1, 4, -1, -1]] * 5, 90),
    ],
    ids=["upright", "diagonal", "one row", "fading", "wide"],
)
def test_lines_run_along_their_direction(kernel, direction, quarters, colour):
    sign = 1 if colour == "bright" else -1
    found = book.detects(sign * turned(kernel, quarters))
    assert found[:2] == ("line", (direction + 90 * quarters) % 180)
    assert f"like a {colour} line" in found.reason
    if kernel == VERTICAL_LINE:
        assert found.reason.startswith("100%")


@pytest.mark.parametrize("angle", [15, 30, 40, 60, 75, 110, 160])
def test_lines_of_any_angle(angle):
    """F3.1: thin ridges; their direction is found to three degrees and told to a tenth."""
    row, column = np.indices((7, 7)) - 3
    distance = row * math.cos(math.radians(angle)) + column * math.sin(math.radians(angle))
    ridge = np.exp(-(distance**2) / (2 * 0.6**2))
    found = book.detects(ridge - ridge.mean())
    assert found.kind == "line"
    assert found.direction == pytest.approx(angle, abs=3)
    assert told_to_a_tenth(found.direction)


LAPLACIANS = {
    "four": [[0, -1, 0], [-1, 4, -1], [0, -1, 0]],
    "eight": [[-1, -1, -1], [-1, 8, -1], [-1, -1, -1]],
    "negative": [[0, 1, 0], [1, -4, 1], [0, 1, 0]],
    "padded": np.pad([[0, -1, 0], [-1, 4, -1], [0, -1, 0]], 2),
    "of a Gaussian": [[0, 0, -1, 0, 0], [0, -1, -2, -1, 0], [-1, -2, 16, -2, -1], [0, -1, -2, -1, 0], [0, 0, -1, 0, 0]],
}


@pytest.mark.parametrize("kernel", LAPLACIANS.values(), ids=LAPLACIANS)
def test_laplacians_answer_edges_of_any_direction(kernel):
    assert book.detects(np.array(kernel))[:2] == ("unoriented edge", None)


LANCZOS = [-0.03, 0.0, 0.28, 0.5, 0.28, 0.0, -0.03]


@pytest.mark.parametrize("factor", [0.01, 1, 100])
@pytest.mark.parametrize(
    ("kernel", "kind"),
    [
        (book.PREWITT, "oriented edge"),
        (VERTICAL_LINE, "line"),
        (LAPLACIANS["four"], "unoriented edge"),
        (np.outer(LANCZOS, LANCZOS), "blur"),
        ([[0, -1, 0], [-1, 5, -1], [0, -1, 0]], "sharpen"),
        ([[-1, -1, -1], [-1, 8.5, -1], [-1, -1, -1]], "unoriented edge"),
        ([[-1, -1, -1], [-1, 11, -1], [-1, -1, -1]], "sharpen"),
        ([[1, 0, 1], [0, -3.7, 0], [1, 0, 1]], "unoriented edge"),
        ([[1, 0, 1], [0, -2.5, 0], [1, 0, 1]], "other"),
    ],
)
def test_kinds_do_not_depend_on_strength(kernel, kind, factor):
    """F3.1: a filter times a number is the same kind; small sums beside large taps count as zero."""
    assert book.detects(factor * np.array(kernel)).kind == kind


@pytest.mark.parametrize(
    ("kernel", "kind", "why"),
    [
        ([[3]], "identity", "3, is in the middle"),
        (np.pad([[0.5]], 3), "identity", "0.5, is in the middle"),
        (np.pad([[-1]], 1), "other", "shifts or inverts"),
        ([[0, 0, 1], [0, 0, 0], [0, 0, 0]], "other", "shifts or inverts"),
        ([[1, 0]], "other", "shifts or inverts"),
        (np.zeros((3, 3)), "other", "every tap is zero"),
        (np.ones((3, 3)), "blur", "flat areas, times 9, pass more strongly"),
        ([[1, 2, 1]], "blur", "times 4"),
        (np.eye(5), "blur", "times 5"),
        # Lanczos: it smooths although its outer taps are negative
        (np.outer(LANCZOS, LANCZOS), "blur", "times 1"),
        (np.outer(LANCZOS, [1, 2, 1]), "blur", "times 4"),
        # inverted
        (-np.ones((5, 5)), "other", "times -25: neither"),
        (-np.outer(np.hanning(9)[1:-1], np.hanning(11)[1:-1]), "other", "like none of"),
        ([[0, -1, 0], [-1, 5, -1], [0, -1, 0]], "sharpen", "flat areas come out times 1, fine detail more strongly"),
        ([[-1, -1, -1], [-1, 17, -1], [-1, -1, -1]], "sharpen", "times 9, fine detail"),
        # a tenth of the taps' size is still called zero, and the second moment must be more than a hundredth
        ([[0, -9, 0], [-9, 44, -9], [0, -9, 0]], "unoriented edge", "times 8, edges of any direction remain"),
        ([[-25, 51, -25], [51, -96, 51], [-25, 51, -25]], "other", "times 8: neither"),
        # the neighbours cancel: neither a mean of them is taken off nor added
        ([[1, -1, 1], [-1, 1, -1], [1, -1, 1]], "other", "times 1: neither"),
        # straight edges leave no trace
        ([[1, -2, 1], [-2, 4, -2], [1, -2, 1]], "other", "times 0: neither"),
        ([[-1, 0, 1], [0, 0, 0], [1, 0, -1]], "other", "like none of"),
        ([[3, -1, 2], [-2, 1, 3], [1, -3, 1]], "other", "like none of"),
        ([[-1, 1, 1, -1, 1, -1, -1, 1]], "other", "like none of"),
    ],
)
def test_other_kinds(kernel, kind, why):
    found = book.detects(np.array(kernel))
    assert found[:2] == (kind, None)
    assert why in found.reason


@pytest.mark.parametrize("angle", [0, 35, 90, 120])
@pytest.mark.parametrize("period", [3.0, 4.0])
@pytest.mark.parametrize("phase", [0.0, 1.2, math.pi / 2])
def test_gabor_waves(angle, period, phase):
    """F3.1: stripes run at right angles to the wave; their period is told."""
    row, column = np.indices((9, 9)) - 4
    along = column * math.cos(math.radians(angle)) - row * math.sin(math.radians(angle))
    kernel = np.exp(-(row**2 + column**2) / 8) * np.cos(2 * math.pi * along / period + phase)
    found = book.detects(kernel)
    assert found.kind == "Gabor-like"
    turn = (found.direction - angle) % 180 - 90
    assert abs(turn) < 2
    told = float(found.reason.split(" a fading wave of ")[1].split(" pixels")[0])
    assert told == pytest.approx(period, rel=0.05)
    assert int(found.reason.split("%")[0]) >= 97
    assert told_to_a_tenth(found.direction)


def test_a_gabor_wave_among_the_frequencies_tried_is_matched_in_full():
    """F3.1: 11/64 cycles a pixel across and 5/64 up: stripes at right angles, 64 / sqrt(11^2 + 5^2) pixels apart."""
    row, column = np.indices((15, 15)) - 7
    kernel = np.exp(-(row**2 + column**2) / 8) * np.cos(2 * math.pi * (11 * column - 5 * row) / 64)
    found = book.detects(kernel)
    assert found.direction == round(90 + math.degrees(math.atan2(5, 11)), 1)
    assert found.reason.startswith(f"100% like a fading wave of {64 / math.hypot(11, 5):.1f} pixels with stripes")


def test_a_gabor_wave_needs_five_pixels_either_way():
    """F3.1: a wave and its fading do not fit into fewer."""
    wave = np.array([1.0, -2, 3, -2, 1])
    assert (
        book.detects(np.outer([2.0, 3, 3, 3, 2], np.cos(2.2 * np.arange(-4, 5)) * np.hanning(11)[1:-1])).kind
        == "Gabor-like"
    )
    assert book.detects(np.outer([2.0, 3, 3, 2], np.cos(2.2 * np.arange(-4, 5)) * np.hanning(11)[1:-1])).kind == "other"
    assert book.detects(wave[None]).kind == "other"


@given(images_and_kernels(), st.floats(0.1, 50))
def test_what_a_filter_detects_does_not_depend_on_its_strength(pair, factor):
    _, kernel = pair
    first, second = book.detects(kernel), book.detects(factor * kernel)
    assert first.kind == second.kind
    assert (first.direction is None) == (second.direction is None)


# F3.2

TABLE = [
    ((112, 112, 64), 802_816, 1_792, 21_676_032),
    ((56, 56, 64), 200_704, 0, 802_816),
    ((56, 56, 128), 401_408, 73_856, 231_211_008),
    ((28, 28, 128), 100_352, 0, 401_408),
    ((28, 28, 256), 200_704, 295_168, 231_211_008),
    ((28, 28, 256), 200_704, 590_080, 462_422_016),
    ((14, 14, 256), 50_176, 0, 200_704),
    ((1024,), 1_024, 51_381_248, 51_380_224),
    ((100,), 100, 102_500, 102_400),
]


def test_table_of_the_network():
    sizes = book.layer_sizes(book.INPUT, book.NETWORK)
    assert sizes == TABLE
    assert book.total_size(sizes) == (1_957_988, 52_444_644, 999_407_616)
    assert all(type(number) is int for size in sizes for number in size[1:])


def test_misprint_of_the_worked_answer():
    """F3.2, WRONG: 105,200 parameters in the last layer; the total printed beside it needs 102,500."""
    sizes = book.layer_sizes(book.INPUT, book.NETWORK)
    assert book.wrong_last_layer_parameters() == 105_200
    assert sizes[-1].parameters == 1024 * 100 + 100 != book.wrong_last_layer_parameters()
    assert sum(size.parameters for size in sizes[:-1]) + 102_500 == 52_444_644


@st.composite
def networks(draw):
    """Convolutions and pools, then fully connected layers, small enough to visit every connection."""
    shape = (draw(st.integers(4, 7)), draw(st.integers(4, 7)), draw(st.integers(1, 3)))
    layers, channels, side = [], shape[2], min(shape[:2])
    for _ in range(draw(st.integers(0, 3))):
        if side >= 2 and draw(st.booleans()):
            size = draw(st.integers(2, min(3, side)))
            side //= size
            layers.append(Pool(size))
        else:
            channels = draw(st.integers(1, 3))
            layers.append(Conv(draw(st.sampled_from([1, 3])), channels))
    layers += [Full(draw(st.integers(1, 3))) for _ in range(draw(st.integers(1, 2)))]
    return shape, layers


@settings(deadline=None, max_examples=40)
@given(networks())
def test_formulae_count_what_a_walk_over_every_connection_counts(network):
    """F3.2: pools drop the rows and columns that do not fill a window."""
    shape, layers = network
    assert [size[1:] for size in book.layer_sizes(shape, layers)] == book.sizes_by_walking(shape, layers)


def test_walk_counts_a_network_counted_on_paper():
    """F3.2: 5 x 4 x 2 pixels; conv3-3: 60 units of 18 inputs, 57 parameters; pool2: 12 units of 4; fc-2: 12 each."""
    layers = [Conv(3, 3), Pool(2), Full(2)]
    assert book.sizes_by_walking((5, 4, 2), layers) == [(60, 57, 1080), (12, 0, 48), (2, 26, 24)]


# F3.3


def test_worked_example():
    """F3.3: 30 with stride 8; one more pool: 60 if first, 38 if last; 224 x 224 images fit the same fc layers."""
    assert len(WINDOWS) == 7
    assert (Window(3, 1, 1, 1), Window(2, 2, 1, 0)) == (CONV, POOL)
    assert book.receptive_field(WINDOWS) == (30, 8)
    assert book.receptive_field([POOL, *WINDOWS]) == (60, 16)
    assert book.receptive_field([*WINDOWS, POOL]) == (38, 16)
    assert book.output_width(WINDOWS, 112) == 14
    assert book.output_width([POOL, *WINDOWS], 224) == book.output_width([*WINDOWS, POOL], 224) == 14
    assert book.inputs_seen(WINDOWS, 0) == set(range(-11, 19))


@st.composite
def stacks(draw):
    window = st.builds(Window, st.integers(1, 4), st.integers(1, 3), st.integers(1, 3), st.integers(0, 3))
    return draw(st.lists(window, min_size=1, max_size=4))


@given(stacks(), st.integers(0, 5))
def test_fields_are_the_span_of_the_inputs_seen(windows, unit):
    """F3.3: the arithmetic against following every tap; the next unit sees the same, one stride further."""
    seen, width, stride = book.inputs_seen(windows, unit), *book.receptive_field(windows)
    assert max(seen) - min(seen) + 1 == width
    assert {position + stride for position in seen} == book.inputs_seen(windows, unit + 1)


def test_inputs_seen_by_one_dilated_layer():
    assert book.inputs_seen([Window(3, 2, 4, 1)], 5) == {9, 13, 17}


@given(stacks(), st.integers(1, 60))
def test_output_width_counts_the_units_whose_taps_all_exist(windows, width):
    """F3.3: layer by layer, units are counted while their last tap still falls on the padded input."""
    remaining = width
    for kernel, stride, dilation, padding in windows:
        last_tap = range(dilation * (kernel - 1), remaining + 2 * padding, stride)
        remaining = len(last_tap)
        assume(remaining > 0)
    assert book.output_width(windows, width) == remaining


@given(stacks(), st.integers(0, 3))
def test_changes_that_enlarge_a_field(windows, position):
    """F3.3: every entry is the field of the network with that change made, by following taps."""
    index = position % len(windows)
    kernel, stride, dilation, padding = windows[index]
    changed = {
        "kernel wider by 2": [Window(kernel + 2, stride, dilation, padding)],
        "dilation larger by 1": [Window(kernel, stride, dilation + 1, padding)],
        "stride doubled": [Window(kernel, stride * 2, dilation, padding)],
        "one more conv3 after it": [windows[index], Window(3, 1, 1, 1)],
        "one more pool after it": [windows[index], Window(2, 2, 1, 0)],
    }
    spans = {}
    for name, layers in changed.items():
        seen = book.inputs_seen([*windows[:index], *layers, *windows[index + 1 :]], 0)
        spans[name] = max(seen) - min(seen) + 1
    assert book.enlarged(windows, index) == spans


def test_only_the_stride_of_earlier_layers_counts():
    """F3.3, WRONG version: a layer's own stride enlarges its own windows."""
    assert book.receptive_field([Window(3, 5, 1, 1)]) == (3, 5)
    assert book.wrong_receptive_field([Window(3, 5, 1, 1)]) == 1 + 2 * 5
    assert book.wrong_receptive_field([Window(3, 2, 1, 0), Window(2, 1, 3, 0)]) == 1 + 2 * 2 + 1 * 3 * 2
    assert book.receptive_field([Window(3, 2, 1, 0), Window(2, 1, 3, 0)]) == (1 + 2 + 1 * 3 * 2, 2)


def test_a_unit_does_not_see_what_the_network_accepts():
    """F3.3, WRONG version."""
    assert book.wrong_width_seen(WINDOWS, 112) == 112
    assert len(book.inputs_seen(WINDOWS, 3)) == 30


@given(stacks(), st.integers(0, 5))
def test_path_counts_multiply(windows, unit):
    """F3.3: the paths end at the inputs seen, and there are as many as the kernels' widths multiplied."""
    paths = book.path_counts(windows, unit)
    assert set(paths) == book.inputs_seen(windows, unit)
    assert sum(paths.values()) == math.prod(window.kernel for window in windows)


def test_path_counts_of_two_convolutions():
    assert book.path_counts([CONV, CONV], 5) == {3: 1, 4: 2, 5: 3, 6: 2, 7: 1}


@pytest.mark.parametrize("kernel", [2, 3, 5])
@pytest.mark.parametrize("layers", [1, 4, 9])
def test_effective_width_of_stacked_convolutions(kernel, layers):
    """F3.3: variance n (k^2 - 1) / 12."""
    paths = book.path_counts([Window(kernel, 1, 1, 0)] * layers, 7)
    assert book.effective_width(paths) == pytest.approx(math.sqrt(layers * (kernel**2 - 1) / 12), rel=1e-13)
