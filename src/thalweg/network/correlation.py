"""What a filter answers to an image: convolution and cross-correlation with zero padding, at the speed of NumPy.

Both keep the size of the image. Cross-correlation, which convolutional networks compute, lays the kernel on the image
as it is; true convolution turns it by half a turn first, which shows unless the kernel is symmetric.

    >>> step = [[0, 0, 1, 1]]
    >>> correlate(step, [[-1, 0, 1]])
    array([[ 0.,  1.,  1., -1.]])
    >>> convolve(step, [[-1, 0, 1]])
    array([[ 0., -1., -1.,  1.]])
"""

from __future__ import annotations

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import ArrayLike, NDArray

from thalweg.errors import InputError

MAX_SIDE = 64
"""The most taps along one side of a kernel."""


def correlate(image: ArrayLike, kernel: ArrayLike) -> NDArray[np.float64]:
    """Cross-correlation with zero padding that keeps the size (fact F3.1): what convolutional networks compute.

    Tap `((k1 - 1) // 2, (k2 - 1) // 2)` lies on the pixel that is answered: the middle one of an odd side, and of an
    even side the one before the middle, as with PyTorch's `padding="same"` and SciPy's `correlate2d` with "same".

    Args:
        image: `(height, width)`.
        kernel: `(k1, k2)`.

    Returns:
        `(height, width)`, float64.

    Raises:
        InputError: image or kernel is not two-dimensional or empty, or a side of the kernel is longer than `MAX_SIDE`.
    """
    pixels, taps = np.asarray(image, dtype=np.float64), np.asarray(kernel, dtype=np.float64)
    for name, values in (("image", pixels), ("kernel", taps)):
        if values.ndim != 2 or not values.size:
            raise InputError(
                f"The {name} must be a table of numbers in two dimensions, but its shape is {values.shape}."
            )
    if max(taps.shape) > MAX_SIDE:
        raise InputError(f"A kernel may have {MAX_SIDE} taps along a side, but its shape is {taps.shape}.")
    padded = np.pad(pixels, [((side - 1) // 2, side // 2) for side in taps.shape])
    answer: NDArray[np.float64] = np.einsum("ijkl,kl->ij", sliding_window_view(padded, taps.shape), taps)
    return answer


def convolve(image: ArrayLike, kernel: ArrayLike) -> NDArray[np.float64]:
    """True convolution with zero padding that keeps the size (fact F3.1): the kernel is turned by half a turn.

    Args, returns and raises: as for `correlate`; which tap lies on the pixel is said of the turned kernel.
    """
    return correlate(image, np.asarray(kernel)[..., ::-1, ::-1] if np.ndim(kernel) >= 2 else kernel)


def frequency_response(kernel: ArrayLike, size: int) -> NDArray[np.float64]:
    """How strongly a kernel passes waves of 0, 1/size, 2/size, ... cycles per pixel, down and across.

    Args:
        kernel: `(k1, k2)`, sides up to `size`.
        size: the number of frequencies along each axis; those in the second half are negative.

    Returns:
        `(size, size)`: the absolute value of the discrete Fourier transform; at (0, 0) the factor for flat areas.
    """
    response: NDArray[np.float64] = np.abs(np.fft.fft2(np.asarray(kernel, dtype=np.float64), (size, size)))
    return response
