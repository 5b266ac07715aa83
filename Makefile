# Two targets need nothing but Python and make: `make compare` and `make test`.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
OUT ?= comparison

export OMP_NUM_THREADS ?= 1

.PHONY: compare test test-slow lint bench clean

compare: $(READY)
	$(BIN)/synaptic-pruning compare --out $(OUT)

test: $(READY) lint
	$(BIN)/pytest -n 2 -q

test-slow: $(READY)
	$(BIN)/pytest -q -m slow

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: $(READY)
	$(BIN)/python benchmarks/threshold.py
	$(BIN)/python benchmarks/overhead.py
	$(BIN)/python benchmarks/export.py

$(READY): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt torch
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[study,export,dev]'
	touch $(READY)

clean:
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache .hypothesis
