#!/bin/sh
# An eviction storm on a cluster of its own, from a fresh clone: builds, starts the cluster, plays the scenario, prints
# the table, and stops everything that it started.
#
#     sh chaos/storm.sh                        twenty VMs, two hundred evictions in ten minutes
#     sh chaos/storm.sh --short                five VMs, twenty evictions, two minutes
#     sh chaos/storm.sh --scenario FILE        another one, such as chaos/scenarios/links.toml
#     sh chaos/storm.sh --short --seed 7 --json figures.json
#
# Exit code 1 means that something was lost, or came twice. As root (with `ip` and `unshare`) the cluster lives in a
# network of its own, and its VMs are machines of the provider `netns`, each with a network of its own in there; without
# root they are processes, which is said.
set -eu
cd "$(dirname "$0")/.."
. deploy/lib.sh

scenario=chaos/scenarios/storm.toml
seed=1
json=
all="$*"
while [ "$#" -gt 0 ]; do
    case $1 in
    --short) scenario=chaos/scenarios/storm-short.toml ;;
    --scenario) scenario=${2:?--scenario needs a file}; shift ;;
    --seed) seed=${2:?--seed needs a number}; shift ;;
    --json) json=${2:?--json needs a file}; shift ;;
    *) fail "unknown: $1. Use: sh chaos/storm.sh [--short | --scenario FILE] [--seed N] [--json FILE]" ;;
    esac
    shift
done
[ -r "$scenario" ] || fail "cannot read $scenario"
# A number of the scenario, else what it is when it is left out.
number() { found=$(sed -n "s/^$1 = \([0-9]*\).*/\1/p" "$scenario" | head -n 1); say "${found:-$2}"; }

find_windfall "The storm" "its times are longer than they need be."

# As root, the rest happens in a network (and with mounts) of its own.
provider=process
if [ "$(id -u)" -ne 0 ]; then
    say "WITHOUT ROOT, VMS ARE PLAIN PROCESSES: they are not confined, their sizes do not change, and no cable can be pulled."
elif ! command -v ip >/dev/null || ! command -v unshare >/dev/null || ! command -v nsenter >/dev/null; then
    say "WITHOUT ip (iproute2), unshare AND nsenter (util-linux), VMS ARE PROCESSES IN CONTROL GROUPS AND SHARE ONE NETWORK."
elif [ -z "${WINDFALL_STORM_INSIDE:-}" ]; then
    export WINDFALL_STORM_INSIDE=yes WINDFALL_BINARY="$windfall"
    # Of the words that were given none has a blank that matters, or it has failed above.
    # shellcheck disable=SC2086
    exec unshare --net --mount sh chaos/storm.sh $all
else
    ip link set lo up
    # libfaketime leaves things there of processes that are killed.
    mount -t tmpfs windfall-shm /dev/shm
    provider=netns
fi

# Nothing of whoever runs this may reach the cluster.
unset WINDFALL_CONFIG WINDFALL_API_HOST WINDFALL_AUTH WSK_CONFIG_FILE WINDFALL_STORM_INSIDE
WINDFALL_DATA=$(mktemp -d "${TMPDIR:-/tmp}/windfall-storm.XXXXXX")
export WINDFALL_DATA
up=
status=1
disk=
finish() {
    trap - EXIT INT TERM
    if [ -n "$up" ]; then
        kill -TERM "$up" 2>/dev/null || true
        wait "$up" || true
    fi
    [ -z "$disk" ] || umount "$disk" || true
    # An lxcfs that had to be killed leaves its mount.
    [ "$provider" != netns ] || umount --lazy "$WINDFALL_DATA/vms/lxcfs" 2>/dev/null || true
    if [ "$status" -eq 0 ]; then rm -rf "$WINDFALL_DATA"; else say "Logs and the event log are in $WINDFALL_DATA"; fi
    exit "$status"
}
trap finish EXIT INT TERM

if grep -q '"fill_disk"' "$scenario" && [ "$provider" = netns ]; then
    # A disk that may be filled: the store has it for itself, and it is small.
    disk=$WINDFALL_DATA/jetstream
    mkdir "$disk"
    mount -t tmpfs -o size=1g windfall-store "$disk"
    export WINDFALL_STORE__SUBMIT_SIZE_MIB=32 WINDFALL_STORE__RECORD_SIZE_MIB=32 WINDFALL_STORE__CODE_SIZE_MIB=32
fi

if grep -q -e '"ill_metadata"' -e '"notice_for_another"' -e 'by_metadata = true' "$scenario"; then
    # VMs ask the metadata service of a cloud; the scenario is it.
    export WINDFALL_VM__NOTICES="${WINDFALL_VM__NOTICES:-azure}"
fi
clocks=
if grep -q '"clock_jump' "$scenario"; then clocks=--clocks; fi
# shellcheck disable=SC2086
"$windfall" up --provider "$provider" --wires $clocks --vms "$(number vms 3)" --vm-cpu 1000 --vm-memory 1024 \
    --frontends "$(number frontends 1)" --controllers "$(number controllers 1)" --monitors "$(number monitors 1)" \
    >"$WINDFALL_DATA/up.log" 2>&1 &
up=$!
tries=0
until grep -q "^Windfall is ready" "$WINDFALL_DATA/up.log" 2>/dev/null; do
    kill -0 "$up" 2>/dev/null || { cat "$WINDFALL_DATA/up.log"; fail "the cluster did not start"; }
    tries=$((tries + 1))
    [ "$tries" -lt 1200 ] || { cat "$WINDFALL_DATA/up.log"; fail "the cluster was not ready within two minutes"; }
    sleep 0.1
done
say "VMs are of the provider $provider."
set -- chaos run "$scenario" --seed "$seed"
[ -z "$json" ] || set -- "$@" --json "$json"
status=0
"$windfall" "$@" || status=$?
