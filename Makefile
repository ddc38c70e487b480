# The commands of this repository. `make demo` and `make test` install what they need (scripts/setup) and may be run again.
# PROFILE=release makes the tests run on the optimised build.

SHELL := /bin/bash
# Those of .cargo/config.toml, which these would replace.
unexport RUSTFLAGS CARGO_ENCODED_RUSTFLAGS
.SHELLFLAGS := -eu -o pipefail -c
PROFILE ?= debug
RUNTIMES = target/runtimes
# What `make test` tries on every change, and what `make test-runtimes` does: all there are. `go` is Go on provided.al2023.
TESTED = python3.11 provided.al2023 nodejs22.x
EVERY = dotnet8 python3.11 python3.13 nodejs20.x nodejs22.x nodejs24.x java17 java21 java25 ruby3.3 provided.al2023 go
PYTEST = HEARTH_PROFILE=$(PROFILE) .venv/bin/python -m pytest -p no:cacheprovider -q

# One selection of packages for each profile, because features are those of all that is selected: with another selection most
# dependencies are built once more. Tests have everything, with the checks of a debug build; what is measured has no simulation. A demo is
# to start soon, and builds the executable alone.
DEBUG_BUILD = cargo build --locked --workspace --all-targets
RELEASE_BUILD = cargo build --locked --release --package hearth --package hearth-worker --package hearth-tests --bins
BUILD = $(if $(filter release,$(PROFILE)),$(RELEASE_BUILD),$(DEBUG_BUILD))
BENCH = target/release/bench

# Many seeds run in a build that is optimised; few, in that of the other tests.
SIM_PROFILE ?= sim
SIM_BUILD = $(if $(filter dev,$(SIM_PROFILE)),$(DEBUG_BUILD),cargo build --locked --profile $(SIM_PROFILE) --package hearth-sim)
SIM_BIN = target/$(if $(filter dev,$(SIM_PROFILE)),debug,$(SIM_PROFILE))/hearth-sim
SEEDS ?= 20
FROM ?= 1
JOBS ?= $(shell nproc)

.PHONY: help demo test test-rust test-clusters test-v2 test-e2e test-runtimes test-extremes test-faults test-sim sim sim-one sim-same sim-mutants sim-build check fix bench bench-cold bench-control bench-overload bench-functions bench-events chaos soak-events setup runtimes

help:
	@echo "make demo    build, start a 3/2/2 cluster, deploy and invoke a function with boto3 and the AWS CLI, kill all of it"
	@echo "make test    every test: Rust, seeds of the simulation, then real clusters driven by real clients (root)"
	@echo "make test-runtimes   one function on every runtime there is a recipe of (installs them first)"
	@echo "make test-v2  the native driver under control groups of version 2 alone, in an emulated machine (root)"
	@echo "make test-extremes  functions of 15 minutes, 10 GB of memory, 10 GB of disk (16 minutes, root)"
	@echo "make test-faults  nodes killed, stopped, drained and restarted under load; make chaos: in network namespaces"
	@echo "make soak-events   50,000 events (EVENTS=n) while a node is killed every 3 s and a disk fills once (root)"
	@echo "make sim     SEEDS=200 [FROM=1]: a whole cluster in simulation, one process a seed; sim-one SEED=n repeats one"
	@echo "make check   formatting, lints, docs, generated code, architecture, chart; writes nothing"
	@echo "make fix     formatting and what clippy can mend"
	@echo "make chaos   real cluster in network namespaces, one fault after the other for CHAOS_MINUTES (10; root)"
	@echo "make bench   warm and cold paths beside their floors, as a table and under target/bench/"
	@echo "make bench-cold   starts alone: sandboxes, first answers, memory, a burst; with a chart"
	@echo "make bench-control  the control plane with 1,000 simulated workers and 10,000 functions (WORKERS=n FUNCTIONS=n)"
	@echo "make bench-overload   ten times the capacity for a minute; make bench-functions   1, 100 and 1,000 functions"
	@echo "make bench-events   accepting event invocations beside plain writes on the same disk"

setup:
	scripts/setup

runtimes: setup
	$(BUILD)
	target/$(PROFILE)/hearth runtime install python3.11 provided.al2023 --runtimes-dir $(RUNTIMES)

demo: setup
	cargo build --locked --release --package hearth
	target/release/hearth runtime install python3.11 provided.al2023 --runtimes-dir $(RUNTIMES)
	.venv/bin/python scripts/demo.py

test: test-rust test-clusters

# The simulation takes what CPU time the real clusters leave (the idle class of the scheduler): nothing in it depends on real time.
test-clusters: SIM_PROFILE = dev
test-clusters: sim-build
	mkdir -p target/tmp
	chrt --idle 0 $(MAKE) --no-print-directory test-sim >target/tmp/test-sim.log 2>&1 & simulation=$$!; \
	clusters=0; $(MAKE) --no-print-directory test-e2e || clusters=$$?; \
	simulated=0; wait $$simulation || simulated=$$?; \
	cat target/tmp/test-sim.log; exit $$((clusters + simulated))

test-rust: runtimes
	scripts/setup runc runsc
	cargo test --locked --workspace $(if $(filter release,$(PROFILE)),--release)

