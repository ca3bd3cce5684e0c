# make demo | test | faults | lint | type | bench — each sets up .venv first, from the pinned constraints.txt.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.PHONY: demo demo-small test browser-tools faults lint type bench notebooks setup clean
.DELETE_ON_ERROR:

setup: $(STAMP)

$(STAMP): pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt torch
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev,notebooks,fid]'
	touch $@

demo: $(STAMP)
	$(BIN)/python -m study.run experiments/digits.yaml

demo-small: $(STAMP)
	$(BIN)/python -m study.run experiments/digits.yaml --set name=digits_small --set train.steps=150 \
	  --set evaluate.samples=300 --set seeds.train=1 --set design.arm_seeds=null --set evaluate.solver_error_samples=32

test: $(STAMP)
	$(BIN)/python -m pytest -n 2 --dist loadfile

# The accessibility rules of tests/test_report_browser.py; Chromium comes from the system.
browser-tools: tests/browser/node_modules/.package-lock.json

tests/browser/node_modules/.package-lock.json: tests/browser/package.json tests/browser/package-lock.json
	npm --prefix tests/browser ci --ignore-scripts --no-audit --no-fund
	touch $@

faults: $(STAMP)
	$(BIN)/python benchmarks/fault_campaign.py --kills 8

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

type: $(STAMP)
	$(BIN)/mypy

bench: $(STAMP)
	$(BIN)/python benchmarks/field_target.py
	$(BIN)/python benchmarks/scheduling.py
	$(BIN)/python benchmarks/shared_fields.py
	$(BIN)/python benchmarks/analysis_scale.py

notebooks: $(STAMP)
	$(BIN)/python experiments/notebooks/build.py

clean:
	rm -rf $(VENV) build dist *.egg-info
