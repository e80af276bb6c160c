# Each target does its own set-up: it needs Rust, Python 3.10 or later, a C compiler and make.

PYTHON ?= python3
VENV := $(CURDIR)/.venv
PEERS := $(CURDIR)/.venv-peers
BIN := $(VENV)/bin

# Everything but benchmarks and releases is built in cargo's profile `dev`, with one set of features, so that each crate compiles
# once. These variables are what maturin sets: with them, all of cargo's runs share one build of PyO3.
export PYO3_PYTHON := $(BIN)/python
export PYO3_BUILD_EXTENSION_MODULE := 1
CARGO_TEST := cargo test --workspace --exclude vexact-python --no-fail-fast

DIST := $(CURDIR)/dist
# Where cargo builds, which its settings may have moved.
TARGET = $$($(PYTHON) -c 'import json, subprocess as s; print(json.loads(s.check_output("cargo metadata --format-version 1 --no-deps".split()))["target_directory"])')

.PHONY: demo test test-arm test-duckdb soak bench bench-cli bench-rhei bench-peers dist extension fmt clippy rust-test python-test examples clean

demo: extension
	$(BIN)/python examples/quickstart.py
	$(BIN)/python examples/live.py

test: fmt clippy rust-test python-test examples

# The kernel's clippy and tests as a 64-bit ARM program. It needs a linker and Rust's library for that
# target, and an emulator. The kernel builds without DataFusion. An emulated processor is thirty times
# slower, so properties run fewer cases.
ARM := aarch64-unknown-linux-gnu
ARM_LINKER ?= aarch64-linux-gnu-gcc
ARM_RUNNER ?= qemu-aarch64 -L /usr/aarch64-linux-gnu
test-arm: export CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_LINKER := $(ARM_LINKER)
test-arm: export CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_RUNNER := $(ARM_RUNNER)
test-arm: export VEXACT_PROPERTY_CASES ?= 40
test-arm:
	@for program in $(ARM_LINKER) $(firstword $(ARM_RUNNER)); do command -v $$program > /dev/null || { echo \
		"make test-arm: expected the program $$program, which is not installed (Debian: gcc-aarch64-linux-gnu, qemu-user)" >&2; exit 1; }; done
	@test -d "$$(rustc --print sysroot)/lib/rustlib/$(ARM)" || { echo \
		"make test-arm: expected Rust's library for $(ARM), which is not installed: rustup target add $(ARM)" >&2; exit 1; }
	CLIPPY_ARGS="-Dwarnings__CLIPPY_HACKERY__" RUSTC_WORKSPACE_WRAPPER=$(CURDIR)/.ci/lint \
		cargo build -p vexact-kernel --lib --tests --target $(ARM)
	cargo test -p vexact-kernel --lib --tests --no-fail-fast --target $(ARM)

# DuckDB as the OLAP backend, which `make test` leaves out: compiling it takes half an hour of two cores. With
# DUCKDB_FEATURE=duckdb-linked and DUCKDB_LIB_DIR, the machine's own libduckdb 2.0 is taken. The extension keeps DuckDB until the next `make`.
DUCKDB_FEATURE ?= duckdb-backend
test-duckdb: $(VENV)/.ready
	cargo test -p vexact-htap --features $(DUCKDB_FEATURE)
	cd python && VIRTUAL_ENV=$(VENV) $(BIN)/maturin develop --quiet --features $(DUCKDB_FEATURE)
	$(BIN)/python -m pytest -q python/tests/test_duckdb.py

fmt:
	cargo fmt --all --check

# clippy-driver as the compiler of a build, not of a check: so the dependencies are those of the tests.
clippy: $(VENV)/.ready
	CLIPPY_ARGS="-Dwarnings__CLIPPY_HACKERY__" RUSTC_WORKSPACE_WRAPPER=$(CURDIR)/.ci/lint \
		cargo build --workspace --all-targets

rust-test: $(VENV)/.ready
	$(CARGO_TEST)

