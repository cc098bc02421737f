"""The reader of formulas: what it takes it takes right, what it refuses it names, and it executes nothing."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from formulas import RIGHT, WRONG
from thalweg.errors import InputError
from thalweg.textbook.checking.formula import FUNCTIONS, Node, Vocabulary, kind_of, parse, symbols_in, to_text, walk
from thalweg.textbook.checking.targets import TARGETS

WORDS = Vocabulary(
    "F2.8",
    {"X": "matrix", "a": "vector", "t": "vector", "S": "matrix", "K": "matrix", "I": "matrix", "n": "number",
     "T": "number", "eta": "number", "lam": "number"},
    ("dL", "d2L"),
)  # fmt: skip


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a^2", "'^' at column 2: write ** for a power of a number, mpow(M, k) for a power of a matrix, .T for"),
        ("X' @ a", "\"'\" at column 2: write .T for a transpose"),
        ("Xᵀ @ a", "'ᵀ' at column 2: write .T for a transpose"),
        ("n − 1", "'−' at column 3: write - for a minus sign"),
        ("S·a", "'·' at column 2: write * for a product with a number, @ for a product of matrices"),
        ("a[0]", "'[' at column 2: write round brackets"),
        ("\\frac{1}{n}", "'\\\\' at column 1: LaTeX is not read"),
        ("n == 2", "'=' at column 3: a formula is one expression"),
        ("n > 2", "'>' at column 3: a formula is one expression"),
        ("lambda: 0", "':' at column 7"),
        ("lambda * I", "'lambda' at column 1: the word is taken in Python; write lam"),
        ("T // 2", "'//' at column 3: write / for a quotient"),
        ("a # b", "'#' at column 3: it is not part of a formula; leave it out"),
        ("2T", "The number 2 at column 1: a product needs its sign"),
        ("n + 2 (T)", "The number 2 at column 5: a product needs its sign"),
        ("1.5e3n", "The number 1.5e3 at column 1: a product needs its sign"),
        ("(1/n)(T)", "The bracket at column 6: a product needs its sign; write * or @ before it"),
        ("T(n)", "'T' at column 1: this is a symbol, not a function"),
        ("a S", "The formula cannot be read at column 3: invalid syntax"),
        ("a +", "The formula cannot be read at column 4: invalid syntax"),
        ("(a", "The formula cannot be read at column 1: '(' was never closed"),
        ("  a)", "The formula cannot be read at column 4: unmatched ')'"),
        ("K * a", "'*' at column 3: it would multiply a matrix and a vector entry by entry; write @ for the product"),
        ("K * S", "'*' at column 3: it would multiply a matrix and a matrix entry by entry"),
        ("a * a", "dot(v, w) for the inner product"),
        ("S**2", "'**' at column 2: it would raise each entry of a matrix; write mpow(M, k)"),
        ("(a + a)**2", "'**' at column 8: it would raise each entry of a vector; write norm(v)**2"),
        ("2**K", "'**' at column 2: the exponent must be a number, and this is a matrix"),
        ("1 / K", "'/' at column 3: nothing can be divided by a matrix; write @ inv(...)"),
        ("1 / a", "'/' at column 3: nothing can be divided by a vector"),
        ("n.T", "'n.T' at column 1: a number has no transpose"),
        ("a @ a.T", "'@' at column 3: a column times a row is a matrix, but vectors here are neither; write outer"),
        ("mpow(n, 2)", "'n' at column 6: mpow takes a matrix here, and this is a number; write ** for a power"),
        ("norm(n)", "'n' at column 6: norm takes a vector or a matrix here, and this is a number"),
        ("inv(K, S)", "'inv' at column 1: it takes 1 argument, not 2"),
        ("mpow(K)", "'mpow' at column 1: it takes 2 arguments, not 1"),
        ("n + norm", "'norm' at column 5: this is a function; write norm(...)"),
        ("Q", "'Q' at column 1: F2.8 has no such symbol; it has X, a, t"),
        ("1 + ETA", "'ETA' at column 5: F2.8 has no such symbol (did you mean eta?)"),
        ("nrm(a)", "'nrm' at column 1: F2.8 has no such function (did you mean norm?); it has inv, pinv"),
        ("X.transpose()", "'X.transpose' at column 1: functions are called by their bare name"),
        ("np.linalg.inv(K)", "'np.linalg.inv' at column 1: functions are called by their bare name"),
        ("a.shape", "'.shape' at column 1: the only name that may follow a dot is T"),
        ("a.sum", "write sum(...)"),
        ("sum(a for k in range(T) if T)", "The sum at column 1: it runs over one range"),
        ("sum(a for k in X)", "The sum at column 1: it runs over one range"),
        ("sum(a for k in range(T) for j in range(T))", "The sum at column 1: it runs over one range"),
        ("sum(a for T in range(2))", "The sum at column 1: 'T' means something else already"),
        ("sum(a for k in range(a))", "'a' at column 22: range takes a number here, and this is a vector"),
        ("norm(a for k in range(T))", "'for' at column 5: a sum is written sum(... for k in range(T))"),
        ("a if T else t", "'a if T else t' at column 1: this is not part of a formula"),
        ("(a, t)", "this is not part of a formula"),
        ("a and t", "this is not part of a formula"),
        ("not a", "this is not part of a formula"),
        ("True * a", "'True' at column 1: this is not part of a formula"),
        ("None", "'None' at column 1: this is not part of a formula"),
        ("1e31", "The number at column 1: it is too large or too small"),
        ("10**9 + 9" + "9" * 40, "it is too large or too small"),
        ("1e-31", "it is too large or too small"),
        ("norm(*a)", "this is not part of a formula"),
        ("d3L = a", "F2.8 has no quantity named 'd3L'; write dL or d2L before the '=', or leave out the name"),
        ("dL = ", "There is no formula to check; write one for dL or d2L in the symbols of F2.8: X, a, t"),
        ("n" * 2001, "The formula has 2001 characters; write one with at most 2000"),
        ("-" * 1900 + "n", "The formula is nested too deeply"),
        ("(" * 250 + "n" + ")" * 250, "The formula cannot be read at column 201: too many nested"),
        ("+".join(["n"] * 700), "The formula is nested too deeply"),
        ("norm(" * 61 + "a" + ")" * 61, "takes a vector or a matrix here"),
    ],
)  # fmt: skip
def test_what_is_no_formula_is_refused_with_place_and_advice(text: str, message: str) -> None:
    with pytest.raises(InputError) as caught:
        parse(text, WORDS)
    assert message in str(caught.value)


def test_names_and_greek_letters() -> None:
    formula = parse(" dL  =  η * λ*a @ t ", WORDS)
    assert formula.quantity == "dL"
    assert to_text(formula.root) == "eta*lam*a @ t"
    assert symbols_in(formula.root) == {"eta", "lam", "a", "t"}


@pytest.mark.parametrize(
    ("written", "meant"),
    [("w_T", "w_T"), ("wT", "w_T"), ("w_t", "w_T"), ("best", "best"), ("Best", "Best"), ("BEST", None), ("wTT", None)],
)
def test_quantities_go_by_their_name_or_one_that_differs_in_underscores_and_case(written: str, meant: str) -> None:
    """An exact name wins; where two differ in case alone, nothing is guessed."""
    words = Vocabulary("F2.7", {"n": "number"}, ("w_T", "best", "Best"))
    if meant:
        assert parse(f"{written} = n", words).quantity == meant
    else:
        with pytest.raises(InputError, match=f"F2.7 has no quantity named '{written}'"):
            parse(f"{written} = n", words)


def test_columns_count_characters_and_operators_stand_where_they_are_written() -> None:
    root = parse("η*a - (S)  @ a", WORDS).root
    assert (root.operator, root.column) == ("-", 5)
    assert root.children[0].column == 2
    assert (root.children[1].operator, root.children[1].column) == ("@", 12)


def test_decimals_are_what_they_say() -> None:
    assert parse("0.1", WORDS).root.value == Fraction(1, 10)
    assert parse("2.5e-3", WORDS).root.value == Fraction(1, 400)


def test_sums_bind_their_variable_only_inside() -> None:
    root = parse("sum(mpow(S, k) @ a for k in range(1, T + 1, 2))", WORDS).root
    assert (root.operator, root.value, len(root.children)) == ("sum", "k", 4)
    assert kind_of(root, WORDS) == "vector"
    assert symbols_in(root) == {"S", "a", "T"}
    with pytest.raises(InputError, match="'k' at column 41"):
        parse("sum(mpow(S, k) @ a for k in range(T)) * k", WORDS)


@pytest.mark.parametrize(
    ("text", "kind"),
    [("a @ K @ a", "number"), ("K @ a", "vector"), ("a @ K", "vector"), ("outer(a, t) / n", "matrix"),
     ("I - S", "matrix"), ("solve(K, a)", "vector"), ("-sign(a)", "vector"), ("trace(K)", "number"), ("1 - S", None),
     ("2 @ K", None), ("(1 - S) @ a", None)],
)  # fmt: skip
def test_kinds(text: str, kind: str | None) -> None:
    assert kind_of(parse(text, WORDS).root, WORDS) == kind


EVERY_FORMULA = [
    *((fact, form) for (fact, _), forms in RIGHT.items() for form in forms),
    *((fact, slip) for fact, slips in WRONG.items() for slip in slips),
]


@pytest.mark.parametrize(("fact", "text"), EVERY_FORMULA)
def test_text_and_tree_say_the_same(fact: str, text: str) -> None:
    root = parse(text, TARGETS[fact].vocabulary()).root
    assert parse(to_text(root), TARGETS[fact].vocabulary()).root == root


def nodes() -> st.SearchStrategy[Node]:
    """Trees of numbers under the operations of numbers, which always make sense."""
    leaves = st.one_of(
        st.integers(0, 99).map(lambda number: Node("number", value=Fraction(number))),
        st.sampled_from(["n", "T", "eta"]).map(lambda name: Node("symbol", value=name)),
    )
    return st.recursive(
        leaves,
        lambda inner: st.one_of(
            st.tuples(st.sampled_from(["+", "-", "*", "/", "**"]), inner, inner).map(lambda t: Node(t[0], t[1:])),
            inner.map(lambda child: Node("negative", (child,))),
            inner.map(lambda child: Node("call", (child,), "sqrt")),
        ),
        max_leaves=12,
    )


@given(nodes())
def test_any_tree_survives_being_written_and_read(root: Node) -> None:
    """Brackets stand where they must: writing and reading is the identity, whatever binds to what."""
    assert parse(to_text(root), WORDS).root == root
    assert len(list(walk(root))) <= 500


@pytest.fixture
def executed(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """The names of dangerous events that Python's audit hooks report while a test runs."""
    events: list[str] = []
    watching = [True]

    def hook(event: str, arguments: tuple[object, ...]) -> None:
        if watching[0] and event in ("exec", "import", "open", "os.system", "subprocess.Popen", "marshal.loads"):
            events.append(event)

    sys.addaudithook(hook)  # hooks cannot be removed, so this one is put to sleep afterwards
    yield events
    watching[0] = False


