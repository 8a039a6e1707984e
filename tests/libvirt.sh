#!/bin/sh
# The example for libvirt (deploy/providers/libvirt.py) with a real libvirtd and VMs with a Debian of their own.
#
#     sh tests/libvirt.sh                   what is told below; as root
#     sh tests/libvirt.sh --keep            and leave the image, to be used again, and the logs
#
# Told: a VM is launched, launched again under its id, which changes nothing, listed, retired, and retired again; then a Resource Monitor keeps a
# cluster of one VM that way, the guest's `windfall vm` joins it from what cloud-init was given, a function runs there, the VM is given another
# CPU and less memory and says so, it is killed and another takes its place, and everything ends with the Resource Monitor. Without KVM a guest computes some twenty times slower, so this takes minutes;
# it is no part of `sh tests/run.sh`.
# libvirtd runs by its own process id, without systemd, in namespaces that this script makes: its sockets and state are in a file system in
# memory, its network has nothing but a loopback, on which NATS has an address that guests reach too. KVM is not tried: what calls itself so
# is not always one on which Debian's kernel boots.
# Needs libvirtd with its qemu driver, virsh, qemu-system-x86_64, qemu-img, genisoimage, mmdebstrap, mke2fs, nats-server; packages for the
# image are fetched with apt.
set -eu
cd "$(dirname "$0")/.."
. deploy/lib.sh

work=$(pwd)/target/libvirt
logs=$work/logs
address=192.0.2.1

# ---- inside the namespaces -------------------------------------------------------------------------------------------------------

