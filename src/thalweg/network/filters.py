"""What filters detect: `filters`.

>>> answer = filters("-1 -1 -1; 0 0 0; 1 1 1", image="0 0 0; 1 1 1; 1 1 1")
>>> answer[0].label, answer[0].angle
('oriented edge', 270.0)
>>> answer[0].correlation
array([[ 2.,  3.,  2.],
       [ 2.,  3.,  2.],
       [-2., -3., -2.]])
"""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from thalweg.network.correlation import convolve, correlate
from thalweg.network.images import load_image
from thalweg.network.kernels.colour import Mixture
from thalweg.network.kernels.families import LABELS, Array
from thalweg.network.kernels.judging import judge
from thalweg.network.kernels.sources import load_kernels_from
from thalweg.network.kernels.words import reason
from thalweg.report import Cell, Result, Table

if TYPE_CHECKING:
    import plotly.graph_objects as go

_PRINTED_SIDE = 16  # larger tables of numbers are for files, not for people
_PRINTED_KERNELS = 4
_WRITTEN_PIXELS = 4096
_CONVENTION = (
    "Angles, anticlockwise from the right: an edge's points to its bright side, a line's or wave's runs along it.",
    "They hold for cross-correlation, which networks compute; true convolution turns an edge's by 180.",
)


@dataclass(frozen=True)
class Filter:
    """One kernel and what it detects.

    Args:
        name: what it is called.
        kernel: `(height, width)`, its taps, or the pattern in space of a kernel over several channels.
        label: "identity", "blur", "sharpen", "oriented edge", "unoriented edge", "line", "Gabor-like" or "other".
        scores: the probability of each label.
        angle: the direction in degrees, where the label has one: anticlockwise from "to the right", with rows counted
            downwards; for an edge where its bright side lies (0 to 360), for a line or a wave how its stripes run (0 to
            180). A multiple of 45 where that is more probable than what was measured (see
            `thalweg.network.kernels.judging`).
        measured: the direction by the taps alone.
        spread: the standard deviation that noise leaves to `measured`, in degrees.
        reason: why it has this label.
        mixture: how the channels enter, where there are several.
        stored: `(channels, height, width)`, the kernel as it was given.
        image: the image that it answers to, where one was given.
    """

    name: str
    kernel: Array
    label: str
    scores: dict[str, float]
    angle: float | None
    measured: float | None
    spread: float | None
    reason: str
    mixture: Mixture | None
    stored: Array = field(repr=False)
    image: Array | None = field(repr=False)

    @functools.cached_property
    def correlation(self) -> Array | None:
        """What it answers to the image by cross-correlation, `(height, width)`; None where there is no image."""
        return None if self.image is None else correlate(self.image, self.kernel)

    @functools.cached_property
    def convolution(self) -> Array | None:
        """The same by true convolution."""
        return None if self.image is None else convolve(self.image, self.kernel)

    @property
    def is_symmetric(self) -> bool:
        """Whether half a turn leaves the kernel as it is, so that both kinds of filtering are the same."""
        return bool((self.kernel == self.kernel[::-1, ::-1]).all())

    def to_dict(self) -> dict[str, Any]:
        """Keys: name, label, angle, scores, measured, spread, reason, kernel, channels, correlation, convolution."""
        small = self.image is not None and self.image.size <= _WRITTEN_PIXELS
        return {
            "name": self.name,
            "label": self.label,
            "angle": self.angle,
            "scores": self.scores,
            "measured": self.measured,
            "spread": self.spread,
            "reason": self.reason,
            "kernel": self.kernel,
            "channels": self.mixture,
            "correlation": self.correlation if small else None,
            "convolution": self.convolution if small else None,
        }


