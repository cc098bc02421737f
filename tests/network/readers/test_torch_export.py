"""Exported programs: the same counts as the module, from the graph alone; a hostile file never runs."""

from __future__ import annotations

import io
import json
import os
import pickle
import zipfile

import pytest

torch = pytest.importorskip("torch", reason="needs PyTorch, which CI installs")

from torch import nn  # noqa: E402

import thalweg as tw  # noqa: E402
import torch_networks as networks  # noqa: E402
from thalweg.errors import InputError  # noqa: E402

COUNTED = ("name", "kind", "neurons", "parameters", "connections", "connections_inside", "macs", "receptive_field")


def exported(module, *shape, ids=False, **options):
    x = torch.zeros(1, *shape, dtype=torch.int64 if ids else torch.float32)
    return torch.export.export(module.eval(), (x,), **options)


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """A file, and the module that it was exported from."""
    path = tmp_path_factory.mktemp("exported") / "small.pt2"
    module = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.MaxPool2d(2))
    module.append(nn.Flatten()).append(nn.Linear(128, 10))
    torch.export.save(exported(module, 3, 8, 8), path)
    return path, module


@pytest.mark.parametrize(
    ("build", "shape"),
    [
        (lambda: networks.resnet(18), (3, 64, 64)),
        (lambda: networks.UNet(width=4), (3, 32, 32)),
        (lambda: networks.VisionTransformer(32, 8, 16, 2, 2, 10), (3, 32, 32)),
        (lambda: networks.Llama(50, 16, 2, 4, 2, 24), (7,)),
    ],
)
def test_the_same_counts_as_the_module(build, shape, tmp_path):
    module = build()
    torch.export.save(exported(module, *shape, ids=len(shape) == 1), tmp_path / "net.pt2")
    file, live = tw.size(tmp_path / "net.pt2"), tw.size(module, shape)
    assert file.complete
    assert file.input == shape
    assert file.totals == live.totals
    mine = [[getattr(layer, each) for each in COUNTED] for layer in file.layers if layer.neurons]
    theirs = [[getattr(layer, each) for each in COUNTED] for layer in live.layers if layer.neurons]
    assert mine == theirs


def test_programs_in_memory_and_names(small):
    path, module = small
    program = exported(module, 3, 8, 8)
    assert tw.size(program).totals == tw.size(path).totals == tw.size(module, (3, 8, 8)).totals
    assert [layer.name for layer in tw.size(path).layers] == ["0", "1", "2", "3", "5"]


def test_dynamic_extents_take_what_is_given(tmp_path):
    module = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.AdaptiveAvgPool2d(1))
    free = torch.export.Dim.DYNAMIC
    x = torch.zeros(2, 3, 16, 16)
    program = torch.export.export(module, (x,), dynamic_shapes=({0: free, 2: free, 3: free},))
    torch.export.save(program, tmp_path / "net.pt2")
    assert tw.size(tmp_path / "net.pt2").input == (3, 16, 16)
    wide = tw.size(tmp_path / "net.pt2", (3, 20, 30))
    assert wide.totals == tw.size(module, (3, 20, 30)).totals


def test_inputs_that_a_program_does_not_take(small, tmp_path):
    path, module = small
    with pytest.raises(InputError, match="exported for an input of 3 x 8 x 8 and takes no other"):
        tw.size(path, (3, 9, 9))
    with pytest.raises(InputError, match="takes an input like 3 x 8 x 8, not 3 x 8"):
        tw.size(path, (3, 8))
    with pytest.raises(InputError, match="takes 1 inputs, not 2"):
        tw.size(path, ((3, 8, 8), (3, 8, 8)))
    torch.export.save(torch.export.export(module, (torch.zeros(4, 3, 8, 8),)), tmp_path / "four.pt2")
    with pytest.raises(InputError, match="exported for a batch of 4, which is fixed"):
        tw.size(tmp_path / "four.pt2")


def changed(path, target, change):
    """The archive with its graph changed."""
    with zipfile.ZipFile(path) as old, zipfile.ZipFile(target, "w") as new:
        for each in old.infolist():
            content = old.read(each)
            if each.filename.endswith("models/model.json"):
                graph = json.loads(content)
                change(graph)
                content = json.dumps(graph).encode()
            new.writestr(each, content)
    return target


