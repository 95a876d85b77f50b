# shellcheck shell=bash
# What deploy/demo.sh needs: a server of its own, its API, SQL.

# A port that nothing listens on now.
free_port() {
  local port
  for _ in $(seq 50); do
    port=$((20000 + RANDOM % 12000))
    if ! (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null; then echo "$port"; return 0; fi
  done
  return 1
}

# start_server BINARY FOLDER: leaves $server_pid and $tidegate, the address
start_server() {
  tidegate=http://127.0.0.1:$(free_port)
  TIDEGATE_LISTEN=${tidegate#http://} TIDEGATE_DATA_DIR=$2/data "$1" serve >"$2/server.log" 2>&1 </dev/null &
  server_pid=$!
  for _ in $(seq 100); do
    if curl -sf "$tidegate/readyz" >/dev/null; then return 0; fi
    if ! kill -0 "$server_pid" 2>/dev/null; then break; fi
    sleep 0.1
  done
  tail -20 "$2/server.log" >&2
  echo "the server does not come up" >&2
  return 1
}

stop_server() {
  [ -n "${server_pid:-}" ] || return 0
  kill "$server_pid" 2>/dev/null || true
  wait "$server_pid" 2>/dev/null || true
  server_pid=
}

# api METHOD PATH [JSON]: prints the answer; an error answer is printed too, and fails
api() {
  curl -sS --fail-with-body -X "$1" "$tidegate/api/v1$2" -H 'content-type: application/json' ${3:+-d "$3"}
}

on_tidb() { mariadb --no-defaults --default-character-set=utf8mb4 -h127.0.0.1 -P"$TIDB_PORT" -uroot "$@"; }
on_target() { mariadb --no-defaults --default-character-set=utf8mb4 -h127.0.0.1 -P"$MARIADB_PORT" -uroot "$@"; }

# connect_stack: connections tidb, kafka and target, to the stack whose env file is sourced
connect_stack() {
  api PUT /connections/tidb "{\"kind\": \"tidb\", \"host\": \"127.0.0.1\", \"port\": $TIDB_PORT, \"user\": \"root\"}" >/dev/null
  api PUT /connections/kafka "{\"kind\": \"kafka\", \"brokers\": [\"$KAFKA\"]}" >/dev/null
  api PUT /connections/target "{\"kind\": \"mysql\", \"host\": \"127.0.0.1\", \"port\": $MARIADB_PORT, \"user\": \"root\"}" >/dev/null
}

# start_task NAME: waives the warnings of the precheck and starts it
start_task() {
  local waivers
  waivers=$(api POST "/tasks/$1/precheck" | jq -c '[.items[] | select(.outcome == "warn") | .id]')
  [ "$waivers" = '[]' ] || api PATCH "/tasks/$1/spec" "{\"waivers\": $waivers}" >/dev/null
  api POST "/tasks/$1/start" >/dev/null
}
