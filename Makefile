# Each target sets up what it needs: python3 (3.11 or newer, with venv) and make are enough.

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
UV := $(BIN)/uv
PACKAGES := $(patsubst %/pyproject.toml,%,$(wildcard packages/*/pyproject.toml))
DISTRIBUTIONS := artigraph $(notdir $(PACKAGES))
INSTALLED := $(VENV)/.installed

.PHONY: help demo test lint types pytest test-pythons torture dist lock bench bench-full sizes

help:
	@echo "make demo          a pipeline on real data, stored and loaded again"
	@echo "make test          lint, types and all tests"
	@echo "make lint          style, format, import order and declared requirements"
	@echo "make types         the strict type checker"
	@echo "make test-pythons  the tests on each supported Python that is here"
	@echo "make torture       all faults that are tried, up to an hour; the table in docs/guarantees.md"
	@echo "make bench         how fast it is, in docs/performance.md"
	@echo "make bench-full    the same with larger sizes"
	@echo "make sizes         what each extra installs and imports, in docs/installs.md"
	@echo "make dist          wheels and sdists of all distributions, in dist/"
	@echo "make lock          constraints.txt anew"

demo: $(INSTALLED)
	@$(BIN)/python examples/flights/demo.py

test: lint types pytest
	@echo "make test: lint, types and tests have passed."

lint: $(INSTALLED)
	$(BIN)/ruff check --quiet
	$(BIN)/ruff format --check --quiet
	$(BIN)/lint-imports --no-logo
	@for package in $(PACKAGES); do \
	    echo "deptry $$package"; \
	    said=$$($(BIN)/deptry --no-ansi --config $$package/pyproject.toml $$package/src 2>&1) \
	        || { echo "$$said"; exit 1; }; \
	done

types: $(INSTALLED)
	$(BIN)/basedpyright --pythonpath $(BIN)/python

pytest: $(INSTALLED)
	$(BIN)/python -m pytest -q --numprocesses auto --maxprocesses 4 --dist worksteal

# pyenv has interpreters that are not on PATH, and commands on PATH that don't run.
test-pythons:
	@missing=; failed=; for version in 3.11 3.12 3.13; do \
	    found=; \
	    for python in python$$version "$$(pyenv prefix "$$(pyenv latest $$version 2>&1)" 2>&1)/bin/python"; do \
	        if "$$python" -c "" 2>/dev/null; then found=$$python; break; fi; \
	    done; \
	    if [ -z "$$found" ]; then missing="$$missing $$version"; continue; fi; \
	    echo "Python $$version: $$found"; \
	    $(MAKE) --no-print-directory pytest VENV=.venv-$$version PYTHON="$$found" \
	        || failed="$$failed $$version"; \
	done; \
	if [ -n "$$missing" ]; then echo "Not here, so not tested: Python$$missing"; fi; \
	if [ -n "$$failed" ]; then echo "Failed: Python$$failed"; exit 1; fi

# An hour at most; with ARTIGRAPH_TEST_TORTURE=0.2, say, a part of it.
torture: export ARTIGRAPH_TEST_TORTURE ?= 1
torture: $(INSTALLED)
	$(BIN)/python tests/matrix.py

dist: $(INSTALLED)
	rm -rf dist
	ARTIGRAPH_RELEASE=1 $(UV) build --quiet --all-packages --out-dir dist
	@ls -l dist

lock: $(INSTALLED)
	$(UV) pip compile --quiet --upgrade --universal --no-header --no-annotate \
	    --python-version 3.11 --all-extras --group dev $(DISTRIBUTIONS:%=--no-emit-package %) \
	    pyproject.toml $(PACKAGES:%=%/pyproject.toml) --output-file constraints.txt

bench: $(INSTALLED)
	@$(BIN)/python -m benchmarks

bench-full: $(INSTALLED)
	@$(BIN)/python -m benchmarks --full

sizes: $(INSTALLED)
	@$(BIN)/python benchmarks/install_sizes.py

define CHECK_PYTHON
import sys
version = "%d.%d" % sys.version_info[:2]
if sys.version_info < (3, 11):
    sys.exit(
        "Artigraph needs Python 3.11 or newer, and $(PYTHON) is %s. Install one and name it: "
        "apt-get install python3.11-venv && make PYTHON=python3.11 $(MAKECMDGOALS)" % version
    )
try:
    import ensurepip, venv
except ImportError:
    sys.exit("$(PYTHON) has no venv: apt-get install python%s-venv" % version)
endef
export CHECK_PYTHON

$(UV): export PIP_DISABLE_PIP_VERSION_CHECK = 1
$(UV):
	@command -v $(PYTHON) >/dev/null \
	    || { echo "There is no $(PYTHON): apt-get install python3-venv" >&2; exit 1; }
	@$(PYTHON) -c "$$CHECK_PYTHON"
	@$(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --constraint constraints.txt uv

$(INSTALLED): pyproject.toml hatch_build.py constraints.txt $(PACKAGES:%=%/pyproject.toml) | $(UV)
	@echo "Installing Artigraph and what its tests need into $(VENV)"
	@$(UV) pip install --quiet --python $(BIN)/python --compile-bytecode \
	    --constraint constraints.txt --build-constraint constraints.txt --group dev \
	    $(PACKAGES:%=--editable %) --editable '.[all,mysql,postgresql]'
	@touch $@
