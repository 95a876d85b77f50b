#!/bin/bash
# Builds what the benchmark needs besides tidegate and runs it; bench/bench.py says with what settings. BENCH_ARBITER=0 leaves
# out Arbiter, whose first build downloads a few hundred modules.
set -euo pipefail
cd "$(dirname "$0")/.."
mkdir -p target/bench
(cd bench && go build -o ../target/bench/tool .)
if [ "${BENCH_ARBITER:-1}" != 0 ] && [ ! -x target/bench/arbiter ]; then
  (cd bench/arbiter && go build -o ../../target/bench/arbiter github.com/pingcap/tidb-binlog/cmd/arbiter)
fi
exec python3 bench/bench.py "$@"
