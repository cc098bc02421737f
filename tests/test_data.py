from __future__ import annotations

import io
import subprocess
import sys
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
import scipy.sparse
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from thalweg.arrays import checked_matrix, checked_vector
from thalweg.data import Dataset, load, load_test, names, photograph, standardised
from thalweg.errors import InputError, MissingPackageError, ThalwegError

finite = st.floats(-1e139, 1e139, width=64)
tables = arrays(np.float64, array_shapes(min_dims=2, max_dims=2, min_side=2, max_side=6), elements=finite).filter(
    lambda table: bool(np.abs(table[:, :-1]).max() > 1e-139)
)
in_one_folder = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)


def refusal(source: object, **options: object) -> str:
    """The message with which `load` refuses a source; always a single sentence on a single line."""
    with pytest.raises(InputError) as caught:
        load(source, **options)  # type: ignore[arg-type]
    message = str(caught.value)
    assert "\n" not in message
    assert message.endswith((".", "?"))
    return message


def write(path: Path, text: str, encoding: str = "utf-8") -> Path:
    path.write_bytes(text.encode(encoding))
    return path


# Inline rows


def test_inline_rows_are_features_equals_target() -> None:
    data = load(" 1 2 = 3;0, 1e-1 =-2.5 ; ")
    assert data.X.tolist() == [[1, 2], [0, 0.1]]
    assert data.t.tolist() == [3, -2.5]
    assert data.columns == ("x1", "x2")
    assert data.name == "1 2 = 3; 0, 1e-1 =-2.5"


@given(tables)
def test_inline_rows_read_back_every_number_exactly(table: np.ndarray) -> None:
    text = ";".join(" ".join(map(repr, row[:-1].tolist())) + "=" + repr(float(row[-1])) for row in table)
    data = load(text)
    assert np.array_equal(data.X, table[:, :-1])
    assert np.array_equal(data.t, table[:, -1])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("1 2", "Row 1 ('1 2') has no '='; write its features, '=' and its target, as in '1 2 = 3'."),
        ("1 2 = 3; 4 5", "Row 2 ('4 5') has no '='; write its features, '=' and its target, as in '1 2 = 3'."),
        ("1 2 = 3; 1 = 2", "Row 2 ('1 = 2') has 1 features where row 1 has 2."),
        ("= 3", "Row 1 ('= 3') has no features before its '='."),
        ("1 2 =", "Row 1 ('1 2 =') has 0 values after its '='; it needs one."),
        ("1 2 = 3 4", "Row 1 ('1 2 = 3 4') has 2 values after its '='; it needs one."),
        ("1 2 = 3; ; 1 2 = 3", "Row 2 ('') has no '='; write its features, '=' and its target, as in '1 2 = 3'."),
        ("1 two = 3", "Row 1: 'two' is not a number."),
        ("1 2 = = 3", "Row 1: '=' is not a number."),
        ("1 1-2 = 3", "Row 1: '1-2' is not a number."),
        ("1 nan = 3", "Row 1: 'nan' is not a finite number."),
        ("nan 1 = 3", "Row 1: 'nan' is not a finite number."),
        ("1 1e999 = 3", "Row 1: '1e999' is not a finite number."),
        ("0 0 = 3", "X holds only zeros, so every w gives the same predictions; there is nothing to learn."),
    ],
)
def test_inline_rows_refused_with_their_place(text: str, message: str) -> None:
    assert refusal(text) == message


@given(st.text())
def test_no_text_raises_anything_but_an_input_error(text: str) -> None:
    try:
        load(text)
    except InputError as error:
        assert str(error)  # noqa: PT017 - whichever it is, a data set or a sentence, is right


# Named sets


def test_digits_is_scikit_learns_with_even_against_odd() -> None:
    from sklearn.datasets import load_digits

    theirs, ours = load_digits(), load("digits")
    assert np.array_equal(ours.X, theirs.data / 16)
    assert np.array_equal(ours.t, np.where(theirs.target % 2 == 0, 1, -1))
    assert list(ours.columns) == theirs.feature_names
    assert (ours.n, ours.d) == (1797, 64)


