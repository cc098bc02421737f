"""`limits`: the whole answer, its defaults, its tables and its keys."""

from __future__ import annotations

import csv
import dataclasses
import io
import json
import time

import numpy as np
import optax
import pytest

import thalweg as tw
from thalweg.data import load, load_test
from thalweg.errors import InputError
from thalweg.implicit_bias.outcome import Verdict
from thalweg.implicit_bias.rules import AdaGrad, OptaxAdaGrad
from thalweg.implicit_bias.trajectories import Optimizer, names
from thalweg.implicit_bias.verdict import Limits, outcomes
from thalweg.textbook import implicit_bias as textbook

ONE_EXAMPLE = tw.LeastSquares([[1.0, 2.0]], [3.0])


def by_name(answer):
    return {outcome.name: outcome for outcome in answer.outcomes}


def test_the_textbook_case_lands_where_the_facts_say():
    """F1.3, F1.4, F1.5: (0.6, 1.2) for the gradient family, (1, 1) for AdaGrad up to its epsilon of 1e-10."""
    answer = by_name(tw.limits(ONE_EXAMPLE))
    assert list(answer) == ["gd", "sgd", "momentum", "adagrad"]
    for name in ("gd", "sgd", "momentum"):
        np.testing.assert_allclose(answer[name].w, [0.6, 1.2], rtol=0, atol=1e-14)
        assert answer[name].verdict == "minimum-norm solution"
    np.testing.assert_allclose(answer["adagrad"].w, [1, 1], rtol=0, atol=1e-10)
    assert answer["adagrad"].verdict == "left the row space"


def test_every_other_method_on_the_textbook_case():
    """RMSProp, Adam and the sign method, at falling rates, end at (1, 1) too; Optax's AdaGrad is told apart (C3)."""
    answer = by_name(tw.limits(ONE_EXAMPLE, names()))
    for name in ("rmsprop", "adam", "sign"):
        np.testing.assert_allclose(answer[name].w, [1, 1], rtol=0, atol=1e-8)
    for name in ("minibatch", "minibatch-replacement", "nesterov", "normalised"):
        np.testing.assert_allclose(answer[name].w, [0.6, 1.2], rtol=0, atol=1e-12)
    assert np.max(np.abs(answer["optax-adagrad"].w - 1)) > 1e-5
    assert answer["optax-adagrad"].closed_form is None


def test_epsilon_moves_adagrads_limit_as_the_fact_says():
    """F1.5: 5e-6 off at epsilon = 1e-4 and rate 0.5, by the textbook's own run."""
    own = Optimizer("adagrad", AdaGrad(epsilon=1e-4), rate=0.5)
    (outcome,) = tw.limits(ONE_EXAMPLE, [own]).outcomes
    X, t = ONE_EXAMPLE.X, ONE_EXAMPLE.t
    path = textbook.adagrad(X, t, np.zeros(2), 0.5, textbook.every_row(X, 500), eps=1e-4)
    np.testing.assert_allclose(outcome.w, path[-1], rtol=0, atol=1e-12)
    assert outcome.distance_to_closed_form == pytest.approx(5e-6, rel=0.2)


def test_optaxs_defaults_give_optaxs_limit():
    """C3: Optax's AdaGrad at rate 0.1 lands at (0.99981, 1.00010)."""
    (outcome,) = tw.limits(ONE_EXAMPLE, [Optimizer("optax", OptaxAdaGrad(), rate=0.1)]).outcomes
    np.testing.assert_allclose(outcome.w, (0.99981, 1.00010), rtol=0, atol=5e-6)


def test_a_literal_answer_takes_a_moment():
    start = time.process_time()
    tw.limits(ONE_EXAMPLE)
    assert time.process_time() - start < 1


def test_the_start_decides_which_solution_is_nearest():
    answer = tw.limits(ONE_EXAMPLE, ["gd"], start=[1.0, 0.0])
    np.testing.assert_allclose(answer.nearest, [1.4, 0.8], rtol=0, atol=1e-14)
    np.testing.assert_allclose(answer.outcomes[0].w, [1.4, 0.8], rtol=0, atol=1e-14)
    assert answer.outcomes[0].distance_to_minimum_norm == pytest.approx(np.hypot(0.8, 0.4))
    assert "nearest to the start" in answer.table().notes[0]


