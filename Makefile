# make study and make test need only Python >= 3.11 with venv and pip; each installs what it needs into .venv by itself.
PYTHON ?= python3
BIN := .venv/bin
# one worker a core, but at least one
WORKERS := $(shell nproc 2>/dev/null || echo 2)

.PHONY: study test check-long lint bench gpu clean

study: .venv/lab.stamp
	$(BIN)/minirelu study --fresh

test: .venv/test.stamp
	$(BIN)/python -m pytest -n $(WORKERS) -m "not long"

check-long: .venv/test.stamp
	HYPOTHESIS_PROFILE=intense $(BIN)/python -m pytest -n $(WORKERS) --timeout 3600

lint: .venv/lint.stamp
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# Run it on an idle machine. PyTorch and JAX rows appear where they are installed: .venv/bin/pip install -e '.[bench]'
bench: .venv/lab.stamp
	$(BIN)/python -m benchmarks all

# On a machine with an NVIDIA GPU and CuPy, pytest and hypothesis in $(PYTHON); it needs no network and less than ten minutes.
# PyTorch and JAX rows appear where they are installed. The results go to benchmarks/results/gpu.json.
gpu:
	$(PYTHON) -m benchmarks.gpu_session

clean:
	rm -rf .venv build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis

.venv/bin/python:
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "minirelu needs Python 3.11 or newer; set PYTHON=...")'
	$(PYTHON) -m venv .venv

.venv/%.stamp: pyproject.toml | .venv/bin/python
	$(BIN)/python -m pip install --quiet --editable '.[$*]'
	@touch $@

.venv/lint.stamp: .venv/test.stamp
