#!/bin/bash
# Measures the release binary against the local stack and writes docs/performance.md.
#
#   BENCH_ROWS=400000          rows that full sync copies, in four tables
#   BENCH_TRANSACTIONS=10000   transactions of 20 changes that incremental sync catches up with
#   BENCH_OUT=...              where the page goes (docs/performance.md)
#
# Needs TIDEGATE_STACK_ENV: `make bench` brings a stack up around it.
set -euo pipefail
cd "$(dirname "$0")/.."
. deploy/lib.sh
# shellcheck disable=SC1090
. "${TIDEGATE_STACK_ENV:?no stack: use make bench}"
rows=${BENCH_ROWS:-400000}
transactions=${BENCH_TRANSACTIONS:-10000}
out=${BENCH_OUT:-docs/performance.md}
binary=${TIDEGATE_BIN:-target/release/tidegate}
tables=4
work=$(mktemp -d "${TMPDIR:-/tmp}/tidegate-bench-XXXXXX")

end() {
  local status=$?
  trap - EXIT
  stop_server
  for side in on_tidb on_target; do $side -e 'DROP DATABASE IF EXISTS bench' 2>/dev/null || true; done
  if [ $status -ne 0 ] && [ -f "$work/server.log" ]; then tail -20 "$work/server.log" >&2; fi
  rm -rf "$work"
  exit $status
}
trap end EXIT
trap 'exit 130' INT TERM

now() { date +%s%N; }
seconds_since() { awk -v from="$1" -v to="$(now)" 'BEGIN { printf "%.1f", (to - from) / 1e9 }'; }
per_second() { awk -v count="$1" -v seconds="$2" 'BEGIN { printf "%.0f", count / seconds }'; }
memory() { awk -v field="$1:" '$1 == field { printf "%.0f", $2 / 1024 }' "/proc/$server_pid/status"; }
ticks() { awk '{ print $14 + $15 }' "/proc/$server_pid/stat"; }
task() { api GET /tasks/bench | jq -r "$1"; }
wait_until() { # wait_until JQ-CONDITION
  local state
  while :; do
    state=$(api GET /tasks/bench)
    if jq -e "$1" <<<"$state" >/dev/null; then return 0; fi
    if jq -e '.status == "failed"' <<<"$state" >/dev/null; then jq '.last_error' <<<"$state" >&2; return 1; fi
    sleep 0.1
  done
}

echo "bench: filling TiDB with $rows rows ..." >&2
on_tidb -e 'DROP DATABASE IF EXISTS bench; CREATE DATABASE bench'
per_table=$((rows / tables))
for t in $(seq $tables); do
  on_tidb bench -e "CREATE TABLE t$t (id BIGINT PRIMARY KEY, a INT, b DECIMAL(12,2), c DATETIME(3), d VARCHAR(40), e VARCHAR(200), KEY ka (a))"
  for first in $(seq 1 20000 $per_table); do
    last=$((first + 19999 < per_table ? first + 19999 : per_table))
    on_tidb bench -e "SET SESSION cte_max_recursion_depth = 100000000; INSERT INTO t$t WITH RECURSIVE n (i) AS
      (SELECT $first UNION ALL SELECT i + 1 FROM n WHERE i < $last)
      SELECT i, i % 1000, i / 100, '2024-01-02 03:04:05.678', CONCAT('name-', i), REPEAT('x', 100 + i % 100) FROM n"
  done
done

echo "bench: full sync ..." >&2
start_server "$binary" "$work"
connect_stack
api POST /tasks "{\"name\": \"bench\", \"source\": {\"tidb\": \"tidb\", \"kafka\": \"kafka\", \"topic\": \"$TOPIC\", \"time_zone\": \"$TIDB_TZ\"},
  \"target\": \"target\", \"objects\": {\"include\": [\"bench.*\"]}}" >/dev/null
start_task bench
wait_until '.phase == "full" or .phase == "incremental"'
from=$(now)
wait_until '.phase == "incremental"'
full_seconds=$(seconds_since "$from")
copied=$(task .progress.rows_copied)
full_peak=$(memory VmHWM)

