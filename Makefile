# Every target sets up what it needs. PYTHON may name another interpreter of 3.11 or newer.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: setup test check clean mosquitto

setup: $(VENV)/.installed

$(VENV)/.installed: pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed: make PYTHON=python3.11")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --editable '.[dev,sim]'
	touch $@

mosquitto: setup
	$(BIN)/fleet-market mosquitto

check: setup
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo

test: check mosquitto
	$(BIN)/python -m pytest

clean:
	rm -rf $(VENV) .cache out .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis
