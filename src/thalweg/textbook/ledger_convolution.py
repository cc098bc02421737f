"""The ledger's facts F3.1 to F3.3: computed by the textbook, counted again in another way, wrong versions refuted."""

from __future__ import annotations

from collections.abc import Callable
from itertools import product

import numpy as np

from thalweg.textbook import convolution as book
from thalweg.textbook.convolution import CONV, POOL, WINDOWS, Conv, Full, Pool, Window
from thalweg.textbook.ledger import Cases, Fact, Wrong, fact, integer_arrays, largest_difference, refute, show

EXPECTED = [[0, 0, -1, -1, -1], [-1, -2, 2, 1, 3], [3, 1, 0, 1, -2], [-2, 2, 0, 2, -1], [0, -2, 3, -2, 0]]

# The table of F3.2: neurons, parameters, connections; the last row is the total.
TABLE = [
    (802_816, 1_792, 21_676_032),
    (200_704, 0, 802_816),
    (401_408, 73_856, 231_211_008),
    (100_352, 0, 401_408),
    (200_704, 295_168, 231_211_008),
    (200_704, 590_080, 462_422_016),
    (50_176, 0, 200_704),
    (1_024, 51_381_248, 51_380_224),
    (100, 102_500, 102_400),
    (1_957_988, 52_444_644, 999_407_616),
]


