"""What a run over a memory-mapped file costs: time in proportion to the entries, memory that does not grow with them.

    python benchmarks/out_of_core.py --gigabytes 10 --steps 10 --save out_of_core.html

Files of float64 with 1,000 columns are written, up to the size asked for, and each is run over in a process of its own,
whose largest resident memory is compared with what the vectors take. The file is deleted afterwards.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

from thalweg.report import Section, Table, page, write_text

COLUMNS = 1_000
SHARES = (0.1, 0.2, 0.5, 1.0)

# The peak before the run is that of Python, NumPy and SciPy, whose import is no part of what is measured.
RUN = """
import json, sys, time
from pathlib import Path
import numpy as np
import scipy.linalg
import thalweg as tw

def peak():
    (line,) = (line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) / 1024

def clocked(call):
    began = time.perf_counter()
    return call(), time.perf_counter() - began

path, steps = sys.argv[1], int(sys.argv[2])
before = peak()
X = np.load(path, mmap_mode="r")
problem, check = clocked(lambda: tw.LeastSquares(X, np.random.default_rng(1).standard_normal(len(X))))
_, half = clocked(lambda: tw.rates(problem, max(1, steps // 2)))
_, run = clocked(lambda: tw.rates(problem, steps))
vectors = 8 * (6 * problem.n + 6 * problem.d) / 2**20
print(json.dumps({"check": check, "half": half, "run": run, "memory": peak() - before, "vectors": vectors}))
"""


def write_file(path, rows):
    """Rows of normal numbers, a block of them repeated with different signs so that writing is not what takes time."""
    generator = np.random.default_rng(0)
    block = generator.standard_normal((10_000, COLUMNS))
    written = np.lib.format.open_memmap(path, "w+", np.float64, (rows, COLUMNS))
    for first in range(0, rows, len(block)):
        part = written[first : first + len(block)]
        part[:] = block[: len(part)] * generator.choice([-1.0, 1.0], (len(part), 1))
        written.flush()


def row(path, rows, steps):
    write_file(path, rows)
    done = subprocess.run(
        [sys.executable, "-c", RUN, str(path), str(steps)], capture_output=True, text=True, check=True
    )
    answer = json.loads(done.stdout)
    gigabytes = path.stat().st_size / 1e9
    path.unlink()
    return (
        gigabytes,
        rows,
        answer["run"],
        answer["run"] / steps / gigabytes,
        answer["run"] / answer["half"],
        answer["check"],
        answer["memory"],
        answer["vectors"],
    )


def figure(rows, steps):
    import plotly.graph_objects as go

    sizes, seconds = [row[0] for row in rows], [row[2] for row in rows]
    shown = go.Figure(go.Scatter(x=sizes, y=seconds, mode="markers+lines", name="measured"))
    shown.add_scatter(
        x=sizes, y=[seconds[0] * size / sizes[0] for size in sizes], line_dash="dot", name="in proportion to the first"
    )
    return shown.update_layout(
        title=f"{steps} steps over a memory-mapped file",
        template="plotly_white",
        xaxis={"title": "size of the file, GB"},
        yaxis={"title": "seconds"},
    )


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--gigabytes", type=float, default=0.5, help="the size of the largest file")
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--folder", type=Path, help="where to write the file; a temporary folder by default")
    parser.add_argument("--save", type=Path, help="an .html page with the table and a picture")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=asked.folder) as folder:
        rows = [
            row(Path(folder) / "X.npy", int(asked.gigabytes * 1e9 * share / 8 / COLUMNS), asked.steps)
            for share in SHARES
        ]
    columns = (
        *("file, GB", "rows", f"{asked.steps} steps, s", "s per step and GB", "time / that of half the steps"),
        *("check of the entries, s", "largest memory, MB", "of it vectors, MB"),
    )
    table = Table(f"Runs over a memory-mapped file of {COLUMNS:,} columns", columns, rows)
    print(table.to_text())
    if asked.save:
        write_text(asked.save, page(table.title, [Section("", (), [table], [figure(rows, asked.steps)])]))


if __name__ == "__main__":
    main()
