"""Every operation of ONNX against ONNX's own test cases: the shapes that are said are those that come out."""

from __future__ import annotations

import warnings

import numpy as np
import pytest

onnx = pytest.importorskip("onnx", reason="needs onnx, which CI installs")

from thalweg.errors import InputError  # noqa: E402
from thalweg.network.readers.onnx.node import operators  # noqa: E402
from thalweg.network.readers.onnx.run import OLDEST, run  # noqa: E402


@pytest.fixture(scope="module")
def cases():
    from onnx.backend.test.case.node import collect_testcases

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = collect_testcases()
    oldest = [
        min((each.version for each in case.model.opset_import if not each.domain), default=OLDEST) for case in found
    ]
    return [case for case, version in zip(found, oldest, strict=True) if version >= OLDEST]


def without_shapes(case):
    """The model of a case without the shapes that it gives, its further inputs as tensors in the file."""
    model = onnx.ModelProto()
    model.CopyFrom(case.model)
    inputs, outputs = case.data_sets[0]
    for info, value in list(zip(model.graph.input, inputs, strict=True))[1:]:
        if isinstance(value, np.ndarray | np.generic) and value.dtype != object:
            model.graph.initializer.append(onnx.numpy_helper.from_array(np.asarray(value), info.name))
    del model.graph.value_info[:]
    for info in model.graph.output:
        if info.type.HasField("tensor_type"):
            info.type.tensor_type.ClearField("shape")
    first = inputs[0].shape if inputs and isinstance(inputs[0], np.ndarray) else None
    return model, first, outputs


def shape_of(output):
    if isinstance(output, onnx.TensorProto):
        return tuple(output.dims)
    return np.shape(output) if isinstance(output, np.ndarray | np.generic) else None


def test_shapes_are_those_that_come_out(cases, tmp_path):
    right, lost, refused = [], [], []
    for case in cases:
        model, first, outputs = without_shapes(case)
        if (first is not None and 0 in first) or any(
            each.version < OLDEST for each in model.opset_import if not each.domain
        ):
            continue
        try:
            done = run(model, tmp_path, first)
        except InputError as error:
            refused.append((case.name, str(error)))
            continue
        for info, output in zip(model.graph.output, outputs, strict=True):
            value, truth = done.scope.find(info.name), shape_of(output)
            if value.lost:
                lost.append(case.name)
            elif value.items is None and truth is not None:
                assert value.shape == truth, case.name
                right.append(case.name)
    # What is refused has no array to measure; nothing else is.
    assert {sentence for _, sentence in refused} == {
        "The network has no input that is an array, so there is nothing to measure."
    }
    assert len(set(right)) > 1500
    families = {name.removeprefix("test_").split("_")[0] for name in lost}
    assert families <= LOST, families - LOST


# What the file alone does not say, or what is no part of a network: strings, optimizers, trees, spectra, losses.
LOST = operators(
    "adagrad adam affine ai basic blackmanwindow cast causal compress constantofshape deform det dft "
    "einsum flexattention hammingwindow hannwindow if image linear loop11 loop13 loop16 maxunpool "
    "melweightmatrix momentum nesterov nllloss nonmaxsuppression nonzero range regex scan sce stft string "
    "strnorm strnormalizer tfidfvectorizer unique"
)


def test_numbers_are_worked_out_like_the_reference_does(cases, tmp_path):
    """Where all inputs are in the file, small results are known; they must be the right ones."""
    compared = 0
    for case in cases:
        inputs, outputs = case.data_sets[0]
        arrays = [value for value in inputs if isinstance(value, np.ndarray | np.generic) and value.dtype != object]
        if not inputs or len(arrays) < len(inputs) or any(shape_of(each) is None for each in outputs):
            continue
        model = onnx.ModelProto()
        model.CopyFrom(case.model)
        for info, value in zip(model.graph.input, inputs, strict=True):
            model.graph.initializer.append(onnx.numpy_helper.from_array(np.asarray(value), info.name))
        extra = onnx.helper.make_tensor_value_info("image", 1, [1, 3])
        model.graph.input.append(extra)
        try:
            done = run(model, tmp_path, None)
        except InputError:
            assert 0 in np.shape(inputs[0]), case.name
            continue
        for info, output in zip(model.graph.output, outputs, strict=True):
            value = done.scope.find(info.name)
            numbers = None if value is None or value.lost else value.numbers()
            if numbers is not None and isinstance(output, np.ndarray | np.generic):
                assert numbers.shape == np.shape(output), case.name
                if np.asarray(output).dtype.kind in "iufb":
                    truth = np.asarray(output).astype(numbers.dtype)
                    np.testing.assert_allclose(numbers, truth, rtol=1e-3, atol=1e-5, err_msg=case.name)
                    compared += 1
    assert compared > 150
