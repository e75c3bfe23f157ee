# make audit   a first report: makes .venv, installs byrote, audits the embedded digits
# make test    every check that CI runs, in the same environment plus the test extras
#
# Variables: PYTHON (the interpreter .venv is made with), VENV (where), ARGS (what `make audit` adds to its command).

.DEFAULT_GOAL := help
.NOTPARALLEL:

VENV ?= .venv
ARGS ?=
BIN := $(VENV)/bin
CANDIDATES := python3 python3.13 python3.12 python3.11
FITS := import sys, venv; sys.exit(sys.version_info < (3, 11))
PYTHON ?= $(shell for name in $(CANDIDATES); do $$name -c '$(FITS)' 2>/dev/null && echo $$name && break; done)
INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt

.PHONY: help
help: ## what can be made
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

# ---- environments: each stamp is as old as what it was installed from --------------------------------------------

$(VENV)/pyvenv.cfg:
	@$(PYTHON) -c '$(FITS)' 2>/dev/null || { \
	  echo "byrote needs Python 3.11 or newer; tried: $(or $(PYTHON),$(CANDIDATES))." >&2; \
	  echo "Install one, or name it: make PYTHON=/path/to/python3.12" >&2; exit 1; }
	@echo "Making $(VENV) with $$($(PYTHON) --version)."
	@$(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); \
	  echo "Could not make $(VENV). On Debian and Ubuntu: apt install python3-venv" >&2; exit 1; }

$(VENV)/.stamp-package: $(VENV)/pyvenv.cfg pyproject.toml constraints.txt
	@echo "Installing byrote and what it needs (a minute or two, once)."
	@$(INSTALL) --editable .
	@touch $@

$(VENV)/.stamp-tests: $(VENV)/.stamp-package
	@echo "Installing what the checks need (once)."
	@$(INSTALL) --editable '.[test,docs]'
	@touch $@

.PHONY: install
install: $(VENV)/.stamp-tests ## the environment for development, without running anything

# ---- for users ---------------------------------------------------------------------------------------------------

.PHONY: audit
audit: $(VENV)/.stamp-package ## audit the digits and say where the report is
	@$(BIN)/byrote audit digits $(ARGS)

# ---- for developers ----------------------------------------------------------------------------------------------

.PHONY: test lint format contracts types docs wheel unit slow clean
test: lint contracts types docs wheel unit ## every check that CI runs

lint: $(VENV)/.stamp-tests ## ruff: style and format
	$(BIN)/ruff check
	$(BIN)/ruff format --check

format: $(VENV)/.stamp-tests ## rewrite in the house style
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

contracts: $(VENV)/.stamp-tests ## import-linter: who may import whom
	$(BIN)/lint-imports --no-logo

types: $(VENV)/.stamp-tests ## pyright
	$(BIN)/pyright

docs: $(VENV)/.stamp-tests ## the documentation, every warning an error
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

wheel: $(VENV)/.stamp-tests ## the built wheel, installed in an empty environment and run
	$(BIN)/python scripts/check_wheel.py

# Tiny networks run slower with two threads than with one, so workers are processes. `-v` lifts the `-q` of
# pyproject.toml: the closing line is printed in full.
unit: $(VENV)/.stamp-tests ## pytest, doctests included
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -v --numprocesses auto --maxprocesses 4 --dist loadfile

slow: $(VENV)/.stamp-tests ## the tests that take minutes
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -v --numprocesses auto --maxprocesses 4 --dist loadfile -m slow

clean: ## remove what was built; the environment stays
	rm -rf build dist site .pytest_cache .ruff_cache .hypothesis .import_linter_cache
	find src tests scripts benchmarks -name __pycache__ -type d -prune -exec rm -rf {} +
