"""docs/performance.md: what was measured goes between its two marks; the words around them are written by hand."""

import os
import re
import subprocess
from statistics import median

from stack import ROOT, SOURCE, STACK_BUILD, TARGET, TIDEGATE, sql

BEGIN, END = "<!-- measured: made by bench/page.py -->", "<!-- end of measured -->"


def spread(runs, key="rows_per_second", form="{:,.0f}"):
    """Median and, in brackets, least and most."""
    values = sorted(run[key] for run in runs if key in run)
    if not values:
        return ""
    middle = form.format(median(values))
    return middle if len(values) == 1 else f"{middle} ({form.format(values[0])} - {form.format(values[-1])})"


def best(runs, word):
    """The contestant with the best median among those whose names begin with the word."""
    names = [name for name in runs if name.startswith(word) and runs[name]]
    return max(names, key=lambda name: median(run["rows_per_second"] for run in runs[name]), default=None)


def ratio(runs, one, other):
    """Of each round, then the median: rounds differ more than contestants within one."""
    if not other or not runs.get(one):
        return ""
    pairs = sorted(a["rows_per_second"] / b["rows_per_second"] for a, b in zip(runs[one], runs[other]))
    return f"{median(pairs):.2f} ({pairs[0]:.2f} - {pairs[-1]:.2f})"


def cost(runs):
    """CPU of the contestant and of the servers that it keeps busy: steadier than time on a machine that others use too."""
    return " + ".join(f"{median(run[key] for run in runs):.1f}" for key in ("cpu_seconds", "mariadb_cpu_seconds", "kafka_cpu_seconds") if key in runs[0])


def table(head, rows):
    rows = [[cell.replace("|", "\\|") for cell in row] for row in rows]
    return "\n".join(["| " + " | ".join(head) + " |", "|" + "---|" * len(head)] + ["| " + " | ".join(row) + " |" for row in rows]) + "\n"


def out(*command):
    try:
        return subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True).stdout.strip()
    except FileNotFoundError:
        return "absent"


def machine(results):
    with open("/proc/cpuinfo") as lines:
        model = next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), "unknown")
    with open("/proc/meminfo") as lines:
        memory = int(lines.readline().split()[1]) / 2**20
    kafka = next((name for name in sorted(os.listdir(os.path.join(STACK_BUILD, "kafka-lib"))) if re.match(r"kafka_2", name)), "kafka")
    mydumper = re.search(r"mydumper [\d.]+", out("mydumper", "--version"))
    versions = [
        out(TIDEGATE, "--version"), f"MariaDB {sql(TARGET, 'SELECT VERSION()')[0][0]}", f"TiDB {sql(SOURCE, 'SELECT VERSION()')[0][0]} over its embedded storage",
        "Kafka " + kafka.removesuffix(".jar").split("-")[-1], mydumper.group(0) if mydumper else "no mydumper", "Arbiter of tidb-binlog 8e49c63b7528 (2019-10)"]
    loads = [f"{part}: {result['load']}" for part, result in results.items() if "load" in result]
    return (f"Machine: {os.cpu_count()} cores ({model}), {memory:.0f} GiB, shared by TiDB, Kafka, MariaDB, the contestants and their measuring.\n"
            f"Versions: {'; '.join(versions)}.\nLoad of the machine by others when a part began (1 minute): {', '.join(loads)}.\n")


def incremental(results):
    text = "### Incremental\n\n"
    rows = []
    for name in ("oltp", "bulk", "hot"):
        if name not in results:
            continue
        runs = results[name]["runs"]
        top = best(runs, "ceiling")
        rows.append([f"`{name}`", spread(runs.get("tidegate", [])), spread(runs.get("arbiter", [])), f"{spread(runs[top])}, {top.removeprefix('ceiling ')}" if top else "",
                     ratio(runs, "tidegate", "arbiter" if runs.get("arbiter") else None), ratio(runs, "tidegate", top),
                     " / ".join(f"{median(run['peak_mib'] for run in runs[who]):.0f}" for who in ("tidegate", "arbiter") if runs.get(who)),
                     " / ".join(cost(runs[who]) for who in ("tidegate", "arbiter", top) if runs.get(who))])
    text += table(["set", "tidegate, rows/s", "Arbiter, rows/s", "target alone, rows/s", "x Arbiter", "x target alone", "peak MiB", "CPU s, own + MariaDB + Kafka"], rows)
    text += "\nThe target alone, each way:\n\n"
    ways = [f"{how} x{n}" for how in ("text", "prepared") for n in (1, 2, 4)]
    return text + table(["set"] + ways, [[f"`{name}`"] + [spread(results[name]["runs"].get("ceiling " + way, [])) for way in ways] for name in ("oltp", "bulk", "hot") if name in results])


