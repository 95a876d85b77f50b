"""What every part of the benchmark uses: the stack's servers, tidegate as a process with its API, the Go tool."""

import http.client
import json
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
TIDEGATE = os.environ.get("TIDEGATE_BIN", os.path.join(ROOT, "target/release/tidegate"))
TOOL = os.environ.get("BENCH_TOOL", os.path.join(ROOT, "target/bench/tool"))
STACK_BUILD = os.environ.get("STACK_BUILD", os.path.join(ROOT, "tests/stack/build"))
# Sizes are multiplied by this; 1 is what docs/performance.md is made of.
SCALE = float(os.environ.get("BENCH_SCALE", "1"))
RUNS = int(os.environ.get("BENCH_RUNS", "3"))
TICKS = os.sysconf("SC_CLK_TCK")


def _stack():
    path = os.environ.get("TIDEGATE_STACK_ENV")
    if path is None and "STACK_DIR" in os.environ:
        path = os.path.join(os.environ["STACK_DIR"], "env")
    if path is None:
        raise SystemExit("no stack: use make bench, or name one by TIDEGATE_STACK_ENV or STACK_DIR")
    with open(path) as lines:
        return {"folder": os.path.dirname(os.path.abspath(path)), **dict(line.strip().split("=", 1) for line in lines if "=" in line)}


STACK = _stack()
# What belongs to this stack: what its topics and tables hold, logs.
WORK = os.environ.get("BENCH_WORK", os.path.join(STACK["folder"], "bench"))
RESULTS = os.environ.get("BENCH_RESULTS", os.path.join(WORK, "results.json"))
os.makedirs(WORK, exist_ok=True)
TARGET = int(STACK["MARIADB_PORT"])
SOURCE = int(STACK["TIDB_PORT"])


def say(*words):
    print("bench:", *words, flush=True)


def scaled(number, least=1):
    return max(int(number * SCALE), least)


def wanted(contestant):
    only = [word for word in os.environ.get("BENCH_ONLY", "").split(",") if word]
    return not only or any(contestant.startswith(word) for word in only)


def tool(command, **flags):
    """Runs the Go tool; its last line is its answer."""
    line = [TOOL, command] + [f"-{name.replace('_', '-')}={str(value).lower() if isinstance(value, bool) else value}" for name, value in flags.items()]
    done = subprocess.run(line, stdout=subprocess.PIPE, text=True)
    if done.returncode != 0:
        raise SystemExit(f"bench: {' '.join(line)} failed")
    return json.loads(done.stdout.splitlines()[-1])


def sql(port, text, database=""):
    command = ["mariadb", "--no-defaults", "--default-character-set=utf8mb4", "-h127.0.0.1", f"-P{port}", "-uroot", "-NB", "--local-infile=1"]
    done = subprocess.run(command + ([database] if database else []), input=text, stdout=subprocess.PIPE, text=True)
    if done.returncode != 0:
        raise SystemExit(f"bench: SQL failed: {text[:200]}")
    return [line.split("\t") for line in done.stdout.splitlines()]


def check(facts, port=TARGET):
    """The target must hold what the generator says: rows and the sum of their CRC32, table by table."""
    for table, want in facts["tables"].items():
        rows, crc = sql(port, f"SET time_zone = '+00:00'; {facts['check_sql']} {table}")[0]
        if (int(rows), int(crc)) != (want["Rows"], want["CRC"]):
            raise SystemExit(f"bench: {table} differs: {rows} rows, sum {crc}, instead of {want}")


def empty_target(*databases):
    sql(TARGET, "".join(f"DROP DATABASE IF EXISTS {name};" for name in databases or ("bench", "tidb_binlog")) + "SET GLOBAL innodb_max_dirty_pages_pct = 0;")
    # What an earlier run left unwritten is not this run's business.
    for _ in range(200):
        dirty = sql(TARGET, "SHOW GLOBAL STATUS LIKE 'Innodb_buffer_pool_pages_dirty'")[0][1]
        if int(dirty) < 100:
            break
        time.sleep(0.05)
    sql(TARGET, "SET GLOBAL innodb_max_dirty_pages_pct = 90")


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def cpu(pid):
    """Seconds of CPU that a process has had."""
    with open(f"/proc/{pid}/stat") as stat:
        fields = stat.read().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


def server_pid(part):
    with open(os.path.join(STACK["folder"], part + ".pid")) as text:
        return int(text.read().split()[0])


class Servers:
    """CPU that the stack's own servers take from here on: what a figure costs, however busy the machine is with other things."""

    def __init__(self):
        self.before = self._now()

    def _now(self):
        return {part: cpu(server_pid(part)) for part in ("mariadb", "kafka", "tidb")}

    def so_far(self):
        return {part + "_cpu_seconds": now - self.before[part] for part, now in self._now().items()}


