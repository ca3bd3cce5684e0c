# make demo | test | check | docs | faults | lint | type | bench — each sets up .venv first, from the pinned constraints.txt.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

# Modules are compiled once, not by each of the hundreds of processes that tests and trials start.
export PYTHONDONTWRITEBYTECODE :=

.PHONY: demo demo-small check test test-tools docs faults lint type bench notebooks setup clean
.DELETE_ON_ERROR:

setup: $(STAMP)

$(STAMP): pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt torch
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev,docs,notebooks,fid]'
	touch $@

demo: $(STAMP)
	$(BIN)/python -m study.run experiments/digits.yaml

demo-small: $(STAMP)
	$(BIN)/python -m study.run experiments/digits.yaml --set name=digits_small --set train.steps=150 \
	  --set evaluate.samples=300 --set seeds.train=1 --set evaluate.solver_error_samples=32

test: $(STAMP) test-tools
	$(BIN)/python -m pytest -n 3 --dist loadfile --no-loadscope-reorder --durations=15

# Before a commit: lint, types, and the tests that take a minute together.
check: $(STAMP) lint type
	$(BIN)/python -m pytest -q -n 2 --dist loadfile -m "not slow" tests/house/test_house.py tests/study/config tests/study/plan/test_identities.py \
	  tests/pfgm/prior tests/pfgm/process tests/pfgm/field tests/analysis/robustness tests/pfgm/training/test_training.py

# What some tests need beside Python packages: a browser, its accessibility rules, Fashion-MNIST. Tests whose tools cannot be had
# here are skipped, and named at the end.
test-tools:
	@sh tests/tools.sh

faults: $(STAMP)
	$(BIN)/python -m benchmarks.study.fault_campaign --kills 8

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

type: $(STAMP)
	$(BIN)/mypy

# Every benchmark in its short form, into benchmarks/RESULTS.md; a ratio that fell by more than 15 % is named.
bench: $(STAMP)
	$(BIN)/python -m benchmarks.all

# The documentation, into site/: open site/index.html. A broken link or a public name without an entry ends it with an error.
docs: $(STAMP)
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict

notebooks: $(STAMP)
	$(BIN)/python experiments/notebooks/build.py

clean:
	rm -rf $(VENV) build dist site *.egg-info
