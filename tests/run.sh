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
if cargo nextest --version >/dev/null 2>&1; then
    # Passing tests print nothing, but a test that skips says so, and that must be seen.
    { cargo nextest run --locked --no-fail-fast --success-output final "$@" 2>&1 || echo "$?" >"$log.status"; } |
        tee "$log" | grep -v '^ *PASS ' || true
else
    { cargo test --locked --no-fail-fast "$@" -- --show-output 2>&1 || echo "$?" >"$log.status"; } |
        tee "$log" | grep -Ev '^test .* \.\.\. ok$' || true
fi
if [ -f "$log.status" ]; then
    status=$(cat "$log.status")
    rm -f "$log.status"
fi

say "== skipped"
grep -i '^ *skipped:' "$log" | sort | uniq -c || say "nothing"
[ "$status" -eq 0 ] && say "== all passed" || say "== FAILED"
exit "$status"
