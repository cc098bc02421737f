"""Damaged and hostile files: an answer or one sentence, in little time and memory, and never a signal."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("onnx", reason="needs onnx, which CI installs")

SCRIPT = Path(__file__).parents[3] / "damaged_onnx.py"


def read(count, seed, *options):
    """What the script says: what was wrong with single files, and the sum of it."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    command = [sys.executable, str(SCRIPT), str(count), str(seed), *options]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=True)
    *wrong, total = [json.loads(line) for line in done.stdout.splitlines()]
    return wrong, total


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs processes that fork")
@pytest.mark.parametrize("seed", [1, 2])
def test_damaged_files_get_an_answer_or_a_sentence(seed):
    wrong, total = read(1000, seed)
    assert wrong == []
    assert total["read"] == 1000


@pytest.mark.long
@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs processes that fork")
@pytest.mark.parametrize("seed", range(10, 15))
def test_many_damaged_files_of_every_operation(seed):
    wrong, total = read(4000, seed, "--everything")
    assert wrong == []
    assert total["read"] == 4000