def test_more_examples_than_features_gets_a_straight_answer():
    X, w = np.array([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]]), np.array([2.0, -1.0])
    fitting = tw.limits(tw.LeastSquares(X, X @ w))
    assert {outcome.verdict.value for outcome in fitting.outcomes} == {"unique solution"}
    assert "the only minimiser" in fitting.table().notes[0]
    answer = by_name(tw.limits(tw.LeastSquares(X, [1.0, 2.0, 9.0])))
    assert answer["adagrad"].verdict == "least squares without interpolation"
    assert answer["sgd"].verdict == "not converged"
    assert answer["gd"].row_space_ratio is None


def test_wilsons_table():
    """Wilson et al. (2017), section 3.3: test error 0 for the gradient family, the share of negatives for the others.

    A new example has features 1, 2, 3 of the training examples and none of their own.
    """
    data = tw.load("wilson:n=40,p=0.75")
    answer = tw.limits(tw.LeastSquares(data.X, data.t), ["gd", "sgd", "momentum", "adagrad", "rmsprop", "adam"])
    unseen = {label: np.concatenate([[label, 1.0, 1.0], np.zeros(data.d - 3)]) for label in (1.0, -1.0)}
    for outcome in answer.outcomes:
        wrong = [label for label, x in unseen.items() if np.sign(x @ outcome.w) != label]
        adaptive = outcome.name in ("adagrad", "rmsprop", "adam")
        assert wrong == ([-1.0] if adaptive else []), outcome.name
        if adaptive:
            assert outcome.closed_form.name == "equal steps per coordinate"
            assert outcome.distance_to_closed_form < 1e-5


def test_seeds_repeat_what_is_random_and_nothing_else():
    problem = tw.LeastSquares([[1.0, 2.0, 0.0], [0.0, 1.0, 1.0]], [3.0, 1.0])
    answer = tw.limits(problem, ["gd", "sgd", "adam"], 3, 50, batch=1, seed=7)
    runs = [(outcome.name, outcome.trajectory.seed) for outcome in answer.outcomes]
    assert runs == [("gd", None), ("sgd", 7), ("sgd", 8), ("sgd", 9), ("adam", 7), ("adam", 8), ("adam", 9)]
    assert [row[0] for row in answer.tables()[0].rows][1] == "sgd, seed 7"
    again = tw.limits(problem, ["sgd"], 1, 50, seed=8)
    assert np.array_equal(again.outcomes[0].w, answer.outcomes[2].w)


def test_many_seeds_share_a_row_for_each_verdict_and_the_file_has_every_run(tmp_path):
    problem = tw.LeastSquares([[3.0, 0.0, 1.0], [0.0, 1.0, 0.5]], [3.0, 1.0])
    answer = tw.limits(problem, ["gd", "sgd", "adam"], 5, 300, batch=1)
    verdicts, ways, settings = answer.tables()
    assert [row[0] for row in verdicts.rows] == ["gd", "sgd, 5 seeds", "adam, 5 seeds"]
    adams = [outcome for outcome in answer.outcomes if outcome.name == "adam"]
    assert verdicts.rows[2][4] == np.median([outcome.row_space_ratio for outcome in adams])
    assert ways.rows[2][2] == np.median([outcome.distance_to_nearest for outcome in adams])
    assert settings.rows[2][1] == np.median([outcome.trajectory.steps for outcome in adams])
    assert any("medians" in note for note in verdicts.notes)
    assert len(answer.table().rows) == len(answer.to_dict()["optimizers"]) == 11
    odd = dataclasses.replace(answer.outcomes[5], verdict=Verdict.NOT_CONVERGED)
    split = dataclasses.replace(answer, outcomes=(*answer.outcomes[1:5], odd))
    assert [row[:2] for row in split.tables()[0].rows] == [
        ["sgd, 4 seeds", "minimum-norm solution"],
        ["sgd, seed 4", "not converged"],
    ]


def test_a_diverged_run_without_a_limit_of_its_own_is_told_that_of_gradient_descent():
    answer = tw.limits(ONE_EXAMPLE, [("mine", optax.sgd(3.0))])
    assert answer.outcomes[0].verdict == "diverged"
    note = answer.table().notes[-1]
    assert note.startswith("mine: diverged within ")
    assert note.endswith(" steps; plain gradient descent is stable below 0.2.")


