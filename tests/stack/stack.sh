#!/bin/bash
# A real Kafka, MariaDB and TiDB (with a Drainer stage) and a stand-in for AnalyticDB on 127.0.0.1, for tests.
#
#   stack.sh build                      packages, jars, binaries, once
#   stack.sh start [PART...]            kafka mariadb tidb adb (default: all); returns when they are ready
#   stack.sh stop [--wipe] [PART...]    --wipe removes the data and what was measured with it
#   stack.sh kill PART                  ends it with SIGKILL, in the middle of what it does
#   stack.sh status
#   stack.sh control METHOD PATH        the Drainer stage's control endpoint, see README.md
#   stack.sh restart-drainer [QUERY]    control POST /drainer/restart?QUERY (default back_ms=3000)
#
# Settings: README.md. Every command may be repeated: what is done or runs
# already is left alone. Processes are known by pid and start time and ended by
# pid only. After start, $STACK_DIR/env says where everything listens.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
build=${STACK_BUILD:-$here/build}
dir=${STACK_DIR:-$here/run}
case $build in /*) ;; *) build=$PWD/$build ;; esac
case $dir in /*) ;; *) dir=$PWD/$dir ;; esac
verb=${1:-}
shift || true

fail() { echo "stack: $*" >&2; exit 1; }

# --- build ---------------------------------------------------------------

install_packages() {
  local missing=()
  command -v mariadbd >/dev/null || missing+=(mariadb-server)
  command -v java >/dev/null || missing+=(default-jre-headless)
  command -v mvn >/dev/null || missing+=(maven)
  command -v go >/dev/null || missing+=(golang)
  [ ${#missing[@]} -gt 0 ] || return 0
  apt-get update -qq
  # A policy-rc.d that forbids starting services makes the configure step
  # complain; what counts is that the commands are there afterwards.
  DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}" || true
  local c
  for c in mariadbd java mvn go; do command -v "$c" >/dev/null || fail "$c could not be installed"; done
}

# Cargo knows by itself when there is nothing to do.
build_adb() {
  mkdir -p "$build/bin"
  (cd "$here/../.." && cargo build -q -p adb-stand-in 9>&-)
  local made=${CARGO_TARGET_DIR:-$here/../../target}/debug/adb-stand-in
  cmp -s "$made" "$build/bin/adb-stand-in" || { cp "$made" "$build/bin/adb-stand-in.new" && mv -f "$build/bin/adb-stand-in.new" "$build/bin/adb-stand-in"; }
}

# Go builds these files of TiDB's modules changed:
# * Each state of a DDL job waits for a loop that looks every 50 ms whether sessions still use the old schema: with one server that is nearly
#   all the time that DDL takes. Here it looks every 5 ms.
# * The storage that TiDB embeds (badger; no cluster has it) loses old versions of keys once its memory is in files: a lookup whose hash is that of
#   another key takes the newest version for the one that was asked for, and the first key of every further file of a compaction has no other.
#   A snapshot then lacks a row, or has a database that was dropped later.
change() {
  local name=$1 module=$2 file=$3 edit=$4 dir
  dir=$(cd "$here/tidb" && go mod download "$module" && go list -m -f '{{.Dir}}' "$module")
  sed "$edit" "$dir/$file" >"$build/$name.go"
  ! cmp -s "$dir/$file" "$build/$name.go" || fail "$file of this $module is another"
  changed+=("\"$dir/$file\": \"$build/$name.go\"")
}

changes() {
  local changed=()
  # shellcheck disable=SC2016
  change domain github.com/pingcap/tidb domain/domain.go \
    '/^func (do \*Domain) mdlCheckLoop/,/^}/s/time\.Millisecond \* 50)/time.Millisecond * 5)/'
  change table github.com/pingcap/badger table/sstable/table.go \
    '/^func (t \*Table) Get(/,/^}/s/if !key\.SameUserKey(it\.Key())/if !key.SameUserKey(it.Key()) || !y.SeekToVersion(it, key.Version)/'
  change builder github.com/pingcap/badger table/sstable/builder.go \
    's/b\.oldBlock = b\.oldBlock\[:0\]/b.oldBlock = append(b.oldBlock[:0], 0)/'
  local IFS=,
  printf '{"Replace": {%s}}\n' "${changed[*]}" >"$build/overlay.json"
}

build() {
  mkdir -p "$build"
  exec 9>"$build/lock"
  flock 9
  build_adb
  local made
  made=$(cd "$here" && find stack.sh kafka tidb -type f -print0 | sort -z | xargs -0 sha256sum | sha256sum)
  if [ -f "$build/made" ] && [ "$(cat "$build/made")" = "$made" ]; then
    local c ok=1
    for c in mariadbd java; do command -v "$c" >/dev/null || ok=0; done
    [ $ok = 0 ] || return 0
  fi
  install_packages
  if [ ! -d "$build/kafka-lib" ] || [ "$here/kafka/pom.xml" -nt "$build/kafka-lib" ]; then
    rm -rf "$build/kafka-lib.new"
    mvn -B -q -f "$here/kafka/pom.xml" dependency:copy-dependencies -DoutputDirectory="$build/kafka-lib.new"
    rm -rf "$build/kafka-lib"
    mv "$build/kafka-lib.new" "$build/kafka-lib"
  fi
  # This TiDB wants the Go of its day; a go command from 1.21 on brings it as a module.
  export GOTOOLCHAIN=go1.20.14
  mkdir -p "$build/bin.new"
  changes
  (cd "$here/tidb" && nice go build -overlay "$build/overlay.json" \
    -ldflags '-s -w -X github.com/pingcap/tidb/parser/mysql.TiDBReleaseVersion=v7.0.0' -o "$build/bin.new/" ./...)
  mkdir -p "$build/bin"
  mv -f "$build"/bin.new/* "$build/bin/"
  rmdir "$build/bin.new"
  echo "$made" >"$build/made"
}

# --- ports ---------------------------------------------------------------

listening() { (exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null; }

# One reserved block of sixteen ports for each STACK_DIR, below the range that
# the kernel hands out to clients. A reservation ends with its STACK_DIR.
reserve_block() {
  local root base n owner
  root=${TMPDIR:-/tmp}/stack-ports-$(id -u)
  mkdir -p "$root"
  for _ in $(seq 200); do
    base=$((15000 + 16 * (RANDOM % 1000)))
    if ! mkdir "$root/$base" 2>/dev/null; then
      owner=$(cat "$root/$base/owner" 2>/dev/null || true)
      [ -z "$owner" ] || [ -f "$owner/ports" ] || rm -rf "${root:?}/$base"
      continue
    fi
    for n in 0 1 2 3 4 5 6 7 8 9 10; do
      if listening $((base + n)); then rm -rf "${root:?}/$base"; continue 2; fi
    done
    printf '%s\n%s\n' "$base" "$root/$base" >"$dir/ports" # before the owner: an owner without it is gone
    echo "$dir" >"$root/$base/owner"
    return 0
  done
  fail "no free block of ports found"
}

choose_ports() {
  local base=0
  if [ -z "${KAFKA_PORT:-}" ] || [ -z "${MARIADB_PORT:-}" ] || [ -z "${TIDB_PORT:-}" ] || [ -z "${ADB_PORT:-}" ]; then
    [ -f "$dir/ports" ] || reserve_block
    base=$(head -1 "$dir/ports")
  fi
  kafka_port=${KAFKA_PORT:-$base}
  controller_port=${KAFKA_CONTROLLER_PORT:-$([ -n "${KAFKA_PORT:-}" ] && echo $((KAFKA_PORT + 1)) || echo $((base + 1)))}
  mariadb_port=${MARIADB_PORT:-$((base + 2))}
  adb_port=${ADB_PORT:-$((base + 8))}
  adb_control_port=$((adb_port + 1))
  adb_mariadb_port=$((adb_port + 2))
  # TiDB's others follow its own port.
  tidb_port=${TIDB_PORT:-$((base + 3))}
  status_port=${TIDB_STATUS_PORT:-$((tidb_port + 1))}
  control_port=${DRAINER_CONTROL_PORT:-$((tidb_port + 2))}
  etcd_port=$((tidb_port + 3))
  etcd_peer_port=$((tidb_port + 4))
}

write_env() {
  cat >"$dir/env.new" <<P
KAFKA=127.0.0.1:$kafka_port
MARIADB_PORT=$mariadb_port
TIDB_PORT=$tidb_port
TIDB_STATUS_PORT=$status_port
DRAINER_CONTROL=127.0.0.1:$control_port
ADB_PORT=$adb_port
ADB_CONTROL=127.0.0.1:$adb_control_port
TOPIC=$topic
TIDB_TZ=$tz
P
  mv "$dir/env.new" "$dir/env"
}

setting() { sed -n "s/^$1=//p" "$dir/env" 2>/dev/null || true; }

# --- processes -----------------------------------------------------------

# started PID: the process's start time, so that a reused pid is not taken for
# ours. A zombie has ended, but only with its last thread: ports are open till then.
started() {
  local s threads pid=$1
  s=$(cat "/proc/$pid/stat" 2>/dev/null) || return 1
  s=${s##*) }
  # shellcheck disable=SC2086
  set -- $s
  threads=("/proc/$pid/task/"*)
  { [ "$1" != Z ] || [ ${#threads[@]} -gt 1 ]; } && echo "${20}"
}
pid_of() { cut -d' ' -f1 "$dir/$1.pid"; }
running() {
  [ -f "$dir/$1.pid" ] || return 1
  local pid at
  read -r pid at <"$dir/$1.pid"
  [ "$(started "$pid")" = "$at" ]
}
launch() {
  local part=$1
  shift
  setsid "$@" >>"$dir/$part.log" 2>&1 </dev/null 9>&- &
  echo "$! $(started $!)" >"$dir/$part.pid"
}
# ready PART COMMAND...: wait until the command succeeds, the process is gone, or 90 s
ready() {
  local part=$1
  shift
  for _ in $(seq 900); do
    running "$part" || { tail -5 "$dir/$part.log" >&2; echo "stack: $part ended, see $dir/$part.log" >&2; return 1; }
    if "$@" >/dev/null 2>&1; then return 0; fi
    sleep 0.1
  done
  echo "stack: $part is not ready after 90 s" >&2
  return 1
}
end_part() { # PART SIGNAL
  if running "$1"; then
    local pid
    pid=$(pid_of "$1")
    kill "-$2" "$pid"
    for _ in $(seq 300); do running "$1" || break; sleep 0.1; done
    if running "$1"; then kill -KILL "$pid"; echo "stack: $1 had to be killed" >&2; fi
    for _ in $(seq 50); do running "$1" || break; sleep 0.1; done
  fi
  rm -f "$dir/$1.pid"
}
# Each function in the background; fails if one of them does.
together() {
  local pids=() p bad=0
  for p in "$@"; do $p & pids+=($!); done
  for p in "${pids[@]}"; do wait "$p" || bad=1; done
  return $bad
}

start_kafka() {
  running kafka && return
  local data=$dir/kafka conf=$dir/kafka.properties id
  local java=(java -XX:TieredStopAtLevel=1 -XX:+UseSerialGC -XX:-UsePerfData -cp "$build/kafka-lib/*")
  cat >"$conf" <<P
process.roles=broker,controller
node.id=1
controller.quorum.voters=1@127.0.0.1:$controller_port
listeners=PLAINTEXT://127.0.0.1:$kafka_port,CONTROLLER://127.0.0.1:$controller_port
advertised.listeners=PLAINTEXT://127.0.0.1:$kafka_port
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT
inter.broker.listener.name=PLAINTEXT
controller.listener.names=CONTROLLER
metadata.max.idle.interval.ms=0
log.dirs=$data
num.partitions=1
num.network.threads=2
num.io.threads=4
background.threads=2
offsets.topic.replication.factor=1
offsets.topic.num.partitions=1
transaction.state.log.replication.factor=1
transaction.state.log.num.partitions=1
transaction.state.log.min.isr=1
group.initial.rebalance.delay.ms=0
message.max.bytes=1073741824
replica.fetch.max.bytes=1073741824
fetch.max.bytes=1073741824
socket.request.max.bytes=2147483647
log.cleaner.enable=false
P
  if [ ! -f "$data/meta.properties" ]; then
    id=A$(head -c 16 /dev/urandom | base64 | tr '+/' '-_' | cut -c2-22)
    "${java[@]}" kafka.tools.StorageTool format -t "$id" -c "$conf" >"$dir/kafka-format.log" 2>&1
  fi
  launch kafka "${java[@]}" -Xms64m "-Xmx${KAFKA_HEAP:-1200m}" kafka.Kafka "$conf"
  ready kafka listening "$kafka_port"
  "$build/bin/produce" -brokers "127.0.0.1:$kafka_port" -topic "$topic" -partitions "${TOPIC_PARTITIONS:-1}" -create-only
}

# mariadb_server PART PORT BUFFER_POOL [OPTION...]
mariadb_server() {
  local part=$1 port=$2 pool=$3 user=()
  shift 3
  local data=$dir/$part
  if [ "$(id -u)" = 0 ]; then user=(--user=root); fi
  # One of its own: a server that starts removes all temporary tables that it finds, also those of another one.
  local TMPDIR=$dir/$part-tmp
  export TMPDIR
  mkdir -p "$TMPDIR"
  if [ ! -f "$data/installed" ]; then
    rm -rf "$data"
    mkdir -p "$data"
    mariadb-install-db --no-defaults "${user[@]}" --datadir="$data" --auth-root-authentication-method=normal --skip-test-db >"$dir/$part-install.log" 2>&1 ||
      { head -5 "$dir/$part-install.log" >&2; echo "stack: $part cannot be installed, see $dir/$part-install.log" >&2; return 1; }
    touch "$data/installed"
  fi
  launch "$part" mariadbd --no-defaults "${user[@]}" --datadir="$data" --socket=mysqld.sock \
    --bind-address=127.0.0.1 --port="$port" --skip-name-resolve --skip-log-bin --max-connections=500 \
    --innodb-buffer-pool-size="$pool" --innodb-log-file-size=64M --innodb-flush-log-at-trx-commit=2 \
    --max-allowed-packet=64M --character-set-server=utf8mb4 "$@"
  ready "$part" mariadb-admin --no-defaults -h127.0.0.1 -P"$port" -uroot ping
}

start_mariadb() {
  local options
  read -ra options <<<"${MARIADB_OPTIONS:-}"
  running mariadb || mariadb_server mariadb "$mariadb_port" 256M --local-infile=1 "${options[@]}"
}

# The stand-in, and a MariaDB of its own behind it: strict, without zero dates, comparing bytes.
start_adb() {
  [ -x "$build/bin/adb-stand-in" ] || build_adb
  running adb-mariadb || mariadb_server adb-mariadb "$adb_mariadb_port" 64M --local-infile=0 --collation-server=utf8mb4_nopad_bin \
    --sql-mode=STRICT_TRANS_TABLES,STRICT_ALL_TABLES,NO_ZERO_DATE,NO_ZERO_IN_DATE,NO_ENGINE_SUBSTITUTION
  running adb && return
  launch adb "$build/bin/adb-stand-in" "$adb_port" "$adb_control_port" "$adb_mariadb_port"
  ready adb listening "$adb_port"
}

start_tidb() {
  running tidb && return
  TZ=$tz launch tidb "$build/bin/tidb" -port "$tidb_port" -status-port "$status_port" -control-port "$control_port" \
    -etcd-port "$etcd_port" -etcd-peer-port "$etcd_peer_port" -dir "$dir/tidb" \
    -kafka "127.0.0.1:$kafka_port" -topic "$topic" -new-collation="${TIDB_NEW_COLLATION:-true}" \
    -kafka-version "${DRAINER_KAFKA_VERSION:-0.8.2.0}" -on-drainer-fatal "${ON_DRAINER_FATAL:-stop}" -window-mib "${DRAINER_WINDOW_MIB:-64}" \
    ${TIDB_SSL_CERT:+-ssl-cert "$TIDB_SSL_CERT" -ssl-key "$TIDB_SSL_KEY"}
  ready tidb mariadb-admin --no-defaults -h127.0.0.1 -P"$tidb_port" -uroot ping
}

start() {
  local p parts=()
  [ $# -gt 0 ] || set -- kafka mariadb tidb adb
  for p in "$@"; do
    case $p in kafka | mariadb | tidb | adb) running "$p" || parts+=("start_$p") ;; *) fail "no such part: $p" ;; esac
  done
  [ ${#parts[@]} -gt 0 ] || return 0
  [ -f "$build/made" ] || fail "nothing is built in $build: run stack.sh build"
  mkdir -p "$dir"
  topic=${TOPIC:-$(setting TOPIC)} topic=${topic:-tidb_obinlog}
  tz=${TIDB_TZ:-$(setting TIDB_TZ)} tz=${tz:-UTC}
  choose_ports
  write_env
  together "${parts[@]}"
}

stop() {
  local wipe=0 p signal=TERM
  if [ "${1:-}" = --wipe ]; then wipe=1; shift; fi
  [ -d "$dir" ] || return 0
  if [ $wipe = 1 ]; then
    [ $# = 0 ] || fail "--wipe is for the whole stack"
    signal=KILL # the data goes anyway
  fi
  [ $# -gt 0 ] || set -- tidb kafka mariadb adb
  # TiDB first: it sends what was committed, for which it needs Kafka.
  for p in "$@"; do [ "$p" != tidb ] || end_part tidb $signal; done
  local others=()
  for p in "$@"; do
    [ "$p" = tidb ] || others+=("end_part $p $signal")
    [ "$p" != adb ] || others+=("end_part adb-mariadb $signal")
  done
  [ ${#others[@]} = 0 ] || together "${others[@]}"
  if [ $wipe = 1 ]; then
    [ ! -f "$dir/ports" ] || rm -rf "$(sed -n 2p "$dir/ports")"
    rm -rf "${dir:?}"/{kafka,mariadb,mariadb-tmp,tidb,adb-mariadb,adb-mariadb-tmp,bench} "${dir:?}"/{env,ports,kafka.properties} "${dir:?}"/*.log
    rmdir "$dir" 2>/dev/null || true
  fi
}

# control METHOD PATH: prints the JSON answer; fails unless it is 200
control() {
  local at line status
  at=$(setting DRAINER_CONTROL)
  [ -n "$at" ] || fail "no $dir/env: is the stack started?"
  exec 3<>"/dev/tcp/${at%:*}/${at#*:}"
  printf '%s %s HTTP/1.0\r\nHost: %s\r\nContent-Length: 0\r\n\r\n' "$1" "$2" "$at" >&3
  read -r _ status _ <&3
  while read -r line <&3 && [ "$line" != $'\r' ]; do :; done
  cat <&3
  [ "${status%%$'\r'}" = 200 ]
}

case $verb in
build) build ;;
start) start "$@" ;;
stop) stop "$@" ;;
kill)
  case ${1:-} in kafka | mariadb | tidb | adb) end_part "$1" KILL ;; *) fail "no such part: ${1:-}" ;; esac
  ;;
status)
  for p in kafka mariadb tidb adb; do if running $p; then echo "$p running, pid $(pid_of $p)"; else echo "$p stopped"; fi; done
  [ ! -f "$dir/env" ] || cat "$dir/env"
  ;;
control) control "$@" ;;
restart-drainer) control POST "/drainer/restart?${1:-back_ms=3000}" ;;
*) sed -n '2,10p' "$0"; exit 2 ;;
esac
