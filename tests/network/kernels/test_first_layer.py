"""Files: which array is the first layer, layouts, damage, and pickles that must never run."""

from __future__ import annotations

import pickle
import struct
import zipfile

import numpy as np
import pytest

from thalweg.errors import InputError, MissingPackageError
from thalweg.network.kernels import first_layer
from thalweg.network.kernels.first_layer import MAX_NUMBERS, channels_first, load_kernels

GENERATOR = np.random.default_rng(0)
FIRST = GENERATOR.standard_normal((8, 3, 5, 5)).astype(np.float32)
SECOND = GENERATOR.standard_normal((4, 8, 3, 3)).astype(np.float32)
DEPTHWISE = GENERATOR.standard_normal((8, 1, 3, 3)).astype(np.float32)
LINEAR = GENERATOR.standard_normal((10, 16)).astype(np.float32)
NAMES = {"conv10.weight": SECOND, "conv2.weight": FIRST, "depth.weight": DEPTHWISE, "fc.weight": LINEAR}


def with_torch():
    return pytest.importorskip("torch", reason="needs torch, which CI installs")


def save(path, arrays):
    if path.suffix == ".npz":
        np.savez(path, **arrays)
    elif path.suffix == ".safetensors":
        numpy = pytest.importorskip("safetensors.numpy", reason="needs safetensors, which CI installs")
        numpy.save_file(arrays, path)
    else:
        torch = with_torch()
        torch.save({name: torch.from_numpy(values) for name, values in arrays.items()}, path)
    return path


def onnx_file(path, weights=FIRST, *, constant=False, external=False):
    onnx = pytest.importorskip("onnx", reason="needs onnx, which CI installs")
    tensor = onnx.numpy_helper.from_array(weights, "stem.weight")
    later = onnx.numpy_helper.from_array(SECOND, "a.weight")
    nodes = [
        onnx.helper.make_node("Conv", ["x", "stem.weight"], ["y"], name="stem"),
        onnx.helper.make_node("Conv", ["y", "a.weight"], ["z"], name="a"),
    ]
    initializers = [later, tensor]
    if constant:
        nodes.insert(0, onnx.helper.make_node("Constant", [], ["stem.weight"], value=tensor))
        initializers = [later]
    ends = [onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None) for name in ("x", "z")]
    graph = onnx.helper.make_graph(nodes, "g", ends[:1], ends[1:], initializers)
    model = onnx.helper.make_model(graph)
    onnx.save_model(model, str(path), save_as_external_data=external, size_threshold=0, location="weights.bin")
    return path


@pytest.mark.parametrize("suffix", [".npz", ".safetensors", ".pt", ".pth", ".bin"])
def test_the_first_layer_takes_three_channels(tmp_path, suffix):
    name, values = load_kernels(save(tmp_path / f"net{suffix}", NAMES), None)
    assert name == "conv2.weight"
    np.testing.assert_array_equal(values, FIRST)
    name, values = load_kernels(tmp_path / f"net{suffix}", "conv10.weight")
    np.testing.assert_array_equal(values, SECOND)


def test_names_are_sorted_as_people_would_and_modules_keep_their_order(tmp_path):
    arrays = {"conv10.weight": SECOND, "conv2.weight": DEPTHWISE}
    assert load_kernels(save(tmp_path / "net.npz", arrays), None)[0] == "conv2.weight"
    assert load_kernels(save(tmp_path / "net.pt", arrays), None)[0] == "conv10.weight"


def test_windows_of_one_tap_come_last(tmp_path):
    arrays = {"a": GENERATOR.standard_normal((4, 3, 1, 1)), "b": SECOND}
    assert load_kernels(save(tmp_path / "net.npz", arrays), None)[0] == "b"


def test_both_layouts_are_recognised():
    assert channels_first(np.zeros((7, 7, 3, 64))).shape == (64, 3, 7, 7)
    assert channels_first(np.zeros((3, 3, 1, 8))).shape == (8, 1, 3, 3)
    assert channels_first(np.zeros((64, 3, 7, 7))).shape == (64, 3, 7, 7)
    assert channels_first(np.zeros((3, 3, 3, 3))).shape == (3, 3, 3, 3)
    assert channels_first(np.zeros((8, 8, 1, 5))).shape == (8, 8, 1, 5)
    stored = GENERATOR.standard_normal((5, 5, 3, 8))
    np.testing.assert_array_equal(channels_first(stored)[6, 2], stored[:, :, 2, 6])


def test_arrays_in_numpy_files_may_be_kernels_themselves(tmp_path):
    np.save(tmp_path / "k.npy", np.eye(3))
    assert load_kernels(tmp_path / "k.npy", None)[0] == "k"
    np.savez(tmp_path / "k.npz", kernel=np.eye(3))
    name, values = load_kernels(tmp_path / "k.npz", None)
    assert (name, values.shape) == ("kernel", (3, 3))


