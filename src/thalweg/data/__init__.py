"""Reading data: named sets, inline rows, files and arrays, all of them checked.

`load` turns whatever a person has into a `Dataset` of a matrix `X` (rows are examples) and a target `t`; every value
that cannot be used is refused with its place.

    >>> from thalweg.data import load
    >>> load("1 2 = 3; 0 1 = 2").X.tolist()
    [[1.0, 2.0], [0.0, 1.0]]
    >>> digits = load("digits")
    >>> digits.X.shape, digits.target
    ((1797, 64), 'even')
"""

from thalweg.data.dataset import Dataset
from thalweg.data.named import digit_images, names, photograph, standardised
from thalweg.data.sources import load, load_test

__all__ = ["Dataset", "digit_images", "load", "load_test", "names", "photograph", "standardised"]
