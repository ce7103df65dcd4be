# Every target sets itself up: `make test` and `make demo` work in a fresh clone.

PYTHON ?= $(shell for python in python3.11 python3; do $$python -c "" 2>/dev/null && echo $$python && break; done)
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check install --quiet
ARGS ?=

.DEFAULT_GOAL := help
.PHONY: help $(VENV) check test demo bench sweep format clean

help:
	@echo "make demo     see a swarm decide although one device lies"
	@echo "make test     check, then all tests"
	@echo "make check    format, lint, types, floors"
	@echo "make format   write the format instead of only checking it"
	@echo "make bench    what this machine can do"
	@echo "make sweep    cut a simulated device at every operation, and judge what is left"
	@echo "make .venv    only install, with everything for development"
	@echo "make clean    remove what runs and checks left behind (keeps .venv)"

# ------------------------------------------------------------------------------------ set up

# Stamps, because a directory's own time says nothing about what is installed in it.
RUNTIME := $(VENV)/.installed-runtime
DEVELOP := $(VENV)/.installed-develop

$(RUNTIME): pyproject.toml
	@$(if $(PYTHON),$(PYTHON) -c "import sys; sys.exit(sys.version_info < (3, 11))",false) || { \
	  echo "Swarm needs Python 3.11 or newer; found: $(if $(PYTHON),$$($(PYTHON) --version 2>&1),none)." >&2; \
	  echo "Install it, or name one: make PYTHON=/path/to/python3.11" >&2; exit 1; }
	@echo "setting up $(VENV) (once, about a minute)"
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(PIP) --editable .
	@touch $@

$(DEVELOP): $(RUNTIME)
	@echo "adding what checks and tests need to $(VENV)"
	@$(PIP) --editable ".[dev]"
	@touch $@

$(VENV): $(DEVELOP)

# ------------------------------------------------------------------------------------ use

check: $(DEVELOP)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo

# One worker a core: the tests share nothing but the machine. `make test ARGS="-n 0 -x"` runs them in one process.
test: check
	$(BIN)/pytest -n auto --dist worksteal $(ARGS)

demo: $(RUNTIME)
	@$(BIN)/python -m swarm.cli.demo $(ARGS)

bench: $(RUNTIME)
	@$(BIN)/swarm bench $(ARGS)

sweep: $(RUNTIME)
	@$(BIN)/python -m firmware_sim.sweep $(ARGS)

format: $(DEVELOP)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:
	rm -rf build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache .coverage
	find swarm firmware_sim tests -type d -name __pycache__ -prune -exec rm -rf {} +