def test_diabetes_is_scikit_learns_standardised() -> None:
    from sklearn.datasets import load_diabetes
    from sklearn.preprocessing import StandardScaler

    theirs, ours = load_diabetes(scaled=False), load("diabetes")
    np.testing.assert_allclose(ours.X, StandardScaler().fit_transform(theirs.data), rtol=0, atol=1e-12)
    np.testing.assert_allclose(ours.t, (theirs.target - theirs.target.mean()) / theirs.target.std(), rtol=0, atol=1e-12)
    assert list(ours.columns) == theirs.feature_names


def test_breast_cancer_is_scikit_learns_standardised() -> None:
    from sklearn.datasets import load_breast_cancer
    from sklearn.preprocessing import StandardScaler

    theirs, ours = load_breast_cancer(), load("breast_cancer")
    np.testing.assert_allclose(ours.X, StandardScaler().fit_transform(theirs.data), rtol=0, atol=1e-12)
    assert np.array_equal(ours.t, 2 * theirs.target - 1)
    assert list(ours.columns) == list(theirs.feature_names)
    assert theirs.target_names[1] == ours.target == "benign"


def test_raw_tumours_are_scikit_learns_in_their_own_units() -> None:
    from sklearn.datasets import load_breast_cancer

    theirs, ours = load_breast_cancer(), load("breast_cancer_raw")
    assert np.array_equal(ours.X, theirs.data)
    assert np.array_equal(ours.t, 2 * theirs.target - 1)


def test_digits_through_random_features_are_split_for_the_test() -> None:
    """The features' inner products approach the Gaussian kernel of width 1, which they were drawn for."""
    digits = load("digits")
    name = "digits_features:n=100,d=20000,seed=2"
    train, new = load(name), load_test(name)
    assert (train.n, new.n, train.d) == (100, 1697, 20_000)
    assert np.array_equal(np.concatenate([train.t, new.t]), digits.t)
    pixels = digits.X[90:110]
    squares = ((pixels[:, None] - pixels[None]) ** 2).sum(axis=-1)
    features = np.concatenate([train.X[90:], new.X[:10]])
    np.testing.assert_allclose(features @ features.T, np.exp(-squares / 2), atol=0.05)
    assert np.array_equal(load(name).X, train.X)


def test_the_test_of_wilsons_construction_holds_nothing_that_was_seen() -> None:
    train, new = load("wilson:n=20,p=0.6"), load_test("wilson:n=20,p=0.6")
    assert np.array_equal(new.t, train.t)
    assert np.array_equal(new.X[:, :3], train.X[:, :3])
    assert not new.X[:, 3:].any()
    assert load_test("digits") is load_test("1 2 = 3") is None


