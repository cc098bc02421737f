"""`thalweg facts`: the ledger for people, for programs and in files; unknown facts in one sentence."""

from __future__ import annotations

import json

import pytest

from thalweg.cli import main


def call(capsys, *arguments):
    """The command in this process: exit code, standard output, standard error."""
    with pytest.raises(SystemExit) as left:
        main(["facts", *arguments])
    captured = capsys.readouterr()
    return left.value.code or 0, captured.out, captured.err


def test_the_ledger_shows_every_fact_right_and_every_wrong_version_refuted(capsys):
    code, out, _ = call(capsys)
    lines = out.splitlines()
    assert code == 0
    assert sum(line.endswith("  right") for line in lines) == 20
    assert "WRONG" not in out
    assert "All 20 facts hold" in out
    assert "the wrong version gives 9, the truth is 1" in out


def test_one_fact_is_worked_step_by_step(capsys):
    code, out, _ = call(capsys, "f1.5w")
    assert code == 0
    assert "Step by step" in out
    assert "(0.00044999, 0.00045000)" in out
    assert "heads to [-3, 3]" in out


def test_json_for_programs(capsys):
    code, out, _ = call(capsys, "F2.8", "--json")
    fact = json.loads(out)["facts"][0]
    assert code == 0
    assert (fact["id"], fact["holds"]) == ("F2.8", True)
    assert fact["error"] < 1e-10
    assert "eta = 1/2" in fact["wrong"][0]["counterexample"]


def test_unknown_fact_is_one_sentence(capsys):
    code, out, err = call(capsys, "F1.5x")
    assert (code, out) == (2, "")
    assert err == "thalweg: There is no fact named 'F1.5x'; did you mean 'F1.5'?\n"


def test_page_with_the_fact_and_its_picture(capsys, tmp_path):
    code, _, err = call(capsys, "F1.5", "--save", str(tmp_path / "fact.html"))
    page = (tmp_path / "fact.html").read_text()
    assert code == 0
    assert "Saved to" in err
    assert "AdaGrad leaves it" in page


def test_a_fact_that_does_not_hold_is_said_loudly(capsys, monkeypatch):
    from thalweg.textbook import convolution

    monkeypatch.setattr(convolution, "receptive_field", lambda windows: (31, 8))
    code, out, _ = call(capsys, "F3.3")
    assert code == 0
    assert "DO NOT HOLD: F3.3" in out
