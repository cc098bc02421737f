"""ONNX files, read without their weights.

A file lists operations on named arrays. They are followed one by one, as in a run, but with shapes in place of numbers:
`thalweg.network.readers.recorder` writes down what computes, and only the few small integers that shapes are made of
are really worked out. Weights stay where they are; the file that holds them need not be there.

* `file`: bytes to a model, and the numbers of a small tensor wherever they are kept;
* `inputs`: the extents of the inputs, and which of their axes are positions;
* `run`: the operations in order, with subgraphs, functions, and names;
* `operations`: what each of them is; one file for each family.
"""

from thalweg.network.readers.onnx.run import read

__all__ = ["read"]