# Control groups of version 2 alone, whatever this host has: a Debian kernel in an emulated machine, minutes.
V2_SECONDS ?= 1200
test-v2: setup
	scripts/setup qemu-system-x86 busybox-static kmod cpio
	programs=$$(cargo test --locked --package hearth-worker --test sandbox_native --test sandbox_lifecycle --no-run 2>&1 | tee /dev/stderr \
	  | sed -n 's/^ *Executable .*(\(.*\))$$/\1/p'); \
	scripts/v2/run $(V2_SECONDS) scripts/v2/tests $$(realpath $$programs)

# Kills, stops and restarts under load take minutes and measure times: apart from what every change must pass.
FAULTS = event_faults failover operators quotas rolling slow_workers
# 16 minutes, 13 GB of memory and 14 GB of disk.
EXTREMES = extremes

# Packages of clients that only some runtimes need, the packs, the functions that are compiled.
define install_runtimes
	scripts/setup $(if $(shell command -v npm),,npm) $(if $(filter dotnet%,$(1)),mono-mcs) $(if $(filter java%,$(1)),$(if $(shell command -v mvn),,maven) $(if $(shell command -v javac),,default-jdk-headless))
	target/$(PROFILE)/hearth runtime install $(filter-out go,$(1)) --runtimes-dir $(RUNTIMES)
	scripts/build-functions $(1)
endef

# Every runtime that there is a recipe of: minutes to install the first time, so apart from what every change must pass.
test-runtimes: runtimes
	$(call install_runtimes,$(EVERY))
	HEARTH_TEST_RUNTIMES="$(EVERY)" $(PYTEST) tests/e2e/test_runtimes.py

# A registry and what builds and pushes images, for tests/e2e/test_images.py.
IMAGE_TOOLS = docker-registry umoci skopeo openssl

test-e2e: runtimes
	scripts/setup runc runsc postgresql
	scripts/setup $(IMAGE_TOOLS)
	scripts/build-examples
	$(call install_runtimes,$(TESTED))
	HEARTH_TEST_RUNTIMES="$(TESTED)" $(PYTEST) tests/e2e $(patsubst %,--ignore=tests/e2e/test_%.py,$(FAULTS) $(EXTREMES))

# Minutes: events while nodes are killed and a disk fills.
EVENTS ?= 50000
soak-events: runtimes
	EVENTS=$(EVENTS) $(PYTEST) -s tests/e2e/test_event_faults.py

test-extremes: runtimes
	$(PYTEST) -s $(EXTREMES:%=tests/e2e/test_%.py)

test-faults: runtimes
	scripts/build-examples
	$(PYTEST) $(FAULTS:%=tests/e2e/test_%.py)

sim-build:
	$(SIM_BUILD)

sim: sim-build
	$(SIM_BIN) many $(FROM) $(SEEDS) $(JOBS)

sim-one: sim-build
	$(SIM_BIN) one $(SEED) $(if $(TRACE),--trace,)

sim-same: sim-build
	$(SIM_BIN) same $(FROM) $(SEEDS) $(JOBS)

# Few enough seeds for every change: those that once failed, some twice, and the rest of the first ones.
test-sim: SIM_PROFILE = dev
test-sim: sim-build
	$(SIM_BIN) known tests/sim/seeds.txt $(JOBS)
	$(SIM_BIN) same 1 1 $(JOBS)
	$(SIM_BIN) many 2 40 $(JOBS)

# A binary of its own, with rules broken on purpose compiled in.
sim-mutants:
	cargo test --locked --package hearth-core --features planted-bugs --test permits_planted -- --nocapture
	CARGO_TARGET_DIR=target/mutants cargo build --locked --profile sim --package hearth-sim --features planted-bugs
	target/mutants/sim/hearth-sim mutants 60 $(JOBS)

check: setup
	cargo fmt --all --check
	cargo clippy --locked --workspace --all-targets -- -D warnings
	RUSTDOCFLAGS="-D warnings" cargo doc --locked --workspace --no-deps --quiet
	$(DEBUG_BUILD)
	HEARTH_BOTOCORE=$$(.venv/bin/python -c 'import botocore, os; print(os.path.dirname(botocore.__file__))') target/debug/xtask aws-api --check
	cargo test --locked --quiet --workspace --test architecture
	scripts/operations
	scripts/check-helm

fix:
	cargo clippy --locked --workspace --all-targets --fix --allow-dirty --allow-staged
	cargo fmt --all
	scripts/operations --write

bench: PROFILE = release
bench: runtimes
	scripts/build-examples
	$(BENCH)

bench-cold: PROFILE = release
bench-cold: runtimes
	scripts/setup runc
	scripts/build-examples
	$(call install_runtimes,nodejs22.x)
	$(BENCH) cold

bench-control: PROFILE = release
bench-control: setup
	$(RELEASE_BUILD)
	target/release/bench-control

chaos: runtimes
	scripts/setup
	scripts/build-examples
	.venv/bin/python -m pytest -p no:cacheprovider -q tests/chaos
	HEARTH_PROFILE=$(PROFILE) .venv/bin/python tests/chaos/run.py
bench-overload bench-functions bench-events: PROFILE = release
bench-overload bench-functions bench-events: runtimes
	scripts/build-examples
	$(BENCH) $(@:bench-%=%)
