# Two commands for a user, `make demo` and `make test`; the rest is for whoever works on thalweg.
PYTHON ?= python3
BIN := .venv/bin
INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt

# Numerical libraries gain nothing from threads on our small problems, and test workers share the cores.
export OMP_NUM_THREADS ?= 1

.PHONY: demo test setup lint types long bench docs clean

demo: .venv/base
	$(BIN)/thalweg demo

test: .venv/developer
	$(BIN)/pytest -n auto -m "not long"

setup: .venv/developer
	test ! -d .git || $(BIN)/pre-commit install

lint: .venv/developer
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: .venv/developer
	$(BIN)/mypy

# What takes minutes: the full accuracy grids, and every mutant of the textbook, which some test must notice.
long: .venv/developer
	$(BIN)/pytest -n auto -m long
	$(BIN)/python tests/mutants.py $(addprefix src/thalweg/textbook/, implicit_bias.py learning_rate.py unrolled.py convolution.py)

bench: .venv/developer
	for script in $(filter-out benchmarks/harness.py benchmarks/device_memory.py, $(wildcard benchmarks/*.py)); do $(BIN)/python $$script || exit 1; done

docs: .venv/developer
	$(BIN)/python docs/pictures.py

clean:
	rm -rf .venv .pytest_cache .hypothesis .mypy_cache .ruff_cache

.venv/base: pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(INSTALL) --editable .
	touch $@

.venv/developer: .venv/base
	$(INSTALL) --editable ".[dev]"
	touch $@
