"""`thalweg size`: tables, JSON, one unit, files, and one sentence for a mistake."""

from __future__ import annotations

import json

import pytest

from thalweg.cli import main

SPEC = "input 112x112x3; conv3-64; maxpool; conv3-128; maxpool; conv3-256 x2; maxpool; FC-1024; FC-100"


def call(capsys, *arguments):
    with pytest.raises(SystemExit) as left:
        main(["size", *arguments])
    captured = capsys.readouterr()
    return left.value.code or 0, captured.out, captured.err


def test_the_table_is_printed(capsys):
    code, out, err = call(capsys, SPEC)
    assert (code, err) == (0, "")
    assert ["total", "1,957,988", "52,444,644", "999,407,616"] in [line.split() for line in out.splitlines()]
    assert "connections that do not fall on zero padding" in out


def test_json(capsys):
    code, out, _ = call(capsys, SPEC, "--json")
    assert code == 0
    answer = json.loads(out)
    assert answer["totals"]["parameters"] == 52_444_644
    assert answer["layers"][6]["receptive_field"] == [30, 30]


def test_one_unit(capsys):
    code, out, _ = call(capsys, SPEC, "--unit", "conv3-256#2:0,27", "--json")
    assert code == 0
    answer = json.loads(out)
    effective = answer.pop("effective")
    assert effective["axes"][1]["last"] == 111
    assert effective["axes"][0]["deviation"] < 5
    assert answer == {
        "layer": "conv3-256#2",
        "index": [0, 27],
        "clipped": [[0, 14], [97, 111]],
        "unclipped": [[-11, 14], [97, 122]],
        "masked": False,
    }
    code, out, _ = call(capsys, SPEC, "--unit", "FC-100")
    assert code == 0
    assert "Unit (0) of FC-100" in out


def test_titles_keep_the_number_that_was_asked_for(capsys):
    _, out, _ = call(capsys, SPEC, "--unit", "maxpool#3:0,7")
    assert "Unit (0, 7) of maxpool#3\n" in out
    assert "Paths to unit (0, 7) of maxpool#3\n" in out
    _, out, _ = call(capsys, SPEC, "--changes", "--layer", "conv3-256#2")
    assert out.startswith("conv3-256#2 sees 26")


def test_several_inputs(capsys, tmp_path, monkeypatch):
    pytest.importorskip("torch", reason="needs PyTorch, which CI installs")
    (tmp_path / "two_inputs.py").write_text(
        "from torch import nn\n\n\nclass Two(nn.Module):\n    def __init__(self):\n        super().__init__()\n"
        "        self.c, self.l = nn.Conv2d(1, 4, 3), nn.Linear(10, 4)\n\n"
        "    def forward(self, image, meta):\n        return self.c(image).mean((2, 3)) + self.l(meta)\n"
    )
    monkeypatch.chdir(tmp_path)
    code, out, _ = call(capsys, "two_inputs.py:Two", "--input", "1x8x8,10")
    assert (code, out.partition("\n")[0]) == (0, "Network with inputs 1x8x8 and 10")
    assert "what depends on the others alone sees none of them" in out
    code, _, err = call(capsys, "two_inputs.py:Two", "--input", "1x8x8")
    assert code == 2
    assert "missing 1 required positional argument: 'meta'; give one for each, as in --input 1x8x8,10 or input=" in err


def test_a_file_and_an_input_by_itself(capsys, tmp_path):
    path = tmp_path / "net.txt"
    path.write_text("conv3-64  # no input\nmaxpool\n")
    code, out, _ = call(capsys, str(path), "--input", "56x56x3")
    assert code == 0
    assert "28x28x64" in out


def test_saving(capsys, tmp_path):
    code, _, err = call(capsys, SPEC, "--save", str(tmp_path / "size.csv"))
    assert code == 0
    assert "Saved to" in err
    assert "conv3-64,112x112x64,802816,1792,21676032,3x3" in (tmp_path / "size.csv").read_text()


