# Every habit of this project; `make` alone lists them.
PYTHON ?= python3
BROWSER ?= firefox
ARGS ?=
IMAGE_REGISTRY ?= dev.local
TAG ?= 1
BUILDER ?= $(shell for tool in docker podman buildah; do $$tool info >/dev/null 2>&1 && echo $$tool && break; done)
BUILD_ARGS ?=
SEED ?=
JOBS ?=
FAULTS ?=
export PYTHON BROWSER

RUN := .venv/bin/python -m
# Most tests wait most of the time. In the order of their files: the long ones are not all last.
TWO_AT_ONCE := -n 2 --dist loadfile --no-loadscope-reorder
# Measured for its branches, a system under faults would be too slow for its own limits.
FAULTS_TESTS := tests/faults/test_under_faults.py

.DEFAULT_GOAL := help
.PHONY: help setup demo up down clean test lint types audit bench faults e2e image

help: ## List these
	@awk -F ':.*## ' '/^[a-z0-9]+:.*## / {printf "  make %-8s %s\n", $$1, $$2}' $(MAKEFILE_LIST)
	@echo "Variables: PYTHON=python3, BROWSER=firefox|chromium, ARGS=\"for pytest or the benchmarks\", RPA_LOCAL=.local,"
	@echo "  IMAGE_REGISTRY=dev.local, TAG=1, BUILDER=docker|podman|buildah, BUILD_ARGS=\"--build-arg BASE=...\""

setup: ## Make .venv as locked, and install a browser where there is none
	@bin/setup

demo: setup ## A whole system on this machine, a dozen jobs, and what became of them
	@$(RUN) demo

up: setup ## Run a system until Ctrl-C; its addresses are in .local/env
	@exec $(RUN) local up

down: setup ## Stop a system, or what a crash left of it
	@$(RUN) local down

clean: setup ## Stop the system and forget its data
	@$(RUN) local clean

test: setup ## Run the tests, and show which branches they cover
	@$(RUN) coverage erase
ifneq ($(strip $(ARGS)),)
	$(RUN) coverage run -m pytest $(ARGS)
else
	$(RUN) coverage run -m pytest $(TWO_AT_ONCE) -m "not alone" --ignore=$(FAULTS_TESTS)
	$(RUN) coverage run -m pytest -m alone
endif
	@$(RUN) coverage combine --quiet
	@$(RUN) coverage report
ifeq ($(strip $(ARGS)),)
	$(RUN) pytest $(FAULTS_TESTS)
endif

lint: setup ## Check style and which module imports which
	$(RUN) ruff check
	$(RUN) ruff format --check
	.venv/bin/lint-imports

types: setup ## Check the types
	$(RUN) mypy

audit: setup ## Look for known weaknesses of what is locked, and for secrets in the sources
	@bin/audit

bench: setup ## Measure throughput and latency
	@$(RUN) benchmarks $(ARGS)

faults: setup ## Attack a whole system under load, and audit what became of it: SEED=... JOBS=500 FAULTS=events,kills DROPPED=0.5
	@SEED=$(SEED) JOBS=$(JOBS) FAULTS=$(FAULTS) DROPPED=$(DROPPED) $(RUN) tests.faults

e2e: setup ## Test the whole system on the cluster of KUBECONFIG, with Knative, kn, the images: KN_INGRESS=... KN_DOMAIN=...
	@for name in KUBECONFIG KN_INGRESS KN_DOMAIN; do printenv $$name >/dev/null || \
	    { echo "Error: $$name is not set: CONTRIBUTING.md says what the cluster's tests need" >&2; exit 1; }; done
	$(RUN) pytest tests/cluster $(ARGS)

image: ## Build the images with docker, podman or buildah
	@test -n "$(BUILDER)" || { echo "Error: neither docker, podman nor buildah works here: install one, or start docker's engine" >&2; exit 1; }
	$(BUILDER) build $(BUILD_ARGS) -f Containerfile -t $(IMAGE_REGISTRY)/rpa-functions:$(TAG) .
	$(BUILDER) build $(BUILD_ARGS) -f browser/Containerfile -t $(IMAGE_REGISTRY)/rpa-browser:$(TAG) .
	$(BUILDER) build $(BUILD_ARGS) -f demo/Containerfile -t $(IMAGE_REGISTRY)/rpa-demo:$(TAG) .
	$(BUILDER) build $(BUILD_ARGS) -t $(IMAGE_REGISTRY)/rpa-datastores:$(TAG) knative/overlays/dev/datastores