def test_named_sets_load_without_importing_scikit_learn() -> None:
    code = (
        "import sys; from thalweg.data import load, photograph;"
        "[load(name) for name in ('digits', 'diabetes', 'breast_cancer', 'gaussian', 'wilson')]; photograph();"
        "assert not {'sklearn', 'scipy', 'jax', 'plotly'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_every_name_loads_with_its_description() -> None:
    bundled = {"digits", "digits_features", "diabetes", "breast_cancer", "breast_cancer_raw"}
    assert set(names()) == bundled | {"gaussian", "wilson"}
    for name, about in names().items():
        assert load(name).about == about


def test_gaussian_follows_its_recipe() -> None:
    data = load("gaussian:n=5,d=7,seed=3,noise=0.5")
    generator = np.random.default_rng(3)
    X = generator.standard_normal((5, 7))
    w = generator.standard_normal(7) / np.sqrt(7)
    assert np.array_equal(data.X, X)
    assert np.array_equal(data.t, X @ w + 0.5 * generator.standard_normal(5))
    assert data.name == "gaussian:n=5,d=7,seed=3,noise=0.5"
    assert load("gaussian").X.shape == (20, 100)
    assert not np.array_equal(load("gaussian:seed=1").X, load("gaussian").X)


@pytest.mark.parametrize(("n", "p"), [(40, 0.75), (7, 0.6), (1, 1.0)])
def test_wilson_is_the_papers_construction(n: int, p: float) -> None:
    data = load(f"wilson:n={n},p={p}")
    assert np.sum(data.t == 1) == round(p * n)
    for i in range(1, n + 1):
        y = data.t[i - 1]
        for j in range(1, data.d + 1):  # the paper's definition, with its indices from 1
            if j == 1:
                x = y
            elif j in (2, 3) or 4 + 5 * (i - 1) <= j <= 4 + 5 * (i - 1) + 2 * (1 - y):
                x = 1
            else:
                x = 0
            assert data.X[i - 1, j - 1] == x


def test_wilson_satisfies_the_condition_of_its_lemma() -> None:
    """X sign(X^T y) = 4 y, which is what sends adaptive methods to sign(X^T y) / 4."""
    data = load("wilson:n=40,p=0.75")
    assert np.array_equal(data.X @ np.sign(data.X.T @ data.t), 4 * data.t)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("digit", "There is no data set named 'digit'; did you mean 'digits'?"),
        ("breast-cancer", "There is no data set named 'breast-cancer'; did you mean 'breast_cancer'?"),
        ("gausian:n=3,noise=0.1", "There is no data set named 'gausian'; did you mean 'gaussian'?"),
        (
            "zzz",
            (
                "There is no data set named 'zzz'; known: digits, diabetes, breast_cancer, breast_cancer_raw, "
                "digits_features, gaussian, wilson."
            ),
        ),
        ("gaussian:m=3", "There is no parameter of 'gaussian' named 'm'; known: n, d, seed, noise."),
        ("gaussian:sed=3", "There is no parameter of 'gaussian' named 'sed'; did you mean 'seed'?"),
        ("gaussian:n=2.5", "In 'gaussian', n must be an integer, as in 'gaussian:n=20'; got 'n=2.5'."),
        ("gaussian:n", "In 'gaussian', n must be an integer, as in 'gaussian:n=20'; got 'n'."),
        ("gaussian:n=0", "In 'gaussian', n must be at least 1, but it is 0."),
        ("gaussian:seed=-1", "In 'gaussian', seed must be at least 0, but it is -1."),
        (
            "gaussian:noise=nan",
            "In 'gaussian', noise must be a finite number, as in 'gaussian:noise=0.0'; got 'noise=nan'.",
        ),
        (
            "gaussian:n=1000000,d=1000000",
            "'gaussian' with n=1000000 needs 8e+03 GB, more memory than there is; make it smaller.",
        ),
        ("wilson:p=0.5", "In 'wilson', p must be above 0.5 and at most 1, but it is 0.5."),
        ("wilson:n=4,p=0.51", "In 'wilson', p must be larger, so that most of the 4 labels are +1, but it is 0.51."),
        ("digits_features:n=1797", "In 'digits_features', n must be 1 to 1796, but it is 1797."),
        ("digits:n=5", "The data set 'digits' has no parameters, but got 'n=5'."),
        ("", "The data are an empty text; give a name, a file or rows such as '1 2 = 3'."),
    ],
)
def test_names_refused(name: str, message: str) -> None:
    assert refusal(name) == message


def test_photograph_is_the_bundled_one_in_grey() -> None:
    from sklearn.datasets import load_sample_image

    grey = photograph()
    assert grey.shape == (427, 640)
    assert 0 <= grey.min() < 0.1 < 0.9 < grey.max() <= 1
    # The luma weights of ITU-R 601, which Pillow rounds to whole grey levels.
    expected = load_sample_image("china.jpg") @ np.array([0.299, 0.587, 0.114]) / 255
    assert np.max(np.abs(grey - expected)) < 1 / 255


# Files


@in_one_folder
@given(table=tables, delimiter=st.sampled_from(",;\t"), newline=st.sampled_from(["\n", "\r\n"]), bom=st.booleans())
def test_csv_reads_back_every_number_exactly(
    tmp_path: Path, table: np.ndarray, delimiter: str, newline: str, bom: bool
) -> None:
    lines = [delimiter.join(map(repr, row.tolist())) for row in table]
    path = write(tmp_path / "table.csv", newline.join(lines) + newline, "utf-8-sig" if bom else "utf-8")
    data = load(path)
    assert np.array_equal(np.column_stack([data.X, data.t]), table)


