#!/usr/bin/env python3
"""How the control plane does with many tasks: time of a start with all of them running, and of lists, filters and pages.

    bench/tasks.py [TASKS (1000)] [PAGE]      after `cargo build --release`; writes its part of PAGE, docs/performance.md for example

The tasks are made straight in a store of its own. Their endpoints are ports that nobody listens on, so each worker runs and
waits for its next try: what is measured is Tidegate, not a database. Needs nothing but Python's own library.
"""

import http.client
import json
import os
import signal
import socket
import sqlite3
import subprocess
import sys
import tempfile
import time

TASKS = int(sys.argv[1]) if len(sys.argv) > 1 else 1000
PAGE = sys.argv[2] if len(sys.argv) > 2 else None
ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
BINARY = os.environ.get("TIDEGATE_BIN", os.path.join(ROOT, "target/release/tidegate"))


class Server:
    def __init__(self, folder):
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.folder = folder
        self.process = None
        self.line = None

    def start(self):
        env = {**os.environ, "TIDEGATE_LISTEN": f"127.0.0.1:{self.port}", "TIDEGATE_DATA_DIR": self.folder, "TIDEGATE_LOG": "off"}
        begin = time.monotonic()
        self.process = subprocess.Popen([BINARY, "serve"], env=env)
        while True:
            try:
                self.line = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
                if self.call("GET", "/readyz")[0] == 200:
                    return time.monotonic() - begin
            except OSError:
                time.sleep(0.005)
            if self.process.poll() is not None:
                sys.exit("the server ended at its start")

    def memory(self):
        """KiB."""
        with open(f"/proc/{self.process.pid}/status") as status:
            return next(int(line.split()[1]) for line in status if line.startswith("VmRSS:"))

    def ticks(self):
        with open(f"/proc/{self.process.pid}/stat") as stat:
            fields = stat.read().rsplit(")", 1)[1].split()
        return int(fields[11]) + int(fields[12])

    def stop(self):
        begin = time.monotonic()
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(60)
        return time.monotonic() - begin

    def call(self, method, path, body=None):
        path = path if path == "/readyz" else "/api/v1" + path
        headers = {"content-type": "application/json"} if body is not None else {}
        self.line.request(method, path, None if body is None else json.dumps(body), headers)
        answer = self.line.getresponse()
        text = answer.read()
        return answer.status, json.loads(text) if text else None

    def good(self, method, path, body=None):
        status, answer = self.call(method, path, body)
        assert status < 300, (path, status, answer)
        return answer


def fill(server):
    """One task through the API, the others as copies of it, all of them running."""
    server.start()
    mysql = {"host": "127.0.0.1", "port": 1, "user": "root"}
    server.good("PUT", "/connections/tidb?verify=false", {"kind": "tidb", **mysql})
    server.good("PUT", "/connections/kafka?verify=false", {"kind": "kafka", "brokers": ["127.0.0.1:1"]})
    server.good("PUT", "/connections/target?verify=false", {"kind": "mysql", **mysql})
    topic = "t"
    server.good("POST", "/tasks", {
        "name": "task-0", "labels": {"env": "prod", "shard": "0"}, "target": "target",
        "source": {"tidb": "tidb", "kafka": "kafka", "topic": topic},
        "phases": {"schema": False, "full": False, "incremental": True}, "start_at": "latest",
        "objects": {"include": ["bench_none.*"]}, "errors": {"connection_retry_ms": 86400000},
    })
    server.stop()
    store = sqlite3.connect(os.path.join(server.folder, "tidegate.db"))
    columns = [row[1] for row in store.execute("pragma table_info(tasks)")]
    row = dict(zip(columns, store.execute("select * from tasks").fetchone()))
    store.execute("delete from tasks")
    for n in range(TASKS):
        spec = json.loads(row["spec"])
        spec["name"] = f"task-{n}"
        spec["labels"] = {"env": "prod" if n % 2 else "test", "shard": str(n % 10)}
        new = {**row, "id": f"t_{n:026d}", "name": spec["name"], "spec": json.dumps(spec), "desired": "running", "status": "running", "phase": "incremental"}
        store.execute(f"insert into tasks ({', '.join(new)}) values ({', '.join('?' * len(new))})", list(new.values()))
        # It has begun: no precheck, it goes on from here.
        store.execute(
            "insert into checkpoints (task_id, snapshot_tso, start_offset, next_offset, commit_ts, cluster_id, topic, watermark_tso,"
            " schema_done, full_done, updated_at) values (?, 0, 0, 0, 0, '', ?, 0, 1, 1, ?)",
            (new["id"], topic, new["created_at"]),
        )
    store.commit()
    store.close()


def made_new(folder):
    """As if none had ever been started."""
    store = sqlite3.connect(os.path.join(folder, "tidegate.db"))
    store.execute("update tasks set desired = 'none', status = 'created', phase = null, retry = null, last_error = null")
    store.execute("delete from checkpoints")
    store.commit()
    store.close()


