"""Incremental sync: three topics, each caught up with by tidegate and by Arbiter, beside what the target takes at best."""

import json
import os
import subprocess
import time

from stack import RUNS, STACK, TARGET, WORK, Measured, Tidegate, check, empty_target, free_port, new_topic, say, scaled, server_pid, sql, tool, wanted

# It may stop without a word.
ARBITER_SECONDS = 1200
ARBITER = os.environ.get("ARBITER_BIN", os.path.join(os.path.dirname(os.path.abspath(__file__)), "../target/bench/arbiter"))
SETS = {
    "oltp": lambda: {"tables": 4, "txns": scaled(200_000), "rows": 5, "mix": "60,30,10"},
    "bulk": lambda: {"tables": 4, "txns": scaled(2_000), "rows": 1_000, "mix": "100,0,0", "spread": False},
    "hot": lambda: {"tables": 1, "txns": scaled(200_000), "rows": 5, "mix": "0,100,0", "preload": 10_000, "recent": 0},
}


def topic(name):
    """The set's topic, written once for a stack."""
    flags = SETS[name]()
    path = os.path.join(WORK, f"{name}-{flags['txns']}.json")
    if not os.path.exists(path):
        known = new_topic(name)
        say(f"writing the topic of {name} ...")
        facts = tool("gen", brokers=STACK["KAFKA"], topic=known, **flags)
        with open(path + ".new", "w") as out:
            json.dump({"topic": known, "flags": flags, **facts}, out)
        os.rename(path + ".new", path)
    with open(path) as text:
        return json.load(text)


def tidegate(facts, target_port=TARGET):
    empty_target()
    with Tidegate(target_port) as server:
        server.follow("bench", facts["topic"])
        measured = server.start("bench")
        begun = tables_made(facts, measured)
        server.wait_offset("bench", facts["last_offset"])
        result = {**measured.so_far(), "startup_seconds": begun}
    check(facts)
    return rated(result, facts)


def tables_made(facts, measured, alive=lambda: None):
    """The topic begins with the tables: seconds until the last one is there. From then on rows are applied."""
    last = f"SELECT 1 FROM information_schema.tables WHERE table_schema = 'bench' AND table_name = 't{facts['flags']['tables'] - 1}'"
    while not sql(TARGET, last):
        alive()
        time.sleep(0.02)
    return time.monotonic() - measured.begin


def rated(result, facts):
    """Rows of the topic a second, without the startup, which a longer topic would not feel."""
    return {**result, "rows_per_second": facts["changes"] / (result["seconds"] - result["startup_seconds"])}


def ceiling(facts, conns, prepared):
    empty_target()
    result = tool("ceiling", port=TARGET, watch_pid=server_pid("mariadb"), conns=conns, prepared=prepared, **({"statement_rows": 256} if prepared else {}),
                  fold_bytes=int(os.environ.get("BENCH_FOLD_BYTES", 16 << 20)), **facts["flags"])
    check(facts)
    return result


def arbiter(facts):
    empty_target()
    log = os.path.join(WORK, "arbiter.log")
    command = [ARBITER, "-config", os.path.join(WORK, "arbiter.toml"), "-addr", f"127.0.0.1:{free_port()}", "-log-file", log, "-L", "warn"]
    with open(os.path.join(WORK, "arbiter.toml"), "w") as config:
        config.write(f'[up]\nkafka-addrs = "{STACK["KAFKA"]}"\ntopic = "{facts["topic"]}"\n[down]\nhost = "127.0.0.1"\nport = {TARGET}\nuser = "root"\n')
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        def alive():
            if process.poll() is not None:
                raise SystemExit(f"bench: arbiter ended, see {log}")
            if time.monotonic() > patience:
                raise SystemExit(f"bench: arbiter is not through after {ARBITER_SECONDS} s, see {log}")

        patience = time.monotonic() + ARBITER_SECONDS
        measured = Measured(process.pid)
        begun = tables_made(facts, measured, alive)
        while not sql(TARGET, "SELECT 1 FROM information_schema.tables WHERE table_schema = 'bench' AND table_name = 'done'"):
            alive()
            time.sleep(0.1)
        result = {**measured.so_far(), "startup_seconds": begun}
    finally:
        process.terminate()
        process.wait()
    check(facts)
    return rated(result, facts)


def tell(name, what, result):
    say(f"{name:5} {what:24} {result['rows_per_second']:10,.0f} rows/s", *(
        f"{key} {result[key]:.1f}" for key in ("seconds", "startup_seconds", "cpu_seconds", "mariadb_cpu_seconds", "kafka_cpu_seconds", "peak_mib") if key in result))


def run(name):
    """All contestants one after the other, and that RUNS times."""
    facts = topic(name)
    contestants = {"tidegate": lambda: tidegate(facts)}
    for prepared in (False, True):
        for conns in (1, 2, 4):
            contestants[f"ceiling {'prepared' if prepared else 'text'} x{conns}"] = lambda c=conns, p=prepared: ceiling(facts, c, p)
    if os.environ.get("BENCH_ARBITER") != "0":
        contestants["arbiter"] = lambda: arbiter(facts)
    runs = {what: [] for what in contestants if wanted(what)}
    for _ in range(RUNS):
        for what in runs:
            result = contestants[what]()
            runs[what].append(result)
            tell(name, what, result)
    facts.pop("tables")
    return {"facts": facts, "runs": runs}