def test_csv_header_quotes_and_blank_lines(tmp_path: Path) -> None:
    text = '\ufeff"age, in years",bmi,"the ""score"""\r\n"1",2,3\r\n\r\n4,5.5,6\r\n'
    data = load(str(write(tmp_path / "people.csv", text)))
    assert data.columns == ("age, in years", "bmi")
    assert data.target == 'the "score"'
    assert data.X.tolist() == [[1, 2], [4, 5.5]]
    assert data.t.tolist() == [3, 6]
    assert data.name == "people.csv"


@pytest.mark.parametrize(
    ("target", "features"), [("b", ("a", "c")), (0, ("b", "c")), ("-1", ("a", "b")), (1, ("a", "c"))]
)
def test_csv_target_by_name_or_index(tmp_path: Path, target: str | int, features: tuple[str, ...]) -> None:
    data = load(write(tmp_path / "t.csv", "a,b,c\n1,2,3\n4,5,6\n"), target=target)
    whole = {"a": [1, 4], "b": [2, 5], "c": [3, 6]}
    assert data.columns == features
    assert data.X.T.tolist() == [whole[name] for name in features]
    assert data.t.tolist() == whole[data.target]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "'t.csv' holds no rows of numbers."),
        ("a,b\n", "'t.csv' holds no rows of numbers."),
        ("a,b\n1,2\n3\n", "'t.csv' line 3 has 1 values where the first line has 2."),
        (
            "age,sex,city,y\n1,m,Oslo,2\n3,f,Rome,4\n",
            (
                "'t.csv': columns 'sex', 'city' must hold finite numbers, but line 2 has 'm' in 'sex'; "
                "convert them to numbers or leave them out."
            ),
        ),
        (
            "a,b,y\n1,2,3\n\n4,NA,6\n",
            (
                "'t.csv': column 'b' must hold finite numbers, but line 4 has 'NA' in 'b'; "
                "convert it to numbers or leave it out."
            ),
        ),
        (
            "a,b,y\n1,2,3\n4,nan,6\n",
            (
                "'t.csv': column 'b' must hold finite numbers, but line 3 has 'nan' in 'b'; "
                "convert it to numbers or leave it out."
            ),
        ),
        (
            "1,2,3\n4,,6\n",
            (
                "'t.csv': column 'column 2' must hold finite numbers, but line 2 has an empty value in 'column 2'; "
                "convert it to numbers or leave it out."
            ),
        ),
        (
            "1,,3\n4,5,6\n",
            (
                "'t.csv': column 'column 2' must hold finite numbers, but line 1 has an empty value in 'column 2'; "
                "convert it to numbers or leave it out."
            ),
        ),
        (
            "red,1,2\nblue,3,4\n",
            (
                "'t.csv': the first line mixes names and numbers ('red' and '1'); "
                "name every column or none, and leave columns that are not numbers out."
            ),
        ),
        ("y\n1\n2\n", "t.csv has 1 column; at least one feature and the target are needed."),
        ("a,y\n0,1\n0,2\n", "X holds only zeros, so every w gives the same predictions; there is nothing to learn."),
    ],
)
def test_csv_refused_by_name_and_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, message: str) -> None:
    monkeypatch.chdir(tmp_path)
    write(Path("t.csv"), text)
    assert refusal("t.csv") == message


def test_csv_columns_refused_when_unknown_or_ambiguous(tmp_path: Path) -> None:
    named = write(tmp_path / "t.csv", "height,weight,height\n1,2,3\n")
    assert refusal(named, target="wieght") == "There is no column in t.csv named 'wieght'; did you mean 'weight'?"
    assert refusal(named, target="height").startswith("t.csv has 2 columns named 'height'")
    assert refusal(named, target=3) == "t.csv has 3 columns, so the target must be 0 to 2, but it is 3."
    bare = write(tmp_path / "u.csv", "1,2,3\n")
    assert (
        refusal(bare, target="weight") == "u.csv has no column names, so the target 'weight' must be an index, from 0."
    )


def test_csv_that_is_not_utf8(tmp_path: Path) -> None:
    path = write(tmp_path / "t.csv", "a,é\n1,2\n", "latin-1")
    assert refusal(path) == f"Cannot read {str(path)!r}: it is not UTF-8 text; save it as UTF-8."


