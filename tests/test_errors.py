"""Every error is a ThalwegError, and one that callers would catch anyway."""

from __future__ import annotations

import pytest

from thalweg import errors


@pytest.mark.parametrize(
    ("child", "builtin"),
    [(errors.InputError, ValueError), (errors.MissingPackageError, ImportError), (errors.OutputError, OSError)],
)
def test_children_are_thalweg_errors_and_builtins(child, builtin):
    assert issubclass(child, errors.ThalwegError)
    assert issubclass(child, builtin)


def test_an_unknown_name_suggests_the_nearest():
    error = errors.unknown_name("data set", "Digts", ["digits", "diabetes"])
    assert str(error) == "There is no data set named 'Digts'; did you mean 'digits'?"


def test_an_unknown_name_without_a_neighbour_lists_what_is_known():
    error = errors.unknown_name("data set", "zzz", ["digits", "diabetes"])
    assert str(error) == "There is no data set named 'zzz'; known: digits, diabetes."


def test_a_missing_package_says_how_to_install_it():
    message = str(errors.missing_package("pyarrow", "reading Parquet files", "parquet"))
    assert "Reading Parquet files needs the package 'pyarrow'" in message
    assert 'pip install "thalweg[parquet]"' in message
