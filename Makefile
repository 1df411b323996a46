# Everything runs in .venv, which the first target makes. PYTHON may be any CPython from 3.11.
PYTHON ?= python3
BIN := .venv/bin
# One thread a process: two trials with a thread each beat one with two, and timings stay comparable.
export OMP_NUM_THREADS ?= 1

.PHONY: demo test test-slow test-cuda check bench clean

demo: .venv/installed
	@if [ -e runs/quickstart ]; then $(BIN)/harness resume runs/quickstart && $(BIN)/harness report runs/quickstart; \
	else $(BIN)/harness run quickstart; fi

test: .venv/installed-dev
	$(BIN)/python -m pytest -q -m "not slow" -n 2

test-slow: .venv/installed-dev
	$(BIN)/python -m pytest -q -m slow

test-cuda: .venv/installed-dev
	$(BIN)/python -m pytest -q -m cuda

check: .venv/installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: .venv/installed-dev
	@for script in $$(grep -l __main__ benchmarks/*.py); do echo "== $$script"; $(BIN)/python $$script || exit 1; done

clean:
	rm -rf .venv build *.egg-info .pytest_cache .mypy_cache .ruff_cache

.venv/installed: pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --disable-pip-version-check -q -e .
	@touch $@

.venv/installed-dev: .venv/installed
	$(BIN)/pip install --disable-pip-version-check -q -e '.[test,dev]'
	@touch $@
