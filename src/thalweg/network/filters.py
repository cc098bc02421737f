"""What a filter answers to an image: convolution and cross-correlation with zero padding, at the speed of NumPy."""

from __future__ import annotations

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import ArrayLike, NDArray

from thalweg.errors import InputError


def correlate(image: ArrayLike, kernel: ArrayLike) -> NDArray[np.float64]:
    """Cross-correlation with zero padding that keeps the size (fact F3.1): what convolutional networks compute.

    Args:
        image: `(height, width)`.
        kernel: `(k1, k2)`, both odd, so that it has a middle.

    Returns:
        `(height, width)`, float64.

    Raises:
        InputError: image or kernel is not two-dimensional, or a side of the kernel is even.
    """
    pixels, taps = np.asarray(image, dtype=np.float64), np.asarray(kernel, dtype=np.float64)
    for name, values in (("image", pixels), ("kernel", taps)):
        if values.ndim != 2 or not values.size:
            raise InputError(
                f"The {name} must be a table of numbers in two dimensions, but its shape is {values.shape}."
            )
    if not all(side % 2 for side in taps.shape):
        raise InputError(f"The sides of a kernel must be odd, so that it has a middle, but its shape is {taps.shape}.")
    padded = np.pad(pixels, [(side // 2, side // 2) for side in taps.shape])
    answer: NDArray[np.float64] = np.einsum("ijkl,kl->ij", sliding_window_view(padded, taps.shape), taps)
    return answer


def convolve(image: ArrayLike, kernel: ArrayLike) -> NDArray[np.float64]:
    """True convolution with zero padding that keeps the size (fact F3.1): the kernel is turned by half a turn.

    Args, returns and raises: as for `correlate`.
    """
    return correlate(image, np.asarray(kernel)[..., ::-1, ::-1] if np.ndim(kernel) >= 2 else kernel)