def test_help_describes_the_notation(capsys):
    code, out, _ = call(capsys, "--help")
    assert code == 0
    for word in ("conv3-64/2", "depthwise3", "globalavgpool", "dilation 2", "x3 repeats", "add start"):
        assert word in out


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("input 9x9x3; conv3-64; maxpol",), "line 1, column 24: 'maxpol' is not a layer; did you mean 'maxpool'?"),
        (("conv3-64",), "line 1, column 1: expected the extents of the input first"),
        (("net.txt",), "There is no file 'net.txt'"),
        ((SPEC, "--input", "x"), "'x' is not the extents of an input; write them as '112x112x3'."),
        ((SPEC, "--unit", "maxpool:a"), "'maxpool:a' is not a unit; write a layer, a colon and its position"),
        ((SPEC, "--unit", "maxpool:1,1"), "3 layers are named 'maxpool'; say which: maxpool#1 to maxpool#3."),
        ((SPEC, "--unit", "conv3-64:1"), "Layer 'conv3-64' has no unit '1'; its units are 0..111,0..111"),
        ((SPEC, "--weights"), "The weights are asked for the gradient of one unit; add --unit LAYER:INDEX."),
        ((SPEC, "--unit", "FC-100", "--weights"), "The gradient of a unit needs a network that holds its weights"),
        ((SPEC, "--save", "size.pdf"), "the suffix '.pdf' is not one of .json, .csv, .html"),
        (("input 9x9x3; \x1b[31mconv",), "line 1, column 14: '\\x1b' has no meaning here"),
    ],
)
def test_a_mistake_gets_one_sentence_and_exit_code_two(capsys, arguments, sentence):
    code, out, err = call(capsys, *arguments)
    assert (code, out) == (2, "")
    assert sentence in err
    assert err.count("\n") == 1
    assert "Traceback" not in err
    assert "\x1b" not in err


def test_reach_and_changes(capsys):
    code, out, err = call(capsys, SPEC, "--reach", "40", "--json")
    answer = json.loads(out)
    assert (code, err, answer["layer"]) == (0, "", "maxpool#3")
    assert all(min(change["receptive_field"]) >= 40 for change in answer["changes"])
    code, out, _ = call(capsys, SPEC, "--changes", "--layer", "maxpool#3")
    assert code == 0
    assert "one more 2x2 pool behind maxpool#3" in out
    code, _, err = call(capsys, SPEC, "--reach", "0")
    assert code == 2
    assert err.count("\n") == 1
    assert "at least 1" in err


def test_memory_and_the_largest_batch(capsys):
    code, out, err = call(capsys, SPEC, "--batch", "32", "--optimizer", "sgd", "--memory", "8GiB", "--json")
    answer = json.loads(out)
    assert (code, err) == (0, "")
    assert answer["memory"]["batch"] == 32
    assert answer["totals"]["training_bytes"] == answer["memory"]["training_bytes"]
    assert answer["largest_batch"]["optimizer"] == "sgd"
    assert answer["largest_batch"]["training"] > 32
    code, out, _ = call(capsys, SPEC, "--checkpointing", "--dtype", "mixed")
    assert "Memory for a batch of 1, mixed-bfloat16, adam, with checkpointing" in out
    code, out, _ = call(capsys, SPEC, "--memory", "1MiB")
    assert "does not fit even at batch 1: that needs" in out


def test_two_networks(capsys):
    code, out, err = call(capsys, SPEC, SPEC.replace("256 x2", "256"), "--json")
    answer = json.loads(out)
    assert (code, err) == (0, "")
    assert answer["difference"]["parameters"] == -590_080
    code, out, _ = call(capsys, SPEC, "input 8x8x3; conv3-4", "--batch", "4")
    assert "Two networks side by side" in out
    assert "Bytes for a batch of 4, float32, adam." in out


def test_every_operation_on_demand(capsys):
    long = "input 64x64x3; (conv3-16; relu) x40"
    _, short, _ = call(capsys, long)
    _, whole, _ = call(capsys, long, "--all")
    assert short.count("relu") < 3
    assert whole.count("relu") == 80


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (("--batch", "0"), "A batch of 0 cannot be trained"),
        (("--dtype", "f31"), "There is no type of numbers named 'f31'"),
        (("--optimizer", "adan"), "There is no optimizer named 'adan'; did you mean 'adam"),
        (("--memory", "24gigs"), "'gigs' in '24gigs' is not a unit of memory"),
        (("--batch", "x"), "Invalid value for '--batch'"),
    ],
)
def test_a_mistake_about_memory_gets_one_sentence(capsys, options, sentence):
    code, out, err = call(capsys, SPEC, *options)
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert sentence in err


