# Everything runs from here: `make` prints what there is. Needs Python 3.11 to 3.14, git and make.

PYTHON ?= python3
VENV := .venv/bin/python
# The newest of everything on each Airflow, and the oldest supported patch of each with its official versions.
NEWEST := 3.3 3.2 3.1 3.0 2.11
OFFICIAL := 3.3.1 3.2.1 3.1.6 3.0.6 2.11.0
VERSIONS := $(NEWEST) $(OFFICIAL)
PYTEST := $(VENV) -m pytest
# A test that hangs is a failure, not a night.
TIMEOUT ?= 600
ARGS ?=
# So many workers at once, each with the modules and the servers that fall to it. 0 runs all in one process.
WORKERS ?= 2
PARALLEL := -n $(WORKERS) --dist loadfile
# All tests together wait for servers most of the time.
ALL_WORKERS ?= 3
# In this order: the e2e tests, which one worker runs (tests/conftest.py), begin first; the quick files fill up the end.
TEST = $(PYTEST) -n $(ALL_WORKERS) --dist loadfile --no-loadscope-reorder --timeout=$(TIMEOUT) tests/e2e tests/integration tests/unit $(ARGS)
# Branches of the package that the unit tests take; the figure may rise, not fall.
COVERAGE_FLOOR := 72
COVERED := --cov --cov-branch --cov-report=term:skip-covered --cov-fail-under=$(COVERAGE_FLOOR)

export PYTHONUNBUFFERED := 1

.DEFAULT_GOAL := help
.PHONY: help print-test coverage python setup setup-all $(VERSIONS:%=setup-%) demo test test-unit test-integration test-e2e test-exploration \
        test-fleet test-parity setup-parity setup-dlt test-matrix $(VERSIONS:%=test-matrix-%) test-wheel docs lint lint-check lint-format lint-types \
        lint-dependencies format audit bench soak mutate constraints hashes clean

help: ## Print what there is
	@grep -hE '^[a-z0-9-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | awk -F'\t' '{printf "  make %-19s %s\n", $$1, $$2}'
	@echo '  make setup-2.11         The environment of one Airflow version: $(VERSIONS)'
	@echo '  make test-matrix-2.11   tests/matrix on one Airflow version'

python:
	@command -v $(PYTHON) >/dev/null 2>&1 || { \
	  echo "There is no '$(PYTHON)' here. Name a Python from 3.11 to 3.14: make PYTHON=/path/to/python3.12 ..." >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 14))' || { \
	  echo "'$(PYTHON)' is $$($(PYTHON) --version 2>&1), and this needs Python 3.11 to 3.14." >&2; \
	  echo "Name one: make PYTHON=/path/to/python3.12 ..." >&2; exit 1; }

setup: python ## Create the environment: Airflow 3.3, the servers, the tools
	@$(PYTHON) -m scripts.setup_env

setup-all: python ## The same for every Airflow version
	@$(PYTHON) -m scripts.setup_env servers $(VERSIONS)

$(VERSIONS:%=setup-%): setup-%: python
	@$(PYTHON) -m scripts.setup_env servers $*

demo: setup ## Watch refresh tokens rotate on a real Airflow, a real authorization server and a real OpenBao
	@$(VENV) -m scripts.demo $(ARGS)

test: setup setup-3.1 setup-2.11 ## Unit, integration and end-to-end tests (Airflow 3.3; pages on 3.1, too; one DAG on 2.11)
	$(TEST)

print-test:
	@echo '$(TEST)'

coverage: setup ## What part of the branches the unit tests take
	$(PYTEST) $(PARALLEL) --timeout=60 $(COVERED) tests/unit $(ARGS)

test-unit: setup ## Unit tests only: seconds, no network
	$(PYTEST) $(PARALLEL) --timeout=60 tests/unit $(ARGS)

test-exploration: setup ## The refresh protocol in all orders and with all faults, up to a bound: minutes
	$(PYTEST) $(PARALLEL) --timeout=$(TIMEOUT) tests/exploration $(ARGS)

test-integration: setup ## Tests against the real servers
	$(PYTEST) $(PARALLEL) --timeout=$(TIMEOUT) tests/integration $(ARGS)

test-parity: setup-parity ## The http provider's own tests against our classes
	.venvs/parity/bin/python -m pytest --timeout=$(TIMEOUT) -c tests/parity/pytest.ini \
	  --confcutdir=.venvs/parity/sources .venvs/parity/sources/*/tests $(ARGS)

setup-parity: python
	@$(PYTHON) -m scripts.setup_env parity

test-e2e: setup setup-3.1 setup-2.11 ## Tests on a running Airflow
	$(PYTEST) --timeout=$(TIMEOUT) tests/e2e $(ARGS)

test-fleet: setup ## Celery workers without a database, many tasks, one connection; FLEET_TASKS=200 for more
	@$(PYTHON) -m scripts.setup_env fleet
	$(PYTEST) --timeout=1200 tests/fleet $(ARGS)

test-matrix: $(VERSIONS:%=test-matrix-%) ## tests/matrix on every Airflow version; make -j2 for two at a time

# Where the versions are a release's own: the operators beside the stock ones; on the oldest also each store.
PARITY := tests/integration/test_http_operator.py tests/integration/test_http_sensor.py tests/integration/test_trigger_http.py
STORES := tests/integration/test_store_vault.py tests/integration/test_store_aws.py \
          tests/integration/test_store_azure.py tests/integration/test_store_google.py

$(VERSIONS:%=test-matrix-%): test-matrix-%: setup-%
	TEST_AIRFLOW=$* $(if $(filter 3.3,$*),.venv,.venvs/$*)/bin/python -m pytest --timeout=$(TIMEOUT) tests/matrix \
	  $(if $(filter $(OFFICIAL),$*),$(PARITY)) $(if $(filter 2.11.0,$*),$(STORES)) $(ARGS)

test-wheel: setup ## Build the package, look at it, run the unit tests against what was built, and measure their coverage
	@$(VENV) -m scripts.check_wheel $(PARALLEL) $(COVERED) $(ARGS)

docs: setup ## Build the site of the docs into site/; a broken link is an error
	@$(VENV) -m scripts.build_docs $(ARGS)

lint: lint-check lint-format lint-types lint-dependencies ## ruff, mypy, and that what is imported is declared

lint-check: setup
	$(VENV) -m ruff check .

lint-format: setup
	$(VENV) -m ruff format --check .

lint-types: setup
	$(VENV) -m mypy

lint-dependencies: setup
	$(VENV) -m deptry airflow_oauth_provider

audit: setup ## Known vulnerabilities of the pinned versions; needs the network
	@$(VENV) -m scripts.audit

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

hashes: python ## Look up the hashes of the pinned versions, after a change of requirements/constraints by hand
	@$(PYTHON) -m scripts.hashes

clean: ## Remove the environments and what the tools left behind
	rm -rf .venv .venvs .build site .pytest_cache .mypy_cache .ruff_cache .hypothesis dist tests/servers/authorization_server/node_modules
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
