"""`thalweg rates`: its numbers are those of the Python face."""

from __future__ import annotations

import json

import pytest

import thalweg as tw
from thalweg.cli import main


def call(capsys, *arguments):
    with pytest.raises(SystemExit) as left:
        main(["rates", *arguments])
    captured = capsys.readouterr()
    return left.value.code or 0, captured.out, captured.err


def test_the_json_is_the_python_answer(capsys):
    data = tw.load("diabetes")
    curve = tw.rates(tw.LeastSquares(data.X, data.t, 0.1), 7)
    code, out, _ = call(capsys, "diabetes", "--steps", "7", "--l2", "0.1", "--json")
    answer = json.loads(out)
    assert code == 0
    assert answer["stability_rate"] == curve.stability_rate
    assert answer["best_loss"]["7"] == curve.best_loss(7)
    assert answer["schedule"] == curve.best_schedule().tolist()
    assert answer["schedule_loss"] <= answer["constant_loss"] == pytest.approx(curve.best_loss(7), rel=1e-12)
    assert answer["peak"] <= 1


def test_the_schedule_is_printed_when_asked_for(capsys):
    _, plain, _ = call(capsys, "diabetes", "--steps", "5")
    _, with_schedule, _ = call(capsys, "diabetes", "--steps", "5", "--schedule")
    assert with_schedule.startswith(plain.rstrip())
    assert "LSQR" in with_schedule
    assert "LSQR" not in plain


def test_momentum_stands_beside_the_rest(capsys):
    data = tw.load("diabetes")
    best = tw.rates(tw.LeastSquares(data.X, data.t), 5).momentum("nesterov").to_dict()
    _, out, _ = call(capsys, "diabetes", "--steps", "5", "--momentum", "nesterov", "--json")
    answer = json.loads(out)["momentum"]
    assert answer["kind"] == "nesterov"
    assert answer["best_momentum"]["5"] == best["best_momentum"][5]
    code, _, err = call(capsys, "diabetes", "--momentum", "nestrov")
    assert code == 2
    assert "did you mean 'nesterov'?" in err


def test_stochastic_gradient_descent_stands_beside_the_rest(capsys):
    data = tw.load("diabetes")
    expected = json.loads(tw.rates(tw.LeastSquares(data.X, data.t), 5).sgd(8).to_json())
    _, out, _ = call(capsys, "diabetes", "--steps", "5", "--batch", "8", "--json")
    assert json.loads(out)["sgd"] == expected
    code, _, err = call(capsys, "diabetes", "--batch", "0")
    assert code == 2
    assert err.count("\n") == 1


def test_the_target_can_be_chosen(capsys, tmp_path):
    (tmp_path / "table.csv").write_text("goal,a,b\n1,2,3\n2,0,1\n3,1,1\n")
    data = tw.load(tmp_path / "table.csv", target="goal")
    code, out, _ = call(capsys, str(tmp_path / "table.csv"), "--target", "goal", "--json", "--steps", "2")
    assert code == 0
    assert json.loads(out)["best_rate"]["1"] == tw.rates(tw.LeastSquares(data.X, data.t), 2).best_rate(1)


def test_a_peak_below_one_is_refused(capsys):
    code, _, err = call(capsys, "diabetes", "--schedule", "--peak", "0.5")
    assert code == 2
    assert "0.5" in err
