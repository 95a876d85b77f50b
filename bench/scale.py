"""Scale: many tasks that follow one topic with nothing in it for them, and some that are busy."""

import os
import subprocess
import sys
import time

from stack import ROOT, STACK, TARGET, Measured, Tidegate, check, empty_target, new_topic, say, scaled, sql, tool

IDLE_SECONDS = int(os.environ.get("BENCH_IDLE_SECONDS", "30"))


def topic_for(name):
    topic = new_topic(name)
    facts = tool("gen", brokers=STACK["KAFKA"], topic=topic, tables=4, txns=scaled(2_000), rows=5)
    return topic, facts


def follow_many(server, topic, count):
    """Tasks with a schema each on the target, started at the topic's begin."""
    for n in range(count):
        server.good("POST", "/tasks", {
            "name": f"many-{n}", "target": "target", "source": {"kafka": "kafka", "topic": topic}, "start_at": {"offset": "0"}, "existing_tables": "keep",
            "phases": {"schema": False, "full": False, "incremental": True},
            "objects": {"include": ["bench.*"], "schemas": {"bench": {"target": f"bench_{n}"}}}})
    items = server.good("POST", "/tasks/many-0/precheck")["items"]
    waivers = [item["id"] for item in items if item["outcome"] == "warn"]
    for n in range(count):
        if waivers:
            server.good("PATCH", f"/tasks/many-{n}/spec", {"waivers": waivers})
        server.good("POST", f"/tasks/many-{n}/start")


def through(server, count, offset, seconds=3600):
    left = set(range(count))
    end = time.monotonic() + seconds
    while left and time.monotonic() < end:
        for n in sorted(left):
            task = server.good("GET", f"/tasks/many-{n}")
            if task["status"] == "failed":
                raise SystemExit(f"bench: many-{n} failed: {task['last_error']}")
            if task["checkpoint"] and int(task["checkpoint"]["next_offset"]) > offset:
                left.discard(n)
        time.sleep(0.2)
    if left:
        raise SystemExit(f"bench: {len(left)} of {count} tasks do not get there")


def idle(count):
    """Nothing to do: a topic whose only message they have passed."""
    topic = new_topic("idle")
    facts = tool("gen", brokers=STACK["KAFKA"], topic=topic, db="bench_other", tables=1, txns=1, rows=1, end="")
    # Each has a connection there for half a minute after its start.
    sql(TARGET, f"SET GLOBAL max_connections = {count + 500}")
    with Tidegate() as server:
        measured = Measured(server.process.pid)
        before = measured.memory("VmRSS")
        follow_many(server, topic, count)
        through(server, count, facts["last_offset"])
        time.sleep(40)
        quiet = Measured(server.process.pid)
        time.sleep(IDLE_SECONDS)
        still = quiet.so_far()
        after = quiet.memory("VmRSS")
        taken = []
        for n in range(max(scaled(2_000), 200)):
            begin = time.perf_counter()
            server.good("GET", f"/tasks/many-{n % count}")
            taken.append((time.perf_counter() - begin) * 1000)
        started = quiet.begin - measured.begin
    taken.sort()
    result = {"tasks": count, "cpu_percent": still["cpu_seconds"] / still["seconds"] * 100, "rss_mib": after, "rss_before_mib": before,
              "kib_per_task": (after - before) * 1024 / count, "api_p50_ms": taken[len(taken) // 2], "api_p99_ms": taken[int(len(taken) * 0.99)], "start_seconds": started}
    say(f"scale {count} idle tasks: {result['cpu_percent']:.1f} % of a core, {result['kib_per_task']:.0f} KiB a task, API p99 {result['api_p99_ms']:.1f} ms")
    return result


def busy(count):
    """All of them apply the same topic, each into a schema of its own."""
    empty_target(*(f"bench_{n}" for n in range(count)))
    topic, facts = topic_for("busy")
    with Tidegate() as server:
        measured = Measured(server.process.pid)
        follow_many(server, topic, count)
        through(server, count, facts["last_offset"])
        result = measured.so_far()
        for n in (0, count - 1):
            check({"tables": {name.replace("bench.", f"bench_{n}."): want for name, want in facts["tables"].items()}, "check_sql": facts["check_sql"]})
    empty_target(*(f"bench_{n}" for n in range(count)))
    changes = facts["changes"] * count
    result.update(tasks=count, changes=changes, rows_per_second=changes / result["seconds"])
    say(f"scale {count} busy tasks: {result['rows_per_second']:,.0f} rows/s with their starts, peak {result['peak_mib']:.0f} MiB")
    return result


def run():
    tasks = int(os.environ.get("BENCH_TASKS", scaled(1_000)))
    result = {"idle": idle(tasks), "busy": busy(int(os.environ.get("BENCH_BUSY", max(scaled(50), 2))))}
    # Lists, filters, a start with all of them: tasks whose endpoints are not there. It asks for the 501st.
    if tasks > 500:
        done = subprocess.run([sys.executable, os.path.join(ROOT, "bench/tasks.py"), str(tasks)], stdout=subprocess.PIPE, text=True)
        print(done.stdout, flush=True)
        if done.returncode != 0:
            raise SystemExit("bench: tasks.py failed")
        result["control_plane"] = done.stdout.splitlines()
    return result
