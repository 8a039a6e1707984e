#!/bin/sh
# Freyr's arrivals with real functions of his kinds, under several allocators in turn on clusters of this machine, beside what
# the simulator foretells for the same run; from a fresh clone.
#
#     sh tests/bench/allocation.sh                        about seven minutes; needs root, and a machine that does nothing else
#     sh tests/bench/allocation.sh --quick                about two
#     sh tests/bench/allocation.sh --traces FOLDER        the released arrivals (WINDFALL_TRACES does the same); else drawn ones
#     sh tests/bench/allocation.sh --json figures.json    and whatever `windfall bench allocation --help` knows
set -eu
cd "$(dirname "$0")/../.."
. deploy/lib.sh

# A binary that is there is used, the release one first; WINDFALL_BINARY names another.
if [ -n "${WINDFALL_BINARY:-}" ]; then
    windfall=$WINDFALL_BINARY
else
    set_up "The comparison"
    if [ -x target/release/windfall ]; then
        cargo build --locked --release -p windfall --bin windfall
        windfall=target/release/windfall
    else
        cargo build --locked -p windfall --bin windfall
        windfall=target/debug/windfall
        say "There is no release build here, so this is the dev profile: the cluster itself takes more CPU than it need."
    fi
fi
server=${WINDFALL_NATS_SERVER:-$WINDFALL_DATA/bin/nats-server}
[ ! -x "$server" ] || export WINDFALL_NATS_SERVER="$server"

# Nothing of whoever runs this may reach the clusters.
unset WINDFALL_CONFIG WINDFALL_API_HOST WINDFALL_AUTH WSK_CONFIG_FILE
exec "$windfall" bench allocation "$@"
