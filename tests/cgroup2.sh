#!/bin/sh
# The tests of control groups on a kernel that has version 2 of them for everything: a Debian kernel of its own, in qemu, with no
# other file system than a small one in memory that this script makes. For machines whose own kernel has version 1, or both.
#
#     sh tests/cgroup2.sh                   what is told below
#     sh tests/cgroup2.sh --keep            and leave the folder with the kernel, the file system and the console's log
#
# Told: the tests of `sandbox` (real processes, their limits, their isolation) and those of the Harvest Monitor that change a
# group. Without KVM the guest computes some twenty times slower, so this takes minutes; it is no part of `sh tests/run.sh`.
# Needs qemu-system-x86_64, busybox (static), cpio and python3; the kernel is fetched with apt-get and not installed.
set -eu
cd "$(dirname "$0")/.."
. deploy/lib.sh

keep=
[ "${1:-}" != --keep ] || keep=yes
for program in qemu-system-x86_64 cpio python3 apt-get dpkg-deb ldd; do
    have "$program" || fail "$program is not here. On Debian: apt-get install --no-install-recommends qemu-system-x86 busybox-static cpio"
done
busybox=$(command -v busybox) || fail "busybox is not here. On Debian: apt-get install busybox-static"
find_cargo || fail "cargo 1.$RUST_MINOR or newer is not here: see deploy/setup.sh"

work=$(pwd)/target/cgroup2
root=$work/root
mkdir -p "$work"

# The kernel, as Debian makes it for clouds: small, and with everything that is needed here built in.
kernel=$(find "$work/kernel/boot" -name 'vmlinuz-*' 2>/dev/null | head -n 1)
if [ -z "$kernel" ]; then
    package=$(apt-cache depends linux-image-cloud-amd64 | awk '/Depends: linux-image/ { print $2; exit }')
    [ -n "$package" ] || fail "apt knows no linux-image-cloud-amd64: run apt-get update"
    say "Fetching $package"
    (cd "$work" && apt-get -qq download "$package")
    dpkg-deb -x "$work/$package"_*.deb "$work/kernel"
    kernel=$(find "$work/kernel/boot" -name 'vmlinuz-*' | head -n 1)
fi

# The tests, as programs.
say "Building the tests"
built() { cargo test --locked --no-run -p "$1" "$2" ${3:+"$3"} 2>&1 | sed -n 's/.*Executable .*(\(.*\))$/\1/p'; }
unit=$(built sandbox --lib)
processes=$(built sandbox --test processes)
monitor=$(built actors --test harvest_monitor)
[ -x "$unit" ] && [ -x "$processes" ] && [ -x "$monitor" ] || fail "the tests were not built: run cargo test --no-run -p sandbox -p actors"
nats=${WINDFALL_NATS_SERVER:-$WINDFALL_DATA/bin/nats-server}

# A file system with them, what they load, and a Python.
rm -rf "$root"
mkdir -p "$root/bin" "$root/dev" "$root/proc" "$root/sys" "$root/tmp" "$root/etc" "$root/tests" "$root/usr/bin" "$root/root" "$root/run" "$root/var" "$root/home" "$root/opt" "$root/srv"
cp "$busybox" "$root/bin/busybox"
bring() { # a program, to this place, with the libraries that it loads
    cp -L "$1" "$root/$2"
    ldd "$1" 2>/dev/null | sed -n 's/.*=> \(\/[^ ]*\).*/\1/p; s/^[[:space:]]*\(\/[^ ]*ld-linux[^ ]*\).*/\1/p' | sort -u |
        while read -r library; do
            mkdir -p "$root$(dirname "$library")"
            [ -e "$root$library" ] || cp -L "$library" "$root$library"
        done
}
for pair in "$unit:tests/unit" "$processes:tests/processes" "$monitor:tests/monitor"; do
    bring "${pair%%:*}" "${pair##*:}"
    # Nobody debugs there.
    ! have strip || strip "$root/${pair##*:}"
done
if [ -x "$nats" ]; then bring "$(readlink -f "$nats")" tests/nats-server; fi
python=/usr/bin/python3
[ -x "$python" ] || python=$(command -v python3)
bring "$(readlink -f "$python")" usr/bin/python3
"$python" - "$root" <<'PYTHON'
import os, shutil, subprocess, sys, sysconfig
root, paths = sys.argv[1], {sysconfig.get_path("stdlib"), sysconfig.get_path("platstdlib")}
leave = shutil.ignore_patterns("test", "tests", "idlelib", "tkinter", "site-packages", "dist-packages", "ensurepip", "config-*")
for path in paths:
    shutil.copytree(path, root + path, ignore=leave, dirs_exist_ok=True)
for folder, _, files in os.walk(root):
    for name in files:
        if ".so" in name and "lib-dynload" in folder:
            listed = subprocess.run(["ldd", os.path.join(folder, name)], capture_output=True, text=True).stdout
            for line in listed.splitlines():
                library = line.partition("=> ")[2].split(" ")[0]
                if library.startswith("/") and not os.path.exists(root + library):
                    os.makedirs(os.path.dirname(root + library), exist_ok=True)
                    shutil.copy(library, root + library)
PYTHON
printf 'root:x:0:0::/root:/bin/sh\nnobody:x:65534:65534::/:/bin/sh\n' >"$root/etc/passwd"
printf 'root:x:0:\nnogroup:x:65534:\n' >"$root/etc/group"
printf '127.0.0.1 localhost\n' >"$root/etc/hosts"
cat >"$root/init" <<'INIT'
#!/bin/busybox sh
/bin/busybox --install -s /bin
# Not in the first file system, whose root cannot be exchanged, which sandboxes do with theirs.
if [ ! -e /moved ]; then
    mkdir /moved
    mount -t tmpfs -o size=80% tmpfs /moved
    cp -a /bin /etc /home /init /lib* /opt /root /run /srv /tests /usr /var /moved
    mkdir /moved/dev /moved/proc /moved/sys /moved/tmp /moved/moved
    exec switch_root /moved /init
fi
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs devtmpfs /dev
mkdir -p /dev/pts /dev/shm
mount -t tmpfs tmpfs /dev/shm
mount -t tmpfs tmpfs /tmp
mount -t cgroup2 cgroup2 /sys/fs/cgroup
chmod 1777 /tmp
ln -s /proc/self/fd /dev/fd
ip link set lo up
export PATH=/bin:/usr/bin HOME=/root TMPDIR=/tmp WINDFALL_NATS_SERVER=/tests/nats-server WINDFALL_PYTHON=/usr/bin/python3 RUST_BACKTRACE=1
echo "GUEST $(uname -r), control groups: $(cat /sys/fs/cgroup/cgroup.controllers)"
status=0
told() { # a name, then what runs
    name=$1
    shift
    echo "BEGIN $name"
    if "$@"; then echo "END $name: good"; else echo "END $name: FAILED"; status=1; fi
}
told unit /tests/unit --test-threads=1 cgroup
told processes /tests/processes --test-threads=1 groups limits isolation
if [ -x /tests/nats-server ]; then told monitor /tests/monitor --test-threads=1 groups_limits; fi
echo "GUEST is done: $status"
poweroff -f
INIT
chmod +x "$root/init"
(cd "$root" && find . | cpio -o -H newc --quiet | gzip -1 >"$work/root.gz")

# Without KVM on purpose: what calls itself KVM is not always one that this kernel boots on.
say "Booting $(basename "$kernel") in qemu"
log=$work/console.log
: >"$log"
timeout "${WINDFALL_CGROUP2_PATIENCE:-1500}" qemu-system-x86_64 -nodefaults -machine q35 -accel tcg,thread=multi -cpu max \
    -smp 2 -m 1536M -kernel "$kernel" -initrd "$work/root.gz" \
    -append "console=ttyS0 panic=-1 quiet mitigations=off cgroup_no_v1=all" \
    -display none -no-reboot -serial "file:$log" || true
sed -n '/^GUEST/,$p' "$log" | tr -d '\r'
[ -n "$keep" ] || rm -rf "$root" "$work/root.gz"
if grep -q '^GUEST is done: 0' "$log"; then say "Good: control groups version 2 do what they should."; else fail "see $log"; fi
