#!/usr/bin/env python3
"""How the control plane does with many tasks: time of a start with all of them running, and of lists, filters and pages.

    bench/tasks.py [TASKS (1000)]      after `cargo build --release`

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


def measure(server, name, path, times=300):
    taken = []
    cursor = None
    for _ in range(times):
        asked = path if cursor is None else f"{path}{'&' if '?' in path else '?'}cursor={cursor}"
        begin = time.perf_counter()
        answer = server.good("GET", asked)
        taken.append((time.perf_counter() - begin) * 1000)
        cursor = answer.get("next_cursor") if name.startswith("page") else None
    taken.sort()
    at = lambda part: taken[min(len(taken) - 1, int(len(taken) * part))]
    print(f"{name:34} p50 {at(0.5):7.2f} ms   p99 {at(0.99):7.2f} ms   max {taken[-1]:7.2f} ms", flush=True)


with tempfile.TemporaryDirectory(prefix="tidegate-bench-") as folder:
    server = Server(folder)
    fill(server)
    before = {row[0]: row[1] for row in sqlite3.connect(os.path.join(folder, "tidegate.db")).execute("select id, epoch from tasks")}
    begin = time.monotonic()
    ready = server.start()
    while True:
        store = sqlite3.connect(f"file:{os.path.join(folder, 'tidegate.db')}?mode=ro", uri=True)
        runs = sum(1 for task, epoch in store.execute("select id, epoch from tasks") if epoch > before[task])
        store.close()
        if runs == TASKS:
            break
        time.sleep(0.02)
    print(f"{TASKS} running tasks: ready after {ready:.2f} s, all run again after {time.monotonic() - begin:.2f} s", flush=True)
    time.sleep(2)
    for name, path in [
        ("list, 100", "/tasks"), ("list, 500", "/tasks?limit=500"), ("page, 100", "/tasks?limit=100"),
        ("filter, label", "/tasks?label=shard%3D3"), ("filter, two labels", "/tasks?label=shard%3D3&label=env%3Dprod"),
        ("filter, status", "/tasks?status=running"), ("filter, name", "/tasks?name_prefix=task-99"),
        ("filter, health", "/tasks?health=failed"), ("filter, health", "/tasks?health=degraded"), ("one", "/tasks/task-500"), ("summary", "/tasks/summary"),
    ]:
        measure(server, name, path)
    status, answer = server.call("POST", "/tasks/commands?wait_ms=60000", {"command": "pause", "select": {"all": True}})
    begin = time.monotonic()
    status, answer = server.call("POST", "/tasks/commands?wait_ms=60000", {"command": "resume", "select": {"all": True}})
    print(f"resume of all: {time.monotonic() - begin:.2f} s, refused {answer['refused']}", flush=True)
    print(f"stop of the process: {server.stop():.2f} s")
