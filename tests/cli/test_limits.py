"""`thalweg limits` as a person types it."""

from __future__ import annotations

import json
import re
import signal
from contextlib import contextmanager

import pytest

from thalweg.cli import main
from thalweg.implicit_bias.trajectories import names


def call(capsys, *arguments):
    """The command in this process: exit code, standard output, standard error."""
    with pytest.raises(SystemExit) as left:
        main(["limits", *arguments])
    captured = capsys.readouterr()
    return left.value.code or 0, captured.out, captured.err


def test_plain_text_in_a_pipe(capsys):
    code, out, err = call(capsys, "1 2 = 3")
    assert (code, err) == (0, "")
    lines = out.splitlines()
    assert lines[0] == "Where each optimizer ends up: 1 example x 2 features, rank 1"
    assert [line.split()[0] for line in lines[2:6]] == ["gd", "sgd", "momentum", "adagrad"]
    assert "(0.6, 1.2)" in lines[2]
    assert "minimum-norm solution" in lines[2]
    assert "(1, 1)" in lines[5]
    assert "left the row space" in lines[5]
    assert "\x1b" not in out


def test_tables_fit_a_terminal_of_eighty_columns(capsys):
    _, out, _ = call(capsys, "1 2 = 3")
    table = out.split("\n\n")[0].splitlines()
    assert max(len(line) for line in table[1:6]) <= 80


def test_json(capsys):
    code, out, _ = call(capsys, "1 2 = 3", "--optimizers", "gd, adagrad", "--start", "1 0", "--json")
    answer = json.loads(out)
    assert code == 0
    assert [entry["name"] for entry in answer["optimizers"]] == ["gd", "adagrad"]
    assert answer["optimizers"][0]["limit"] == pytest.approx([1.4, 0.8])


def test_every_option_reaches_the_run(capsys):
    data = "1 2 0 = 3; 0 1 1 = 1; 1 0 1 = 2"
    options = [
        "--optimizers",
        "sgd,adam",
        "--steps",
        "9",
        "--rate",
        "0.01",
        "--batch",
        "2",
        "--seeds",
        "2",
        "--seed",
        "5",
    ]
    _, out, _ = call(capsys, data, *options, "--start", "-1, 0.5 1e-1", "--json")
    answer = json.loads(out)
    entries = answer["optimizers"]
    assert [(entry["name"], entry["settings"]["seed"], entry["settings"]["batch"]) for entry in entries] == [
        ("sgd", 5, 1),
        ("sgd", 6, 1),
        ("adam", 5, 2),
        ("adam", 6, 2),
    ]
    assert all((entry["steps"], entry["settings"]["rate"]) == (9, 0.01) for entry in entries)
    assert answer["start"] == [-1, 0.5, 0.1]


def test_a_file_and_its_target_column(capsys, tmp_path):
    (tmp_path / "points.csv").write_text("weight,x,y\n3,1,2\n")
    _, out, _ = call(capsys, str(tmp_path / "points.csv"), "--target", "weight", "--json")
    assert json.loads(out)["minimum_norm"] == pytest.approx([0.6, 1.2])


def test_the_page_is_saved(capsys, tmp_path):
    code, _, err = call(capsys, "1 2 = 3", "--save", str(tmp_path / "limits.html"))
    assert code == 0
    assert err == f"Saved to {tmp_path / 'limits.html'}\n"
    assert "Which solution does each optimizer pick?" in (tmp_path / "limits.html").read_text()


def test_help_lists_every_optimizer(capsys):
    code, out, _ = call(capsys, "--help")
    assert code == 0
    listed = set(re.findall(r"[a-z]+(?:-[a-z]+)*", out.replace("│", " ")))
    assert set(names()) <= listed


def test_a_diverging_rate_is_an_answer_not_an_error(capsys):
    code, out, err = call(capsys, "1 2 = 3", "--optimizers", "gd", "--rate", "1")
    assert (code, err) == (0, "")
    assert "diverged" in out
    assert "above the stability limit 0.2" in out


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["1 2 = 3", "--optimizers", "gd,adagard"], "There is no optimizer named 'adagard'; did you mean 'adagrad'?"),
        (["1 2 = 3", "--start", "1 x"], "--start: 'x' is not a number."),
        (["1 2 = 3", "--start", "1 2 3"], "w0 must have 2 values, one per column of X, but has 3."),
        (["1 2 = 3", "--rate", "nan"], "--rate: 'nan' is not a finite number."),
        (["1 2 = 3", "--rate", "-1"], "A learning rate must be a finite number above 0, but gd has -1.0."),
        (["1 2 = 3", "--rate", "c"], "--rate: 'c' is not a number."),
        (["1 2 = 3", "--steps", "0"], "steps must be at least 1, but it is 0."),
        (["1 2 = 3", "--batch", "2"], "A batch must hold 1 to 1 examples, but momentum has 2."),
        (["1 2 = 3", "--target", "0"], "'1 2 = 3' has its own target; a target can be chosen only for a"),
        (["1 2 = 3", "--save", "limits.pdf"], "Cannot save to 'limits.pdf'"),
        (["1 nan = 3"], "Row 1: 'nan' is not a finite number."),
        (["0 0 = 3"], "X holds only zeros"),
        (["digts"], "There is no data set named 'digts'; did you mean 'digits'?"),
    ],
)
def test_mistakes_get_one_sentence_and_exit_code_two(capsys, arguments, sentence):
    code, out, err = call(capsys, *arguments)
    assert (code, out) == (2, "")
    assert err.startswith(f"thalweg: {sentence}")
    assert err.count("\n") == 1