# New random runs of the proofs that replicas equal their tables, that an engine and Python's sqlite3 in one process lose nothing,
# that a query has one answer, and that damaged files and statements are refused, ten minutes each; 20 000 random searches of each
# element type with and without sketches, against the reference. A failure prints its seed.
soak: extension
	VEXACT_SOAK_SECONDS=$${VEXACT_SOAK_SECONDS:-600} \
		cargo test -p vexact --test integration -- --nocapture replicas_equal_their_tables_whatever_is_written \
		a_damaged_file_is_read_or_refused_by_name
	VEXACT_PROPERTY_CASES=20000 cargo test -p vexact-kernel --test exact
	VEXACT_SOAK_SECONDS=$${VEXACT_SOAK_SECONDS:-600} $(BIN)/python -m pytest -q python/tests/test_two_sqlites.py python/tests/test_random_sql.py \
		python/tests/test_mutations.py

python-test: extension
	cd python && $(BIN)/python -m mypy vexact && $(BIN)/python -m mypy.stubtest --mypy-config-file pyproject.toml vexact._native vexact.connection
	$(BIN)/python -m pytest -q python/tests

examples: extension
	$(BIN)/python examples/quickstart.py > /dev/null
	$(BIN)/python examples/vector_search.py > /dev/null
	$(BIN)/python examples/live.py > /dev/null
	$(BIN)/python examples/hybrid_search.py > /dev/null
	$(BIN)/python examples/htap_pandas.py > /dev/null
	$(BIN)/python examples/bitable_by_owner.py > /dev/null
	$(BIN)/python examples/stream_sql.py > /dev/null
	$(BIN)/python examples/mixed_workload.py > /dev/null
	$(BIN)/python examples/batch_sql.py > /dev/null
	$(BIN)/python examples/embed_and_search.py > /dev/null
	$(BIN)/python examples/frameworks.py > /dev/null
	sh examples/tracked_runs.sh $(BIN)/vexact > /dev/null
	cargo run --quiet -p vexact --example embedded_kernel > /dev/null

bench:
	VEXACT_BENCH_ROWS=$${VEXACT_BENCH_ROWS:-100000} cargo bench -p vexact --bench bandwidth --bench kernel --bench sql --bench replication --bench live_search

# The command line and DuckDB's Python package, process to process.
bench-cli: $(PEERS)/.ready
	cargo build --release -p vexact-cli
	$(PEERS)/bin/python benches/cli.py --vexact $(TARGET)/release/vexact

# Ours and the crate rhei, in turn. What rhei is built of needs libclang (Debian: libclang-dev).
bench-rhei:
	cd benches/rhei && cargo build --release
	for turn in 1 2; do \
		cargo bench -p vexact --bench replication && (cd benches/rhei && cargo run --release --quiet) || exit 1; \
	done

bench-peers: $(VENV)/.ready $(PEERS)/.ready
	cd python && VIRTUAL_ENV=$(VENV) $(BIN)/maturin develop --release --quiet
	echo "$(CURDIR)/python" > $$($(PEERS)/bin/python -c 'import site; print(site.getsitepackages()[0])')/vexact.pth
	$(PEERS)/bin/python benches/peers/run.py $(PEERS_ARGS)

$(PEERS)/.ready: benches/peers/requirements.txt
	test -x $(PEERS)/bin/python || $(PYTHON) -m venv $(PEERS)
	$(PEERS)/bin/pip install -q -U pip
	$(PEERS)/bin/pip install -q -r benches/peers/requirements.txt
	touch $@

# A release: the program, a single file, and the wheel.
dist: $(VENV)/.ready
	rm -rf $(DIST) && mkdir $(DIST)
	cargo build --release -p vexact-cli
	cp $(TARGET)/release/vexact $(DIST)/
	strip $(DIST)/vexact
	cd python && VIRTUAL_ENV=$(VENV) $(BIN)/maturin build --release --quiet --strip --out $(DIST)
	@du -m --apparent-size $(DIST)/vexact $(DIST)/*.whl
	@test -z "$$(find $(DIST) -name '*.whl' -size +60M)" || { echo "a wheel has more than 60 MB"; exit 1; }

# cargo shows its progress; pip's list of what is installed already is left out.
extension: $(VENV)/.ready
	@echo "Building the Python extension: ten minutes on two cores the first time, a minute after a change."
	cd python && PIP_QUIET=1 VIRTUAL_ENV=$(VENV) $(BIN)/maturin develop

$(VENV)/.ready: python/pyproject.toml
	@echo "Setting up the Python environment .venv: about a minute."
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install -q -U pip
	$(BIN)/pip install -q --group python/pyproject.toml:dev
	touch $@

clean:
	rm -rf target $(VENV) $(PEERS) $(DIST)