def test_npy_larger_than_a_block_stays_on_disk(tmp_path: Path) -> None:
    """X is a view of the memory map, and checking it takes a small part of the memory that a copy would."""
    table = np.random.default_rng(0).standard_normal((400_000, 20))
    np.save(tmp_path / "big.npy", table)
    tracemalloc.start()
    data = load(tmp_path / "big.npy")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < table.nbytes / 4
    assert is_view_of_a_map(data.X)
    assert np.array_equal(data.X[-1], table[-1, :-1])
    assert np.array_equal(data.t, table[:, -1])


def is_view_of_a_map(array: np.ndarray | None) -> bool:
    while isinstance(array, np.ndarray):
        if isinstance(array, np.memmap):
            return True
        array = array.base  # type: ignore[assignment]
    return False


@pytest.mark.parametrize("row", [0, 299_999])
def test_npy_bad_value_is_found_in_any_block(tmp_path: Path, row: int) -> None:
    table = np.ones((300_000, 20), dtype=np.float32)
    table[row, 3] = np.inf
    np.save(tmp_path / "big.npy", table)
    message = refusal(tmp_path / "big.npy")
    assert message == f"X[{row}, 3] is inf (counting from 0); replace what is not finite or leave its row out."


@pytest.mark.parametrize("target", [0, 1, 2, None])
@pytest.mark.parametrize("dtype", ["float64", "float32", ">f8", ">f4", "float16", "int8", "bool", "longdouble"])
def test_npy_of_any_real_type(tmp_path: Path, dtype: str, target: int | None) -> None:
    table = np.array([[1, 0, 1], [0, 1, 1]]).astype(dtype)
    np.save(tmp_path / "t.npy", table)
    data = load(tmp_path / "t.npy", target=target)
    assert data.X.dtype == (np.float32 if dtype in ("float32", ">f4") else np.float64)
    assert data.X.dtype.isnative
    assert data.t.dtype == np.float64
    column = 2 if target is None else target
    assert np.array_equal(data.X, np.delete(table, column, axis=1))
    assert np.array_equal(data.t, table[:, column])


def test_npy_and_npz_under_each_others_name(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.ones((2, 2)))
    (tmp_path / "a.npy").rename(tmp_path / "a.npz")
    assert refusal(tmp_path / "a.npz").endswith("holds a single array; rename it to end in .npy.")
    np.savez(tmp_path / "b.npz", X=np.ones((2, 2)), t=np.ones(2))
    (tmp_path / "b.npz").rename(tmp_path / "b.npy")
    assert "the magic string is not correct" in refusal(tmp_path / "b.npy")


def test_npz_of_X_and_t_or_y(tmp_path: Path) -> None:
    X, t = np.array([[1.0, 2], [3, 4]]), np.array([5.0, 6])
    for key in ("t", "y"):
        np.savez(tmp_path / "a.npz", X=X, **{key: t})
        data = load(tmp_path / "a.npz")
        assert np.array_equal(data.X, X)
        assert np.array_equal(data.t, t)
    np.savez(tmp_path / "a.npz", X=X, t=t[:1])
    assert refusal(tmp_path / "a.npz") == "t must have 2 values, one per row of X, but has 1."
    np.savez(tmp_path / "a.npz", features=X, labels=t)
    assert refusal(tmp_path / "a.npz").endswith("holds 'features', 'labels'; it must hold arrays 'X' and 't' (or 'y').")
    assert refusal(tmp_path / "a.npz", target="t").endswith("it must hold arrays 'X' and 't' (or 'y').")


@pytest.mark.parametrize("layout", ["csr", "csc", "coo", "bsr", "dia"])
def test_npz_of_a_sparse_matrix(tmp_path: Path, layout: str) -> None:
    table = np.array([[1.0, 0, 2, 7], [0, 0, 3, 8], [4, 0, 0, 0]])
    scipy.sparse.save_npz(tmp_path / "s.npz", scipy.sparse.csr_array(table).asformat(layout))
    data = load(tmp_path / "s.npz", target=2)
    assert isinstance(data.X, scipy.sparse.csr_array)
    assert np.array_equal(data.X.toarray(), table[:, [0, 1, 3]])
    assert np.array_equal(data.t, table[:, 2])
    with np.load(tmp_path / "s.npz") as stored:
        np.savez(tmp_path / "with_t.npz", t=[1, 2, 3], **stored)
    data = load(tmp_path / "with_t.npz")
    assert np.array_equal(data.X.toarray(), table)
    assert np.array_equal(data.t, [1, 2, 3])


