# Every chore enters here. Each target makes or reuses .venv by itself; PYTHON=… chooses the interpreter.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DELETE_ON_ERROR:
.DEFAULT_GOAL := help

PYTHON ?= $(shell for p in python3 python3.14 python3.13 python3.12 python3.11; do \
  $$p -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1 && { echo $$p; break; }; done)
VENV ?= .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet
SHARED ?= ../shared
WORKERS ?= 2
SECONDS_LONG ?= 120
BENCH ?=
COMPILED := .bench/compiled
PACKED := $(shell find mesh agent pilot examples/bookstore -type f -not -name '*.pyc') pyproject.toml hatch_build.py README.md

.PHONY: help demo test lint format coverage wheel bench conformance fuzz soak golden supported docs clean

help: ## this list
	@awk -F ':.*## ' '/^[a-z]+:.*## /{printf "  make %-12s %s\n", $$1, $$2}' Makefile

# The demo needs the default install only; everything else needs the development tools too.
$(VENV)/.installed: pyproject.toml
	@test -n "$(PYTHON)" || { echo "no Python 3.11 or newer with venv found; say which: make PYTHON=/path/to/python3.12 …" >&2; exit 2; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(PIP) install -e .
	@touch $@

$(VENV)/.dev: $(VENV)/.installed
	$(PIP) install -e '.[dev]'
	@touch $@

demo: $(VENV)/.installed ## start pilot, gateway and bookstore; Ctrl-C ends all of it
	@$(BIN)/meshctl demo

test: lint ## lint, types, and every test
	$(BIN)/python -m pytest -n $(WORKERS)

lint: $(VENV)/.dev ## ruff, format and mypy --strict
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(VENV)/.dev ## rewrite the sources as ruff wants them
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

coverage: $(VENV)/.dev ## lines run by the tests, subprocesses counted; fails under 90 %
	rm -f .coverage .coverage.*
	$(BIN)/coverage run -m pytest -n $(WORKERS) -q
	$(BIN)/coverage combine -q
	$(BIN)/coverage report --fail-under=90

wheel: dist/.compiled ## the wheel with its hot modules compiled, into dist/; needs a C compiler
	@ls dist/*.whl

dist/.compiled: $(PACKED) | $(VENV)/.dev
	rm -f dist/*.whl
	HATCH_BUILD_HOOK_ENABLE_CUSTOM=1 $(PIP) wheel --no-deps --no-build-isolation --wheel-dir dist .
	@touch $@

# Packages of other people stay; our wheel has the same version after every change, so the old one has to go first.
$(COMPILED)/.installed: dist/.compiled
	@test -x $(COMPILED)/bin/python || $(BIN)/python -m venv $(COMPILED)
	@$(COMPILED)/bin/python -m pip --quiet --disable-pip-version-check uninstall --yes trioweave 2>/dev/null
	$(COMPILED)/bin/python -m pip --quiet --disable-pip-version-check install dist/*.whl
	@touch $@

# The compiled build is what is measured, unless BENCH asks for the sources as they are.
bench: $(VENV)/.dev $(if $(findstring --pure,$(BENCH)),,$(COMPILED)/.installed) ## ours, compiled, and Envoy on the same work; BENCH='--quick --only gateway --pure --write'
	$(BIN)/python -m tests.bench $(BENCH)

conformance: $(VENV)/.dev ## scores on the conformance corpora beside the repository, where they are
	@$(BIN)/python -m tests.conformance --shared $(SHARED)

fuzz: $(VENV)/.dev ## feed the codecs hostile bytes for SECONDS_LONG seconds, half of them HTTP/1, half HTTP/2
	$(BIN)/python -m tests.fuzz.http1 --seconds $$(( $(SECONDS_LONG) / 2 ))
	$(BIN)/python -m tests.fuzz.http2 --seconds $$(( $(SECONDS_LONG) / 2 ))

soak: $(VENV)/.dev ## a gateway under load for SECONDS_LONG seconds: no task, socket or memory may leak
	$(BIN)/python -m tests.soak --seconds $(SECONDS_LONG)

golden: $(VENV)/.dev ## rewrite the golden snapshots; look at the difference before you commit it
	UPDATE_GOLDEN=1 $(BIN)/python -m pytest tests/golden -q
	@git --no-pager diff --stat -- tests/golden 2>/dev/null || true

supported: $(VENV)/.dev ## rewrite docs/supported.md: every field that is served or reported
	$(BIN)/python -m tests.docs.supported

docs: $(VENV)/.dev ## run every command of the documentation and resolve its links
	$(BIN)/python -m pytest tests/docs -q

clean: ## remove the environments and caches
	rm -rf $(VENV) .bench .mypy_cache .ruff_cache .pytest_cache .hypothesis .coverage .coverage.* build dist