@pytest.mark.parametrize("options", [{}, {"constant": True}, {"external": True}])
def test_onnx_gives_the_convolution_that_comes_first(tmp_path, options):
    name, values = load_kernels(onnx_file(tmp_path / "net.onnx", **options), None)
    assert name == "stem.weight" or options.get("constant")
    np.testing.assert_array_equal(values, FIRST)
    np.testing.assert_array_equal(load_kernels(tmp_path / "net.onnx", "a.weight")[1], SECOND)


def test_onnx_reads_no_file_outside_its_own_folder(tmp_path):
    onnx = pytest.importorskip("onnx", reason="needs onnx, which CI installs")
    inside = tmp_path / "inside"
    inside.mkdir()
    path = onnx_file(inside / "net.onnx", external=True)
    (inside / "weights.bin").rename(tmp_path / "weights.bin")
    model = onnx.load(str(path), load_external_data=False)
    for tensor in model.graph.initializer:
        for entry in tensor.external_data:
            if entry.key == "location":
                entry.value = "../weights.bin"
    path.write_bytes(model.SerializeToString())
    with pytest.raises(InputError, match=r"Cannot read .*net\.onnx"):
        load_kernels(path, None)


def test_half_precision_is_read(tmp_path):
    torch = with_torch()
    torch.save({"w": torch.from_numpy(FIRST).to(torch.bfloat16)}, tmp_path / "net.pt")
    np.testing.assert_allclose(load_kernels(tmp_path / "net.pt", None)[1], FIRST, rtol=0.01)
    np.savez(tmp_path / "net.npz", w=FIRST.astype(np.float16))
    np.testing.assert_allclose(load_kernels(tmp_path / "net.npz", None)[1], FIRST, rtol=0.01, atol=1e-3)


def test_nested_states_are_named_by_their_keys(tmp_path):
    torch = with_torch()
    torch.save({"epoch": 3, "model": {"stem.weight": torch.from_numpy(FIRST)}}, tmp_path / "net.pth")
    assert load_kernels(tmp_path / "net.pth", None)[0] == "model.stem.weight"


class Canary:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (open, (str(self.path), "w"))


@pytest.mark.parametrize("suffix", [".pt", ".pth", ".bin", ".npy", ".npz", ".safetensors", ".onnx"])
def test_a_hostile_pickle_never_runs(tmp_path, suffix):
    """A canary: a pickle that creates a file when it is loaded, in every place where a reader might load one."""
    sung = tmp_path / "sung"
    hostile = pickle.dumps(Canary(sung))
    pickle.loads(hostile).close()
    assert sung.exists(), "the canary sings when it is loaded"
    sung.unlink()

    files = {"raw": hostile}
    array = np.array([[[[Canary(sung)]]]], dtype=object)
    np.save(tmp_path / "object.npy", array, allow_pickle=True)
    np.savez(tmp_path / "object.npz", a=array)
    files["npy"] = (tmp_path / "object.npy").read_bytes()
    files["npz"] = (tmp_path / "object.npz").read_bytes()
    if suffix in (".pt", ".pth", ".bin"):
        torch = with_torch()
        for zipped in (True, False):
            torch.save({"w": Canary(sung)}, tmp_path / "state", _use_new_zipfile_serialization=zipped)
            files[f"torch {zipped}"] = (tmp_path / "state").read_bytes()
    for what, content in files.items():
        path = tmp_path / f"net{suffix}"
        path.write_bytes(content)
        with pytest.raises(InputError, match="Cannot read"):
            load_kernels(path, None)
        assert not sung.exists(), what


@pytest.mark.parametrize("suffix", [".npz", ".npy", ".safetensors", ".pt", ".onnx"])
def test_damaged_files_get_one_sentence(tmp_path, suffix):
    path = tmp_path / f"net{suffix}"
    if suffix == ".onnx":
        onnx_file(path)
    elif suffix == ".npy":
        np.save(path, FIRST)
    else:
        save(path, NAMES)
    whole = path.read_bytes()
    generator = np.random.default_rng(1)
    sentences = []
    for trial in range(60):
        damaged = bytearray(whole)
        if trial % 3 == 0:
            damaged = damaged[: generator.integers(0, len(whole))]
        for _ in range(int(generator.integers(1, 20)) if damaged else 0):
            span = len(damaged) if trial % 2 else min(len(damaged), 400)
            damaged[int(generator.integers(0, span))] = int(generator.integers(0, 256))
        path.write_bytes(bytes(damaged))
        try:
            load_kernels(path, None)
        except InputError as error:
            sentences.append(str(error))
    assert not [sentence for sentence in sentences if "\n" in sentence]
    assert len(sentences) > 5, "damage must be met for this to mean anything"


