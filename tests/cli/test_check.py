"""`thalweg check`: verdicts on standard output with exit 0, mistakes in one sentence with exit 2."""

from __future__ import annotations

import inspect
import json
import re

import pytest

from thalweg.cli import check as command
from thalweg.cli import main
from thalweg.textbook.check import check as check_function
from thalweg.textbook.checking.formula import FUNCTIONS
from thalweg.textbook.checking.targets import TARGETS


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as caught:
        main(["check", *arguments])
    code = caught.value.code
    captured = capsys.readouterr()
    return (code if isinstance(code, int) else 0), captured.out, captured.err


def test_a_right_formula_that_begins_with_a_minus_sign(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capsys, "F2.8", "-(4*T/n**2) * a.T @ mpow(I - S, 2*T-1) @ K @ a")
    assert code == 0
    assert out.startswith("F2.8: right for dL, the derivative in eta of the loss after T steps")


def test_a_wrong_formula_is_an_answer_too(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capsys, "F2.4", "w0 + h * X.T @ a")
    assert code == 0
    assert "F2.4: wrong for w1" in out
    assert "A sign is wrong" in out


def test_json_is_the_documented_object(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capsys, "F2.6", "-g @ g / (g @ H @ g)", "--json")
    answer = json.loads(out)
    assert (code, answer["id"], answer["correct"]) == (0, "F2.6", False)
    assert answer["counterexample"]["truth"] == "1/2"


def test_saves_a_page(capsys: pytest.CaptureFixture[str], tmp_path) -> None:
    code, _, err = run(capsys, "F2.4", "w0 - eta*g", "--save", str(tmp_path / "answer.html"))
    assert (code, "Saved to" in err) == (0, True)
    assert "F2.4: right for w1" in (tmp_path / "answer.html").read_text()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["F2.8", "a^2"], "thalweg: '^' at column 2: write ** for a power of a number"),
        (["F2.8", "-a^2"], "thalweg: '^' at column 3"),
        (["F2.1", "a"], "thalweg: There is no formula to check for 'F2.1'"),
        (["F2.8"], "write one for dL or d2L in the symbols of F2.8: X, t, w0"),
        (["F2.8", "Z"], "thalweg: 'Z' at column 1: F2.8 has no such symbol"),
        (["F2.4", "w0", "--save", "answer.txt"], "the suffix '.txt' is not one of"),
    ],
)
def test_mistakes_are_one_sentence_and_exit_2(
    capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    code, out, err = run(capsys, *arguments)
    assert (code, out) == (2, "")
    assert message in err
    assert err.count("\n") == 1


@pytest.mark.parametrize("formula", ["-a", "-T", "-eta"])
def test_a_minus_sign_before_a_bare_name_is_no_option(capsys: pytest.CaptureFixture[str], formula: str) -> None:
    code, out, _ = run(capsys, "F2.7", formula, "--json")
    assert (code, json.loads(out)["formula"]) == (0, formula)


def test_what_has_two_dashes_or_is_the_short_help_is_an_option(capsys: pytest.CaptureFixture[str]) -> None:
    code, _, err = run(capsys, "F2.4", "w0", "--colour")
    assert (code, "No such option" in err) == (2, True)
    code, out, _ = run(capsys, "-h")
    assert (code, "Usage: thalweg check" in out) == (0, True)


def test_there_is_one_formula(capsys: pytest.CaptureFixture[str]) -> None:
    code, _, err = run(capsys, "F2.4", "w0", "-a")
    assert (code, "unexpected extra argument" in err) == (2, True)


@pytest.mark.parametrize("text", [inspect.getdoc(command.check), inspect.getdoc(check_function)])
def test_the_help_names_every_symbol_function_and_two_examples(text: str) -> None:
    words = set(re.findall(r"[^\W\d]\w*", text))
    for target in TARGETS.values():
        assert set(target.vocabulary().kinds) <= words
        assert set(target.vocabulary().functions) <= words
    assert set(FUNCTIONS) <= words
    assert text is not inspect.getdoc(command.check) or text.count("thalweg check F") == 2