def timed(server, path, times=300, pages=False):
    """Percentiles of a GET until its last byte is here, in milliseconds; `pages` follows the cursor."""
    taken, cursor = [], None
    for _ in range(times):
        asked = path if cursor is None else f"{path}{'&' if '?' in path else '?'}cursor={cursor}"
        begin = time.perf_counter()
        server.line.request("GET", "/api/v1" + asked)
        answer = server.line.getresponse()
        text = answer.read()
        taken.append((time.perf_counter() - begin) * 1000)
        assert answer.status == 200, (asked, answer.status, text)
        cursor = json.loads(text).get("next_cursor") if pages else None
    taken.sort()
    at = lambda part: taken[min(len(taken) - 1, int(len(taken) * part))]
    return at(0.5), at(0.99), taken[-1]


def in_status(server, status):
    return server.good("GET", "/tasks/summary")["status"][status]


def commanded(server, command, status):
    """Time until a command to all tasks has its effect on every one of them."""
    begin = time.monotonic()
    answer = server.good("POST", "/tasks/commands?wait_ms=60000", {"command": command, "select": {"all": True}})
    assert answer["refused"] == 0, [result for result in answer["results"] if result["outcome"] == "refused"][:3]
    while in_status(server, status) < TASKS:
        assert time.monotonic() - begin < 300, f"{command} did not come to its end: {server.good('GET', '/tasks/summary')}"
        time.sleep(0.05)
    return time.monotonic() - begin


def epochs(folder):
    store = sqlite3.connect(f"file:{os.path.join(folder, 'tidegate.db')}?mode=ro", uri=True)
    found = dict(store.execute("select id, epoch from tasks"))
    store.close()
    return found


def main():
    rows = []
    say = lambda name, value: (rows.append((name, value)), print(f"{name:48} {value}", flush=True))
    with tempfile.TemporaryDirectory(prefix="tidegate-bench-") as folder:
        server = Server(folder)
        server.start()
        time.sleep(2)
        empty = server.memory()
        server.stop()
        fill(server)
        before = epochs(folder)
        begin = time.monotonic()
        ready = server.start()
        while sum(1 for task, epoch in epochs(folder).items() if epoch > before[task]) < TASKS:
            assert time.monotonic() - begin < 300, "not every task runs again"
            time.sleep(0.02)
        say("start of the process: ready", f"{ready:.2f} s")
        say("start of the process: all run again", f"{time.monotonic() - begin:.2f} s")
        time.sleep(10)
        for name, path, pages in [
            ("list, 100 tasks", "/tasks", False), ("list, 500 tasks", "/tasks?limit=500", False), ("pages of 100", "/tasks?limit=100", True),
            ("filter, a label", "/tasks?label=shard%3D3", False), ("filter, two labels", "/tasks?label=shard%3D3&label=env%3Dprod", False),
            ("filter, status", "/tasks?status=running", False), ("filter, name prefix", "/tasks?name_prefix=task-99", False),
            ("filter, health", "/tasks?health=degraded", False), ("one task", "/tasks/task-500", False), ("summary of all", "/tasks/summary", False),
        ]:
            p50, p99, most = timed(server, path, pages=pages)
            say(name, f"p50 {p50:.1f} ms, p99 {p99:.1f} ms, max {most:.1f} ms")
        from_s, from_ticks = time.monotonic(), server.ticks()
        time.sleep(30)
        share = (server.ticks() - from_ticks) / os.sysconf("SC_CLK_TCK") / (time.monotonic() - from_s)
        say("processor while nobody asks", f"{share * 100:.1f} % of one core")
        say("memory a task", f"{(server.memory() - empty) / TASKS:.0f} KiB (the process: {server.memory() / 1024:.0f} MiB)")
        say("pause of all, by one command", f"{commanded(server, 'pause', 'paused'):.2f} s")
        say("resume of all", f"{commanded(server, 'resume', 'running'):.2f} s")
        say("stop of the process, all running", f"{server.stop():.2f} s")
        made_new(folder)
        server.start()
        say("start of all, by one command", f"{commanded(server, 'start', 'running'):.2f} s")
        server.stop()
    if PAGE:
        write(rows)


def write(rows):
    """Puts the figures into the page, in the place of the ones before."""
    title = "## Many tasks"
    with open(PAGE) as page:
        text = page.read()
    head, _, tail = text.partition(title)
    _, following, rest = tail.partition("\n## ")
    version = subprocess.run([BINARY, "--version"], capture_output=True, text=True, check=True).stdout.split()[1]
    lines = "".join(f"| {name} | {value} |\n" for name, value in rows)
    with open(PAGE, "w") as page:
        page.write(f"""{head.rstrip()}

{title}

`bench/tasks.py` on {time.strftime('%Y-%m-%d', time.gmtime())}, version {version}, release build: {TASKS} tasks, {os.cpu_count()} cores.

| | |
|---|---|
{lines}
How: the tasks are written into a store, as they are left when a server that runs them is stopped. Their endpoints are ports that
nobody listens on: every worker runs, cannot connect and waits for its next try, so that what is measured is Tidegate's own part. A
task that follows a topic has two clients of Kafka's library besides (its stream, its questions), which are not in these figures. Requests
come one after another over one connection, 300 of each kind; memory is VmRSS against a server without tasks; processor time is user and
system over 30 s. Commands are timed until every task is in the state that it asks for.
{following}{rest}""")


if __name__ == "__main__":
    main()