def test_the_gradient_of_one_unit(capsys, tmp_path, monkeypatch):
    pytest.importorskip("torch", reason="needs PyTorch, which CI installs")
    (tmp_path / "weighted_models.py").write_text(
        "from torch import nn\n\n\ndef small():\n    return nn.Sequential(nn.Conv2d(1, 2, 3), nn.Conv2d(2, 1, 3))\n"
    )
    monkeypatch.chdir(tmp_path)
    unit = ("--input", "1x9x9", "--unit", "1:2,2")
    code, out, _ = call(capsys, "weighted_models:small", *unit, "--weights", "--json")
    assert code == 0
    answer = json.loads(out)
    assert answer["clipped"] == [[2, 6], [2, 6]]
    assert answer["effective"]["seen"] == answer["measured"]["seen"] == 25
    assert (answer["measured"]["samples"], answer["measured"]["seed"]) == (16, 0)
    code, out, _ = call(capsys, "weighted_models:small", *unit, "--weights")
    assert "Gradient of unit (2, 2) of 1" in out
    code, out, _ = call(capsys, "weighted_models:small", *unit, "--json")
    assert "measured" not in json.loads(out)


def test_what_a_model_prints_goes_to_standard_error(capsys, tmp_path, monkeypatch):
    """At its import, when it is made and in every run of it, also those that a file or a table asks for last."""
    pytest.importorskip("torch", reason="needs PyTorch, which CI installs")
    (tmp_path / "loud_models.py").write_text(
        "from torch import nn\nprint('imported')\n\n\nclass Loud(nn.Module):\n    def __init__(self):\n"
        "        print('made')\n        super().__init__()\n        self.last = nn.Linear(4, 2)\n\n"
        "    def forward(self, x):\n        print('run')\n        return self.last(x)\n"
    )
    monkeypatch.chdir(tmp_path)
    for options in ((), ("--batch", "2"), ("--unit", "last:0", "--weights"), ("--save", "out.json")):
        code, out, err = call(capsys, "loud_models:Loud", "--json", *options)
        assert (code, json.loads(out) != {}) == (0, True)
        assert {"made", "run"} <= set(err.split())


TWO = ("input 32x32x3; conv3-8; maxpool; FC-10", "nonsense!")


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ((*TWO, "--unit", "conv3-8:0,0"), "A comparison of two networks has no use for --unit; leave it out."),
        ((*TWO, "--reach", "10"), "A comparison of two networks has no use for --reach; leave it out."),
        ((*TWO, "--memory", "1GiB", "--all"), "A comparison of two networks has no use for --all and --memory; leave"),
        ((SPEC, "--unit", "FC-100", "--reach", "12"), "--unit has no use for --reach; leave it out."),
        ((SPEC, "--unit", "FC-100", "--changes"), "--unit has no use for --changes; leave it out."),
        ((SPEC, "--unit", "FC-100", "--batch", "8"), "--unit has no use for --batch; leave it out."),
        ((SPEC, "--unit", "FC-100", "--layer", "FC-100"), "--unit has no use for --layer; leave it out."),
        ((SPEC, "--reach", "12", "--memory", "1GiB"), "--reach has no use for --memory; leave it out."),
        ((SPEC, "--reach", "12", "--changes"), "--reach has no use for --changes; leave it out."),
        ((SPEC, "--changes", "--checkpointing"), "--changes has no use for --checkpointing; leave it out."),
        ((SPEC, "--layer", "FC-100"), "--layer says which layer --reach and --changes ask about; add one of them."),
        ((SPEC, "--input", "9x9x3", "--input=8x8x3"), "--input is given twice; give it once; several inputs of one"),
        ((SPEC, "--batch", "2", "--batch", "3"), "--batch is given twice; give it once."),
    ],
)
def test_options_that_do_not_go_together_are_refused(capsys, arguments, sentence):
    code, out, err = call(capsys, *arguments)
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert sentence in err
