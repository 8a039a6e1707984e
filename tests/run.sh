#!/bin/sh
# Everything that is checked, from a fresh clone: sets up what the tests need (and says so first), then formatting,
# clippy, and all tests against a real nats-server with real functions.
#
#     sh tests/run.sh                    all of it
#     sh tests/run.sh -p policies        only what cargo is told here; formatting and clippy are left out
set -eu
cd "$(dirname "$0")/.."
. deploy/lib.sh

set_up "The test run"

# Absolute, because each test runs in the folder of its crate.
here=$(pwd)
absolute() { case $1 in /*) say "$1" ;; *) say "$here/$1" ;; esac; }
WINDFALL_NATS_SERVER=$(absolute "${WINDFALL_NATS_SERVER:-$WINDFALL_DATA/bin/nats-server}")
WINDFALL_PYTHON=$(absolute "${WINDFALL_PYTHON:-$(command -v python3)}")
library=${WINDFALL_ONNXRUNTIME:-$WINDFALL_DATA/lib/libonnxruntime.so}
[ ! -e "$library" ] || WINDFALL_ONNXRUNTIME=$(absolute "$library")
export WINDFALL_NATS_SERVER WINDFALL_PYTHON
[ -z "${WINDFALL_ONNXRUNTIME:-}" ] || export WINDFALL_ONNXRUNTIME

# Tests must not read the configuration or talk to the cluster of whoever runs them.
unset WINDFALL_CONFIG WINDFALL_DATA WINDFALL_API_HOST WINDFALL_AUTH WSK_CONFIG_FILE

if [ "$#" -eq 0 ]; then
    say "== cargo fmt"
    cargo fmt --all --check
    say "== cargo clippy"
    cargo clippy --locked --workspace --all-targets -- -D warnings
    set -- --workspace
fi

# The dev profile: building it is what takes the time on a small machine, and no test measures speed.
say "== tests"
log=$(mktemp)
trap 'rm -f "$log"' EXIT
status=0
# The binary first, and for itself: tests of other crates start it.
cargo build --locked --package windfall --bin windfall
# All that is said goes into the log, what tells how it is going onto the terminal. A test that skips says so in its
# own output, which is why that of tests that pass is wanted, too.
telling='^ *(FAIL|SLOW|TIMEOUT|SIG[A-Z]+|Starting|Summary|Running|Doc-tests) |^ *skipped:|^test result|^test .* FAILED|^error'
if cargo nextest --version >/dev/null 2>&1; then
    run() { cargo nextest run --locked --no-fail-fast --success-output immediate --failure-output final "$@"; }
else
    run() { cargo test --locked --no-fail-fast "$@" -- --show-output; }
fi
{ run "$@" 2>&1 || echo "$?" >"$log.status"; } | tee "$log" | grep -E "$telling" || true
if [ -f "$log.status" ]; then
    status=$(cat "$log.status")
    rm -f "$log.status"
    say "== the end of what was said"
    tail -n 400 "$log"
fi

say "== skipped"
{ grep '^ *skipped:' "$log" || true; } | sort | uniq -c
grep -q '^ *skipped:' "$log" || say "nothing"
[ "$status" -ne 0 ] || { say "== all passed"; exit 0; }
# Last, so that it is there however much of the end is kept: the processes' logs above are long.
say "== why"
{ awk '/ Summary \[|^failures:/ { ended = 1 } ended' "$log" | grep -A 3 'panicked at' || true; } | tail -n 60 | cut -c 1-500
say "== FAILED"
exit "$status"