def test_a_file_that_claims_more_than_there_is_is_refused_before_it_is_read(tmp_path):
    header = b"{'descr': '<f8', 'fortran_order': False, 'shape': (64, 3, 60000, 60000), }"
    header = header.ljust(117) + b"\n"
    with zipfile.ZipFile(tmp_path / "bomb.npz", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("w.npy", b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header + bytes(1000))
    with pytest.raises(InputError, match=f"more than the {MAX_NUMBERS:,} that are looked at"):
        load_kernels(tmp_path / "bomb.npz", None)


@pytest.mark.parametrize(
    ("file", "layer", "sentence"),
    [
        ("none.npz", None, "There is no file"),
        ("none.pt", None, "There is no file"),
        ("none.onnx", None, "There is no file"),
        ("none.safetensors", None, "none.safetensors"),
        ("net.npz", "conv2.wight", "did you mean 'conv2.weight'?"),
        ("flat.npz", None, "holds no kernels, which have four axes; it holds 'fc' of shape (2, 3, 4, 5, 6)."),
        ("words.npz", None, "holds values of type <U3, not real numbers"),
        ("complex.npz", None, "not real numbers"),
    ],
)
def test_what_holds_no_kernels_is_refused(tmp_path, file, layer, sentence):
    if file.endswith((".pt", ".onnx")):
        pytest.importorskip({"none.pt": "torch", "none.onnx": "onnx"}[file], reason="needs a reader, which CI installs")
    if file == "none.safetensors":
        pytest.importorskip("safetensors", reason="needs safetensors, which CI installs")
    save(tmp_path / "net.npz", NAMES)
    np.savez(tmp_path / "flat.npz", fc=np.zeros((2, 3, 4, 5, 6)))
    np.savez(tmp_path / "words.npz", w=np.array([["abc"]]))
    np.savez(tmp_path / "complex.npz", w=np.ones((2, 2), complex))
    with pytest.raises(InputError) as refused:
        load_kernels(tmp_path / file, layer)
    assert sentence in str(refused.value)


def test_a_list_of_tensors_is_numbered(tmp_path):
    torch = with_torch()
    torch.save([torch.zeros(2), {"w": torch.from_numpy(FIRST)}], tmp_path / "list.pt")
    assert load_kernels(tmp_path / "list.pt", None)[0] == "1.w"


class Whole:
    """A model that is pickled as it is."""


def test_a_whole_model_is_never_loaded_and_the_message_says_what_to_save(tmp_path):
    torch = with_torch()
    torch.save(Whole(), tmp_path / "whole.pt")
    with pytest.raises(InputError) as refused:
        load_kernels(tmp_path / "whole.pt", None)
    assert f"it holds more than weights ({__name__}.Whole), which is never loaded" in str(refused.value)
    assert "torch.save(model.state_dict(), 'weights.pt')" in str(refused.value)


def test_what_others_say_is_passed_on_only_where_it_tells_something(tmp_path, monkeypatch):
    path = tmp_path / "net.npz"
    path.touch()
    for said, told in (
        ("101", f"Cannot read {str(path)!r} as .npz: it is damaged, or of another format."),
        ("you have \x1b[1mtwo options\x1b[0m. \nmore", f"Cannot read {str(path)!r} as .npz: you have two options."),
    ):

        def fail(_, said=said):
            raise KeyError(said) if said == "101" else RuntimeError(said)

        monkeypatch.setitem(first_layer._READERS, ".npz", fail)
        with pytest.raises(InputError) as refused:
            load_kernels(path, None)
        assert str(refused.value) == told


def test_an_onnx_file_without_a_convolution_says_so(tmp_path):
    onnx = pytest.importorskip("onnx", reason="needs onnx, which CI installs")
    ends = [onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None) for name in ("x", "y")]
    graph = onnx.helper.make_graph([onnx.helper.make_node("Relu", ["x"], ["y"])], "g", ends[:1], ends[1:])
    onnx.save_model(onnx.helper.make_model(graph), str(tmp_path / "net.onnx"))
    with pytest.raises(InputError, match="holds no convolution with its weights"):
        load_kernels(tmp_path / "net.onnx", None)


@pytest.mark.parametrize(("suffix", "package"), [(".onnx", "onnx"), (".safetensors", "safetensors"), (".pt", "torch")])
def test_a_missing_package_gets_its_extra(tmp_path, monkeypatch, suffix, package):
    monkeypatch.setitem(__import__("sys").modules, package, None)
    with pytest.raises(MissingPackageError, match=rf"thalweg\[{package}\]"):
        first_layer.load_kernels(tmp_path / f"net{suffix}", None)
