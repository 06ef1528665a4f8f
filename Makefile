# `make run` and `make test` set everything up on a machine that has Python 3.11 or later, a C and C++
# compiler, and make: a virtual environment in .venv, its packages (from wherever pip is set up to
# find them), and the compiled modules, each only when it is missing or out of date.
#
#   make run              build and start the demo exchange, in the foreground
#   make test             build and run the tests        (ARGS="-k ring" picks some; "-n 0 -s" one by one)
#   make check            lint, formatting and types; compiles nothing
#   make bench            build and run the benchmarks   (NAME=ring runs one)
#   make soak             the long tests (COUNT=1e6 of what ARGS="tests/simulation" counts; or SECONDS=600)
#   make planted          plant bugs in a copy, one at a time, and see that the tests find them  (NAME=fee: those)
#   make build            compile what has changed
#   make clean            remove what was built, but neither .venv nor the demo's data
#
# Variables: VENV (where the virtual environment is), PYTHON (what makes it), ARGS.

VENV ?= .venv
PYTHON ?= $(firstword $(foreach p,python3 python3.14 python3.13 python3.12 python3.11,\
	$(shell $(p) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $(p))))
BIN := $(abspath $(VENV))/bin
DEMO_DATA ?= var/demo
ARGS ?=
NAME ?=
COUNT ?=
SECONDS ?=

CYTHON_SOURCES := core shm persistence gateway benchmarks

.PHONY: run test check bench soak planted build clean help
.DEFAULT_GOAL := help

help:
	@sed -n 's/^#   //p' Makefile

run: build
	@echo "Starting the demo exchange of tools/demo.toml, its data in $(DEMO_DATA). Ctrl-C stops it."
	@echo "To use it from another terminal, first: cd $(CURDIR) && . $(VENV)/bin/activate"
	@mkdir -p $(DEMO_DATA)
	@$(BIN)/matchbox up tools/demo.toml --data $(DEMO_DATA) $(ARGS)

test: build
	@echo "Running the tests"
	@$(BIN)/python -m pytest -n $$(nproc) --dist loadfile $(ARGS)

# cython-lint calls pycodestyle, which is found by PATH.
check: $(VENV)/ready
	@echo "Checking lint, formatting and types"
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@PATH="$(BIN):$$PATH" cython-lint $(CYTHON_SOURCES)
	@$(BIN)/mypy

bench: build
	@$(BIN)/matchbox bench $(NAME) $(ARGS)

soak: build
	@MATCHBOX_SOAK_COUNT=$(COUNT) MATCHBOX_SOAK_SECONDS=$(SECONDS) \
		$(BIN)/python -m pytest -m soak --timeout 0 -s $(ARGS)

planted: build
	@$(BIN)/python -m tests.planted $(if $(NAME),-k $(NAME)) $(ARGS)

build: $(VENV)/ready
	@echo "Compiling what has changed (all of it takes a minute or two)"
	@$(BIN)/python setup.py -q build_ext --inplace -j $$(nproc)

# The packages, and Matchbox itself in editable mode: one .pth line, and the command `matchbox`.
$(VENV)/ready: pyproject.toml setup.py
	@test -n "$(PYTHON)" || { echo "Python 3.11 or later is needed; set PYTHON=/path/to/python3"; exit 1; }
	@echo "Setting up $(VENV) with $$($(PYTHON) --version)"
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(BIN)/python -c "import tomllib; \
		print(*tomllib.load(open('pyproject.toml', 'rb'))['build-system']['requires'], sep='\n')" \
		> $(VENV)/build-requirements.txt
	@$(BIN)/python -m pip install -q --disable-pip-version-check -r $(VENV)/build-requirements.txt
	@MATCHBOX_EXTENSIONS=none $(BIN)/python -m pip install -q --disable-pip-version-check \
		--no-build-isolation -e '.[dev]'
	@touch $@

clean:
	rm -rf build *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis
	find core shm persistence gateway tools benchmarks tests -name '*.so' -delete
	find core shm persistence gateway tools benchmarks tests -name __pycache__ -prune -exec rm -rf {} +
	rm -f $(VENV)/ready
