#!/bin/bash
# Runs a command with fresh test stacks around it and ends them whatever happens:
#
#   deploy/with-stack.sh COMMAND [ARGUMENT...]
#
# The command finds TIDEGATE_STACK_ENV (Drainer in UTC) and TIDEGATE_STACK_ENV_SHANGHAI
# (Drainer in Asia/Shanghai), and no test may be skipped. STACKS=utc starts the
# first one alone. Data and logs are in target/stacks, and stay there after a failure.
set -euo pipefail
cd "$(dirname "$0")/.."
stack=tests/stack/stack.sh
folder=$PWD/target/stacks
stacks=${STACKS:-utc shanghai}

end() {
  local status=$? wipe=()
  trap - EXIT
  [ $status -ne 0 ] || wipe=(--wipe)
  for name in $stacks; do STACK_DIR=$folder/$name $stack stop "${wipe[@]}" || true; done
  exit $status
}
trap end EXIT
trap 'exit 130' INT TERM

mkdir -p "$folder"
for name in $stacks; do
  export STACK_DIR=$folder/$name
  $stack stop --wipe
  case $name in
  utc)
    TIDB_TZ=UTC $stack start
    export TIDEGATE_STACK_ENV=$STACK_DIR/env
    # The same, for tests inside the crate.
    # shellcheck disable=SC1091
    . "$STACK_DIR/env"
    export TIDEGATE_TEST_TIDB=127.0.0.1:$TIDB_PORT TIDEGATE_TEST_MARIADB=127.0.0.1:$MARIADB_PORT
    export TIDEGATE_TEST_KAFKA=$KAFKA TIDEGATE_TEST_TOPIC=$TOPIC TIDEGATE_TEST_ADB=127.0.0.1:$ADB_PORT
    ;;
  shanghai) TIDB_TZ=Asia/Shanghai $stack start; export TIDEGATE_STACK_ENV_SHANGHAI=$STACK_DIR/env ;;
  esac
done
unset STACK_DIR
export TIDEGATE_REQUIRE_STACK=1
"$@"
