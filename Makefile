# Nexus COS. `make` alone lists what there is to do; each target makes what it needs first.

SHELL := bash
.SHELLFLAGS := -euo pipefail -c
MAKEFLAGS += --no-builtin-rules --no-print-directory
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help run test check bench prove setup native web lock wheels image clean

VENV_STAMP := .venv/.installed
NATIVE_MODULE := media/_native.abi3.so
NODE_STAMP := web/node_modules/.package-lock.json
CLIENTS_STAMP := tests/end_to_end/node/node_modules/.package-lock.json
PAGES := edge/static/index.html

# Folders are listed beside files: a file that was deleted changes its folder.
NATIVE_SOURCES := $(shell find media/native -name target -prune -o -print)
WEB_SOURCES := $(shell find web -mindepth 1 \( -name node_modules -o -name test-results \) -prune -o -print)

run: setup ## Build what is missing, start the server with a live demo stream, print its address (ARGS=...)
	@exec .venv/bin/nexus up --demo $(ARGS)

test: setup $(CLIENTS_STAMP) ## Every behaviour: checks, Rust, pages, Python, real browsers; at most thirty minutes
	@exec scripts/test

check: setup ## Formats, types, import contracts, tidy rules and unit tests; under two minutes when warm
	@exec .venv/bin/python scripts/check.py

bench: setup ## The short benchmarks, printed as a table (ARGS=... for more viewers or seconds)
	@exec scripts/in-network scripts/bench $(ARGS)

prove: setup $(CLIENTS_STAMP) ## The long forms of the tests: minutes of playing, load, faults, the image
	@exec scripts/prove $(ARGS)

setup: $(VENV_STAMP) $(NATIVE_MODULE) $(PAGES) ## Python packages, native module and pages; instant when nothing changed

native: $(NATIVE_MODULE) ## The packet data plane (Rust), built into media/

web: $(PAGES) ## The pages (TypeScript), built into edge/static/

lock: ## Pin what pyproject.toml asks for in requirements*.lock (ARGS=--upgrade raises all versions)
	@exec scripts/lock $(ARGS)

wheels: setup ## Every package that the image needs, as a wheel, in .build/wheels
	@exec scripts/wheels

image: setup ## The container image, built offline with buildah; prints where the archive is
	@exec scripts/image

clean: ## Remove what was built in this clone (the build cache outside it stays)
	rm -rf .venv $(NATIVE_MODULE) edge/static .build $(dir $(NODE_STAMP) $(CLIENTS_STAMP))
	rm -rf .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis

help: ## This list
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-8s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

$(VENV_STAMP): requirements-dev.lock scripts/venv
	@scripts/venv
	@touch $@

$(NATIVE_MODULE): $(VENV_STAMP) $(NATIVE_SOURCES) scripts/native scripts/with-rust-cache
	@scripts/native
	@touch $@

$(NODE_STAMP): web/package.json web/package-lock.json scripts/node-modules
	@scripts/node-modules web
	@touch $@

$(CLIENTS_STAMP): tests/end_to_end/node/package.json tests/end_to_end/node/package-lock.json
	@scripts/node-modules tests/end_to_end/node
	@touch $@

$(PAGES): $(NODE_STAMP) $(WEB_SOURCES) scripts/pages
	@scripts/pages
	@touch $@
