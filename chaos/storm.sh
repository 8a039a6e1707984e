#!/bin/sh
# An eviction storm on a cluster of its own, from a fresh clone: builds, starts the cluster, plays the scenario, prints
# the table, and stops everything that it started.
#
#     sh chaos/storm.sh                    twenty VMs, two hundred evictions in ten minutes
#     sh chaos/storm.sh --short            five VMs, twenty evictions, two minutes
#     sh chaos/storm.sh --short --seed 7 --json figures.json
#
# Exit code 1 means that something was lost, or came twice. VMs are of the provider `process`: control groups when root.
set -eu
cd "$(dirname "$0")/.."
. deploy/lib.sh

scenario=chaos/scenarios/storm.toml
seed=1
json=
while [ "$#" -gt 0 ]; do
    case $1 in
    --short) scenario=chaos/scenarios/storm-short.toml ;;
    --seed) seed=${2:?--seed needs a number}; shift ;;
    --json) json=${2:?--json needs a file}; shift ;;
    *) fail "unknown: $1. Use: sh chaos/storm.sh [--short] [--seed N] [--json FILE]" ;;
    esac
    shift
done
vms=$(sed -n 's/^vms = \([0-9]*\).*/\1/p' "$scenario")

# A binary that is there is used, the release one first; WINDFALL_BINARY names another.
if [ -n "${WINDFALL_BINARY:-}" ]; then
    windfall=$WINDFALL_BINARY
else
    set_up "The storm"
    if [ -x target/release/windfall ]; then
        cargo build --locked --release -p windfall --bin windfall
        windfall=target/release/windfall
    else
        cargo build --locked -p windfall --bin windfall
        windfall=target/debug/windfall
        say "There is no release build here, so this is the dev profile: its times are longer than they need be."
    fi
fi
server=${WINDFALL_NATS_SERVER:-$WINDFALL_DATA/bin/nats-server}
[ ! -x "$server" ] || export WINDFALL_NATS_SERVER="$server"
[ "$(id -u)" -eq 0 ] || say "Without root, VMs are not confined and their sizes do not change."

# Nothing of whoever runs this may reach the cluster.
unset WINDFALL_CONFIG WINDFALL_API_HOST WINDFALL_AUTH WSK_CONFIG_FILE
WINDFALL_DATA=$(mktemp -d "${TMPDIR:-/tmp}/windfall-storm.XXXXXX")
export WINDFALL_DATA
up=
status=1
finish() {
    trap - EXIT INT TERM
    if [ -n "$up" ]; then
        kill -TERM "$up" 2>/dev/null || true
        wait "$up" || true
    fi
    if [ "$status" -eq 0 ]; then rm -rf "$WINDFALL_DATA"; else say "Logs and the event log are in $WINDFALL_DATA"; fi
    exit "$status"
}
trap finish EXIT INT TERM

"$windfall" up --vms "$vms" --vm-cpu 1000 --vm-memory 1024 >"$WINDFALL_DATA/up.log" 2>&1 &
up=$!
tries=0
until grep -q "^Windfall is ready" "$WINDFALL_DATA/up.log" 2>/dev/null; do
    kill -0 "$up" 2>/dev/null || { cat "$WINDFALL_DATA/up.log"; fail "the cluster did not start"; }
    tries=$((tries + 1))
    [ "$tries" -lt 1200 ] || { cat "$WINDFALL_DATA/up.log"; fail "the cluster was not ready within two minutes"; }
    sleep 0.1
done
set -- chaos run "$scenario" --seed "$seed"
[ -z "$json" ] || set -- "$@" --json "$json"
status=0
"$windfall" "$@" || status=$?
