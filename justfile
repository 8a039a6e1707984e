# What can be done here. `just` lists it.

default:
    @just --list

# Start a cluster on this machine with the demo; --once stops after it
up *arguments:
    sh deploy/up.sh {{arguments}}

# Everything that is checked: formatting, clippy, all tests
test *arguments:
    sh tests/run.sh {{arguments}}

# Formatting and clippy only
check:
    cargo fmt --all --check
    cargo clippy --workspace --all-targets -- -D warnings

# The story of one invocation, against a real nats-server
story:
    sh tests/run.sh -p windfall-tests story

# Evictions on a cluster of its own; --short for two minutes
storm *arguments:
    sh chaos/storm.sh {{arguments}}

# Faults, scenarios and invariants, each for itself
chaos:
    sh tests/run.sh -p chaos

# Control groups of version 2, on a kernel of their own in qemu
cgroup2 *arguments:
    sh tests/cgroup2.sh {{arguments}}

# The example for libvirt, with a real libvirtd
libvirt *arguments:
    sh tests/libvirt.sh {{arguments}}

# Decision times of the policies
bench-policies:
    cargo bench -p policies

# A scenario under virtual time
simulate *arguments:
    cargo run --release --bin windfall -- simulate {{arguments}}

# Allocators against each other with real functions, beside the simulator; --quick for two minutes
bench-allocation *arguments:
    sh tests/bench/allocation.sh {{arguments}}
