# `make demo` and `make test` work on a fresh machine: they need Python 3.11 or newer and make, and install the rest
# into two virtual environments in this folder. Label Studio has one of its own, as its pins and ours do not go together.

SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

PYTHON ?= python3
PRESET ?= starter
BIND ?=

BIN := .venv/bin
INSTALLED := .venv/.installed
LABEL_STUDIO := .venv-label-studio/.installed
PHOTOS := .venv/.photos
PIP := -m pip --disable-pip-version-check install -qq --no-deps

.PHONY: help demo test test-unit test-e2e lint serve starter setup chromium clean

help: ## Show what there is to make
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / {printf "make %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

demo: setup $(if $(filter starter,$(PRESET)),,$(PHOTOS)) ## Show masks in a real Label Studio (PRESET=paper: real weights and photos; ARGS=...)
	$(BIN)/python -m backend.demo --preset $(PRESET) $(ARGS)

test: setup chromium ## Check everything, cheap to expensive
	$(MAKE) --no-print-directory lint
	$(MAKE) --no-print-directory test-unit
	$(MAKE) --no-print-directory test-e2e

test-unit: $(INSTALLED) ## Unit tests: no network, no weights to fetch, no servers but our own
	$(BIN)/python -m pytest tests/unit $(ARGS)

test-e2e: setup chromium ## Tests with a real Label Studio and a real browser; their screenshots go to artifacts/e2e
	$(BIN)/python -m pytest tests/e2e $(ARGS)

lint: $(INSTALLED) ## ruff, mypy, and which room may know which
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache --no-logo

serve: $(INSTALLED) ## Start the backend as a service (BIND=host:port, else for this machine only; settings: CLIPDIY_* in the environment)
	$(BIN)/python -m gunicorn --config python:backend.gunicorn_conf $(if $(BIND),--bind $(BIND) )backend._wsgi:app

starter: $(INSTALLED) ## Train the bundled starter weights again (needs npm for the drawings)
	$(BIN)/python -m clipdiy.starter.training $(ARGS)

setup: ## Install what the demo and the tests need; nothing is done twice
	@$(MAKE) --silent --no-print-directory -j2 $(INSTALLED) $(LABEL_STUDIO)

clean: ## Remove both environments, the demo's data and everything that was made
	rm -rf .venv .venv-label-studio demo-data artifacts build *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis

$(INSTALLED): requirements-dev.txt pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit("Python 3.11 or newer is needed, $(PYTHON) is " + sys.version.split()[0] if sys.version_info < (3, 11) else 0)'
	@echo "installing this project into .venv (about 2 minutes, once)"
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv
	@$(BIN)/python $(PIP) -r requirements-dev.txt
	@$(BIN)/python $(PIP) --no-build-isolation --editable .
	@touch $@

$(LABEL_STUDIO): requirements-label-studio.txt
	@echo "installing Label Studio into .venv-label-studio (about 2 minutes, once)"
	@rm -rf .venv-label-studio
	@$(PYTHON) -m venv .venv-label-studio
	@.venv-label-studio/bin/python $(PIP) -r requirements-label-studio.txt
	@touch $@

$(PHOTOS): $(INSTALLED)
	@echo "fetching scikit-image for its photos"
	@$(BIN)/python $(PIP) scikit-image==0.26.0
	@touch $@

# Only the tests and the demo's screenshots look through a browser.
chromium:
	@if [ -n "$${CHROMIUM_EXECUTABLE:-}" ] || command -v chromium chromium-browser google-chrome >/dev/null; then \
	    exit 0; \
	elif [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
	    echo "installing the Debian package chromium"; \
	    { apt-get update -q && DEBIAN_FRONTEND=noninteractive apt-get install -q -y chromium; } >/dev/null; \
	else \
	    echo "The end-to-end tests need Chromium, and only root may install it here: 'sudo apt-get install chromium'," >&2; \
	    echo "or name the program of another installation in CHROMIUM_EXECUTABLE." >&2; \
	    exit 1; \
	fi
