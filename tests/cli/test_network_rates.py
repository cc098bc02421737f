"""`thalweg rates TASK`: the Python answer, from a name or a user's own file; mistakes named with their line."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time

import pytest

import thalweg as tw
from thalweg.cli import main
from thalweg.tasks import built_in

GOOD = """
import jax.numpy as jnp, optax
import thalweg as tw

print("hello from a task")

def predict(w, batch, hyper):
    return hyper["gain"] * jnp.tanh(batch @ w)

def task():
    criterion = lambda outputs, batch: jnp.mean((outputs - 1) ** 2)
    training = tw.Training(
        loss=lambda w, batch, hyper: criterion(predict(w, batch, hyper), batch),
        init=lambda key: 0.1 * jnp.ones(2),
        batches=lambda key: jnp.ones((4, 3, 2)),
        optimizer=lambda hyper: optax.sgd(0.1),
        predict=predict,
        criterion=criterion,
    )
    return tw.Task(training, {"gain": 2.0}, objective=jnp.sum)
"""


def call(capsys, *arguments):
    with pytest.raises(SystemExit) as left:
        main(["rates", *arguments])
    captured = capsys.readouterr()
    return left.value.code or 0, captured.out, captured.err


def test_the_json_is_the_python_answer(capsys):
    task = built_in("diabetes-mlp")
    answer = tw.rates(task.training, 2, hyper=task.hyper)
    code, out, _ = call(capsys, "diabetes-mlp", "--steps", "2", "--json")
    assert code == 0
    assert json.loads(out) == json.loads(answer.to_json())


def test_a_users_file_is_run_with_its_hyperparameters(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.py").write_text(GOOD)
    code, out, err = call(capsys, "mine.py:task", "--json")
    answer = json.loads(out)
    assert code == 0
    assert "hello from a task" in err
    assert answer["steps"] == 5
    assert answer["n"] == 12
    assert answer["initial_loss"] == pytest.approx((2 * 0.19737532 - 1) ** 2, rel=1e-5)
    code, out, _ = call(capsys, "mine.py:task", "--steps", "1")
    assert out.startswith("Best constant learning rate of a network, 2 parameters, 12 examples")
    assert "The forecast before the runs" in out


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (("jnp.tanh(batch @ w)", "jnp.tanh(batch @ w.T.no)"), "mine.py, line 8, while running the task: AttributeErr"),
        (("hyper[\"gain\"]", "hyper[\"pain\"]"), "mine.py, line 8, while running the task: KeyError: 'pain'"),
        (("        predict=predict,\n", ""), "the Training has no predict"),
        (("import thalweg as tw", "import thalweg as tw, nothing_such"), "mine.py, line 3, while running the"),
    ],
)  # fmt: skip
def test_a_mistake_in_a_users_file_is_one_sentence(capsys, tmp_path, monkeypatch, change, sentence):
    monkeypatch.chdir(tmp_path)
    text = GOOD.replace(*change)
    assert text != GOOD
    (tmp_path / "mine.py").write_text(text)
    code, out, err = call(capsys, "mine.py:task")
    assert code == 2
    assert out == ""
    assert sentence in err.splitlines()[-1]


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("digits-mlp", "--momentum", "nesterov"), "--momentum is for data, and digits-mlp is a task"),
        (("digits-mlp", "--schedule"), "--schedule is for data"),
        (("digits-mlp", "--steps", "0"), "steps must be at least 1"),
        (("no_such.py:task",), "there is no such file"),
        (("digits-mlpp",), "digits-mlpp"),
    ],
)
def test_a_mistake_gets_exit_code_two(capsys, arguments, sentence):
    code, out, err = call(capsys, *arguments)
    assert code == 2
    assert out == ""
    assert sentence in err
    assert err.count("\n") == 1


def test_a_name_of_data_stays_data(capsys):
    _, out, _ = call(capsys, "diabetes", "--steps", "3", "--json")
    assert json.loads(out)["n"] == 442


@pytest.mark.skipif(os.name == "nt", reason="POSIX signals")
def test_ctrl_c_leaves_with_130_and_no_traceback(tmp_path):
    (tmp_path / "mine.py").write_text(
        GOOD.replace("def task():", "def task():\n    import time; print('ready', flush=True); time.sleep(60)")
    )
    command = [sys.executable, "-c", "from thalweg.cli import main; main()", "rates", str(tmp_path / "mine.py:task")]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    for line in process.stderr:
        if "ready" in line:
            break
    time.sleep(0.2)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=30)
    assert process.returncode == 130
    assert out == ""
    assert "Interrupted" in err
    assert "Traceback" not in err
