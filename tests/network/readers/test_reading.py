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