echo "bench: $transactions transactions while the task is paused ..." >&2
wait_until '.retention.messages_behind == 0'
api POST '/tasks/bench/pause?wait_ms=30000' >/dev/null
end=$(($(task .checkpoint.next_offset) + transactions))
from=$(now)
# Ten inserts, eight updates, two deletes each; two connections.
for writer in 1 2; do
  awk -v n=$((transactions / 2)) -v w=$writer -v rows=$per_table 'BEGIN {
    for (i = 0; i < n; i++) {
      print "BEGIN;"
      id = rows + (i * 2 + w) * 10
      line = "INSERT INTO t" w " VALUES "
      for (k = 0; k < 10; k++) line = line (k ? "," : "") "(" id + k "," k ",1.5,\"2024-01-02 03:04:05.678\",\"new\",REPEAT(\"y\",150))"
      print line ";"
      at = (i * 8) % (rows - 100) + 1
      print "UPDATE t" w + 2 " SET a = a + 1, d = \"changed\" WHERE id BETWEEN " at " AND " at + 7 ";"
      print "DELETE FROM t" w " WHERE id IN (" id "," id + 1 ");"
      print "COMMIT;"
    }
  }' | on_tidb bench &
  writers+=($!)
done
wait "${writers[@]}"
source_seconds=$(seconds_since "$from")
reached=$(on_tidb -NBe 'SHOW MASTER STATUS' | cut -f2)
until [ "$(curl -s "http://$DRAINER_CONTROL/drainer/status" | jq .watermark)" -ge "$reached" ]; do sleep 0.2; done

echo "bench: incremental sync ..." >&2
before=$(task '.progress.changes_applied // 0')
api POST /tasks/bench/resume >/dev/null
from=$(now)
wait_until ".status == \"running\" and (.checkpoint.next_offset | tonumber) >= $end"
incremental_seconds=$(seconds_since "$from")
changes=$(task .progress.changes_applied)
# A new run may count from zero.
[ "$changes" -lt "$before" ] || changes=$((changes - before))
incremental_peak=$(memory VmHWM)

echo "bench: idle ..." >&2
sleep 3
from=$(ticks)
sleep 20
idle_cpu=$(awk -v ticks=$(($(ticks) - from)) -v hz="$(getconf CLK_TCK)" 'BEGIN { printf "%.1f", ticks / hz / 20 * 100 }')
idle_memory=$(memory VmRSS)

for t in $(seq $tables); do
  sum="SELECT COUNT(*), SUM(a), SUM(CRC32(CONCAT_WS('|', id, a, b, d, e))) FROM bench.t$t"
  [ "$(on_tidb -NBe "$sum")" = "$(on_target -NBe "$sum")" ] || { echo "bench: t$t differs" >&2; exit 1; }
done

mkdir -p "$(dirname "$out")"
cat >"$out" <<P
# Performance

Measured by \`make bench\` on $(date -u +%Y-%m-%d), version $("$binary" --version | cut -d' ' -f2), release build: $(nproc) cores
($(sed -n 's/^model name[^:]*: //p' /proc/cpuinfo | head -1)), shared by TiDB, Kafka, MariaDB and tidegate. Afterwards source and
target held the same (counts and checksums).

| | |
|---|---|
| full sync | $(per_second "$copied" "$full_seconds") rows/s ($copied rows of about 230 bytes in $tables tables, in $full_seconds s) |
| incremental sync | $(per_second "$changes" "$incremental_seconds") changes/s ($changes changes in $transactions transactions, in $incremental_seconds s) |
| peak memory | $full_peak MiB in full sync, $incremental_peak MiB over the whole run |
| idle | $idle_cpu % of one core, $idle_memory MiB |

How: full sync is timed from the begin of the phase to the begin of the next, schema sync left out. For incremental sync the task
is paused while two connections commit transactions of 20 changes (10 inserts, 8 updates, 2 deletes; the source needs
$source_seconds s for them), then resumed and timed until the checkpoint is behind the last of them. Memory is VmHWM and VmRSS of the process. Idle
CPU is user and system time over 20 s with one task in incremental sync. One run, default settings; the servers are local, so
neither network nor a busy target is in these figures. TiDB's embedded storage reads about 150,000 rows/s at most.
P
cat "$out"
