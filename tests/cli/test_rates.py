"""`thalweg rates`: its numbers are those of the Python face."""

from __future__ import annotations

import json
import signal

import numpy as np
import pytest

import thalweg as tw
from oracles import long_double_losses
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


def test_ones_own_learning_rates_stand_beside_the_rest(capsys):
    data = tw.load("diabetes")
    expected = json.loads(tw.rates(tw.LeastSquares(data.X, data.t), 12).on_grid(np.geomspace(0.01, 1, 6)).to_json())
    _, out, _ = call(capsys, "diabetes", "--steps", "12", "--rates", "0.01:1:6", "--json")
    assert json.loads(out)["grid"] == expected
    _, out, _ = call(capsys, "diabetes", "--steps", "12", "--rates", "0.01:1:6")
    assert "6 learning rates asked about" in out
    code, out, err = call(capsys, "no such data", "--rates", "1:0.1:6")
    assert (code, out) == (2, "")
    assert "must ascend" in err, "before the data are read"


def test_test_examples_give_their_loss_and_where_to_stop(capsys, tmp_path):
    data = tw.load("diabetes")
    np.savez(tmp_path / "train.npz", X=data.X[:300], t=data.t[:300])
    np.savez(tmp_path / "held_out.npz", X=data.X[300:], t=data.t[300:])
    trained = tw.rates(tw.LeastSquares(data.X[:300], data.t[:300]), 12)
    expected = json.loads(trained.generalisation(data.X[300:], data.t[300:]).to_json())
    files = str(tmp_path / "train.npz"), "--test", str(tmp_path / "held_out.npz")
    _, out, _ = call(capsys, *files, "--steps", "12", "--json")
    assert json.loads(out)["test"] == expected
    _, out, _ = call(capsys, *files, "--steps", "12")
    assert "Least test loss" in out
    code, _, err = call(capsys, "digits", "--test", str(tmp_path / "held_out.npz"))
    assert code == 2
    assert "10 features, but the training data have 64" in err


def test_the_json_has_what_programs_count_on(capsys):
    _, out, _ = call(capsys, "digits", "--steps", "30", "--json")
    answer = json.loads(out)
    assert (answer["n"], answer["d"], answer["steps"]) == (1797, 64, 30)
    every = [str(step) for step in range(1, 31)]
    assert list(answer["best_rate"]) == list(answer["best_loss"]) == every
    assert all(isinstance(value, float) for value in (*answer["best_rate"].values(), *answer["best_loss"].values()))
    assert len(answer["schedule"]) == 30
    for key in ("stability_rate", "schedule_loss", "constant_loss", "peak"):
        assert isinstance(answer[key], float)


@pytest.mark.parametrize("steps_done", [0, 3])
def test_ctrl_c_keeps_the_steps_that_are_done(capsys, monkeypatch, steps_done):
    from thalweg import quadrature

    steps = quadrature.Bidiagonalisation

    def interrupted(*arguments):
        for count, step in enumerate(steps(*arguments)):
            if count == steps_done:
                signal.raise_signal(signal.SIGINT)
            yield step

    data = tw.load("diabetes")
    limit = tw.LeastSquares(data.X, data.t).stability_rate
    monkeypatch.setattr(tw.LeastSquares, "stability_rate", limit)  # which is a run of its own
    monkeypatch.setattr(quadrature, "Bidiagonalisation", interrupted)
    code, out, err = call(capsys, "diabetes", "--steps", "9", "--json")
    assert code == 130
    if steps_done:
        assert err == "Interrupted after 3 of 9 steps; the answer is for these.\n"
        monkeypatch.undo()
        _, short, _ = call(capsys, "diabetes", "--steps", "3", "--json")
        assert json.loads(out)["best_loss"] == json.loads(short)["best_loss"]
    else:
        assert (out, err) == ("", "Interrupted before there was an answer; fewer --steps take less time.\n")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("diabetes", "--l2", "-1"), "l2 must be a finite number of at least 0, but it is -1.0"),
        (("diabetes", "--l2", "1e300"), "l2 must be at most 1e+140"),
        (("diabetes", "--steps", "0"), "steps must be at least 1, but it is 0"),
        (("diabetes", "--steps", "-5"), "steps must be at least 1, but it is -5"),
        (("1e300 1 = 2",), "1e+300"),
        (("1e-300 0 = 2",), "nothing larger than 1e-300"),
        (("1 2 = 1e300",), "1e+300"),
        (("1 2 = 1e-300",), "nothing larger than 1e-300, whose square is lost in float64; rescale t"),
        (("1 2 = 0",), "every rate is optimal"),
    ],
)
def test_bad_input_is_one_sentence(capsys, arguments, message):
    code, out, err = call(capsys, *arguments)
    assert (code, out) == (2, "")
    assert err.startswith("thalweg: ")
    assert message in err
    assert err.count("\n") == 1


def test_rank_deficient_data_are_no_special_case(capsys):
    code, out, _ = call(capsys, "1 2 2 = 3; 2 4 4 = 5; 0 1 1 = 2; 1 3 3 = 1", "--steps", "40", "--json")
    X = np.array([[1, 2, 2], [2, 4, 4], [0, 1, 1], [1, 3, 3]])
    answer = json.loads(out)
    truth = long_double_losses(X, [3, 5, 2, 1], [answer["best_rate"]["40"]], 40)[0, -1]
    assert code == 0
    assert answer["best_loss"]["40"] == pytest.approx(float(truth), rel=1e-12)


def test_a_peak_below_one_is_refused(capsys):
    code, _, err = call(capsys, "diabetes", "--schedule", "--peak", "0.5")
    assert code == 2
    assert "0.5" in err


def test_a_peak_without_a_schedule_is_refused(capsys):
    code, out, err = call(capsys, "diabetes", "--peak", "2")
    assert (code, out) == (2, "")
    assert "--schedule" in err