def test_progress_runs_from_0_to_1():
    told = []
    tw.limits(ONE_EXAMPLE, ["gd", "sign"], steps=100, progress=told.append)
    assert told[0] == 0
    assert told == sorted(told)
    assert told[-1] == 1


def test_outcomes_come_one_by_one():
    """An interrupted caller keeps the runs that had ended."""
    found = outcomes(ONE_EXAMPLE, ["gd", "adagrad"])
    assert next(found).name == "gd"
    found.close()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"optimizers": ["adma"]}, "There is no optimizer named 'adma'; did you mean 'adam'?"),
        ({"optimizers": []}, "There is no optimizer to run; name at least one."),
        ({"steps": 0}, "steps must be at least 1, but it is 0."),
        ({"steps": 1.5}, "steps must be a whole number, but it is 1.5."),
        ({"seeds": 0}, "seeds must be at least 1, but it is 0."),
        ({"seed": -1}, "seed must be at least 0, but it is -1."),
        ({"batch": 2}, "A batch must hold 1 to 1 examples, but momentum has 2."),
        ({"rate": -0.1}, "A learning rate must be a finite number above 0, but gd has -0.1."),
        ({"start": [1.0]}, "w0 must have 2 values, one per column of X, but has 1."),
        ({"start": [1.0, np.nan]}, "w0[1] is nan (counting from 0); replace what is not finite or leave its row out."),
    ],
)
def test_bad_input_is_refused_before_anything_runs(options, message):
    with pytest.raises(InputError) as caught:
        tw.limits(ONE_EXAMPLE, **options)
    assert str(caught.value) == message


def test_json_has_the_documented_keys():
    answer = json.loads(tw.limits(ONE_EXAMPLE, ["gd", "adagrad", "optax-adagrad", "preconditioned"]).to_json())
    assert set(answer) == {"n", "d", "rank", "start", "minimum_norm", "nearest", "test", "optimizers"}
    assert answer["minimum_norm"] == pytest.approx([0.6, 1.2])
    gd, adagrad, optax, preconditioned = answer["optimizers"]
    keys = {"name", "verdict", "loss", "steps", "norm_ratio", "row_space_ratio", "distance_to_minimum_norm"}
    keys |= {"distance_to_nearest", "limit", "closed_form", "stability_limit", "test_error", "settings"}
    assert set(gd) == set(adagrad) == keys
    assert gd["limit"] == pytest.approx([0.6, 1.2])
    assert adagrad["norm_ratio"] == pytest.approx(np.sqrt(2) / np.hypot(0.6, 1.2))
    assert adagrad["closed_form"]["name"] == "equal steps per coordinate"
    assert set(adagrad["closed_form"]) == {"name", "distance", "residual"}
    assert adagrad["closed_form"]["residual"] < 1e-15
    assert adagrad["settings"]["epsilon"] == 1e-10
    assert optax["settings"]["accumulator"] == 0.1
    assert optax["closed_form"] is None
    assert preconditioned["settings"]["P"] == [1, 0.25]


def test_weights_of_large_problems_stay_out_of_the_json():
    problem = tw.LeastSquares(np.ones((1, 1001)), [1.0])
    answer = tw.limits(problem, ["preconditioned"]).to_dict()
    assert answer["minimum_norm"] is answer["start"] is answer["optimizers"][0]["limit"] is None
    assert answer["optimizers"][0]["settings"]["P"] is None


def test_tables_show_what_the_outcomes_hold(tmp_path):
    answer = tw.limits(ONE_EXAMPLE, ["gd", "adagrad", "sgd"], rate=0.25)
    verdicts, ways, settings = answer.tables()
    assert verdicts.title == "Where each optimizer ends up: 1 example x 2 features, rank 1"
    assert verdicts.rows[0][:2] == ["gd", "diverged"]
    assert verdicts.rows[1][:3] == ["adagrad", "left the row space", "(1, 1)"]
    assert verdicts.notes[0] == "w* = (0.6, 1.2) is the solution of least norm."
    assert "gd: its rate 0.25 is above the stability limit 0.2: it diverges in the long run." in verdicts.notes
    assert "sgd: its rate 0.25 is above the stability limit 0.2: its steps can move away." in verdicts.notes
    assert ways.rows[1][3] == "equal steps per coordinate"
    assert settings.rows[1][4] == "epsilon 1e-10; accumulator 0"
    rows = list(csv.DictReader(io.StringIO(answer.save(tmp_path / "limits.csv").read_text())))
    assert [row["optimizer"] for row in rows] == ["gd", "adagrad", "sgd"]
    assert float(rows[1]["distance from w*"]) == answer.outcomes[1].distance_to_nearest


