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

find_windfall "The comparison" "the cluster itself takes more CPU than it need."

# Nothing of whoever runs this may reach the clusters.
unset WINDFALL_CONFIG WINDFALL_API_HOST WINDFALL_AUTH WSK_CONFIG_FILE
exec "$windfall" bench allocation "$@"
