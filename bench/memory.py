"""Memory: catching up on a long backlog, one transaction in one message, and a long run."""

import os
import threading

import incremental
from latency import at_rate
from stack import SCALE, STACK, Tidegate, check, empty_target, new_topic, say, scaled, tool

BACKLOG_BYTES = float(os.environ.get("BENCH_BACKLOG_GB", "10")) * 1e9
MINUTES = float(os.environ.get("BENCH_MINUTES", "30"))


class Watch:
    """VmRSS of a server, every second until told otherwise."""

    def __init__(self, measured):
        self.measured, self.seen, self.over = measured, [], threading.Event()
        self.thread = threading.Thread(target=self._look)
        self.thread.start()

    def _look(self):
        while not self.over.wait(1):
            try:
                self.seen.append(self.measured.memory("VmRSS"))
            except (OSError, StopIteration):  # it has ended
                return

    def end(self):
        self.over.set()
        self.thread.join()
        return self.seen or [self.measured.memory("VmRSS")]


def catch_up(name, flags):
    """Writes a topic, catches up with it, and says how much memory that took."""
    topic = new_topic(name)
    say(f"writing the topic of {name} ...")
    facts = {"topic": topic, "flags": flags, **tool("gen", brokers=STACK["KAFKA"], topic=topic, **flags)}
    empty_target()
    with Tidegate() as server:
        server.follow("bench", topic)
        measured = server.start("bench")
        watch = Watch(measured)
        incremental.tables_made(facts, measured)
        server.wait_offset("bench", facts["last_offset"], every=0.2)
        seen = watch.end()
        result = {**measured.so_far(), "steps_mib": steps(seen)}
    check(facts)
    result.update(changes=facts["changes"], message_mib=facts["bytes"] / facts["messages"] / 2**20, topic_gb=facts["bytes"] / 1e9)
    say(f"memory {name}: {facts['bytes'] / 1e9:.2f} GB, {facts['changes']:,} rows in {result['seconds']:.0f} s, peak {result['peak_mib']:.0f} MiB, over time {result['steps_mib']}")
    return result


def steps(seen, count=6):
    """A few of the figures over time: each is the largest of its stretch."""
    size = max(len(seen) // count, 1)
    return [round(max(seen[n:n + size])) for n in range(0, len(seen) - size + 1, size)]


def run():
    # A transaction of five rows is 3.15 KB of message.
    backlog = catch_up("backlog", {**incremental.SETS["oltp"](), "txns": max(int(BACKLOG_BYTES * min(SCALE, 1) / 3_150), 100)})
    giant = catch_up("giant", {"tables": 1, "txns": 1, "rows": scaled(1_000_000), "mix": "100,0,0", "spread": False})
    giant["message_mib"] = giant["topic_gb"] * 1e9 / 2**20
    seen = []
    long = at_rate(5_000, seconds=max(int(MINUTES * 60 * min(SCALE, 1)), 10), watch=lambda _, measured: seen.append(Watch(measured)))
    long["steps_mib"] = steps(seen[0].end(), 10)
    say(f"memory of a long run: {long['steps_mib']} MiB over {long['seconds']:.0f} s at 5,000 rows/s")
    return {"backlog": backlog, "giant": giant, "long": long, "minutes": MINUTES}
