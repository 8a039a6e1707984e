#!/bin/sh
# A Windfall cluster on this machine, from a fresh clone: installs what is missing (and says so first), builds the
# release binary, starts the cluster and shows it at work. Ctrl-C stops everything that it started.
#
#     sh deploy/up.sh            the demo, and then a cluster to play with
#     sh deploy/up.sh --once     the demo only; exits 0 if all of it worked
#     sh deploy/up.sh --help     what else can be said; all of it is handed on to `windfall up`
#
# Debian 12 and Ubuntu are known. Root is needed only where system packages are missing.
set -eu
cd "$(dirname "$0")/.."
. deploy/lib.sh

set_up "Windfall"
say "Building the release binary; the first time this takes some minutes."
cargo build --release --locked --package windfall --bin windfall
exec "${CARGO_TARGET_DIR:-target}/release/windfall" up --data "$WINDFALL_DATA" --demo "$@"
