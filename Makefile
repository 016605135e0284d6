# Everything runs from here: `make` prints what there is. Needs Python 3.11 to 3.13, git and make.

PYTHON ?= python3
VENV := .venv/bin/python
VERSIONS := 3.3 3.2 3.1 3.0 2.11
PYTEST := $(VENV) -m pytest
# A test that hangs is a failure, not a night.
TIMEOUT ?= 600
ARGS ?=
TEST = $(PYTEST) --timeout=$(TIMEOUT) tests/unit tests/exploration tests/integration tests/e2e $(ARGS)

export PYTHONUNBUFFERED := 1

.DEFAULT_GOAL := help
.PHONY: help print-test python setup setup-all $(VERSIONS:%=setup-%) demo test test-unit test-integration test-e2e test-exploration \
        test-parity setup-parity setup-dlt test-matrix $(VERSIONS:%=test-matrix-%) lint lint-check lint-format lint-types \
        format bench soak mutate constraints clean

help: ## Print what there is
	@grep -hE '^[a-z0-9-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | awk -F'\t' '{printf "  make %-19s %s\n", $$1, $$2}'
	@echo '  make setup-2.11         The environment of one Airflow version: $(VERSIONS)'
	@echo '  make test-matrix-2.11   tests/matrix on one Airflow version'

python:
	@command -v $(PYTHON) >/dev/null 2>&1 || { \
	  echo "There is no '$(PYTHON)' here. Name a Python from 3.11 to 3.13: make PYTHON=/path/to/python3.12 ..." >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' || { \
	  echo "'$(PYTHON)' is $$($(PYTHON) --version 2>&1), and this needs Python 3.11 to 3.13." >&2; \
	  echo "Name one: make PYTHON=/path/to/python3.12 ..." >&2; exit 1; }

setup: python ## Create the environment: Airflow 3.3, the servers, the tools
	@$(PYTHON) -m scripts.setup_env

setup-all: python ## The same for every Airflow version
	@$(PYTHON) -m scripts.setup_env servers $(VERSIONS)

$(VERSIONS:%=setup-%): setup-%: python
	@$(PYTHON) -m scripts.setup_env servers $*

demo: setup ## Watch refresh tokens rotate on a real Airflow, a real authorization server and a real OpenBao
	@$(VENV) -m scripts.demo $(ARGS)

test: setup setup-2.11 ## Unit, integration and end-to-end tests (Airflow 3.3; one DAG on 2.11)
	$(TEST)

print-test:
	@echo '$(TEST)'

test-unit: setup ## Unit tests only: seconds, no network
	$(PYTEST) --timeout=60 tests/unit $(ARGS)

test-exploration: setup ## The refresh protocol in all orders and with all faults, up to a bound: minutes
	$(PYTEST) --timeout=$(TIMEOUT) tests/exploration $(ARGS)

test-integration: setup ## Tests against the real servers
	$(PYTEST) --timeout=$(TIMEOUT) tests/integration $(ARGS)

test-parity: setup-parity ## The http provider's own tests against our classes
	.venvs/parity/bin/python -m pytest --timeout=$(TIMEOUT) -c tests/parity/pytest.ini \
	  --confcutdir=.venvs/parity/sources .venvs/parity/sources/*/tests $(ARGS)

setup-parity: python
	@$(PYTHON) -m scripts.setup_env parity

test-e2e: setup setup-2.11 ## Tests on a running Airflow
	$(PYTEST) --timeout=$(TIMEOUT) tests/e2e $(ARGS)

test-matrix: $(VERSIONS:%=test-matrix-%) ## tests/matrix on every Airflow version, one after the other

$(VERSIONS:%=test-matrix-%): test-matrix-%: setup-%
	TEST_AIRFLOW=$* $(if $(filter 3.3,$*),.venv,.venvs/$*)/bin/python -m pytest --timeout=$(TIMEOUT) tests/matrix $(ARGS)

lint: lint-check lint-format lint-types ## ruff and mypy

lint-check: setup
	$(VENV) -m ruff check .

lint-format: setup
	$(VENV) -m ruff format --check .

lint-types: setup
	$(VENV) -m mypy

format: setup ## Let ruff fix what it can
	$(VENV) -m ruff check --fix .
	$(VENV) -m ruff format .

setup-dlt: python
	@$(PYTHON) -m scripts.setup_env dlt

bench: setup setup-dlt ## Benchmarks; ARGS=imports for one of them
	@$(VENV) -m benchmarks $(ARGS)

soak: setup setup-2.11 ## Many processes, many expiries: no refresh token spent twice
	@$(VENV) -m benchmarks.soak $(ARGS)

mutate: setup ## Change the life cycle at random and see whether the unit tests notice; ARGS=--all for every change
	@$(VENV) -m scripts.mutate $(ARGS)

constraints: setup ## Resolve the pinned versions anew
	@$(VENV) -m scripts.update_constraints $(ARGS)

clean: ## Remove the environments and what the tools left behind
	rm -rf .venv .venvs .build .pytest_cache .mypy_cache .ruff_cache .hypothesis dist tests/servers/authorization_server/node_modules
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
