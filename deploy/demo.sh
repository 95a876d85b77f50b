#!/bin/bash
# A demonstration on this machine: a real TiDB with a live workload, its Drainer and
# Kafka, a MariaDB as the target, and a task that keeps it in step. Shows the task
# until Ctrl-C; then everything it started is ended.
#
#   DEMO_SECONDS=20     end by itself after so many seconds; fails unless the task is well
#   DEMO_ROWS=100000    rows to begin with
#   TIDEGATE_BIN=...    the server's binary (target/release/tidegate)
#   TIDEGATE_STACK_ENV  env file of a stack that runs; else the demo starts one
set -euo pipefail
cd "$(dirname "$0")/.."
. deploy/lib.sh
seconds=${DEMO_SECONDS:-0}
rows=${DEMO_ROWS:-100000}
binary=${TIDEGATE_BIN:-target/release/tidegate}
work=$(mktemp -d "${TMPDIR:-/tmp}/tidegate-demo-XXXXXX")
own_stack='' workload_pid='' server_pid=''

end() {
  local status=$?
  trap - EXIT INT TERM
  [ -z "$workload_pid" ] || kill "$workload_pid" 2>/dev/null || true
  stop_server
  if [ -n "${TIDB_PORT:-}" ]; then
    for side in on_tidb on_target; do $side -e 'DROP DATABASE IF EXISTS demo_shop' 2>/dev/null || true; done
  fi
  [ -z "$own_stack" ] || STACK_DIR=$own_stack tests/stack/stack.sh stop --wipe
  if [ $status -ne 0 ] && [ -f "$work/server.log" ]; then tail -20 "$work/server.log" >&2; fi
  rm -rf "$work"
  exit $status
}
trap end EXIT
trap 'echo; echo "ending what the demo started ..."; exit 0' INT TERM

if [ -z "${TIDEGATE_STACK_ENV:-}" ]; then
  echo "starting TiDB, Drainer, Kafka and MariaDB ..."
  own_stack=$work/stack
  STACK_DIR=$own_stack tests/stack/stack.sh start
  TIDEGATE_STACK_ENV=$own_stack/env
fi
# shellcheck disable=SC1090
. "$TIDEGATE_STACK_ENV"

echo "making a shop with $rows orders in TiDB ..."
on_tidb <<SQL
DROP DATABASE IF EXISTS demo_shop;
CREATE DATABASE demo_shop;
USE demo_shop;
CREATE TABLE customers (id BIGINT PRIMARY KEY AUTO_INCREMENT, name VARCHAR(40) NOT NULL, city VARCHAR(20), since DATETIME DEFAULT CURRENT_TIMESTAMP);
CREATE TABLE orders (id BIGINT PRIMARY KEY, customer BIGINT NOT NULL, state ENUM('new','paid','sent') NOT NULL, total DECIMAL(10,2) NOT NULL,
  note JSON, changed TIMESTAMP(3) DEFAULT CURRENT_TIMESTAMP(3) ON UPDATE CURRENT_TIMESTAMP(3), KEY kc (customer));
CREATE TABLE items (order_id BIGINT, line INT, product VARCHAR(30) NOT NULL, amount INT NOT NULL, PRIMARY KEY (order_id, line) CLUSTERED);
SET SESSION cte_max_recursion_depth = 100000000;
INSERT INTO customers (name, city) WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 5000)
  SELECT CONCAT('customer ', i), ELT(1 + i % 4, 'Oslo', 'Lima', 'Kyoto', '杭州') FROM n;
SQL
# In transactions of a size that TiDB likes.
for first in $(seq 1 20000 "$rows"); do
  last=$((first + 19999 < rows ? first + 19999 : rows))
  on_tidb demo_shop <<SQL
SET SESSION cte_max_recursion_depth = 100000000;
INSERT INTO orders (id, customer, state, total, note) WITH RECURSIVE n (i) AS (SELECT $first UNION ALL SELECT i + 1 FROM n WHERE i < $last)
  SELECT i, 1 + i % 5000, 'new', i % 1000 / 10, JSON_OBJECT('n', i) FROM n;
INSERT INTO items WITH RECURSIVE n (i) AS (SELECT $first UNION ALL SELECT i + 1 FROM n WHERE i < $last)
  SELECT i, 1, CONCAT('product ', i % 300), 1 + i % 5 FROM n;
SQL
done

