"""Grey images: picture files, numbers written out, arrays."""

from __future__ import annotations

import os
import warnings
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from thalweg.errors import InputError, ThalwegError

MAX_PIXELS = 50_000_000
"""The most pixels that an image may have; a small file can claim any number."""
# Those that Pillow decodes by itself; for some others it starts programs.
_FORMATS = ("PNG", "JPEG", "GIF", "BMP", "TIFF", "WEBP", "PPM", "JPEG2000", "TGA", "ICO", "AVIF")
_LUMINANCE = np.array([0.299, 0.587, 0.114])  # what Pillow's "L" gives red, green and blue (ITU-R 601-2)


def table_of_numbers(text: str, what: str) -> NDArray[np.float64]:
    """Numbers written out, rows between semicolons or on lines of their own: `"0 1 0; 1 1 1"`.

    Args:
        text: the rows; commas may stand for spaces.
        what: what messages call it.

    Raises:
        InputError: a row is empty or of another length than the first, or a word is not a finite number.
    """
    from thalweg.data.inline import numbers

    rows = [numbers(row, f"{what}, row {number}") for number, row in enumerate(written_rows(text), start=1)]
    for number, row in enumerate(rows, start=1):
        if len(row) != len(rows[0]) or not row:
            raise InputError(
                f"{what}: row {number} has {len(row)} numbers where row 1 has {len(rows[0])}; give every row as many, "
                "as in '0 -1 0; -1 4 -1; 0 -1 0'."
            )
    return np.array(rows, dtype=np.float64)


def written_rows(text: str) -> list[str]:
    """The rows of a text: what stands between semicolons or line ends; blank lines are none."""
    lines = [line.strip() for line in text.splitlines() if line.strip()] or [""]
    return [row.strip() for line in lines for row in line.rstrip(";").split(";")]


def load_image(source: object) -> tuple[str, NDArray[np.float64]]:
    """The name and the grey values of an image.

    Args:
        source: the path of a picture file, which gives values from 0 (black) to 1 (white); numbers written out, as in
            `"0 1; 1 0"`; or an array `(height, width)` or `(height, width, 3 or 4)`, whose colours are weighed as the
            eye does and whose scale is kept.

    Raises:
        InputError: it cannot be read, is empty, too large or not finite.
    """
    from thalweg.data.inline import is_inline

    if isinstance(source, str) and is_inline(source):
        return "image", table_of_numbers(source, "The image")
    if isinstance(source, str) and not source.strip():
        raise InputError("The image is an empty text; give a picture file, or rows such as '0 1; 1 0'.")
    if isinstance(source, str | os.PathLike):
        return Path(source).name, _picture(Path(source))
    try:
        values = np.asarray(source, dtype=np.float64)
    except (TypeError, ValueError):
        raise InputError("The image must be numbers: a table, a picture file, or rows such as '0 1; 1 0'.") from None
    if values.ndim == 3 and values.shape[2] in (3, 4):
        values = values[:, :, :3] @ _LUMINANCE
    if values.ndim != 2 or not values.size:
        raise InputError(
            f"The image must be a table (height, width) or (height, width, 3), but its shape is {values.shape}."
        )
    if values.size > MAX_PIXELS:
        raise _too_large("The image", values.shape)
    if not np.isfinite(values).all():
        row, column = np.argwhere(~np.isfinite(values))[0]
        raise InputError(f"The image must be finite numbers, but row {row}, column {column} is {values[row, column]}.")
    return "image", values


def _picture(path: Path) -> NDArray[np.float64]:
    from PIL import Image

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Pillow warns of large pictures where we refuse them
            with Image.open(path, formats=_FORMATS) as image:
                if image.width * image.height > MAX_PIXELS:
                    raise _too_large(repr(str(path)), (image.height, image.width))
                return _grey(image)
    except ThalwegError:
        raise
    except FileNotFoundError:
        raise InputError(f"There is no file {str(path)!r}; check the path.") from None
    except Exception as error:  # Pillow raises nearly anything on a damaged file
        reason = getattr(error, "strerror", None)
        if reason is None:
            reason = (
                "no picture that can be decoded" if type(error).__name__ == "UnidentifiedImageError" else str(error)
            )
        raise InputError(f"Cannot read {str(path)!r} as a picture: {reason[:200].rstrip('.')}.") from error


def _grey(image: Any) -> NDArray[np.float64]:
    if image.mode.startswith("I;16"):
        return np.asarray(image, dtype=np.float64) / 65535
    return np.asarray(image.convert("L"), dtype=np.float64) / 255


def _too_large(what: str, shape: tuple[int, ...]) -> InputError:
    return InputError(
        f"{what} has {shape[0]:,} x {shape[1]:,} pixels, more than the {MAX_PIXELS:,} that are looked at; "
        "make it smaller."
    )
