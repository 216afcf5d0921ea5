# Sourced by the scripts: the clone's root as working directory, the build cache, how to fail.
# shellcheck shell=bash

set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

# Outside the clone, so that a new clone need not compile the dependencies again.
cache=${NEXUS_BUILD_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/nexus-cos}
export CARGO_TARGET_DIR=$cache/target

say() { printf 'nexus: %s\n' "$*" >&2; }

fail() {
  say "$@"
  exit 1
}

need() { # need COMMAND WHAT-TO-DO
  command -v "$1" >/dev/null || fail "$1 is missing. $2"
}

# Installs Debian packages, or says which ones to install.
install_packages() {
  local as_root=()
  if [ "$(id -u)" != 0 ]; then
    sudo -n true 2>/dev/null || fail "missing Debian packages; run: sudo apt-get install $*"
    as_root=(sudo -n)
  fi
  command -v apt-get >/dev/null || fail "no apt-get here; install what these packages hold: $*"
  say "installing Debian packages: $*"
  "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get update -q >&2
  "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive \
    apt-get install -q -y --no-install-recommends "$@" >&2
}

# Runs a command; what it printed is shown only when it fails.
quietly() {
  local log status=0
  log=$(mktemp)
  "$@" >"$log" 2>&1 || status=$?
  [ "$status" = 0 ] || cat "$log" >&2
  rm -f "$log"
  return "$status"
}