@pytest.mark.parametrize("layout", ["csr", "csc", "bsr"])
@pytest.mark.parametrize(("part", "position", "value"), [("indices", 0, 1000), ("indices", 0, -1), ("indptr", -1, 0)])
def test_sparse_files_that_point_outside_themselves(
    tmp_path: Path, layout: str, part: str, position: int, value: int
) -> None:
    """SciPy's conversions would follow such indices into foreign memory."""
    stream = io.BytesIO()
    scipy.sparse.save_npz(stream, scipy.sparse.csr_array(np.tri(5)).asformat(layout))
    stored = dict(np.load(io.BytesIO(stream.getvalue())))
    stored[part][position] = value
    np.savez(tmp_path / "s.npz", **stored)
    assert "damaged sparse matrix" in refusal(tmp_path / "s.npz")


def test_parquet_reads_names_and_numbers(tmp_path: Path) -> None:
    pa = pytest.importorskip("pyarrow")
    import pyarrow.parquet as pq

    path = tmp_path / "t.parquet"
    pq.write_table(pa.table({"a": [1, 2], "b": [0.5, 1.5], "c": [True, False]}), path)
    data = load(path, target="a")
    assert data.columns == ("b", "c")
    assert data.X.tolist() == [[0.5, 1], [1.5, 0]]
    assert data.t.tolist() == [1, 2]
    pq.write_table(pa.table({"a": [1, 2], "city": ["Oslo", "Rome"]}), path)
    assert refusal(path).endswith(
        "column 'city' must hold numbers, but 'city' is of type string; convert it to numbers or leave it out."
    )
    pq.write_table(pa.table({"a": [1, 2, 3], "b": [1, None, 3]}), path)
    assert refusal(path).endswith("column 'b' has no value in row 1; fill it or leave the row out.")
    pq.write_table(pa.table({"a": [1.0, 2.0], "b": [1.0, float("nan")]}), path)
    assert refusal(path) == "t[1] is nan (counting from 0); replace what is not finite or leave its row out."


def test_parquet_without_pyarrow_says_how_to_install_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)
    with pytest.raises(MissingPackageError, match=r'pip install "thalweg\[parquet\]"'):
        load(tmp_path / "t.parquet")


def test_files_that_are_not_there_or_not_data(tmp_path: Path) -> None:
    write(tmp_path / "points.csv", "1,2\n")
    near = str(tmp_path / "points.csv")
    assert refusal(str(tmp_path / "point.csv")).endswith(f"did you mean {near!r}?")
    assert refusal("/nowhere/at/all.csv") == "There is no file '/nowhere/at/all.csv'; check the path."
    assert "is a folder" in refusal(str(tmp_path))
    write(tmp_path / "points.txt", "1,2\n")
    assert refusal(tmp_path / "points.txt").endswith("does not end in .npz, .npy, .csv, .parquet.")


def npy_bytes(array: np.ndarray) -> bytes:
    stream = io.BytesIO()
    np.save(stream, array, allow_pickle=True)
    return stream.getvalue()


def npz_bytes(**stored: np.ndarray) -> bytes:
    stream = io.BytesIO()
    np.savez_compressed(stream, **stored)
    return stream.getvalue()


def sparse_bytes() -> bytes:
    stream = io.BytesIO()
    scipy.sparse.save_npz(stream, scipy.sparse.random_array((6, 5), density=0.5, rng=np.random.default_rng(0)))
    return stream.getvalue()


SOUND = {
    "npy": npy_bytes(np.arange(12.0).reshape(4, 3)),
    "npz": npz_bytes(X=np.arange(12.0).reshape(4, 3), t=np.ones(4)),
    "sparse.npz": sparse_bytes(),
    "csv": b"a,b,y\n1,2,3\n4,5,6\n",
}