def full(result):
    runs = result["runs"]
    top = best(runs, "load data")
    rows = [[name, spread(runs[name]), ratio(runs, "tidegate", name), spread(runs[name], "peak_mib", "{:.0f}"), spread(runs[name], "cpu_seconds", "{:.1f}")] for name in runs]
    return (f"### Full sync, {result['facts']['rows']:,} rows\n\n" + table(["", "rows/s", "tidegate is x this", "peak MiB", "CPU s"], rows)
            + (f"\nAgainst the best LOAD DATA ({top}): {ratio(runs, 'tidegate', top)}.\n" if top else ""))


def lag(result):
    runs = result["runs"]
    rows = [[f"{load['part']:.0%}", f"{load['round_trip_ms']} ms", f"{load['rows_per_second']:,.0f}", f"{load['p50_ms']:.0f}", f"{load['p99_ms']:.0f}", f"{load['max_ms']:.0f}", str(load["unseen"])]
            for load in result["loads"]]
    return (f"### Lag\n\nThe measured maximum is {result['maximum']:,.0f} rows/s of `oltp`.\n\n" + table(["load", "round trip to the target", "rows/s", "p50 ms", "p99 ms", "max ms", "never seen"], rows)
            + f"\nCatching up with `oltp` at 25 ms: {spread(runs['25 ms'])} rows/s against {spread(runs['0 ms'])} at 0 ms: {ratio(runs, '25 ms', '0 ms')} of it.\n")


def memory(result):
    backlog, giant, long = result["backlog"], result["giant"], result["long"]
    return "### Memory\n\n" + table(["case", "peak MiB", "over time, MiB"], [
        [f"catching up on {backlog['topic_gb']:.1f} GB, {backlog['changes']:,} rows in {backlog['seconds']:.0f} s", f"{backlog['peak_mib']:.0f}", " ".join(map(str, backlog["steps_mib"]))],
        [f"one transaction of {giant['changes']:,} rows, a message of {giant['message_mib']:.0f} MiB", f"{giant['peak_mib']:.0f}", " ".join(map(str, giant["steps_mib"]))],
        [f"{long['seconds'] / 60:.0f} minutes at {long['rows_per_second']:,.0f} rows/s", f"{long['peak_mib']:.0f}", " ".join(map(str, long["steps_mib"]))]])


def scale(result):
    idle, busy = result["idle"], result["busy"]
    return ("### Scale\n\n" + table(["", ""], [
        [f"{idle['tasks']} idle tasks", f"{idle['cpu_percent']:.1f} % of one core, {idle['kib_per_task']:.0f} KiB a task, API p50 {idle['api_p50_ms']:.1f} ms, p99 {idle['api_p99_ms']:.1f} ms"],
        [f"{busy['tasks']} busy tasks", f"{busy['rows_per_second']:,.0f} rows/s with their starts, peak {busy['peak_mib']:.0f} MiB, {busy['cpu_seconds']:.0f} s of CPU"]])
            + ("\n```\n" + "\n".join(result["control_plane"]) + "\n```\n" if "control_plane" in result else ""))


def write(results):
    parts = [machine(results)]
    if any(name in results for name in ("oltp", "bulk", "hot")):
        parts.append(incremental(results))
    parts += [make(results[name]) for name, make in (("full", full), ("lag", lag), ("memory", memory), ("scale", scale)) if name in results]
    path = os.environ.get("BENCH_PAGE", os.path.join(ROOT, "docs/performance.md"))
    page = open(path).read() if os.path.exists(path) else f"{BEGIN}\n{END}\n"
    head, rest = page.split(BEGIN)
    page = head + BEGIN + "\n" + "\n".join(parts) + END + rest.split(END)[1]
    with open(path, "w") as file:
        file.write(page)
    print("\n".join(parts))
