"""Lag: time from a commit until its row is seen in the target, at parts of the measured maximum and with a target far away."""

import json
import os
import subprocess
from contextlib import contextmanager

import incremental
from stack import RUNS, STACK, TARGET, TOOL, Tidegate, check, empty_target, new_topic, say, tool, wanted

SECONDS = int(os.environ.get("BENCH_LAG_SECONDS", "20"))
ROUND_TRIP_MS = 25


@contextmanager
def far_target():
    """A port behind which the target is 25 ms away."""
    process = subprocess.Popen([TOOL, "proxy", f"-port={TARGET}", f"-one-way={ROUND_TRIP_MS / 2}ms"], stdout=subprocess.PIPE, text=True)
    try:
        yield json.loads(process.stdout.readline())["port"]
    finally:
        process.terminate()
        process.wait()


def at_rate(rate, target_port=TARGET, seconds=SECONDS, watch=None):
    """A task that keeps up with this many rows a second."""
    empty_target()
    topic = new_topic("lag")
    with Tidegate(target_port) as server:
        server.follow("bench", topic)
        measured = server.start("bench")
        if watch:
            watch(server, measured)
        result = tool("lag", brokers=STACK["KAFKA"], topic=topic, port=TARGET, rate=rate, duration=f"{seconds}s", warm_up=f"{min(3, seconds / 3)}s")
        server.wait_offset("bench", result["last_offset"], seconds=300)
        result.update(measured.so_far())
        check(result)
    for fact in ("tables", "check_sql"):
        result.pop(fact)
    return result


def run():
    facts = incremental.topic("oltp")
    maxima, far = [], []
    with far_target() as port:
        for _ in range(RUNS):
            maxima.append(incremental.tidegate(facts))
            incremental.tell("lag", "0 ms", maxima[-1])
            far.append(incremental.tidegate(facts, port))
            incremental.tell("lag", f"{ROUND_TRIP_MS} ms", far[-1])
        most = sorted(one["rows_per_second"] for one in maxima)[len(maxima) // 2]
        loads = []
        for round_trip, part, target in [(0, 0.1, TARGET), (0, 0.5, TARGET), (0, 0.8, TARGET), (ROUND_TRIP_MS, 0.1, port), (ROUND_TRIP_MS, 0.5, port)]:
            if not wanted(f"{part:.0%} at {round_trip} ms"):
                continue
            result = {"part": part, "round_trip_ms": round_trip, "rate": part * most, **at_rate(part * most, target)}
            say(f"lag   {part:.0%} of {most:,.0f} rows/s, {round_trip} ms: p50 {result['p50_ms']:.0f} p99 {result['p99_ms']:.0f} max {result['max_ms']:.0f} ms,"
                f" {result['unseen']} unseen, sender late {result['sender_late_ms']} ms, peak {result['peak_mib']:.0f} MiB")
            loads.append(result)
    return {"maximum": most, "runs": {"0 ms": maxima, f"{ROUND_TRIP_MS} ms": far}, "loads": loads}
