# make demo: train and evaluate a hybrid classifier on generated angiography; make test: run the tests.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/installed
BRAKET := .venv-braket
# A file of tests stays in one process: its emulator and its trained runs are made once. Three
# processes are no faster on two cores.
PARALLEL := --numprocesses 2 --dist loadfile

.PHONY: demo test test-slow test-braket lint format clean

demo: $(INSTALLED)
	$(BIN)/qhybrid train --device lightning.qubit
	@echo "Everything about this run is in the folder named above; next: $(BIN)/qhybrid eval --device qhybrid.statevector"

# Circuits of a few qubits want one thread.
test test-slow test-braket: export OMP_NUM_THREADS = 1

test: $(INSTALLED)
	$(BIN)/python -m pytest $(PARALLEL)

test-slow: $(INSTALLED)
	$(BIN)/python -m pytest $(PARALLEL) -m slow

test-braket: $(BRAKET)/installed
	$(BRAKET)/bin/python -m pytest -p no:hydra_pytest tests/test_devices_clouds.py

lint: $(INSTALLED)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(INSTALLED)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:
	rm -rf $(VENV) $(BRAKET) build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis

# The tested set of versions, in an environment of its own.
$(INSTALLED): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable ".[dev]"
	touch $(INSTALLED)

# Amazon's SDK pins an old cloudpickle, which joblib and Dask do not take, and a new ANTLR, which hydra (of lightly, with a
# plugin for pytest) does not: it lies over the tested set, apart from it.
$(BRAKET)/installed: $(INSTALLED)
	$(PYTHON) -m venv $(BRAKET)
	$(BRAKET)/bin/python -c 'import sys, sysconfig; open(sysconfig.get_path("purelib") + "/below.pth", "w").write("\n".join(sys.argv[1:]))' \
	    "$$($(BIN)/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')" "$(CURDIR)"
	$(BRAKET)/bin/python -m pip install --quiet --constraint constraints.txt "amazon-braket-pennylane-plugin>=1.36,<2"
	touch $(BRAKET)/installed