def test_pickled_objects_are_never_loaded(tmp_path: Path) -> None:
    objects = np.array([[1, {}], [2, 3]], dtype=object)
    (tmp_path / "o.npy").write_bytes(npy_bytes(objects))
    np.savez(tmp_path / "o.npz", X=objects, t=np.ones(2))
    assert refusal(tmp_path / "o.npy").startswith("Cannot read ")
    assert refusal(tmp_path / "o.npz").startswith("Cannot read ")


@in_one_folder
@given(kind=st.sampled_from(sorted(SOUND)), data=st.data())
def test_damaged_files_raise_one_sentence_or_load(tmp_path: Path, kind: str, data: st.DataObject) -> None:
    contents = bytearray(SOUND[kind])
    for _ in range(data.draw(st.integers(0, 3))):
        contents[data.draw(st.integers(0, len(contents) - 1))] = data.draw(st.integers(0, 255))
    path = tmp_path / f"damaged.{kind}"
    path.write_bytes(contents[: data.draw(st.integers(0, len(contents)))])
    try:
        loaded = load(path)
    except InputError as error:
        assert "\n" not in str(error)  # noqa: PT017
    else:
        assert isinstance(loaded, Dataset)


def test_sound_files_of_the_damage_test_load(tmp_path: Path) -> None:
    for kind, contents in SOUND.items():
        path = tmp_path / f"sound.{kind}"
        path.write_bytes(contents)
        assert load(path).n >= 2


# Arrays from Python


def test_pairs_and_tables_from_python() -> None:
    pair = load(([[1, 2], [3, 4]], [5, 6]))
    table = load(np.array([[1, 2, 5], [3, 4, 6]]))
    sparse = load(scipy.sparse.coo_matrix([[5, 1, 2], [6, 3, 4]]), target=0)
    for data in (pair, table, sparse):
        dense = data.X if isinstance(data.X, np.ndarray) else data.X.toarray()
        assert dense.tolist() == [[1, 2], [3, 4]]
        assert data.t.tolist() == [5, 6]
    assert load(pair) is pair
    assert repr(pair) == "Dataset('data', n=2, d=2, target='t')"


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (([[1, 2]], [3], 4), "A tuple of data must be a pair (X, t), but it has 3 items."),
        (([[1, 2]], [3, 4]), "t must have 1 values, one per row of X, but has 2."),
        ([1, 2, 3], "data must have two dimensions (examples in rows), but has shape (3,)."),
        ([[1], [2]], "data has 1 column; at least one feature and the target are needed."),
        (5, "data must have two dimensions (examples in rows), but has shape ()."),
    ],
)
def test_arrays_refused(source: object, message: str) -> None:
    assert refusal(source) == message


@pytest.mark.parametrize("source", ["digits", "1 2 = 3", ([[1, 2]], [3])])
def test_a_target_cannot_be_chosen_where_there_is_one(source: object) -> None:
    assert "has its own target" in refusal(source, target=0)


# The checks themselves


@pytest.mark.parametrize(
    ("X", "message"),
    [
        ([], "X is empty: its shape is (0,); at least one row and one column are needed."),
        (np.ones((0, 3)), "X is empty: its shape is (0, 3); at least one row and one column are needed."),
        (
            scipy.sparse.csr_array((3, 0)),
            "X is empty: its shape is (3, 0); at least one row and one column are needed.",
        ),
        (
            [1, 2],
            (
                "X must have two dimensions (examples in rows, features in columns), but has shape (2,); "
                "write X.reshape(1, -1) for one example, X.reshape(-1, 1) for one feature."
            ),
        ),
        (
            np.ones((1, 1, 1)),
            "X must have two dimensions (examples in rows, features in columns), but has shape (1, 1, 1).",
        ),
        ([[1, 2], [3]], "X cannot be read as an array of numbers: its rows have different lengths."),
        ([["1"]], "X must hold real numbers, but its type is <U1; convert it, for example with X.astype(float)."),
        ([[None]], "X must hold real numbers, but its type is object; convert it, for example with X.astype(float)."),
        ([[1j]], "X must hold real numbers, but its type is complex128; convert it, for example with X.real."),
        ([[1, np.nan]], "X[0, 1] is nan (counting from 0); replace what is not finite or leave its row out."),
        (
            scipy.sparse.csr_array([[0, 1], [0, -np.inf]]),
            "X[1, 1] is -inf (counting from 0); replace what is not finite or leave its row out.",
        ),
        (np.ma.masked_equal([[1, 2]], 2), "X[0, 1] is masked; fill masked values or leave their rows out."),
        ([[1, -1e141]], "X holds 1e+141 or its negative, whose square overflows float64; rescale X."),
        (
            scipy.sparse.csr_array([[0, 1e141]]),
            "X holds 1e+141 or its negative, whose square overflows float64; rescale X.",
        ),
        ([[1e-141, 0]], "X holds nothing larger than 1e-141, whose square is 0 in float64; rescale X."),
        (np.zeros((2, 2)), "X holds only zeros, so every w gives the same predictions; there is nothing to learn."),
        (
            scipy.sparse.csr_array((2, 2)),
            "X holds only zeros, so every w gives the same predictions; there is nothing to learn.",
        ),
    ],
)
def test_matrices_refused(X: object, message: str) -> None:
    with pytest.raises(InputError) as caught:
        checked_matrix(X)
    assert str(caught.value) == message


@pytest.mark.parametrize(
    ("w0", "message"),
    [
        ([], "w0 must have 2 values, one per column of X, but has 0."),
        ([1, 2, 3], "w0 must have 2 values, one per column of X, but has 3."),
        ([[1], [2]], "w0 must have one dimension, but has shape (2, 1); write w0.ravel()."),
        ([1, np.inf], "w0[1] is inf (counting from 0); replace what is not finite or leave its row out."),
        ([1, -1e200], "w0 holds 1e+200 or its negative, whose square overflows float64; rescale w0."),
        (["a", "b"], "w0 must hold real numbers, but its type is <U1; convert it, for example with w0.astype(float)."),
        (scipy.sparse.csr_array([[1, 2]]), "w0 is sparse, and must not be; write w0.toarray().ravel()."),
    ],
)
def test_vectors_refused(w0: object, message: str) -> None:
    with pytest.raises(InputError) as caught:
        checked_vector(w0, "w0", length=2, per="column of X")
    assert str(caught.value) == message


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_floating_matrices_are_not_copied(dtype: type) -> None:
    X = np.ones((3, 2), dtype=dtype)
    assert checked_matrix(X) is X
    view = X[:, :1]
    assert np.shares_memory(checked_matrix(view), X)


def test_duplicate_sparse_entries_are_summed() -> None:
    coordinates = ([0, 0], [1, 1])
    assert checked_matrix(scipy.sparse.coo_array(([1, 2], coordinates), shape=(1, 2))).toarray().tolist() == [[0, 3]]


@given(arrays(np.float64, (5, 3), elements=st.floats(-1e3, 1e3).map(lambda value: round(value, 3))))
def test_standardised_columns_have_mean_0_and_variance_1(X: np.ndarray) -> None:
    constant = [name for name, column in zip("abc", X.T, strict=True) if len(set(column)) == 1]
    if constant:
        with pytest.raises(InputError, match=f"Cannot standardise column.* '{constant[0]}'"):
            standardised(X, "abc")
        return
    scaled = standardised(X, "abc")
    np.testing.assert_allclose(scaled.mean(axis=0), 0, rtol=0, atol=1e-9)
    np.testing.assert_allclose(np.mean(scaled**2, axis=0), 1, rtol=0, atol=1e-9)


def test_every_error_of_this_room_is_a_thalweg_error() -> None:
    assert issubclass(InputError, ThalwegError)
    assert issubclass(MissingPackageError, ThalwegError)


@pytest.mark.parametrize("target", [1.5, True, None.__class__])
def test_a_target_that_is_neither_a_name_nor_an_index_is_refused(target: object) -> None:
    with pytest.raises(InputError, match="must be the name or the index of a column"):
        load(np.eye(3) + 1, target=target)  # type: ignore[arg-type]
