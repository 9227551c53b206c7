# SPDX-License-Identifier: Apache-2.0
# Everything starts from here on a fresh Debian 12 machine with git, make, Python 3.11 and root.

PYTHON ?= python3
BIN := .venv/bin
NODES ?= 3
NAME ?= metropolis
DRIVER ?= qemu
JOBS ?= $(shell nproc)

IMAGE_PYTEST = $(BIN)/python tools/image_python.py -m pytest -q -p no:cacheprovider -n $(JOBS)
# Rooms of operators and builders run on computers of theirs, under any Python from 3.11 on.
NOT_ON_NODES := $(foreach room,ctl image lab metal,--ignore-glob 'tests/*/$(room)')

.DEFAULT_GOAL := help
.PHONY: help setup image launch status stop start destroy test test-fast test-image-python test-e2e test-vm test-long check format generate \
	lock lock-packages metal release bench bench-boot bench-scale bench-faults bench-metal sim clean

help: ## Show this list
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / {printf "  make %-18s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: ## Install what is needed: Debian packages, .venv, etcd
	@$(PYTHON) tools/setup.py

launch: setup ## Start a cluster on this machine and take ownership of it (NODES=3 NAME=… DRIVER=…)
	@$(BIN)/metropolis launch --nodes $(NODES) --name $(NAME) --driver $(DRIVER)

image: setup ## Build the system image of nodes into build/image
	@$(BIN)/metropolis image build

status: setup ## Show the cluster of this machine
	@$(BIN)/metropolis status --name $(NAME)

stop: setup ## Stop the cluster's nodes and keep their data
	@$(BIN)/metropolis stop --name $(NAME)

start: setup ## Start a stopped cluster again
	@$(BIN)/metropolis start --name $(NAME)

destroy: setup ## Stop the cluster and delete its data
	@$(BIN)/metropolis destroy --name $(NAME) --yes

test: setup ## Run every test: fast tiers, again under the nodes' Python, real processes, virtual machines
	@echo "test: unit, contract, simulation and golden tests on $(JOBS) cores" >&2
	@$(BIN)/python -m pytest -q -n $(JOBS) tests/unit tests/contract tests/sim tests/golden
	@echo "test: what a node runs, under the Python of its system image" >&2
	@$(IMAGE_PYTEST) tests/unit tests/contract tests/sim $(NOT_ON_NODES)
	@$(MAKE) --no-print-directory test-e2e

test-fast: setup ## Run the tests that need neither root nor real processes
	@$(BIN)/python -m pytest -q -n $(JOBS) tests/unit tests/sim tests/golden

test-image-python: setup ## Run all but the end-to-end tests under the system image's Python
	@$(IMAGE_PYTEST) tests/unit tests/contract tests/sim tests/golden

test-e2e: setup ## Run the end-to-end tests only
	@echo "test: end-to-end tests on real processes, $(JOBS) files at once" >&2
	@$(BIN)/python -m pytest -q -n $(JOBS) --dist loadfile --no-loadscope-reorder \
		tests/e2e --ignore tests/e2e/vm
	@$(MAKE) --no-print-directory test-vm

test-vm: setup ## Run the tests on virtual machines only
	@$(BIN)/metropolis image build
	@echo "test: three virtual machines, one cluster" >&2
	@METROPOLIS_IMAGE=$(CURDIR)/build/image $(BIN)/python -m pytest -q -m trio tests/e2e/vm
	@echo "test: single virtual machines, $(JOBS) at once" >&2
	@METROPOLIS_IMAGE=$(CURDIR)/build/image $(BIN)/python -m pytest -q -m "not trio" \
		-n $(JOBS) --maxschedchunk 1 tests/e2e/vm

test-long: setup ## Cut the power of virtual machines while they found clusters, 30 seeds; takes a quarter of an hour
	@$(BIN)/metropolis image build
	@METROPOLIS_IMAGE=$(CURDIR)/build/image METROPOLIS_POWER_CUTS=30 $(BIN)/python -m pytest -q \
		-n $(JOBS) --maxschedchunk 1 tests/e2e/vm/test_power_cuts.py

check: setup ## Run the gates: format, lint, types, walls, generated code, tidiness
	@$(BIN)/ruff format --check --quiet . || { echo "remedy: make format" >&2; exit 1; }
	@$(BIN)/ruff check --quiet .
	@$(BIN)/mypy
	@PYRIGHT_PYTHON_IGNORE_WARNINGS=1 $(BIN)/pyright --warnings
	@$(BIN)/lint-imports --no-logo
	@$(BIN)/python tools/generate.py --check
	@$(BIN)/python tools/handbook.py --check
	@$(BIN)/python tools/permissions.py --check
	@$(BIN)/python tools/tidy.py

format: setup ## Format the code
	@$(BIN)/ruff check --quiet --fix-only . && $(BIN)/ruff format --quiet .

generate: setup ## Regenerate src/metropolis/api from proto/
	@$(BIN)/python tools/generate.py
	@$(BIN)/python tools/permissions.py

lock: setup ## Resolve requirements.lock anew from pyproject.toml
	@$(BIN)/uv pip compile -q --universal --generate-hashes --no-emit-index-url --no-header \
		--group dev --extra metal --python-version 3.11 pyproject.toml -o requirements.lock

lock-packages: setup ## Resolve the locked Debian packages anew
	@$(BIN)/python tools/lock_packages.py

metal: setup ## Serve the bare-metal control plane with an example (LISTEN=127.0.0.1:8080 MACHINES=4)
	@$(BIN)/metropolis metal serve --seed --no-check-urls --listen $(or $(LISTEN),127.0.0.1:8080) \
		--grpc-listen $(or $(GRPC_LISTEN),127.0.0.1:50051) --machines $(or $(MACHINES),4)

release: setup ## Make build/release: metroctl in one file, bundle.zip, signed checksums
	@$(BIN)/metropolis release

bench: setup ## Measure; prints a table and writes build/bench.json
	@$(BIN)/python -m bench

bench-boot: setup ## Measure image, boot, launch and reboot of virtual machines; takes 2 minutes
	@$(BIN)/python -m bench.boot

bench-faults: setup ## Measure the longest time without a write, for every kind of fault
	@$(BIN)/python -m bench.faults

bench-scale: setup ## Measure 10,000 simulated nodes against one control plane; takes up to 6 minutes
	@$(BIN)/python -m bench.scale

bench-metal: setup ## Measure Metal on a real PostgreSQL and on SQLite, durably; takes 5 minutes
	@$(BIN)/python -m bench.metal

sim: setup ## Run simulated worlds (SEEDS=100)
	@$(BIN)/metropolis sim --seeds $(or $(SEEDS),100)

clean: ## Delete what was built and fetched
	@rm -rf .venv .cache build src/*.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis
