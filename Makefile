# Two targets need nothing but Python and make: `make compare` and `make test`.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
OUT ?= comparison
# Frameworks too heavy for every test run live in an environment of their own.
HOSTS := .venv-hosts
VERSIONS := .venv-versions

export OMP_NUM_THREADS := 1
# Byte code is made of what is imported, when it is: of every file of every package it takes minutes.
export PYTHONDONTWRITEBYTECODE :=
INSTALL := -m pip install --quiet --no-compile --constraint constraints.txt

.PHONY: compare test test-slow test-arm test-hosts test-versions test-cuda lint docs bench clean

compare: $(READY)
	$(BIN)/synaptic-pruning compare --arms none,dropout,synaptic --models rnn --lengths 12 --seeds 1 --epochs 25 --out $(OUT)

test: $(READY) lint
	# Each worker begins with half of the files, so that few fixtures of a file are made twice.
	$(BIN)/pytest -n 2 --dist worksteal -q

test-slow: $(READY)
	$(BIN)/pytest -n 2 --dist worksteal -q -m slow

# Networks written as C, built for Arm and run in QEMU: Debian's gcc-arm-linux-gnueabihf and qemu-user-static.
test-arm: $(READY)
	$(BIN)/pytest -q -rs -m arm tests/export/test_c_code.py

test-hosts: $(HOSTS)/.ready
	# Only the files that hold such tests: the others need extras that this environment lacks.
	$(HOSTS)/bin/pytest -q -m hosts $$(grep -rl --include='test_*.py' 'mark.hosts' tests)

# The lowest and the newest versions that pyproject.toml allows, their warnings passed over; several GB each.
# Files that fork run alone: newer PyTorch forks no more once its own threads have begun. 5: all tests of a file are slow.
CHECKED = $(shell ls -d tests/core/*.py tests/pruner/*.py tests/rules/*.py tests/export/*.py tests/tasks/*/*.py) \
	tests/integrations/test_lightning.py tests/integrations/test_lightning_resume.py tests/integrations/test_transformers.py
FORKING = $(shell grep -l 'rank_processes\|killed_runs' $(CHECKED))
test-versions: $(VERSIONS)/lowest-direct/.ready $(VERSIONS)/highest/.ready
	for each in lowest-direct highest; do \
		for files in '$(filter-out $(FORKING),$(CHECKED))' $(FORKING); do \
			PYTHONPATH=src $(VERSIONS)/$$each/bin/pytest -q -W default $$files || [ $$? = 5 ] || exit 1; \
		done; \
	done

# With any Python that has a PyTorch for GPUs, pytest and hypothesis: the environment above has the CPU build.
test-cuda:
	$(PYTHON) -m pytest -q tests/pruner/test_cuda.py tests/integrations/test_cuda_hosts.py
	TEST_DEVICE=cuda $(PYTHON) -m pytest -q tests/rules/test_contract.py

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# The site, in build/site: a broken link or a name that is not there is an error. With --quiet it would be none.
docs: $(READY)
	NO_MKDOCS_2_WARNING=1 PATH="$(abspath $(BIN)):$$PATH" $(BIN)/mkdocs build

bench: $(READY)
	$(BIN)/python benchmarks/threshold.py
	$(BIN)/python benchmarks/overhead.py
	$(BIN)/python benchmarks/activity.py
	$(BIN)/python benchmarks/export.py
	$(BIN)/python benchmarks/study.py

$(READY): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python $(INSTALL) torch
	$(BIN)/python $(INSTALL) --editable '.[study,baselines,export,dev,docs,lightning,hf]'
	# Reads the types of the dependencies, which takes minutes the first time.
	-$(BIN)/mypy
	touch $(READY)

$(HOSTS)/.ready: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(HOSTS)
	$(HOSTS)/bin/python $(INSTALL) torch
	$(HOSTS)/bin/python $(INSTALL) --editable '.[dev,lightning,hf,hosts,study]'
	# These ask for an older pandas than the other hosts get, and work with it (tests/integrations/test_more_forecasters.py).
	$(HOSTS)/bin/python $(INSTALL) --no-deps \
		gluonts lightning orjson pytorch-forecasting scikit-base toolz
	touch $(HOSTS)/.ready

$(VERSIONS)/%/.ready: pyproject.toml
	$(PYTHON) -m venv $(VERSIONS)/$*
	$(VERSIONS)/$*/bin/pip install --quiet uv
	$(VERSIONS)/$*/bin/uv pip install --quiet --python $(VERSIONS)/$*/bin/python --resolution $* \
		--editable '.[study,export,lightning,hf]' 'autorank>=1.3' 'hypothesis>=6.100' 'lightning>=2.6.6' 'pytest>=8' \
		'pytest-xdist>=3.6' 'utilsforecast>=0.2.12'
	touch $@

clean:
	rm -rf $(VENV) $(HOSTS) $(VERSIONS) .pytest_cache .mypy_cache .ruff_cache .hypothesis
