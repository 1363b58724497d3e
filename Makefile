# Targets for people and for CI; `make help` lists them.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
# Each starts its own servers. A file stays in one, with its servers; the order is that of the tests.
IN_TWO_PROCESSES := -n 2 --dist loadfile --no-loadscope-reorder

.DEFAULT_GOAL := help
.PHONY: help install run test test-unit chaos browser lint types check format clean

help: ## List the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  %-10s %s\n", $$1, $$2}'

install: $(INSTALLED) ## Make the virtual environment with everything pinned in constraints.txt

$(INSTALLED): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit("Python 3.11 or newer is needed, not " + sys.version.split()[0]) if sys.version_info < (3, 11) else None'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev]'
	@touch $@

run: $(INSTALLED) ## Start everything: MongoDB, Redis, mail catcher, API, worker, beat (ARGS="--data-dir .data")
	@exec $(BIN)/accounting dev $(ARGS)

test: check browser ## Lint, types and all tests, on real servers that the tests start themselves
	$(BIN)/python -m pytest $(IN_TWO_PROCESSES) $(ARGS)

test-unit: $(INSTALLED) ## The quick loop: unit tests in memory
	$(BIN)/python -m pytest tests/unit -m "not real_mongo" $(ARGS)

chaos: $(INSTALLED) ## Bill 2,000 templates while workers and the database are killed (some minutes)
	CHAOS_TEMPLATES=2000 CHAOS_KILLS=40 CHAOS_TRANSACTION_SECONDS=60 \
		$(BIN)/python -m pytest tests/integration/acceptance/test_generation_crashes.py $(ARGS)

browser: ## Chromium for the browser test, where there is none (Debian, as root)
	@scripts/install_browser.sh

check: lint types ## Lint and types

lint: $(INSTALLED) ## Style and formatting
	$(BIN)/ruff check src tests scripts
	$(BIN)/ruff format --check src tests scripts

types: $(INSTALLED) ## mypy --strict
	$(BIN)/mypy

format: $(INSTALLED) ## Put the code into the house's format
	$(BIN)/ruff check --fix src tests scripts
	$(BIN)/ruff format src tests scripts

clean: ## Remove what the other targets made
	rm -rf $(VENV) build dist .mypy_cache .ruff_cache .pytest_cache src/*.egg-info