@pytest.mark.parametrize(
    "text",
    [
        "__import__('os').system('true')",
        "__import__(os)",
        "exec(a)",
        "eval(a)",
        "open(a)",
        "().__class__.__bases__",
        "a.__class__",
        "sum.__self__",
        "norm.__globals__",
        "[canary() for k in range(2)]",
        "sum(canary() for k in range(2))",
        "canary()",
        "f'{canary()}'",
        "(lambda: canary())()",
        "(x := canary())",
        "sum(a for k in range(T) if canary())",
        "(yield canary())",
    ],
)
def test_nothing_is_executed(text: str, executed: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    sung: list[int] = []
    monkeypatch.setitem(__builtins__, "canary", lambda: sung.append(1))  # type: ignore[arg-type]
    with pytest.raises(InputError):
        parse(text, WORDS)
    assert not sung
    assert not executed


def test_the_audit_hook_would_notice(executed: list[str]) -> None:
    exec("1")
    assert "exec" in executed


@settings(deadline=None)
@given(st.one_of(st.text(max_size=60), st.text(alphabet="aSKn T1.2+-*/@(),=k_for range sum mpow", max_size=60)))
def test_any_text_parses_or_is_an_input_error(text: str) -> None:
    try:
        root = parse(text, WORDS).root
    except InputError:
        return
    assert parse(to_text(root), WORDS).root == root


def test_every_function_of_the_whitelist_can_be_called() -> None:
    examples = {"number": "n", "vector": "a", "matrix": "K"}
    for name, function in FUNCTIONS.items():
        text = f"{name}({', '.join(examples[kinds[0]] for kinds in function.takes)})"
        assert to_text(parse(text, WORDS).root) == text
