"""A user's own task file: found, run, and every failure one sentence with its line."""

from __future__ import annotations

import sys

import pytest

from thalweg.errors import InputError
from thalweg.tasks import Task, load_task

GOOD = """
import jax.numpy as jnp, optax
import thalweg as tw
from scale_of_mine import SCALE

def task():
    training = tw.Training(
        loss=lambda w, batch, hyper: SCALE * jnp.mean((batch @ w - 1) ** 2),
        init=lambda key: jnp.zeros(2),
        batches=lambda key: jnp.ones((4, 3, 2)),
        optimizer=lambda hyper: optax.sgd(hyper["rate"]),
    )
    return tw.Task(training, {"rate": 0.1}, objective=lambda w: jnp.sum(w**2))
"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "scale_of_mine.py").write_text("SCALE = 2.0\n")
    (tmp_path / "good.py").write_text(GOOD)
    yield tmp_path
    sys.modules.pop("scale_of_mine", None)


@pytest.mark.parametrize("spelling", ["good.py:task", "./good.py:task", " good.py:task ", "{folder}/good.py:task"])
def test_a_file_gives_its_task(folder, spelling):
    before = list(sys.path)
    task = load_task(spelling.format(folder=folder))
    assert isinstance(task, Task)
    assert float(task.training.run(task.hyper).losses[0]) == 2.0
    assert sys.path == before


def test_a_changed_file_is_run_anew(folder):
    load_task("good.py:task")
    (folder / "good.py").write_text(GOOD.replace('"rate": 0.1', '"rate": 0.25'))
    assert load_task("good.py:task").hyper == {"rate": 0.25}


@pytest.mark.parametrize(
    ("text", "source", "sentence"),
    [
        (None, "mine.py:task", "Cannot read the task 'mine.py:task': there is no such file."),
        (None, "good.py:tusk", "There is no function in good.py named 'tusk'; did you mean 'task'?"),
        (None, "good.py", "'good.py' does not say which function makes the task; write good.py:FUNCTION; it defines"),
        ("task = 3", "mine.py:task", "task in mine.py must be a function, but it is a int."),
        ("def task():\n    return 3", "mine.py:task", "must return a tw.Task(training, hyper, objective), but it"),
        ("x = 1\ny = x +\n", "mine.py:task", "mine.py, line 2 is not Python: invalid syntax."),
        ("x = 1\ny = x / 0\n", "mine.py:task", "mine.py, line 2, while running the file: ZeroDivisionError: division"),
        ("import no_such_thing\n", "mine.py:task", "mine.py, line 1, while running the file: ModuleNotFoundError"),
        ("raise SystemExit(3)", "mine.py:task", "mine.py, line 1, while running the file: SystemExit: 3"),
        ("def task():\n\n    [].pop()\n", "mine.py:task", "mine.py, line 3, while running task(): IndexError: pop"),
        ("def task(x):\n    return x\n", "mine.py:task", "while running task(): TypeError: task() missing 1 required"),
        ("import thalweg as tw\ndef task():\n    return tw.Task(1, 2, 3)", "mine.py:task", "mine.py, line 3, while"),
        ("def task():\n    raise ValueError('a\\nb')", "mine.py:task", "ValueError: a b"),
        ("x = '\0'", "mine.py:task", "mine.py"),
    ],
)
def test_a_failure_is_one_sentence_with_its_line(folder, text, source, sentence):
    if text is not None:
        (folder / "mine.py").write_text(text)
    with pytest.raises(InputError) as refused:
        load_task(source)
    assert sentence in str(refused.value)
    assert "\n" not in str(refused.value)


def test_a_file_that_failed_leaves_nothing_behind(folder):
    (folder / "broken.py").write_text("x = 1 / 0\n")
    path = list(sys.path)
    with pytest.raises(InputError):
        load_task("broken.py:task")
    assert "thalweg_task_broken" not in sys.modules
    assert sys.path == path


def test_a_folder_is_no_task(folder):
    (folder / "odd.py").mkdir()
    with pytest.raises(InputError, match="it is a folder"):
        load_task("odd.py:task")


def test_ctrl_c_in_a_users_file_is_no_mistake_of_theirs(folder):
    (folder / "mine.py").write_text("raise KeyboardInterrupt\n")
    with pytest.raises(KeyboardInterrupt):
        load_task("mine.py:task")
