# Two commands: `make demo` (everything, from nothing to the report) and `make test`.
# What is installed stays installed: a second run of either fetches and builds nothing.
#
#   TORCH_BACKEND=cpu   smaller build of torch from PyTorch's own index (default: PyPI's)
#   OUT=runs/demo       where the demo goes
#   OSCAR_ORACLE_DIR=   recorded cases for `make oracle` (default: ../shared/oracle)
#   NAME=...            which benchmark; without it they are listed

SHELL := /bin/bash
.DELETE_ON_ERROR:
.PHONY: demo test test-slow oracle lint format bench clean env env-dev help

VENV := .venv
BIN := $(VENV)/bin
OUT ?= runs/demo
TORCH_BACKEND ?=
RUNTIME := [pretrained]
DEVELOPMENT := [pretrained,dev]

export UV_PYTHON_DOWNLOADS := never
export DO_NOT_TRACK := 1
export HF_HUB_OFFLINE := 1
export PREFECT_SERVER_ANALYTICS_ENABLED := false

help:
	@sed -n 's/^# \{0,1\}//p' Makefile | head -7

demo: env
	@$(BIN)/oscar-flow demo --out $(OUT)

test: lint
	$(BIN)/pytest -n 2 --dist worksteal -m "not slow"

test-slow: env-dev
	$(BIN)/pytest -m slow

oracle: env-dev
	$(BIN)/pytest -m oracle -n 2 --dist worksteal

lint: env-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports
	$(BIN)/mypy

format: env-dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: env-dev
	$(BIN)/python -m benchmarks $(NAME)

clean:
	rm -rf build .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -not -path './$(VENV)/*' -prune -exec rm -rf {} +

env:
	@$(call install,$(RUNTIME))

env-dev:
	@$(call install,$(DEVELOPMENT))

# One argument: the extras. The stamp holds what was asked for, and is written only after the
# packages were imported, so an interrupted install is repeated and an unchanged one costs nothing.
define install
set -euo pipefail; \
wanted="$$(.ci/fingerprint $(TORCH_BACKEND))"; \
stamp='$(VENV)/.stamp'; \
if [ -f "$$stamp" ]; then \
	case "$$(cat "$$stamp")" in \
	"$$wanted $(1)") exit 0;; \
	"$$wanted $(DEVELOPMENT)") exit 0;; \
	esac; \
fi; \
.ci/install '$(1)' '$(TORCH_BACKEND)'; \
echo "$$wanted $(1)" > "$$stamp"
endef
