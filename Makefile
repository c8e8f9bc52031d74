# What one does with Roomlog from a checkout. `make` alone lists it.

SHELL := /bin/sh
CARGO_TARGET_DIR ?= target
export PATH := $(PATH):$(HOME)/.cargo/bin

# More arguments for what is run: make run ARGS="--listen 0.0.0.0:9000"
ARGS ?=

.DEFAULT_GOAL := help
.PHONY: help run test check build deploy dashboards deps cargo

help: ## Show this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

run: cargo deps ## Build and start a server for trying things out (ARGS="…" for more options)
	cargo build --release --locked
	exec "$(CARGO_TARGET_DIR)/release/roomlog" serve --dev $(ARGS)

test: cargo deps ## Run all tests (ARGS="…" goes to cargo test)
	@scripts/install-deps.sh curl nginx prometheus prometheus-redis-exporter strace
	cargo build --locked
	cargo test --locked $(ARGS)

check: cargo ## Check formatting and lints
	cargo fmt --check
	cargo clippy --all-targets --locked -- -D warnings

build: cargo ## Build the optimised program
	cargo build --release --locked

deploy: ## Check the compose stack's files, dashboards and alert rules
	scripts/check-deploy.sh

dashboards: ## Write the dashboards anew from grafana/*.py
	scripts/check-deploy.sh --write

deps: ## Install a Redis or Valkey, if none is there
	@scripts/install-deps.sh redis

cargo:
	@command -v cargo >/dev/null || { \
	    echo "cargo is missing. Install Rust with:" >&2; \
	    echo "    curl --proto '=https' --tlsv1.2 -sSf https://sh.rustup.rs | sh" >&2; \
	    exit 1; }