if [ "${1:-}" = --inside ]; then
    ip link set lo up
    ip addr add "$address/32" dev lo
    mkdir -p /var/lib/libvirt /var/log/libvirt /var/cache/libvirt
    for folder in /run /var/lib/libvirt /var/log/libvirt /var/cache/libvirt; do mount -t tmpfs tmpfs "$folder"; done
    mkdir -p /run/libvirt /run/etc
    cp -r /etc/libvirt /run/etc/libvirt
    # No virtlogd, no security labels, and files that belong to root.
    printf '%s\n' 'stdio_handler = "file"' 'user = "root"' 'group = "root"' 'security_driver = "none"' \
        'namespaces = []' 'remember_owner = 0' >/run/etc/libvirt/qemu.conf
    mount --bind /run/etc/libvirt /etc/libvirt

    ours=
    begin() { # a name, then what runs
        log=$logs/$1.log
        shift
        "$@" >"$log" 2>&1 &
        ours="$! $ours"
    }
    finish() {
        for pid in $ours; do kill "$pid" 2>/dev/null && wait "$pid" 2>/dev/null || true; done
        for name in $(virsh -q -c qemu:///system list --name 2>/dev/null); do virsh -q -c qemu:///system destroy "$name" || true; done
        [ -z "${daemon:-}" ] || { kill "$daemon" && wait "$daemon"; } 2>/dev/null || true
    }
    trap finish EXIT
    trap 'exit 1' INT TERM

    libvirtd >"$logs/libvirtd.log" 2>&1 &
    daemon=$!
    eventually() { # how many seconds, what it waits for, then what must succeed
        left=$1 what=$2
        shift 2
        until "$@" >/dev/null 2>&1; do
            left=$((left - 1))
            [ "$left" -gt 0 ] || fail "it never came about that $what; see $logs"
            sleep 1
        done
    }
    eventually 60 "libvirtd answers" virsh -q -c qemu:///system list --all

    export LIBVIRT_CPUS_MAX=2 LIBVIRT_BASE="$work/base.qcow2" LIBVIRT_FOLDER="$work/vms" LIBVIRT_TYPE=qemu LIBVIRT_NETWORK=user
    export LIBVIRT_KERNEL="$work/vmlinuz" LIBVIRT_INITRD="$work/initrd.img"
    export LIBVIRT_CMDLINE="root=/dev/vda rw console=ttyS0 mitigations=off quiet"
    provider=$(pwd)/deploy/providers/libvirt.py
    says() { # what it is asked, with what, what it must write
        said=$(printf '%s' "$2" | python3 "$provider" "$1")
        [ "$said" = "$3" ] || fail "$1 wrote $said, and should have written $3"
    }
    of_a='{"cluster": "a"}'
    one='{"cluster": "a", "vm": "vm-1", "kind": "harvest", "cpu_millicores": 1000, "memory_mib": 512, "environment": {"WINDFALL_VM__ID": "vm-1"}}'
    say "Launch, list, retire, each twice"
    says list "$of_a" '{"vms": []}'
    says launch "$one" '{}'
    first=$(virsh -q -c qemu:///system domuuid windfall-a-vm-1)
    says launch "$one" '{}'
    [ "$(virsh -q -c qemu:///system domuuid windfall-a-vm-1)" = "$first" ] || fail "the second launch made another VM"
    says list "$of_a" '{"vms": ["vm-1"]}'
    says list '{"cluster": "b"}' '{"vms": []}'
    says retire "$one" '{}'
    says list "$of_a" '{"vms": []}'
    says retire "$one" '{}'
    [ ! -e "$work/vms/windfall-a-vm-1" ] || fail "the disk of a retired VM is still there"

    say "A cluster whose VM is such a one"
    printf 'listen: "%s:4222"\nmax_payload: 8MB\njetstream { store_dir: "%s" }\n' "$address" "$work/jetstream" >"$work/nats.conf"
    rm -rf "$work/jetstream"
    begin nats-server "$nats" --config "$work/nats.conf"
    export WINDFALL_NATS__URL="nats://$address:4222" WINDFALL_FRONTEND__HTTP="$address:3233"
    export WINDFALL_API_HOST="http://$address:3233" WINDFALL_RESOURCE_MONITOR__FOLDER="$work/fleet"
    export WINDFALL_RESOURCE_MONITOR__CLUSTER=libvirt WINDFALL_RESOURCE_MONITOR__PROVIDER=command
    export WINDFALL_RESOURCE_MONITOR__VMS=1 WINDFALL_RESOURCE_MONITOR__CPU=1000 WINDFALL_RESOURCE_MONITOR__MEMORY=768
    export WINDFALL_RESOURCE_MONITOR__ON_STOP=retire WINDFALL_RESOURCE_MONITOR__LAUNCH_PATIENCE_MS=600000
    export WINDFALL_COMMAND__PROGRAM="python3 $provider"
    eventually 30 "NATS answers" "$windfall" namespace create guest --key 00000000-0000-4000-8000-000000000001:abcdefghijklmnopqrstuvwxyz0123456789abcdefghijklmnopqrstuvwxyz01
    export WINDFALL_AUTH=00000000-0000-4000-8000-000000000001:abcdefghijklmnopqrstuvwxyz0123456789abcdefghijklmnopqrstuvwxyz01
    begin frontend "$windfall" frontend
    begin controller "$windfall" controller
    begin resource-monitor "$windfall" resource-monitor
    monitor=${ours%% *}
    joined() { "$windfall" vm list --json | python3 -c '
import json, sys
vms = json.load(sys.stdin)
vms = vms.get("vms", vms) if isinstance(vms, dict) else vms
opened = [vm["vm"] for vm in vms if vm.get("standing") == "open" and vm["vm"] != sys.argv[1]]
print(*opened)
sys.exit(not opened)' "$1"; }
    began=$(date +%s)
    eventually 600 "the guest joins the cluster" joined none
    vm=$(joined none)
    say "$vm has joined after $(($(date +%s) - began)) s: $("$windfall" vm list | tail -n 1)"
    printf 'import platform\ndef main(arguments):\n    return {"node": platform.node(), "kernel": platform.release(), "sum": sum(arguments["of"])}\n' >"$work/where.py"
    eventually 60 "the function is made" "$windfall" function create where "$work/where.py"
    runs_there() { case $("$windfall" invoke where --result -p of '[1, 2, 39]' | tr -d '\n') in *"$kernel"*42*) ;; *) return 1 ;; esac; }
    runs_there || fail "the function did not run on the guest's kernel, $kernel"
    say "A function has run there, on $kernel"

    has() { # a resource of the only VM, a comparison, a number
        "$windfall" vm list --json | python3 -c '
import json, sys
vms = json.load(sys.stdin)
vms = vms.get("vms", vms) if isinstance(vms, dict) else vms
found = [vm[sys.argv[1]] for vm in vms]
sys.exit(not any(eval(f"{one} {sys.argv[2]} {sys.argv[3]}") for one in found))' "$@"
    }
    virsh -q -c qemu:///system setvcpus "windfall-libvirt-$vm" 2 --live
    eventually 60 "a second CPU is seen" has cpu_millicores '==' 2000
    virsh -q -c qemu:///system setmem "windfall-libvirt-$vm" 600M --live
    eventually 60 "less memory is seen" has memory_mib '<' 560
    say "It has grown and shrunk: $("$windfall" vm list | tail -n 1)"
    runs_there || fail "it does not run any more"

    say "$vm is killed"
    virsh -q -c qemu:///system destroy "windfall-libvirt-$vm"
    began=$(date +%s)
    eventually 600 "another takes its place" joined "$vm"
    next=$(joined "$vm")
    say "$next has joined after $(($(date +%s) - began)) s"
    runs_there || fail "the function did not run there"
    kill "$monitor"
    wait "$monitor" || true
    [ -z "$(virsh -q -c qemu:///system list --all --name | tr -d '\n')" ] || fail "VMs are left: $(virsh -q -c qemu:///system list --all)"
    say "Nothing is left"
    exit 0
fi

# ---- outside -----------------------------------------------------------------------------------------------------------------

keep=
[ "${1:-}" != --keep ] || keep=yes
[ "$(id -u)" -eq 0 ] || fail "only root can give libvirtd a network and a place for its state of its own"
for program in libvirtd virsh qemu-system-x86_64 qemu-img genisoimage mmdebstrap mke2fs unshare strip; do
    have "$program" || fail "$program is not here. On Debian: apt-get install --no-install-recommends libvirt-daemon-system \
libvirt-daemon-driver-qemu libvirt-clients qemu-system-x86 qemu-utils genisoimage mmdebstrap e2fsprogs binutils"
done
find_cargo || fail "cargo 1.$RUST_MINOR or newer is not here: see deploy/setup.sh"
nats=${WINDFALL_NATS_SERVER:-$(pwd)/$WINDFALL_DATA/bin/nats-server}
[ -x "$nats" ] || fail "nats-server is not here: sh tests/run.sh gets one, or name it with WINDFALL_NATS_SERVER"
rm -rf "$logs" "$work/vms"
mkdir -p "$work" "$logs"

windfall=${WINDFALL_BINARY:-}
if [ -z "$windfall" ]; then
    say "Building windfall"
    cargo build --locked -q -p windfall
    windfall=$(pwd)/target/debug/windfall
fi

# A Debian with systemd, cloud-init and a Python.
root=$work/root
if [ ! -e "$work/root.made" ]; then
    say "Making a Debian of packages"
    rm -rf "$root"
    mmdebstrap --quiet --variant=minbase \
        --include=systemd-sysv,udev,cloud-init,linux-image-cloud-amd64,python3-minimal,iproute2 bookworm "$root" \
        >"$logs/mmdebstrap.log" 2>&1 || fail "see $logs/mmdebstrap.log"
    rm -rf "$root"/var/cache/apt/* "$root"/var/lib/apt/lists/* "$root"/usr/share/doc/* "$root"/usr/share/man "$root"/usr/share/locale/*
    # cloud-init brings the network up with systemd's part for that, where it finds no other.
    ln -sf /lib/systemd/system/systemd-networkd.service "$root/etc/systemd/system/multi-user.target.wants/systemd-networkd.service"
    : >"$work/root.made"
fi
cp "$root"/boot/vmlinuz-* "$work/vmlinuz"
cp "$root"/boot/initrd.img-* "$work/initrd.img"
install -m 755 "$windfall" "$root/usr/local/bin/windfall"
# Nobody debugs there.
strip "$root/usr/local/bin/windfall"
rm -f "$work/base.raw" "$work/base.qcow2"
mke2fs -q -t ext4 -d "$root" "$work/base.raw" 1400M >/dev/null
qemu-img convert -f raw -O qcow2 "$work/base.raw" "$work/base.qcow2"
rm -f "$work/base.raw"

status=0
kernel=$(basename "$root"/boot/vmlinuz-* | cut -d- -f2-)
export nats windfall kernel
unshare --net --mount --propagation private sh tests/libvirt.sh --inside || status=$?
# What libvirt made beside its state.
for group in /sys/fs/cgroup/*/machine /sys/fs/cgroup/machine; do rmdir "$group" 2>/dev/null || true; done
[ -n "$keep" ] || { [ "$status" -ne 0 ] && rm -rf "$work/vms" "$work/jetstream"; } || rm -rf "$work"
[ "$status" -eq 0 ] || fail "see $logs"
say "Good: libvirt's VMs come, join, run, go and are replaced."
