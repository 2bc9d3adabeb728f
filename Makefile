# make demo and make test do everything a fresh machine needs; the rest is for people who work on kdal.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# uv reads its own settings only, so that a stray CPU-only torch that pip would find is never mixed with torchvision.
UV = env -u UV_FIND_LINKS -u UV_TORCH_BACKEND -u VIRTUAL_ENV $(shell command -v uv || echo $(BIN)/uv)
# Threads of one test worker; two workers with two threads each would fight over two cores.
TEST = OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist worksteal -q

.PHONY: help setup demo test test-all check format bench docs clean

help: ## these lines
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*##/\t/' | expand -t 12

setup: $(VENV)/ready ## the environment, in .venv

$(VENV)/ready: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and f"kdal needs Python 3.11 or newer, this is {sys.version.split()[0]}: make PYTHON=...")'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	command -v uv >/dev/null || test -x $(BIN)/uv || $(BIN)/python -m pip install --quiet uv
	$(UV) pip install --quiet --python $(BIN)/python --compile-bytecode -c constraints.txt -e '.[dev]'
	@$(BIN)/python -c 'import torchvision' || { echo 'torch and torchvision do not fit together: rm -rf .venv && make setup'; exit 1; }
	@touch $@

demo: setup ## a student and its teacher learn from labels that the student chooses: 15 seconds on two cores
	$(BIN)/kdal al-loop sampler=margin budget=100

check: setup ## format, lint, types, import contracts
	$(BIN)/ruff format --check --quiet
	$(BIN)/ruff check --quiet
	$(BIN)/basedpyright
	$(BIN)/lint-imports --no-logo

test: check ## the checks and every test but the slow ones
	$(TEST) -m "not slow"

test-all: check ## every test
	$(TEST)

format: setup ## put the code into shape
	$(BIN)/ruff format --quiet
	$(BIN)/ruff check --fix --quiet

bench: setup ## the short form of every benchmark that needs no code of others, as one table; AGAINST=COMMIT: then and now
	$(BIN)/python benchmarks/all.py $(if $(AGAINST),--against $(AGAINST))

docs: setup ## docs/losses.md and docs/samplers.md, from docstrings, conf and the benchmarks' tables
	$(BIN)/python docs/generate.py

clean: ## the environment and every run folder go
	rm -rf $(VENV) outputs/*
