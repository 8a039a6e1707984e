#!/usr/bin/env python3
"""VMs for Windfall's provider `command`: domains of libvirt, through `virsh`.

Each VM is a domain `windfall-<cluster>-<vm>` whose disk is an overlay on a base image with systemd, cloud-init and the `windfall`
binary in it; what it must know comes on a second disk in cloud-init's NoCloud form. Harvesting is then
`virsh setvcpus --live` and `virsh setmem --live`, which the guest's kernel shows in the usual places. `sh tests/libvirt.sh` makes such an
image of Debian's packages and tries all of this with a libvirtd of its own.

    LIBVIRT_BASE        the base image (qcow2); required
    LIBVIRT_FOLDER      where overlays go; /var/lib/libvirt/images/windfall
    LIBVIRT_URI         qemu:///system
    LIBVIRT_TYPE        kvm, or qemu where there is no KVM
    LIBVIRT_CPUS_MAX    how many CPUs a VM may grow to; what it starts with
    LIBVIRT_NETWORK     default; or user: no network of libvirt's, what the guest asks for goes out from the host
    LIBVIRT_KERNEL      a kernel to boot, where the base image has no boot loader; with it
    LIBVIRT_INITRD      its first file system
    LIBVIRT_CMDLINE     and what it is told; root=/dev/vda console=ttyS0

    windfall resource-monitor --provider command --set command.program=deploy/providers/libvirt.py

Needs virsh, qemu-img and genisoimage (or xorriso's mkisofs). In the guest, NATS must be reachable at nats.url.
"""

import json
import math
import os
import pathlib
import shutil
import subprocess
import sys
from xml.sax.saxutils import escape

URI = os.environ.get("LIBVIRT_URI", "qemu:///system")
FOLDER = pathlib.Path(os.environ.get("LIBVIRT_FOLDER", "/var/lib/libvirt/images/windfall"))


def run(*words: str, check: bool = True) -> str:
    done = subprocess.run(words, capture_output=True, text=True, timeout=100)
    if check and done.returncode != 0:
        raise RuntimeError(f"{' '.join(words[:4])}: {done.stderr.strip() or done.stdout.strip()}")
    return done.stdout


def virsh(*words: str, check: bool = True) -> str:
    return run("virsh", "--quiet", "--connect", URI, *words, check=check)


def name_of(order: dict) -> str:
    return f"windfall-{order['cluster']}-{order['vm']}"


def launch(order: dict) -> dict:
    name = name_of(order)
    if name in virsh("list", "--name").split():
        return {}
    folder = FOLDER / name
    folder.mkdir(parents=True, exist_ok=True)
    disk, seed = folder / "disk.qcow2", folder / "seed.iso"
    if not disk.exists():
        base = os.environ["LIBVIRT_BASE"]
        run("qemu-img", "create", "-q", "-f", "qcow2", "-F", "qcow2", "-b", base, str(disk))
    seed_disk(folder, seed, order)
    definition = folder / "domain.xml"
    definition.write_text(domain(name, disk, seed, order))
    virsh("define", str(definition))
    virsh("start", name)
    return {}


def seed_disk(folder: pathlib.Path, seed: pathlib.Path, order: dict) -> None:
    variables = "".join(f"      {key}={value}\n" for key, value in sorted(order["environment"].items()))
    (folder / "meta-data").write_text(f"instance-id: {name_of(order)}\nlocal-hostname: {order['vm']}\n")
    (folder / "user-data").write_text(
        "#cloud-config\n"
        "write_files:\n"
        "  - path: /etc/windfall/vm.env\n"
        "    permissions: '0600'\n"
        "    content: |\n"
        f"{variables}"
        # A CPU that is plugged in is not used before somebody says so.
        "  - path: /etc/udev/rules.d/80-windfall-cpu.rules\n"
        "    content: |\n"
        '      SUBSYSTEM=="cpu", ACTION=="add", TEST=="online", ATTR{online}=="0", ATTR{online}="1"\n'
        "runcmd:\n"
        "  - [systemd-run, --unit=windfall-vm, -p, EnvironmentFile=/etc/windfall/vm.env, -p, Delegate=yes,"
        " -p, 'ExecStopPost=/sbin/poweroff', windfall, vm]\n"
    )
    tool = shutil.which("genisoimage") or shutil.which("mkisofs")
    if not tool:
        raise RuntimeError("genisoimage is needed for cloud-init's disk")
    run(tool, "-quiet", "-output", str(seed), "-volid", "cidata", "-joliet", "-rock",
        str(folder / "user-data"), str(folder / "meta-data"))


def boots() -> str:
    kernel = os.environ.get("LIBVIRT_KERNEL")
    if not kernel:
        return ""
    told = os.environ.get("LIBVIRT_CMDLINE", "root=/dev/vda console=ttyS0")
    first = os.environ.get("LIBVIRT_INITRD")
    initrd = f"<initrd>{escape(first)}</initrd>" if first else ""
    return f"<kernel>{escape(kernel)}</kernel>{initrd}<cmdline>{escape(told)}</cmdline>"


def interface() -> str:
    network = os.environ.get("LIBVIRT_NETWORK", "default")
    if network == "user":
        return "<interface type='user'><model type='virtio'/></interface>"
    return f"<interface type='network'><source network='{escape(network)}'/><model type='virtio'/></interface>"


def domain(name: str, disk: pathlib.Path, seed: pathlib.Path, order: dict) -> str:
    cpus = max(1, math.ceil(order["cpu_millicores"] / 1000))
    most = max(cpus, int(os.environ.get("LIBVIRT_CPUS_MAX", cpus)))
    return f"""<domain type='{escape(os.environ.get("LIBVIRT_TYPE", "kvm"))}'>
  <name>{escape(name)}</name>
  <memory unit='MiB'>{order["memory_mib"]}</memory>
  <vcpu current='{cpus}'>{most}</vcpu>
  <os><type arch='x86_64' machine='q35'>hvm</type>{boots()}</os>
  <features><acpi/></features>
  <on_poweroff>destroy</on_poweroff>
  <on_crash>destroy</on_crash>
  <devices>
    <disk type='file' device='disk'><driver name='qemu' type='qcow2'/>
      <source file='{escape(str(disk))}'/><target dev='vda' bus='virtio'/></disk>
    <disk type='file' device='disk'><driver name='qemu' type='raw'/>
      <source file='{escape(str(seed))}'/><target dev='vdb' bus='virtio'/><readonly/></disk>
    {interface()}
    <memballoon model='virtio'/>
    <serial type='file'><source path='{escape(str(disk.parent / "console.log"))}'/></serial>
  </devices>
</domain>
"""


def list_all(order: dict) -> dict:
    prefix = f"windfall-{order['cluster']}-"
    running = virsh("list", "--name").split()
    return {"vms": sorted(name[len(prefix):] for name in running if name.startswith(prefix))}


def retire(order: dict) -> dict:
    name = name_of(order)
    if name in virsh("list", "--name").split():
        # Its work is done or lost: whoever retires a VM has drained it before.
        virsh("destroy", name, check=False)
    if name in virsh("list", "--all", "--name").split():
        virsh("undefine", name)
    shutil.rmtree(FOLDER / name, ignore_errors=True)
    return {}


try:
    print(json.dumps({"launch": launch, "list": list_all, "retire": retire}[sys.argv[1]](json.load(sys.stdin))))
except Exception as error:  # The Resource Monitor logs it and tries again.
    print(json.dumps({"error": f"{type(error).__name__}: {error}"}))
    sys.exit(1)