class Measured:
    """A process: its time, CPU and peak memory from here on, and the servers' CPU."""

    def __init__(self, pid):
        self.pid = pid
        self.begin = time.monotonic()
        self.cpu = cpu(pid)
        self.servers = Servers()

    def memory(self, field="VmHWM"):
        with open(f"/proc/{self.pid}/status") as lines:
            return next(int(line.split()[1]) for line in lines if line.startswith(field + ":")) / 1024

    def so_far(self):
        seconds = time.monotonic() - self.begin
        return {"seconds": seconds, "cpu_seconds": cpu(self.pid) - self.cpu, "peak_mib": self.memory(), **self.servers.so_far()}


def new_topic(name):
    """An empty topic of its own; a producer that finds none may give up before the broker has made one."""
    topic = f"bench-{name}-{time.time_ns()}"
    subprocess.run([os.path.join(STACK_BUILD, "bin/produce"), "-brokers", STACK["KAFKA"], "-topic", topic, "-create-only"], check=True, stdout=subprocess.DEVNULL)
    return topic


class Tidegate:
    """A server of its own, fresh, with connections to the stack."""

    def __init__(self, target_port=TARGET):
        self.folder = tempfile.mkdtemp(prefix="tidegate-bench-")
        self.port = free_port()
        env = {**os.environ, "TIDEGATE_LISTEN": f"127.0.0.1:{self.port}", "TIDEGATE_DATA_DIR": os.path.join(self.folder, "data")}
        self.log = os.path.join(WORK, "server.log")
        with open(self.log, "w") as log:
            self.process = subprocess.Popen([TIDEGATE, "serve"], env=env, stdout=log, stderr=log, stdin=subprocess.DEVNULL)
        self.line = None
        for _ in range(1000):
            try:
                if self.call("GET", "/readyz", root=True)[0] == 200:
                    break
            except OSError:
                self.line = None
            if self.process.poll() is not None:
                raise SystemExit(f"bench: the server ended at its start, see {self.log}")
            time.sleep(0.02)
        self.good("PUT", "/connections/tidb", {"kind": "tidb", "host": "127.0.0.1", "port": SOURCE, "user": "root"})
        self.good("PUT", "/connections/kafka", {"kind": "kafka", "brokers": [STACK["KAFKA"]]})
        self.good("PUT", "/connections/target", {"kind": "mysql", "host": "127.0.0.1", "port": target_port, "user": "root"})

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(60)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        shutil.rmtree(self.folder, ignore_errors=True)

    def call(self, method, path, body=None, root=False):
        if self.line is None:
            self.line = http.client.HTTPConnection("127.0.0.1", self.port, timeout=120)
        headers = {"content-type": "application/json"} if body is not None else {}
        self.line.request(method, path if root else "/api/v1" + path, None if body is None else json.dumps(body), headers)
        answer = self.line.getresponse()
        text = answer.read()
        return answer.status, json.loads(text) if text and not root else None

    def good(self, method, path, body=None):
        status, answer = self.call(method, path, body)
        if status >= 300:
            raise SystemExit(f"bench: {method} {path}: {status} {json.dumps(answer)}")
        return answer

    def create(self, name, **spec):
        """A task whose warnings of the precheck are waived."""
        spec = {"name": name, "target": "target", "objects": {"include": ["bench.*"]}, **spec}
        tuning = os.environ.get("BENCH_TUNING")
        if tuning:
            spec["tuning"] = json.loads(tuning)
        self.good("POST", "/tasks", spec)
        found = self.good("POST", f"/tasks/{name}/precheck")["items"]
        failed = [item for item in found if item["outcome"] == "fail"]
        if failed:
            raise SystemExit(f"bench: precheck of {name}: {json.dumps(failed)}")
        self.good("PATCH", f"/tasks/{name}/spec", {"waivers": [item["id"] for item in found if item["outcome"] == "warn"]})

    def follow(self, name, topic, offset="0"):
        """Follows a topic alone, without a TiDB."""
        self.create(name, source={"kafka": "kafka", "topic": topic}, phases={"schema": False, "full": False, "incremental": True},
                    start_at={"offset": str(offset)}, existing_tables="keep")

    def start(self, name):
        self.good("POST", f"/tasks/{name}/start")
        return Measured(self.process.pid)

    def wait(self, name, reached, every=0.05, seconds=7200):
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            task = self.good("GET", f"/tasks/{name}")
            if task["status"] == "failed":
                raise SystemExit(f"bench: the task failed: {json.dumps(task['last_error'])}")
            if reached(task):
                return task
            time.sleep(every)
        raise SystemExit(f"bench: {name} does not get there: {json.dumps(task)}")

    def wait_offset(self, name, offset, **how):
        return self.wait(name, lambda task: task["checkpoint"] and int(task["checkpoint"]["next_offset"]) > offset, **how)