@pytest.mark.parametrize(
    "target", ["os.system", "torch.ops.aten.__class__.x", "builtins.eval", "torch.load", "torch.ops.mine.odd.default"]
)
def test_only_operations_of_pytorch_are_called(small, tmp_path, target):
    def change(graph):
        node = graph["graph_module"]["graph"]["nodes"][2]
        assert node["target"] == "torch.ops.aten.relu.default"
        node["target"] = target

    answer = tw.size(changed(small[0], tmp_path / "net.pt2", change))
    assert not answer.complete
    assert target.removeprefix("torch.ops.") in answer.unknown[0]
    assert answer.totals.macs == tw.size(small[0]).totals.macs


class Canary:
    def __reduce__(self):
        return os.mkdir, ("canary",)


def test_a_hostile_pickle_never_runs(small, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (prefix,) = {name.split("/")[0] for name in zipfile.ZipFile(small[0]).namelist()}
    poison = io.BytesIO()
    torch.save(Canary(), poison)
    entry = {"path_name": "evil", "is_param": False, "use_pickle": True, "tensor_meta": None}
    replaced = {
        f"{prefix}/data/constants/model_constants_config.json": json.dumps({"config": {"evil": entry}}).encode(),
        f"{prefix}/data/sample_inputs/model.pt": poison.getvalue(),
    }
    added = {f"{prefix}/data/constants/evil": pickle.dumps(Canary()), f"{prefix}/data/weights/evil": poison.getvalue()}
    with zipfile.ZipFile(small[0]) as old, zipfile.ZipFile("hostile.pt2", "w") as new:
        for each in old.infolist():
            new.writestr(each.filename, replaced.get(each.filename, old.read(each)))
        for name, content in added.items():
            new.writestr(name, content)
    assert tw.size("hostile.pt2").totals == tw.size(small[0]).totals
    assert not os.path.exists("canary")
    # The canary is alive: what PyTorch's own loader does with such a constant.
    pickle.loads(pickle.dumps(Canary()))
    assert os.path.exists("canary")


def test_operations_that_reach_outside_are_not_called(small, tmp_path):
    victim = tmp_path / "made"

    def change(graph):
        node = graph["graph_module"]["graph"]["nodes"][2]
        node["target"] = "torch.ops.aten.from_file.default"
        given = {"filename": {"as_string": str(victim)}, "shared": {"as_bool": True}, "size": {"as_int": 64}}
        node["inputs"] = [{"name": name, "arg": arg, "kind": 1} for name, arg in given.items()]

    answer = tw.size(changed(small[0], tmp_path / "net.pt2", change))
    assert "from_file" in answer.unknown[0]
    assert not victim.exists()
    torch.ops.aten.from_file.default(str(victim), True, 64)
    assert victim.exists()  # it would have been made


def complaint(path):
    """What is wrong with a file; any other error than ours comes through."""
    try:
        tw.size(path)
    except InputError as error:
        return str(error)
    return ""


@pytest.mark.parametrize("place", range(0, 100, 7))
def test_damaged_files_are_one_sentence(small, tmp_path, place):
    content = bytearray(small[0].read_bytes())
    for spot in range(place * 11, len(content), 301):
        content[spot] ^= 1 << place % 8
    (tmp_path / "net.pt2").write_bytes(content)
    assert "\n" not in complaint(tmp_path / "net.pt2")


@pytest.mark.parametrize("place", range(60))
def test_graphs_with_anything_in_them_are_one_sentence(small, tmp_path, place):
    """One value after another in the graph becomes something else."""

    def change(graph):
        leaves = []

        def walk(part):
            for key in part if isinstance(part, dict) else range(len(part)):
                leaves.append((part, key))
                if isinstance(part[key], dict | list):
                    walk(part[key])

        walk(graph["graph_module"])
        part, key = leaves[place * len(leaves) // 60]
        part[key] = [None, -1, "odd", [], {}, 1 << 40][place % 6]

    assert "\n" not in complaint(changed(small[0], tmp_path / "net.pt2", change))


def test_files_that_are_something_else(tmp_path):
    (tmp_path / "text.pt2").write_text("not an archive")
    with pytest.raises(InputError, match="is damaged"):
        tw.size(tmp_path / "text.pt2")
    with zipfile.ZipFile(tmp_path / "empty.pt2", "w") as archive:
        archive.writestr("readme", "nothing")
    with pytest.raises(InputError, match="holds no exported program"):
        tw.size(tmp_path / "empty.pt2")
