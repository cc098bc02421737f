"""What all commands share: exit codes, one sentence for a mistake, data that begins with a minus sign, Ctrl-C."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time

import pytest

from thalweg.cli import main


def run(*arguments, cwd=None, timeout=60):
    """The command in a process of its own, as a person's shell would start it."""
    command = [sys.executable, "-c", "from thalweg.cli import main; main()", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=timeout, cwd=cwd)


def call(capsys, *arguments):
    """The command in this process: exit code, standard output, standard error."""
    with pytest.raises(SystemExit) as left:
        main(list(arguments))
    captured = capsys.readouterr()
    return left.value.code or 0, captured.out, captured.err


def test_help_names_every_command(capsys):
    code, out, _ = call(capsys, "--help")
    assert code == 0
    for command in ("demo", "facts", "check", "filters", "limits", "rates", "size"):
        assert command in out


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("rates", "digts"), "did you mean 'digits'?"),
        (("rates", "1 2 3"), "="),
        (("rates", "1 nan = 3"), "nan"),
        (("rates", "0 0 = 3"), "only zeros"),
        (("rates", "1 2 = 0"), "every rate is optimal"),
        (("rates", "digits", "--steps", "0"), "steps must be at least 1, but it is 0"),
        (("rates", "digits", "--l2", "-1"), "l2 must be a finite number of at least 0"),
        (("rates", "1 2 = 3", "--save", "out.pdf"), "'.pdf' is not one of .json, .csv, .html"),
        (("rates", "1 2 = 3", "--save", "no/such/folder/out.json"), "there is no folder 'no/such/folder'"),
        (("demo", "--save", "no/such/folder/demo.html"), "there is no folder 'no/such/folder'"),
        (("size", "input 8x8x3; conv3-4; maxpol"), "did you mean 'maxpool'?"),
        (("facts", "F9.9"), "There is no fact named 'F9.9'"),
        (("check", "F2.6", "n / 2 * b0"), "b0"),
        (("check", "F2.6", "n / "), "column"),
        (("limits", "1 2 = 3", "--optimizers", "adagard"), "did you mean 'adagrad'?"),
        (("demo", "--save", "demo.pdf"), "ends in .html"),
    ],
)
def test_a_mistake_gets_one_sentence_and_exit_code_two(capsys, tmp_path, monkeypatch, arguments, sentence):
    monkeypatch.chdir(tmp_path)
    code, out, err = call(capsys, *arguments)
    assert code == 2
    assert out == ""
    assert sentence in err
    assert err.count("\n") == 1, "one sentence, one line"
    assert list(tmp_path.iterdir()) == [], "nothing half-written"


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("rates",), "Missing argument"),
        (("rates", "digits", "--stps", "3"), "No such option: --stps"),
        (("rates", "digits", "--steps", "abc"), "valid integer"),
        (("rates", "digits", "more"), "unexpected extra argument"),
        (("rats",), "No such command 'rats'"),
        (("rates", "-x"), "No such option: -x"),
    ],
)
def test_a_wrong_command_line_gets_one_sentence_with_what_was_typed(capsys, arguments, sentence):
    code, out, err = call(capsys, *arguments)
    assert code == 2
    assert out == ""
    assert sentence in err
    assert f"in: thalweg {' '.join(arguments)} (see thalweg" in err
    assert err.count("\n") == 1


def test_no_arguments_show_the_help(capsys):
    code, out, _ = call(capsys)
    assert code == 0
    assert "limits" in out


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs the device /dev/full, which Linux has")
def test_a_full_standard_output_is_one_sentence():
    command = [sys.executable, "-c", "from thalweg.cli import main; main()", "size", "input 8x8x3; conv3-4"]
    with open("/dev/full", "w") as full:
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, timeout=60)
    assert done.returncode == 2
    assert done.stderr == "thalweg: Cannot write to standard output: No space left on device.\n"


def test_a_stream_without_unicode_gets_escapes():
    command = [
        sys.executable,
        "-c",
        "from thalweg.cli import main; main()",
        "check",
        "F2.4",
        "\N{GREEK SMALL LETTER ETA} * a",
    ]
    environment = {**os.environ, "PYTHONIOENCODING": "ascii"}
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, env=environment)
    assert done.returncode == 0
    assert "\\u03b7" in done.stdout


@pytest.mark.parametrize("data", ["-1 2 = 3", "-1,2=3; 0 1 = -2", "-.5 1 = 2", "-1e0 2 = 3"])
def test_data_may_begin_with_a_minus_sign(capsys, data):
    code, out, _ = call(capsys, "rates", data, "--steps", "2", "--json")
    assert code == 0
    assert json.loads(out)["d"] == 2


def test_json_has_the_promised_keys_and_nothing_else_on_standard_output(capsys):
    code, out, _ = call(capsys, "rates", "1 2 = 3; 0 1 = 2", "--steps", "3", "--json")
    answer = json.loads(out)
    assert code == 0
    assert set(answer) >= {"n", "d", "steps", "stability_rate", "best_rate", "best_loss"}
    assert set(answer) >= {"schedule", "schedule_loss", "constant_loss", "peak"}
    assert len(answer["schedule"]) == 3
    assert list(answer["best_rate"]) == ["1", "2", "3"]


@pytest.mark.parametrize("suffix", ["json", "csv", "html"])
def test_an_answer_is_saved_where_asked(capsys, tmp_path, suffix):
    path = tmp_path / f"answer.{suffix}"
    code, out, err = call(capsys, "rates", "1 2 = 3; 0 1 = 2", "--save", str(path))
    assert code == 0
    assert "Best constant learning rate" in out
    assert str(path) in err
    assert path.stat().st_size > 100


def test_a_pipe_gets_plain_text():
    done = run("rates", "1 2 = 3; 0 1 = 2", "--steps", "5")
    assert done.returncode == 0
    assert "\x1b" not in done.stdout
    assert done.stderr == ""


def test_a_name_with_terminal_escapes_prints_harmlessly(capsys):
    code, _, err = call(capsys, "rates", "\x1b[31mno-such-data")
    assert code == 2
    assert "\x1b" not in err


@pytest.mark.skipif(os.name == "nt", reason="POSIX signals")
def test_ctrl_c_leaves_with_130_and_no_traceback():
    command = [sys.executable, "-c", "from thalweg.cli import main; main()", "rates", "gaussian:n=3000,d=3000,seed=0"]
    process = subprocess.Popen(
        [*command, "--steps", "10000"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    time.sleep(3)
    assert process.poll() is None, "it must still be at work for this test to mean anything"
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=30)
    assert process.returncode == 130
    assert "Traceback" not in err