@dataclass(frozen=True, repr=False)
class Filters(Result):
    """Kernels and what they detect; a sequence of `Filter`.

    Args:
        title: what they are called together.
        kernels: one for each.
        image_name: the name of the image that they answer to; None where none was given.
    """

    title: str
    kernels: tuple[Filter, ...]
    image_name: str | None

    def __len__(self) -> int:
        return len(self.kernels)

    def __iter__(self) -> Iterator[Filter]:
        return iter(self.kernels)

    def __getitem__(self, number: int) -> Filter:
        return self.kernels[number]

    @property
    def counts(self) -> dict[str, int]:
        """How many kernels have each label, in the order of the labels."""
        found = Counter(each.label for each in self.kernels)
        return {label: found[label] for label in LABELS if found[label]}

    def table(self) -> Table:
        """One row for each kernel."""
        columns, rows = self._answers()
        reasons = [(*row, each.reason) for row, each in zip(rows, self.kernels, strict=True)]
        return Table(self._title, [*columns, "why"], reasons, self._notes())

    @property
    def _title(self) -> str:
        return f"What {self.title} detects"

    def _answers(self) -> tuple[list[str], list[tuple[Cell, ...]]]:
        columns, channels = ["kernel", "detects", "score", "angle"], any(each.mixture for each in self.kernels)
        rows: list[tuple[Cell, ...]] = []
        for each in self.kernels:
            row = (each.name, each.label, each.scores[each.label], _rounded(each.angle))
            rows.append((*row, _channels(each.mixture)) if channels else row)
        return [*columns, "channels"] if channels else columns, rows

    def _notes(self) -> list[str]:
        notes = list(_CONVENTION) if any(each.angle is not None for each in self.kernels) else []
        if len(self.kernels) > 1:
            notes.append(", ".join(f"{label}: {count:,}" for label, count in self.counts.items()) + ".")
        mixtures = [each.mixture for each in self.kernels if each.mixture]
        if mixtures:
            coloured = any(mixture.colour for mixture in mixtures)
            colour = (
                "the colour whose weights theirs are like, for three channels taken for red, green and blue, and "
                if coloured
                else ""
            )
            notes.append(
                f"channels: {colour}the share of a kernel's energy that is one pattern times one weight for each "
                "channel."
            )
        return notes

    def tables(self) -> list[Table]:
        """The answers, and the reasons beside the names, each narrow enough for a terminal.

        Of a few kernels also their taps, and the numbers that they answer to a small image.
        """
        columns, rows = self._answers()
        short = _without_common_part([each.name for each in self.kernels])
        answers = [(name, *row[1:]) for name, row in zip(short, rows, strict=True)]
        reasons = [(name, each.reason) for name, each in zip(short, self.kernels, strict=True)]
        few = len(self.kernels) <= _PRINTED_KERNELS
        notes = self._notes()
        pixels = self.kernels[0].image
        if pixels is not None and (not few or max(pixels.shape) > _PRINTED_SIDE):
            notes.append(
                f"The answers to {self.image_name}, {pixels.shape[0]:,} x {pixels.shape[1]:,} pixels, are pictures: "
                "--save page.html (figures()) draws them."
            )
        found = [Table(self._title, columns, answers, notes), Table("Why", ("kernel", "why"), reasons)]
        if not few:
            return found
        for each in self.kernels:
            if max(each.kernel.shape) <= _PRINTED_SIDE:
                found.append(_numbers(f"Taps of {each.name}", each.kernel))
            if each.image is None or max(each.image.shape) > _PRINTED_SIDE:
                continue
            assert each.correlation is not None and each.convolution is not None  # noqa: PT018
            if each.is_symmetric:
                both = "Cross-correlation and convolution, which are the same here"
                found.append(_numbers(f"{both}: {each.name} on {self.image_name}, zero padding", each.correlation))
            else:
                for kind, answer in (("Cross-correlation", each.correlation), ("Convolution", each.convolution)):
                    found.append(_numbers(f"{kind}: {each.name} on {self.image_name}, zero padding", answer))
        return found

    def to_dict(self) -> dict[str, Any]:
        """Keys: title, kernels, counts, image."""
        return {
            "title": self.title,
            "kernels": [each.to_dict() for each in self.kernels],
            "counts": self.counts,
            "image": self.image_name,
        }

    def figure(self) -> go.Figure:
        """A sheet of all kernels, grouped by label; of a single one its pictures."""
        return self.figures()[0]

    def figures(self) -> list[go.Figure]:
        """The sheet where there are several, and of a few the pictures: taps, waves passed, an answer.

        Without an image the answer is to the photograph of `thalweg.data`. Of many the answers of the first are drawn
        where an image is given.
        """
        from thalweg.network.kernels.pictures import portrait, replies, sheet

        several = [sheet(self.title, self.kernels)] if len(self.kernels) > 1 else []
        if len(self.kernels) <= _PRINTED_KERNELS:
            return [*several, *(portrait(each, self.image_name) for each in self.kernels)]
        return [*several, *([replies(self.kernels, self.image_name)] if self.image_name is not None else [])]


