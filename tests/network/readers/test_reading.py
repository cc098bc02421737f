"""Whatever a person calls a network finds its reader, or one sentence."""

from __future__ import annotations

import pytest

from thalweg.errors import InputError
from thalweg.network.readers.reading import made_by, read

MODULE = """
import functools
from thalweg.network.readers.spec import read_spec

def small(channels=4):
    return read_spec(f"input 8x8x3; conv3-{channels}")

def of(images):
    return images

class Holder:
    wide = functools.partial(small, 16)

graph = small()

def broken():
    raise RuntimeError("no weights here\\nsecond line")
"""


@pytest.fixture
def folder(tmp_path, monkeypatch, request):
    name = f"a_module_of_{request.node.name.partition('[')[0]}"
    (tmp_path / f"{name}.py").write_text(MODULE)
    monkeypatch.chdir(tmp_path)
    return name


def test_a_function_a_partial_and_a_model_in_the_current_folder(folder):
    assert read(f"{folder}:small").operations[0].output.shape == (8, 8, 4)
    assert read(f"{folder}:Holder.wide").operations[0].output.shape == (8, 8, 16)
    assert read(f" {folder}:graph ").operations[0].output.shape == (8, 8, 4)


def test_a_function_of_something_is_the_model_itself(folder):
    assert made_by(f"{folder}:of").__name__ == "of"


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("no_such_module:net", "There is no module 'no_such_module' (for 'no_such_module:net'); run from the folder"),
        ("{}:medium", "has no 'medium'; name a function, a class or a model in it."),
        ("{}:Holder.narrow", "has no 'Holder.narrow'"),
        ("{}:broken", "failed with RuntimeError: no weights here"),
    ],
)
def test_names_that_make_no_model(folder, name, sentence):
    with pytest.raises(InputError) as caught:
        read(name.format(folder))
    assert sentence in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_module_that_cannot_be_imported(tmp_path, monkeypatch):
    (tmp_path / "a_module_that_fails.py").write_text("1 / 0")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match="failed with ZeroDivisionError: division by zero"):
        read("a_module_that_fails:net")


def test_a_file_of_python_here_and_elsewhere(folder, tmp_path, monkeypatch):
    """Its neighbours are importable, and its name may be that of a module that is imported already."""
    assert read(f"{folder}.py:small").operations[0].output.shape == (8, 8, 4)
    (tmp_path / "a folder").mkdir()
    (tmp_path / "a folder" / "a_neighbour.py").write_text("channels = 9\n")
    (tmp_path / "a folder" / "types.py").write_text(
        f"import a_neighbour\n{MODULE}\nnine = small(a_neighbour.channels)\n"
    )
    assert read("a folder/types.py:nine").operations[0].output.shape == (8, 8, 9)


def test_a_file_that_ends_the_program_is_no_end_of_ours(folder, tmp_path):
    (tmp_path / "a_script.py").write_text("raise SystemExit(0)")
    assert "Making the model 'a_script.py:net' failed with SystemExit: 0" in refusal("a_script.py:net")


def refusal(model, *rest):
    with pytest.raises(InputError) as caught:
        read(model, *rest)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_files_of_python_without_a_model(folder):
    assert f"write {folder}.py:NAME; it defines small, of, Holder, broken." in refusal(f"{folder}.py")
    assert refusal("none.py:net") == "There is no file 'none.py' (for 'none.py:net'); check the path."


def test_arguments_that_nobody_gives(folder, tmp_path):
    (tmp_path / "needy_models.py").write_text("class Wide:\n    def __init__(self, width, depth=1): ...\n")
    (tmp_path / "needy_functions.py").write_text("def net(width, depth): ...\n")
    tell = "; name a function without arguments that makes the model, or in JAX a function of the input alone."
    assert refusal("needy_models:Wide") == f"'needy_models:Wide' needs the argument 'width'{tell}"
    assert refusal("needy_functions:net") == f"'net' needs the arguments 'width' and 'depth'{tell}"


@pytest.mark.parametrize("suffix", [".pt", ".pth", ".safetensors", ".npz", ".ckpt"])
def test_a_file_of_weights_says_nothing_of_the_layers(tmp_path, suffix):
    path = tmp_path / f"weights{suffix}"
    path.write_bytes(b"\x80\x00")
    said = refusal(str(path))
    assert "holds weights, which do not say how the layers are joined" in said
    assert "give module:callable, or a .pt2, .onnx or .keras file" in said
    assert (f"thalweg filters {path}" in said) == (suffix != ".ckpt")


def test_an_older_format_of_keras(tmp_path):
    (tmp_path / "net.h5").write_bytes(b"\x89HDF")
    assert refusal(tmp_path / "net.h5").endswith("that is not read; save the model as .keras.")


@pytest.mark.parametrize("word", ["hf/nope", "resnet50", "bert-base-uncased", "./nowhere"])
def test_a_word_that_is_neither_a_file_nor_a_layer(tmp_path, monkeypatch, word):
    monkeypatch.chdir(tmp_path)
    said = refusal(word)
    assert said.startswith(f"There is no file or folder {word!r}, and as a spec it cannot be read (line 1, column 1")
    assert said.endswith("as in torchvision.models:resnet50.")
    assert len(said) < 300


def test_a_word_that_begins_with_a_layer_is_a_spec():
    assert refusal("conv3-64/0", (8, 8, 3)).startswith("line 1, column")
    assert read("Dense-4", (3,)).operations[0].output.shape == (4,)


def test_a_folder_that_holds_no_configuration(tmp_path):
    assert refusal(tmp_path) == refusal(str(tmp_path))
    assert "is a folder without a config.json; name a folder that holds a configuration" in refusal(tmp_path)
