"""Full sync: four tables of the local TiDB, by tidegate, mydumper and myloader, mysqldump; beside LOAD DATA from memory and the
source read alone."""

import json
import os
import shutil
import subprocess
import time

from stack import RUNS, SOURCE, TARGET, WORK, Servers, Tidegate, check, empty_target, say, scaled, server_pid, sql, tool, wanted

TABLES = 4


def source():
    """The rows, put into TiDB once for a stack."""
    rows = scaled(2_000_000 // TABLES, 10) * TABLES
    path = os.path.join(WORK, f"full-{rows}.json")
    if not os.path.exists(path):
        say(f"filling TiDB with {rows:,} rows ...")
        sql(SOURCE, "DROP DATABASE IF EXISTS bench")
        facts = tool("rows", port=SOURCE, total=rows, tables=TABLES, conns=4, statement_rows=500)
        # TiDB writes JSON in its own order, so what it gives is what a copy must hold.
        facts["as_made"] = facts["tables"]
        facts["tables"] = {table: dict(zip(("Rows", "CRC"), map(int, sql(SOURCE, f"SET time_zone = '+00:00'; {facts['check_sql']} {table}")[0])))
                           for table in facts["tables"]}
        # Statistics by hand: an automatic ANALYZE would run into somebody's turn.
        sql(SOURCE, "SET GLOBAL tidb_enable_auto_analyze = OFF;" + "".join(f"ANALYZE TABLE bench.t{n};" for n in range(TABLES)))
        for old in os.listdir(WORK):
            if old.startswith("full-"):
                os.remove(os.path.join(WORK, old))
        with open(path, "w") as out:
            json.dump(facts, out)
    with open(path) as text:
        return json.load(text)


def tidegate(facts):
    with Tidegate() as server:
        server.create("bench", source={"tidb": "tidb"}, phases={"schema": True, "full": True, "incremental": False})
        measured = server.start("bench")
        server.wait("bench", lambda task: task["phase"] == "full" or task["status"] == "finished", every=0.01)
        begun = time.monotonic() - measured.begin
        server.wait("bench", lambda task: task["status"] == "finished")
        return {**measured.so_far(), "startup_seconds": begun}


def call(*command, **how):
    done = subprocess.run(command, stderr=subprocess.PIPE, text=True, **how)
    if done.returncode != 0:
        raise SystemExit(f"bench: {command[0]} failed: {done.stderr[-500:]}")


def mydumper(_):
    folder = os.path.join(WORK, "dump")
    shutil.rmtree(folder, ignore_errors=True)
    servers = Servers()
    begin = time.monotonic()
    call("mydumper", "-h", "127.0.0.1", "-P", str(SOURCE), "-u", "root", "-B", "bench", "-o", folder, "-t", "4")
    dumped = time.monotonic() - begin
    call("myloader", "-h", "127.0.0.1", "-P", str(TARGET), "-u", "root", "-d", folder, "-t", "4")
    result = {"seconds": time.monotonic() - begin, "dump_seconds": dumped, **servers.so_far()}
    shutil.rmtree(folder)
    return result


def mysqldump(_):
    """Without --single-transaction, whose savepoints this TiDB does not know."""
    servers = Servers()
    begin = time.monotonic()
    call("bash", "-o", "pipefail", "-c",
         f"mariadb-dump --no-defaults -h127.0.0.1 -P{SOURCE} -uroot --skip-lock-tables --quick --databases bench"
         f" | mariadb --no-defaults -h127.0.0.1 -P{TARGET} -uroot")
    return {"seconds": time.monotonic() - begin, **servers.so_far()}


def run():
    facts = source()
    size = {"total": facts["rows"], "tables": TABLES}
    contestants = {"tidegate": tidegate, "mydumper + myloader": mydumper, "mysqldump | mysql": mysqldump}
    for conns in (1, 2, 4):
        contestants[f"load data x{conns}"] = lambda _, c=conns: tool("load", port=TARGET, watch_pid=server_pid("mariadb"), conns=c, **size)
    for conns in (1, 4):
        contestants[f"source alone x{conns}"] = lambda _, c=conns: tool("read", port=SOURCE, conns=c, **size)
    runs = {what: [] for what in contestants if wanted(what)}
    for _ in range(RUNS):
        for what in runs:
            empty_target()
            result = contestants[what](facts)
            result.setdefault("rows_per_second", facts["rows"] / (result["seconds"] - result.get("startup_seconds", 0)))
            if not what.startswith("source"):
                check({**facts, "tables": facts["as_made"]} if what.startswith("load") else facts)
            runs[what].append(result)
            say(f"full  {what:24} {result['rows_per_second']:10,.0f} rows/s", *(
                f"{key} {result[key]:.1f}" for key in ("seconds", "startup_seconds", "dump_seconds", "cpu_seconds", "mariadb_cpu_seconds", "peak_mib") if key in result))
    return {"facts": {"rows": facts["rows"]}, "runs": runs}