def filters(kernels: object, image: object = None, *, layer: str | None = None) -> Filters:
    """What filters detect: a label with its probability, a direction, the reason, and what they answer to an image.

    A kernel is compared with families of kernels that pass certain waves (see `thalweg.network.kernels.families`): its
    score for a label is the probability that it is one of them plus noise. Padding with zeros on all sides, and scaling
    by a positive number, change nothing; turning a kernel by 90 degrees turns its direction.

    Args:
        kernels: an array `(height, width)`, `(kernels, height, width)` or `(outputs, channels, height, width)` (the
            layout `(height, width, channels, outputs)` of Keras and Flax is recognised); a list of arrays and texts;
            rows written out, `"0 -1 0; -1 4 -1; 0 -1 0"`; a name with parameters (sobel, prewitt, scharr, roberts,
            laplacian, gaussian, box, sharpen, identity, gabor), as in `"sobel:angle=45"`; or a file that holds the
            first layer of a network: `.onnx`, `.safetensors`, `.npz`, `.npy`, or a PyTorch state `.pt`, `.pth`, `.bin`.
            Several channels are reduced to one pattern in space times one weight for each channel.
        image: what they answer to: a picture file, an array `(height, width)` or `(height, width, 3)`, or rows written
            out; None for none.
        layer: which array of the file; None for the first layer.

    Raises:
        InputError: a kernel or the image cannot be read, is empty, too large or not finite.
        MissingPackageError: the package that reads the file is not installed.
    """
    title, found = load_kernels_from(kernels, layer)
    image_name, pixels = (None, None) if image is None else load_image(image)
    judged = iter(judge([each.taps for each in found if each.taps.any()]))
    answers = []
    for each in found:
        judgement = next(judged) if each.taps.any() else None
        direction = judgement.direction if judgement else None
        answers.append(
            Filter(
                name=each.name,
                kernel=each.taps,
                label=judgement.label if judgement else "other",
                scores=judgement.scores if judgement else {label: float(label == "other") for label in LABELS},
                angle=direction.angle if direction else None,
                measured=direction.measured if direction else None,
                spread=direction.spread if direction else None,
                reason=reason(each.taps, judgement) if judgement else "every tap is zero: it answers nothing",
                mixture=each.mixture,
                stored=each.stored,
                image=pixels,
            )
        )
    return Filters(title, tuple(answers), image_name)


def _without_common_part(names: list[str]) -> list[str]:
    """The names without the array that all of them are kernels of, which the title says: `[0]`, `[1]`, ..."""
    arrays = {name.rpartition("[")[0] for name in names}
    if len(names) == 1 or len(arrays) > 1 or not all(name.endswith("]") for name in names):
        return names
    return [name.removeprefix(*arrays) for name in names]


def _rounded(angle: float | None) -> float | None:
    return None if angle is None else round(angle, 1)


def _channels(mixture: Mixture | None) -> str:
    if mixture is None:
        return ""
    colour = f"{mixture.colour}, " if mixture.colour else ""
    return f"{colour}{mixture.share:.0%}"


def _numbers(title: str, values: Array) -> Table:
    rows: list[tuple[Cell, ...]] = [tuple(float(value) for value in row) for row in values]
    return Table(title, [""] * values.shape[1], rows)