@contextmanager
def interrupted_bar(what, total):
    """A progress bar at which somebody presses Ctrl-C while the second of three runs is under way."""

    def advance(done):
        if done > total / 3:
            signal.raise_signal(signal.SIGINT)

    yield advance


def test_ctrl_c_keeps_the_runs_that_had_ended_and_says_how_to_go_on(capsys, monkeypatch, tmp_path):
    monkeypatch.setattr("thalweg.cli.limits.progress_bar", interrupted_bar)
    saved = tmp_path / "limits.json"
    code, out, err = call(capsys, "1 2 = 3", "--optimizers", "gd,sign,adam", "--save", str(saved))
    assert code == 130
    assert "minimum-norm solution" in out
    assert "sign" not in out
    assert err.endswith("Interrupted after 1 run; for the rest: --optimizers sign,adam\n")
    assert [entry["name"] for entry in json.loads(saved.read_text())["optimizers"]] == ["gd"]


def test_ctrl_c_before_any_run_has_ended(capsys, monkeypatch):
    monkeypatch.setattr("thalweg.cli.limits.progress_bar", interrupted_bar)
    code, out, err = call(capsys, "1 2 = 3", "--optimizers", "sign", "--steps", "1000")
    assert (code, out) == (130, "")
    assert err == "Interrupted before any run had ended; for the rest: --optimizers sign\n"


def test_an_expansion_instead_of_a_run(capsys):
    code, out, _ = call(capsys, "1 2 = 3; 0 1 = 2", "--expand", "i,j", "--momentum", "delta", "--json")
    assert code == 0
    assert json.loads(out)["weights"][1]["latex"].startswith(r"w_{2} = ((1 + \delta) I - X_{j}^\top X_{j})")


def test_the_rate_of_an_expansion_may_be_a_name(capsys):
    _, out, _ = call(capsys, "1 2 = 3; 0 1 = 2", "--expand", "i,j", "--rate", "c", "--json")
    answer = json.loads(out)
    assert answer["scale"] == "c"
    assert answer["weights"][1]["latex"] == r"w_{2} = c (I - c X_{j}^\top X_{j}) X_{i}^\top t_{i} + c X_{j}^\top t_{j}"


def test_a_trace_instead_of_a_run(capsys):
    options = ("--optimizers", "adagrad,momentum", "--rate", "0.5", "--trace", "3", "--momentum", "0.5", "--json")
    _, out, _ = call(capsys, "1 2 = 3", *options)
    adagrad, momentum = json.loads(out)["optimizers"]
    assert adagrad["steps"][0]["state"]["G"] == [36, 144]
    assert momentum["settings"]["momentum"] == 0.5
    assert [one["step"] for one in momentum["steps"]] == [1, 2, 3]


def test_named_sets_bring_their_test_and_others_are_given_one(capsys):
    _, out, _ = call(capsys, "wilson:n=8,p=0.75", "--optimizers", "gd,adam", "--json")
    assert [entry["test_error"] for entry in json.loads(out)["optimizers"]] == [0, 0.25]
    _, out, _ = call(capsys, "1 2 = 3", "--test", "1 1 = 2; 0 1 = 1", "--optimizers", "adagrad", "--json")
    assert json.loads(out)["optimizers"][0]["test_error"] == pytest.approx(0, abs=1e-15)


def test_single_precision_and_its_settings(capsys):
    _, out, _ = call(capsys, "1 2 = 3", "--float32", "--optimizers", "gd", "--json")
    (gd,) = json.loads(out)["optimizers"]
    assert gd["settings"]["precision"] == "float32"
    assert gd["verdict"] == "minimum-norm solution"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--momentum", "0.5 1"], "--momentum must be one number, but it is '0.5 1'."),
        (["--momentum", "delta"], "--momentum: 'delta' is not a number."),
        (["--expand", "i;j"], "A batch must be named by letters and digits"),
        (
            ["--expand", "i", "--start", "1 0", "--float32"],
            "--expand has no use for --start and --float32; leave them out.",
        ),
        (["--trace", "2", "--to-loss", "1"], "--trace has no use for --to-loss; leave it out."),
        (["--to-loss", "1", "--rate", "0.1"], "--to-loss has no use for --rate; leave it out."),
        (["--trace", "0"], "The number of steps to trace must be an integer of at least 1, but it is 0."),
        (["--test", "1 2 3 = 4"], "The test examples must have 2 features, as X has, but they have 3."),
    ],
)
def test_options_that_cannot_be_used_are_refused_in_a_sentence(capsys, options, message):
    code, out, err = call(capsys, "1 2 = 3", *options)
    assert (code, out) == (2, "")
    assert message in err


def test_steps_to_a_loss_instead_of_limits(capsys):
    options = ("--to-loss", "0.3", "--steps", "200", "--optimizers", "gd,preconditioned", "--json")
    _, out, _ = call(capsys, "breast_cancer_raw", *options)
    answer = json.loads(out)
    assert answer["raw"]["optimizers"][0]["steps"] is None
    assert answer["standardised"]["optimizers"][0]["steps"] < 100