def by_shifting(image: book.Array, kernel: book.Array) -> book.Array:
    """Cross-correlation as a sum of shifted, weighted copies of the padded image."""
    rows, columns = image.shape
    padded = np.pad(image, ((kernel.shape[0] // 2,), (kernel.shape[1] // 2,)))
    shifts = np.ndindex(*kernel.shape)
    copies = [kernel[i, j] * padded[i : i + rows, j : j + columns] for i, j in shifts]
    total: book.Array = np.sum(copies, axis=0)
    return total


GABOR = "round(9 exp(-(x^2 + y^2)/8) cos(2 x)), 9 x 9"
X, Y = np.meshgrid(range(-4, 5), range(-4, 5))

# A filter of every kind, by the kind that should be found.
FILTERS = {
    "identity": np.array([[0, 0, 0], [0, 1, 0], [0, 0, 0]]),
    "blur": np.array([[1, 2, 1], [2, 4, 2], [1, 2, 1]]),
    "sharpen": np.array([[0, -1, 0], [-1, 5, -1], [0, -1, 0]]),
    "unoriented edge": book.LAPLACIAN,
    "oriented edge": book.PREWITT,
    "line": np.array([[-1, 2, -1], [-1, 2, -1], [-1, 2, -1]]),
    "Gabor-like": np.round(9 * np.exp(-(X**2 + Y**2) / 8) * np.cos(2 * X)),
    "other": np.array([[0, 0, 0], [0, 0, 1], [0, 0, 0]]),
}


def f3_1() -> Fact:
    """F3.1: convolution, and what a filter detects."""
    laplacian, prewitt = (book.convolve(book.IMAGE, kernel) for kernel in (book.LAPLACIAN, book.PREWITT))
    correlated = book.correlate(book.IMAGE, book.PREWITT)
    found = {kind: book.detects(kernel) for kind, kernel in FILTERS.items()}

    def same() -> Cases:
        for entries in integer_arrays((5,), 1):
            image, kernel = entries[:2].reshape(1, 2), entries[2:].reshape(1, 3)
            case = f"convolution of the image {show(image)} with the filter {show(kernel)}"
            yield case, book.correlate(image, kernel), book.convolve(image, kernel)

    return fact(
        "F3.1",
        "The 5 x 5 image convolved with [0 -1 0; -1 4 -1; 0 -1 0], zero padding, gives [0 0 -1 -1 -1; -1 -2 2 1 3; "
        "3 1 0 1 -2; -2 2 0 2 -1; 0 -2 3 -2 0]: an edge detector, of edges in any direction",
        f"middle row {show(laplacian[2])}; {found['unoriented edge'].kind}",
        largest_difference(
            (laplacian, EXPECTED),
            (laplacian, by_shifting(book.IMAGE, book.LAPLACIAN[::-1, ::-1])),
            (prewitt, by_shifting(book.IMAGE, book.PREWITT[::-1, ::-1])),
            (correlated, by_shifting(book.IMAGE, book.PREWITT)),
        ),
        comparisons=[detection.kind == kind for kind, detection in found.items()],
        wrong=[refute("convolution and cross-correlation are the same", same())],
        steps=[
            *((f"Laplacian, row {row + 1}", laplacian[row]) for row in range(5)),
            *((f"Prewitt, true convolution, row {row + 1}", prewitt[row]) for row in range(5)),
            *((f"Prewitt, cross-correlation, row {row + 1}", correlated[row]) for row in range(5)),
            *(
                (GABOR if kind == "Gabor-like" else show(FILTERS[kind]), f"{detection.kind}: {detection.reason}")
                for kind, detection in found.items()
            ),
        ],
    )


SMALL = (Conv(3, 4), Pool(2), Conv(3, 5), Pool(2), Full(7), Full(3))


def _row(size: book.Size) -> str:
    units = " x ".join(map(str, size.units))
    return f"units {units}, neurons {size.neurons:,}, parameters {size.parameters:,}, connections {size.connections:,}"


def f3_2() -> Fact:
    """F3.2: the size of a network."""
    sizes = book.layer_sizes(book.INPUT, book.NETWORK)
    total = book.total_size(sizes)
    counted = book.sizes_by_walking((8, 12, 2), SMALL)
    by_formula = [size[1:] for size in book.layer_sizes((8, 12, 2), SMALL)]
    misprint = book.wrong_last_layer_parameters()
    last = sizes[-1].parameters
    return fact(
        "F3.2",
        "The network of nine layers for 112 x 112 x 3 images has 1,957,988 neurons, 52,444,644 parameters and "
        "999,407,616 connections",
        "{:,} neurons, {:,} parameters, {:,} connections".format(*total),
        largest_difference(
            ([[size.neurons, size.parameters, size.connections] for size in sizes] + [list(total)], TABLE),
            (by_formula, counted),
        ),
        wrong=[
            Wrong(
                f"the last layer, FC-100, has {misprint:,} parameters",
                f"1024 x 100 weights + 100 biases = {1024 * 100 + 100:,}; with {misprint:,} the total would be "
                f"{total[1] - last + misprint:,} instead of {total[1]:,}",
            )
        ],
        steps=[
            *((str(layer), _row(size)) for layer, size in zip(book.NETWORK, sizes, strict=True)),
            ("a small network's rows by formula", show(by_formula)),
            ("the same, unit by unit and input by input", show(counted)),
        ],
    )


def f3_3() -> Fact:
    """F3.3: receptive fields."""
    networks = {
        "the network": WINDOWS,
        "with one more pool first": (POOL, *WINDOWS),
        "with one more pool last": (*WINDOWS, POOL),
    }
    fields = {name: book.receptive_field(windows) for name, windows in networks.items()}
    seen = {name: book.inputs_seen(windows, 3) for name, windows in networks.items()}
    next_seen = {name: book.inputs_seen(windows, 4) for name, windows in networks.items()}
    traced = {name: (len(seen[name]), min(next_seen[name]) - min(seen[name])) for name in networks}
    accepted = {
        224: [book.output_width(networks[name], 224) for name in list(networks)[1:]],
        112: [book.output_width(WINDOWS, 112)],
    }

    changes, traced_changes = book.enlarged(WINDOWS, 2), {}
    for name, window in (
        ("kernel wider by 2", [Window(5, 1, 1, 1)]),
        ("dilation larger by 1", [Window(3, 1, 2, 1)]),
        ("stride doubled", [Window(3, 2, 1, 1)]),
        ("one more conv3 after it", [CONV, CONV]),
        ("one more pool after it", [CONV, POOL]),
    ):
        positions = book.inputs_seen([*WINDOWS[:2], *window, *WINDOWS[3:]], 0)
        traced_changes[name] = max(positions) - min(positions) + 1

    # n stacked 3-wide convolutions: the paths to a unit spread with variance n (9 - 1)/12.
    stacked = book.effective_width(book.path_counts([CONV] * 12, 0))

    def same_as_accepted() -> Cases:
        for width, kernel in sorted(product(range(1, 6), range(2, 5)), key=sum):
            windows = [Window(kernel, 1, 1, 0)]
            if book.output_width(windows, width) > 0:
                truth = len(book.inputs_seen(windows, 0))
                case = f"the pixels that a unit sees behind one {kernel}-wide convolution on an image of {width} pixels"
                yield case, book.wrong_width_seen(windows, width), truth

    def own_stride() -> Cases:
        for kernel, stride in sorted(product(range(1, 5), repeat=2), key=sum):
            windows = [Window(kernel, stride, 1, 0)]
            case = f"the receptive field of one layer with a {kernel}-wide kernel and stride {stride}"
            yield case, book.wrong_receptive_field(windows), len(book.inputs_seen(windows, 0))

    return fact(
        "F3.3",
        "A unit of the last pool sees 30 x 30 input pixels, stride 8; one more 2 x 2 pool makes that 60 if it comes "
        "first, 38 if it comes last, and lets the network take 224 x 224 images; only earlier layers' strides count",
        ", ".join(str(width) for width, _ in fields.values()) + f"; stride {fields['the network'][1]}",
        largest_difference(
            (list(fields.values()), list(traced.values())),
            ([width for width, _ in fields.values()], [30, 60, 38]),
            (fields["the network"][1], 8),
            (list(changes.values()), list(traced_changes.values())),
            (stacked, np.sqrt(12 * (3**2 - 1) / 12)),
        ),
        comparisons=[
            list(changes) == list(traced_changes),
            accepted == {224: [14, 14], 112: [14]},
            # The stride of the last layer of all changes nothing.
            book.receptive_field([*WINDOWS[:-1], Window(2, 5, 1, 0)])[0] == fields["the network"][0],
        ],
        wrong=[
            refute("a unit sees what the network accepts", same_as_accepted()),
            refute("a layer's own stride enlarges its own receptive field", own_stride()),
        ],
        steps=[
            *((f"width and stride seen from the last pool, {name}", show(field)) for name, field in fields.items()),
            (
                "units along an axis before the fully connected layers, 224 pixels, pool first or last",
                show(accepted[224]),
            ),
            ("the same, 112 pixels and no more pool", show(accepted[112])),
            *(
                (f"width after a change to the second convolution: {name}", str(width))
                for name, width in changes.items()
            ),
            (
                "effective width (standard deviation over paths), pixels",
                book.effective_width(book.path_counts(WINDOWS, 0)),
            ),
        ],
    )


FACTS: dict[str, Callable[[], Fact]] = {"F3.1": f3_1, "F3.2": f3_2, "F3.3": f3_3}
