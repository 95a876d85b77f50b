#!/usr/bin/env python3
"""Measures tidegate, its peers and what the target takes at best, side by side; docs/performance.md is made of the results.

    bench/run.sh [PART...]        oltp bulk hot full lag memory scale; without any: all
    bench/run.sh page             writes the page from the results of this stack's parts; so does a run of all

    TIDEGATE_BIN       the binary (target/release/tidegate)
    STACK_DIR          of a stack that runs; `make bench` brings one
    BENCH_RUNS=3       runs of each contestant, interleaved
    BENCH_SCALE=1      sizes are multiplied by this
    BENCH_ONLY=...     contestants of the sets and of full, loads of lag, by the beginning of their names: tidegate,ceiling,50% at 0 ms
    BENCH_TUNING={...} tuning of the tasks' specs, as JSON
    BENCH_BACKLOG_GB=10 BENCH_MINUTES=30   of the part memory
    BENCH_TASKS=1000 BENCH_BUSY=50         of the part scale
    BENCH_LAG_SECONDS=20                   of each load in the part lag
    BENCH_RESULTS=...  where figures are kept ($STACK_DIR/bench/results.json), BENCH_PAGE=... the page (docs/performance.md)
"""

import json
import os
import sys

import full
import incremental
import latency
import memory
import page
import scale
from stack import RESULTS

PARTS = {name: lambda name=name: incremental.run(name) for name in incremental.SETS}
PARTS.update(full=full.run, lag=latency.run, memory=memory.run, scale=scale.run)


def main():
    wanted = sys.argv[1:] or [*PARTS, "page"]
    for part in wanted:
        if part not in (*PARTS, "page"):
            raise SystemExit(f"bench: no such part: {part}; there are {', '.join(PARTS)}, page")
    results = json.load(open(RESULTS)) if os.path.exists(RESULTS) else {}
    for part in wanted:
        if part == "page":
            page.write(results)
            continue
        load = os.getloadavg()[0]
        results[part] = {**PARTS[part](), "load": round(load, 1)}
        with open(RESULTS + ".new", "w") as out:
            json.dump(results, out, indent=1)
        os.rename(RESULTS + ".new", RESULTS)


main()
