# `make demo` and `make test` need Python 3.11+ and nothing else; each sets up its own environment first.
PYTHON ?= python3
VENV ?= .venv
BIN = $(VENV)/bin
CODE = schemas providers gateway tests benchmarks

.DEFAULT_GOAL := help
.PHONY: help demo test lint format bench torture conformance readme constraints clean

help: ## say what there is
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

$(VENV)/.ready: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit("Python 3.11 or newer is needed; say which with make PYTHON=python3.12") if sys.version_info < (3, 11) else None'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	@touch $@

demo: $(VENV)/.ready ## a meeting booked, moved and cancelled through a real MCP client
	@$(BIN)/scheduling-gateway demo

test: lint ## lint, format check, types, and the tests with coverage
	$(BIN)/python -m pytest -q -n auto --dist worksteal --cov --cov-report=term --cov-fail-under=90

lint: $(VENV)/.ready ## ruff and mypy
	$(BIN)/ruff check $(CODE)
	$(BIN)/ruff format --check $(CODE)
	$(BIN)/mypy

format: $(VENV)/.ready ## let ruff put the code in order
	$(BIN)/ruff check --fix $(CODE)
	$(BIN)/ruff format $(CODE)

bench: $(VENV)/.ready ## speed, beside a bare FastMCP server in the same run
	$(BIN)/python -m benchmarks

torture: $(VENV)/.ready ## kill it at every point, 10,000 random steps and hostile requests, every order of two moves (long)
	$(BIN)/python -m tests.torture
	$(BIN)/python -m tests.torture_machine
	$(BIN)/python -m tests.torture_saga
	$(BIN)/python -m tests.torture_hostile

conformance: $(VENV)/.ready ## the MCP project's own suites, for servers and for OAuth clients, against ours (needs npx)
	@command -v npx >/dev/null || { echo 'npx was not found: install Node (https://nodejs.org), which brings it'; exit 1; }
	$(BIN)/python -m tests.conformance_server
	$(BIN)/python -m tests.conformance_client

readme: $(VENV)/.ready ## render what the README says of capabilities
	$(BIN)/python -m gateway.matrix README.md

constraints: ## pin what is installed now
	$(BIN)/python -m pip list --format=freeze --exclude-editable | grep -viE '^(pip|setuptools|wheel)==' > constraints.txt

clean: ## remove what make made
	rm -rf $(VENV) build dist .coverage* .mypy_cache .ruff_cache .hypothesis
