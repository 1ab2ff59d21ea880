# Everything that one does with a checkout. It needs make, git and Python 3.11 or later; the rest is fetched.

PYTHON ?= python3
VENV ?= .venv
PYTEST_OPTIONS ?=
# `make bench`: what python -m benchmarks --help lists, such as --only hits
BENCH_OPTIONS ?=
# `make run`: the Glance to stand in front of (empty: one of its own, with an image in it), the two sites' ports, where
# to keep images, and more options of `twistd glancecache`
ORIGIN ?=
LISTEN ?= 9393
MANAGE ?= 9394
CACHE_DIR ?=
OPTIONS ?=

SHELL := /bin/bash
.DEFAULT_GOAL := help
BIN := $(VENV)/bin
STAMP := $(VENV)/installed

.PHONY: help run test lint unit integration faults bench sample readme constraints venv debian-run debian-test debian-bench clean

help:  ## say what there is to make
	@sed -nE 's/^([a-z-]+):.*## (.*)/  make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 22
	@echo "  Variables: PYTHON ORIGIN LISTEN MANAGE CACHE_DIR OPTIONS VENV PYTEST_OPTIONS BENCH_OPTIONS"

run: debian-run $(STAMP)  ## start the proxy: ORIGIN=http://glance:9292, or without it in front of a Glance of its own
	@exec $(BIN)/python -m tests.cloud.demo --origin '$(ORIGIN)' --listen $(LISTEN) --manage $(MANAGE) \
	    --cache-dir '$(CACHE_DIR)' --options '$(OPTIONS)'

test: debian-test lint unit integration  ## all the checks and all the tests

lint: $(STAMP)  ## style, types, layers, generated files
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy --strict txglancecache benchmarks tests/cloud tests/integration tests/faults
	$(BIN)/lint-imports
	$(BIN)/oslo-config-generator --config-file etc/oslo-config-generator/txglancecache.conf \
	    --output-file $(VENV)/sample.conf
	diff -u etc/txglancecache.conf.sample $(VENV)/sample.conf
	$(BIN)/oslopolicy-sample-generator --config-file etc/oslo-policy-generator/txglancecache.conf \
	    --output-file $(VENV)/sample.policy.yaml
	diff -u etc/txglancecache.policy.yaml.sample $(VENV)/sample.policy.yaml

unit: $(STAMP)  ## the unit tests
	$(BIN)/pytest -q -n logical --maxprocesses=4 --timeout=300 $(PYTEST_OPTIONS) tests/unit

integration: debian-test $(STAMP)  ## the tests on a real Keystone, Glance and Swift, and the faults in short
	@$(BIN)/python -m tests.cloud.install
	$(BIN)/pytest -q -p no:twisted -n 2 --dist loadfile --timeout=180 --durations=10 $(PYTEST_OPTIONS) \
	    tests/integration tests/faults

faults: debian-test $(STAMP)  ## the whole fault campaign; its table is printed, and written to docs/faults.rst
	@$(BIN)/python -m tests.cloud.install
	$(BIN)/pytest -q -p no:twisted --timeout=1800 --whole-campaign --faults-page=docs/faults.rst \
	    $(PYTEST_OPTIONS) tests/faults

bench: debian-bench $(STAMP)  ## measure beside nginx and others, ten minutes; the table is in docs/benchmarks and README.rst
	@$(BIN)/python -m benchmarks $(BENCH_OPTIONS); status=$$?; $(BIN)/python -m tests.unit.test_readme; exit $$status

sample: $(STAMP)  ## write the samples in etc anew
	$(BIN)/oslo-config-generator --config-file etc/oslo-config-generator/txglancecache.conf
	$(BIN)/oslopolicy-sample-generator --config-file etc/oslo-policy-generator/txglancecache.conf

readme: $(STAMP)  ## write the tables in README.rst anew
	$(BIN)/python -m tests.unit.test_readme

constraints: debian-run  ## resolve every dependency anew and pin what comes out
	requirements/resolve $(PYTHON)

venv: $(STAMP)  ## the virtual environment with the package in it

clean:  ## remove what was made here
	rm -rf $(VENV) .cloud .bench build dist *.egg-info .hypothesis .mypy_cache .pytest_cache .ruff_cache .import_linter_cache
	find . -name __pycache__ -not -path './.git/*' -prune -exec rm -rf {} +

# compat: the default kind of editable install does not show the twistd plugin to Twisted
$(STAMP): setup.py pyproject.toml constraints.txt requirements/test.txt requirements/bench.txt | debian-run
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install -q --disable-pip-version-check -c constraints.txt \
	    -r requirements/test.txt -r requirements/bench.txt
	$(BIN)/python -m pip install -q --disable-pip-version-check -c constraints.txt \
	    --no-build-isolation --config-settings editable_mode=compat -e .
	$(BIN)/twistd --help > /dev/null
	touch $@

debian-run debian-test debian-bench: debian-%:
	@requirements/debian $* $(PYTHON)