# Orders come, are paid, sent and forgotten; now and then a column comes or goes.
workload() {
  local i=$rows n=0
  while :; do
    n=$((n + 1))
    echo "BEGIN;"
    for _ in 1 2 3 4 5; do
      i=$((i + 1))
      echo "INSERT INTO orders (id, customer, state, total) VALUES ($i, $((1 + RANDOM % 5000)), 'new', $((RANDOM % 500)).50);"
      echo "INSERT INTO items VALUES ($i, 1, 'product $((RANDOM % 300))', $((1 + RANDOM % 5))), ($i, 2, 'gift', 1);"
    done
    echo "UPDATE orders SET state = 'paid', total = total + 1 WHERE id BETWEEN $((i - 60)) AND $((i - 50));"
    echo "UPDATE customers SET city = 'Quito' WHERE id = $((1 + RANDOM % 5000));"
    echo "DELETE FROM items WHERE order_id = $((1 + RANDOM % rows));"
    echo "COMMIT;"
    if [ $((n % 150)) = 0 ]; then
      echo "ALTER TABLE customers ADD COLUMN badge_$n VARCHAR(10) DEFAULT 'new';"
      echo "UPDATE customers SET badge_$n = 'gold' WHERE id % 100 = 1;"
    fi
    if [ $((n % 150)) = 75 ] && [ $n -gt 150 ]; then echo "ALTER TABLE customers DROP COLUMN badge_$((n - 75));"; fi
    sleep 0.05
  done
}
workload > >(on_tidb --force demo_shop >"$work/workload.log" 2>&1) &
workload_pid=$!

echo "starting tidegate, with its connections and the task ..."
start_server "$binary" "$work"
connect_stack
api POST /tasks "{\"name\": \"shop\", \"source\": {\"tidb\": \"tidb\", \"kafka\": \"kafka\", \"topic\": \"$TOPIC\", \"time_zone\": \"$TIDB_TZ\"},
  \"target\": \"target\", \"objects\": {\"include\": [\"demo_shop.*\"]}, \"tuning\": {\"chunk_rows\": 10000}}" >/dev/null
start_task shop

# One picture of the task and its tables.
view() {
  local task tables
  task=$(api GET /tasks/shop) && tables=$(api GET '/tasks/shop/tables?order=rows') || return 0
  jq -rn --argjson task "$task" --argjson tables "$tables" --arg address "$tidegate" '
    def bar($percent): ($percent / 4 | floor) as $n | "[" + ("#" * $n // "") + ("." * (25 - $n) // "") + "]";
    def pad($n): tostring | . + (" " * ([$n - length, 0] | max) // "");
    def left($n): tostring | (" " * ([$n - length, 0] | max) // "") + .;
    def seconds: if . == null then "unknown" else "\(. / 100 | round / 10) s" end;
    $task as $t | $t.progress as $p |
    "task shop      \($t.status), phase \($t.phase // "none"), health \($t.health)     \($address)/docs",
    "full sync      \(bar($p.percent // 0)) \($p.percent // 0) %   \($p.rows_copied // 0) rows, \($t.rates.rows_per_second // 0 | round) rows/s",
    "incremental    \($p.changes_applied // 0) changes, \($t.rates.changes_per_second // 0 | round) changes/s, \($p.ddl_applied // 0) DDL",
    "lag            \($t.lag_ms | seconds)   \($t.retention.messages_behind // 0) messages behind, next offset \($t.retention.next_offset // "-")",
    (if $t.last_error then "last error     \($t.last_error.message)" else empty end),
    "",
    ("table" | pad(24)) + ("state" | pad(12)) + ("copied" | left(10)) + ("of about" | left(10)) + ("changes" | left(10)),
    ($tables.items[] | ("\(.schema).\(.table)" | pad(24)) + (.state | pad(12)) + (.rows_copied // 0 | left(10))
      + (.rows_estimated // "-" | left(10)) + (.changes_applied // 0 | left(10)))'
}

began=$SECONDS
while :; do
  picture=$(view)
  if [ -t 1 ]; then printf '\033[H\033[J%s\n\nCtrl-C ends the demo and everything it started.\n' "$picture"; else printf '%s\n\n' "$picture"; fi
  if [ "$seconds" -gt 0 ] && [ $((SECONDS - began)) -ge "$seconds" ]; then break; fi
  sleep 1
done

status=$(api GET /tasks/shop | jq -r '.status + " " + (.phase // "none") + " " + .health')
echo "demo: the task is $status after $seconds s"
[ "$status" = "running incremental ok" ]
