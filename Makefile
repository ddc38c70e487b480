# The commands of this repository. `make demo` and `make test` install what they need (scripts/setup) and may be run again.
# PROFILE=release makes the tests run on the optimised build.

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
PROFILE ?= debug
CARGO_PROFILE = $(if $(filter release,$(PROFILE)),--release,)
RUNTIMES = target/runtimes
PYTEST = HEARTH_PROFILE=$(PROFILE) .venv/bin/python -m pytest -p no:cacheprovider -q tests/e2e

.PHONY: help demo test test-rust test-e2e check fix bench bench-control setup runtimes

help:
	@echo "make demo    build, start a 3/2/2 cluster, deploy and invoke a function with boto3 and the AWS CLI"
	@echo "make test    every test: Rust, then real clusters driven by real clients (root)"
	@echo "make check   formatting, lints, docs, generated code, architecture, chart; writes nothing"
	@echo "make fix     formatting and what clippy can mend"
	@echo "make bench   warm and cold paths beside their floors, as a table and under target/bench/"
	@echo "make bench-control  the control plane with 1,000 simulated workers and 10,000 functions (WORKERS=n FUNCTIONS=n)"

setup:
	scripts/setup

runtimes: setup
	cargo build --locked $(CARGO_PROFILE) --bin hearth
	target/$(PROFILE)/hearth runtime install python3.11 provided.al2023 --runtimes-dir $(RUNTIMES)

demo: PROFILE = release
demo: runtimes
	.venv/bin/python scripts/demo.py

test: test-rust test-e2e

test-rust: runtimes
	cargo test --locked --workspace $(CARGO_PROFILE)

test-e2e: runtimes
	scripts/build-examples
	$(PYTEST)

check: setup
	cargo fmt --all --check
	cargo clippy --locked --workspace --all-targets -- -D warnings
	RUSTDOCFLAGS="-D warnings" cargo doc --locked --workspace --no-deps --quiet
	HEARTH_BOTOCORE=$$(.venv/bin/python -c 'import botocore, os; print(os.path.dirname(botocore.__file__))') cargo xtask aws-api --check
	cargo test --locked --quiet --package hearth-tests --test architecture
	scripts/check-helm

fix:
	cargo clippy --locked --workspace --all-targets --fix --allow-dirty --allow-staged
	cargo fmt --all

bench: PROFILE = release
bench: runtimes
	scripts/build-examples
	cargo run --locked --release --package hearth-tests --bin bench

bench-control: PROFILE = release
bench-control: setup
	cargo build --locked --release --bin hearth
	cargo run --locked --release --package hearth-tests --bin bench-control
