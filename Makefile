# Every target sets up what it needs; a fresh machine wants only Python 3.11 or newer and make.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
DURATION ?= 60
WORKERS ?= 3
SEEDS ?= 500
SEED_START ?= 0
.DEFAULT_GOAL := help
.PHONY: help setup demo test check format unit simulate mutants soak bench bench-full bench-compare record scrape schema generate chart image lock clean

help: ## Say what can be made
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-13s %s\n", $$1, $$2}'

setup: $(VENV)/.ready ## Make the virtual environment with the locked dependencies

$(VENV)/.ready: requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "$(PYTHON) is older than 3.11: make $(MAKECMDGOALS) PYTHON=/path/to/python3.11"; exit 1; }
	@$(PYTHON) -m venv --clear $(VENV) || { echo "cannot make a virtual environment: on Debian and Ubuntu install python3-venv"; exit 1; }
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@

demo: setup ## The whole line on the embedded stack, compared with the OMS at the end (DURATION=60)
	$(BIN)/order-sync demo --duration $(DURATION) $(DEMO_ARGS)

test: check ## Everything CI runs: lint, format, types, import contracts, tests (WORKERS=3)
	$(BIN)/python -m pytest -n $(WORKERS) --dist loadgroup

check: setup ## Lint, format, strict types, import contracts
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: setup ## Put every file into shape
	$(BIN)/ruff check --fix-only --quiet .
	$(BIN)/ruff format .

simulate: setup ## Delivery under virtual time and seeded faults (SEEDS=500 SEED_START=0 POSTGRES=20 TRACE=1)
	cd tests && ../$(BIN)/python -m simulation --seeds $(SEEDS) --start $(SEED_START) \
	  $(if $(POSTGRES),--postgres $(POSTGRES)) $(if $(TRACE),--trace)

mutants: setup ## Known ways to get delivery wrong, each of which the simulation has to find
	$(BIN)/python -m pytest tests/simulation/test_mutants.py -m "simulate or not simulate"

soak: setup ## Real time, repeated kills; run before closing an issue (about ten minutes)
	$(BIN)/python -m pytest tests/soak -m soak --timeout 3600 -s

bench: setup ## Figures of speed, in bench/results.json too (some minutes; FIGURES="decode fold" takes these alone)
	PYTHONPATH=tests $(BIN)/python bench $(FIGURES)

bench-full: setup ## All figures of speed, also peers and a state of millions of orders (an hour or two)
	PYTHONPATH=tests $(BIN)/python bench --full $(FIGURES)

bench-compare: setup ## This revision beside BASE=<revision>, in turn; fails where a rate got worse by more than noise
	$(BIN)/python bench/compare.py $(BASE) $(FIGURES)

record: setup ## Record corpora from real connectors (NAME="..."; without one: what there is to record)
	PYTHONPATH=tests $(BIN)/python -m recorder $(NAME)

scrape: setup ## Record what the demo's /metrics shows: what the tests of the alerts are made of
	PYTHONPATH=tests $(BIN)/python -m prometheus_rig

COMPILE = $(VENV)-lock/bin/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-annotate \
	  --custom-compile-command "make lock"

generate: setup ## Make what is generated in helm/: schema, pages, dashboards
	PYTHONPATH=tests $(BIN)/python -m chart

chart: setup ## The chart with the real Helm, which is built from Go modules on first use (APISERVER=1: Kubernetes' too)
	PYTHONPATH=tests nice $(BIN)/python -m chart.tools helm $(if $(APISERVER),etcd kube-apiserver)
	$(BIN)/python -m pytest tests/ship -rs

image: setup ## The Dockerfile linted, and its steps replayed in clean roots (root and Debian's debootstrap)
	$(BIN)/python -m pytest tests/ship/test_image.py -m "image or not image" -rs

schema: setup ## Write what is made of the mapping language: its JSON Schema and the table of its functions
	$(BIN)/python -c 'from daemon.mapping.json_schema import schema_text as made; print(made(), end="")' > config/mapping.schema.json
	$(BIN)/python -c 'from daemon.mapping.json_schema import function_table as made; print(made(), end="")' > config/mapping.functions.md

lock: ## Renew the lock files from pyproject.toml: all for developing, what the image holds, what builds it
	$(PYTHON) -m venv $(VENV)-lock
	$(VENV)-lock/bin/pip install --quiet uv
	$(COMPILE) pyproject.toml --extra demo --extra avro --group dev --group build -o requirements.lock
	$(COMPILE) pyproject.toml --extra avro --constraint requirements.lock -o requirements-image.lock
	$(COMPILE) --group build --constraint requirements.lock -o requirements-build.lock
	rm -rf $(VENV)-lock

clean: ## Remove the virtual environment and caches
	rm -rf $(VENV) .mypy_cache .ruff_cache .import_linter_cache .hypothesis .pytest_cache dist
