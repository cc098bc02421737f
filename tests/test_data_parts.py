"""A folder of parts is the table of all their rows, read part by part, or refused in one sentence."""

from __future__ import annotations

import json

import numpy as np
import pytest

import thalweg as tw
from thalweg.cli import main

array = pytest.importorskip("dask.array", reason="needs dask, which CI installs")

TABLE = np.random.default_rng(0).standard_normal((90, 5))
COLUMNS = ["a", "b", "goal", "c", "d"]


def write(folder, kind, parts=None, columns=COLUMNS):
    parts = np.split(TABLE, [20, 50]) if parts is None else parts
    for place, part in enumerate(parts):
        if kind == "npy":
            np.save(folder / f"part-{place}.npy", part)
        else:
            pyarrow = pytest.importorskip("pyarrow", reason="needs pyarrow")
            from pyarrow.parquet import write_table

            write_table(pyarrow.table(dict(zip(columns, part.T, strict=True))), folder / f"part-{place}.parquet")
    return folder


@pytest.mark.parametrize("kind", ["npy", "parquet"])
def test_the_parts_are_one_table(tmp_path, kind):
    data = tw.load(write(tmp_path, kind), target=2 if kind == "npy" else "goal")
    assert isinstance(data.X, array.Array)
    np.testing.assert_array_equal(data.t, TABLE[:, 2])
    np.testing.assert_array_equal(data.X.compute(), TABLE[:, [0, 1, 3, 4]])
    assert data.columns == (("x1", "x2", "x3", "x4") if kind == "npy" else ("a", "b", "c", "d"))
    last = tw.load(str(tmp_path))
    np.testing.assert_array_equal(last.t, TABLE[:, -1])
    np.testing.assert_array_equal(last.X.compute(), TABLE[:, :-1])


def test_rates_of_a_folder_are_those_of_the_table(tmp_path, capsys):
    with pytest.raises(SystemExit):
        main(["rates", str(write(tmp_path, "parquet")), "--target", "goal", "--steps", "6", "--json"])
    answer = json.loads(capsys.readouterr().out)
    truth = tw.rates(tw.LeastSquares(TABLE[:, [0, 1, 3, 4]], TABLE[:, 2]), 6)
    assert answer["best_loss"]["6"] == pytest.approx(truth.best_loss(6), rel=1e-12)
    assert answer["stability_rate"] == pytest.approx(truth.stability_rate, rel=1e-12)


def test_a_dask_table_holds_its_target_as_a_column():
    data = tw.load(array.from_array(TABLE, chunks=(40, 3)), target=1)
    np.testing.assert_array_equal(data.t, TABLE[:, 1])
    np.testing.assert_array_equal(data.X.compute(), np.delete(TABLE, 1, axis=1))
    pair = tw.load((array.from_array(TABLE), np.ones(90)))
    assert pair.X.shape == (90, 5)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda folder: None, "is a folder with no .npy or .parquet files; name a file"),
        (lambda folder: (write(folder, "npy"), write(folder, "parquet")), "with both .npy and .parquet files"),
        (
            lambda folder: write(folder, "npy", [TABLE, TABLE[:, :4]]),
            r"part-1.npy' has shape \(90, 4\), but",
        ),
        (lambda folder: write(folder, "npy", [TABLE[:, 0]]), r"has shape \(90,\)"),
        (lambda folder: (folder / "part.npy").write_bytes(b"nothing"), "Cannot read .* as a folder of parts: "),
        (lambda folder: (folder / "part.parquet").write_bytes(b"nothing"), "Cannot read"),
    ],
)
def test_folders_that_hold_no_table_are_refused(tmp_path, make, message):
    make(tmp_path)
    with pytest.raises(tw.InputError, match=message) as refused:
        tw.load(tmp_path)
    assert "\n" not in str(refused.value)


def test_parts_with_other_columns_are_refused(tmp_path):
    write(tmp_path, "parquet", [TABLE])
    (tmp_path / "part-0.parquet").rename(tmp_path / "other.parquet")
    write(tmp_path, "parquet", [TABLE], columns=["a", "b", "goal", "c", "e"])
    with pytest.raises(tw.InputError, match=r"has other columns than 'other.parquet'.*; see '[de]'"):
        tw.load(tmp_path)


def test_a_value_that_is_not_finite_is_found_in_its_part(tmp_path):
    table = TABLE.copy()
    table[70, 1] = np.inf
    with pytest.raises(tw.InputError, match=r"X\[70, 1\] is inf"):
        tw.load(write(tmp_path, "npy", np.split(table, [20, 50])))


def test_without_dask_the_install_command_is_said(tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "dask.array", None)
    with pytest.raises(tw.MissingPackageError, match=r"thalweg\[dask\]"):
        tw.load(write(tmp_path, "npy"))