@pytest.mark.parametrize(
    ("problem", "options", "note"),
    [
        (ONE_EXAMPLE, {"steps": 2, "optimizers": ["sign"]}, "sign: not converged after 2 steps; allow more."),
        (
            tw.LeastSquares([[1.0, 2.0], [1.0, 2.0]], [3.0, 4.0]),
            {"optimizers": ["sgd"], "steps": 50},
            "sgd: no weights fit every example, so small batches at a constant rate keep moving.",
        ),
        (
            ONE_EXAMPLE,
            {"optimizers": ["gd"], "rate": 1e-6, "precision": "float32", "start": [900.0, 900.0], "steps": 50},
            "gd: not converged after 50 steps; allow more.",
        ),
        (
            ONE_EXAMPLE,
            {"optimizers": ["gd"], "rate": 1e-9, "precision": "float32", "start": [900.0, 900.0]},
            "gd: stands still after 10 steps: its steps have fallen below the rounding of float32; raise its rate.",
        ),
        (
            tw.LeastSquares([[1.0, -1.0]], [3.0]),
            {"optimizers": ["adagrad"]},
            "adagrad: scales every coordinate, but stays in the row space here (exception of fact F1.6).",
        ),
        (
            tw.LeastSquares([[1.0, 2.0]], [0.0]),
            {},
            "The start is one already, so every optimizer stays there, at every rate.",
        ),
    ],
)
def test_notes_say_what_the_numbers_do_not(problem, options, note):
    assert note in tw.limits(problem, **options).table().notes


def test_an_answer_is_shown_saved_and_drawn(tmp_path):
    wide = tw.LeastSquares([[1.0, 2.0, 0.0, 1.0]], [3.0])
    for name, problem in (("plane", ONE_EXAMPLE), ("numbers", wide)):
        answer = tw.limits(problem)
        assert isinstance(answer, Limits)
        assert len(answer.figures()) == 2
        page = answer.save(tmp_path / f"{name}.html").read_text()
        assert "Where each optimizer ends up" in page
        assert "minimum-norm solution" in page


def test_wilsons_table_is_exact():
    """Wilson et al. (2017): adaptive methods err on every negative example, the minimum-norm solution on none."""
    for n, p, negatives in ((40, 0.75, 0.25), (20, 0.6, 0.4)):
        data, new = load(f"wilson:n={n},p={p}"), load_test(f"wilson:n={n},p={p}")
        family = ["gd", "sgd", "momentum", "nesterov"]
        adaptive = ["adagrad", "rmsprop", "adam", "adamw", "sign", "lion"]
        problem = tw.LeastSquares(data.X, data.t)
        answer = tw.limits(problem, family + adaptive, steps=4000, test=(new.X, new.t))
        errors = {outcome.name: answer.test_error(outcome.w) for outcome in answer.outcomes}
        assert errors == {**dict.fromkeys(family, 0.0), **dict.fromkeys(adaptive, negatives)}
        assert answer.to_dict()["test"] == {"n": n, "measure": "share of wrong signs", "error_of_nearest": 0.0}
        assert [entry["test_error"] for entry in answer.to_dict()["optimizers"]] == list(errors.values())
        assert "test error" in answer.table().columns


def test_real_digits_are_learnt_by_whichever_solution(tmp_path):
    """Random features: every limit fits the 100 training digits exactly; their test errors differ, and are real."""
    data, new = load("digits_features:n=100,d=400"), load_test("digits_features:n=100,d=400")
    answer = tw.limits(tw.LeastSquares(data.X, data.t), ["gd", "adam"], test=(new.X, new.t))
    assert [outcome.verdict for outcome in answer.outcomes] == ["minimum-norm solution", "left the row space"]
    gd = answer.outcomes[0]
    wrong = np.mean((new.X @ gd.w > 0) != (new.t > 0))
    assert answer.test_error(gd.w) == wrong
    assert 0.05 < wrong < 0.25
    answer.save(tmp_path / "digits.html")


def test_other_targets_are_judged_by_the_mean_square():
    answer = tw.limits(ONE_EXAMPLE, ["gd"], test=([[1.0, 1.0]], [2.0]))
    assert answer.error_measure == "mean squared error"
    assert answer.test_error(answer.outcomes[0].w) == pytest.approx(0.04)
    with pytest.raises(InputError, match="The test examples must have 2 features, as X has, but they have 3"):
        tw.limits(ONE_EXAMPLE, ["gd"], test=([[1.0, 1.0, 1.0]], [2.0]))


def test_optax_objects_many_seeds_and_float32_give_the_same_kind_of_answer():
    generator = np.random.default_rng(0)
    problem = tw.LeastSquares(generator.standard_normal((4, 9)), generator.standard_normal(4))
    literal = tw.limits(problem, ["sgd", "adam"], seeds=2, steps=500)
    with_optax = tw.limits(problem, ["sgd", "adam", ("mine", optax.adam(1e-2))], seeds=2, steps=500)
    assert [outcome.name for outcome in with_optax.outcomes] == ["sgd", "sgd", "adam", "mine"]
    for one, other in zip(literal.outcomes, with_optax.outcomes, strict=False):
        np.testing.assert_allclose(one.w, other.w, atol=1e-12)
        assert one.verdict == other.verdict
    mine = tw.limits(problem, {"mine": optax.sgd(0.05), "ours": Optimizer("x", AdaGrad())}, start=np.ones(9)).outcomes
    assert [outcome.name for outcome in mine] == ["mine", "ours"]
    assert mine[0].verdict == "nearest solution to the start"
    assert mine[0].closed_form.name == "nearest solution to the start"
    assert mine[0].settings()["rate"] is None
    assert mine[1].closed_form is None
    single = tw.limits(problem, ["gd", "adam"], precision="float32")
    assert [outcome.verdict for outcome in single.outcomes] == ["minimum-norm solution", "left the row space"]
    assert single.outcomes[0].settings()["precision"] == "float32"


def test_what_is_no_optimizer_is_refused():
    with pytest.raises(InputError, match=r"a pair of a name and an Optax transformation.* but one is int"):
        tw.limits(ONE_EXAMPLE, [("mine", 3)])
    with pytest.raises(InputError, match="precision must be 'float64' or 'float32', but it is 'half'"):
        tw.limits(ONE_EXAMPLE, precision="half")
    with pytest.raises(InputError, match=r"The momentum must be at least 0 and below 1, but it is 1.0"):
        tw.limits(ONE_EXAMPLE, ["momentum"], momentum=1.0)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda p: tw.limits(p, ["minibatch"], batch=0), "batch must be at least 1, but it is 0"),
        (lambda p: tw.limits(p, ["minibatch"], batch=1.5), "batch must be a whole number, but it is 1.5"),
        (lambda p: tw.limits(p, steps=float("inf")), "steps must be a whole number, but it is inf"),
        (lambda p: tw.limits(p, rate="x"), "must be a finite number above 0, but gd has 'x'"),
        (lambda p: tw.limits(p, ["nesterov"], momentum="x"), "at least 0 and below 1, but it is 'x'"),
        (lambda p: tw.limits(p, seed=-1), "seed must be at least 0, but it is -1"),
        (lambda p: tw.limits(tw.load("1 2 = 3")), r"got a Dataset; pass tw.LeastSquares\(data.X, data.t\)"),
    ],
)
def test_numbers_and_problems_of_the_wrong_kind_are_refused(call, message):
    with pytest.raises(tw.InputError, match=message):
        call(tw.LeastSquares([[1.0, 2.0]], [3.0]))


def test_one_name_is_one_optimizer():
    assert [end.name for end in tw.limits(tw.LeastSquares([[1.0, 2.0]], [3.0]), "gd").outcomes] == ["gd"]


def test_a_diverged_run_has_an_infinite_loss_not_nan():
    (end,) = tw.limits(tw.LeastSquares([[1.0, 2.0]], [3.0]), ["gd"], rate=100.0).outcomes
    assert end.trajectory.loss == np.inf
