#!/usr/bin/env python3
"""VMs for Windfall's provider `command`: processes of this machine.

An example to begin with, and the one that the tests use. It keeps one file per VM in WINDFALL_PROCESSES (else
/tmp/windfall-processes-<cluster>): the process id, and when that process was started, so that a later process with the
same id is not taken for it. WINDFALL_BINARY names the program, else `windfall` is looked for on PATH.

    windfall resource-monitor --provider command --set command.program=deploy/providers/processes.py
"""

import json
import os
import pathlib
import signal
import subprocess
import sys
import time

GRACE_S = 10


def main() -> dict:
    order = json.load(sys.stdin)
    home = os.environ.get("WINDFALL_PROCESSES") or f"/tmp/windfall-processes-{order['cluster']}"
    folder = pathlib.Path(home)
    folder.mkdir(parents=True, exist_ok=True)
    return {"launch": launch, "list": list_all, "retire": retire}[sys.argv[1]](folder, order)


def launch(folder: pathlib.Path, order: dict) -> dict:
    note = folder / order["vm"]
    if alive(note):
        return {}
    environment = os.environ | order["environment"] | {
        "WINDFALL_VM__CAPACITY": "fixed",
        "WINDFALL_VM__CPU": str(order["cpu_millicores"]),
        "WINDFALL_VM__MEMORY": str(order["memory_mib"]),
    }
    with open(folder / (order["vm"] + ".log"), "ab") as log:
        process = subprocess.Popen(
            [os.environ.get("WINDFALL_BINARY", "windfall"), "vm"],
            stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=environment, start_new_session=True,
        )
    # In one go: a note that is half written would be a VM that nobody ends.
    fresh = note.with_suffix(".new")
    fresh.write_text(f"{process.pid} {started(process.pid)}")
    fresh.rename(note)
    return {}


def list_all(folder: pathlib.Path, _order: dict) -> dict:
    vms = []
    for note in folder.glob("vm-*"):
        if note.suffix:
            continue
        if alive(note):
            vms.append(note.name)
        else:
            note.unlink(missing_ok=True)
    return {"vms": sorted(vms)}


def retire(folder: pathlib.Path, order: dict) -> dict:
    note = folder / order["vm"]
    until = time.monotonic() + GRACE_S
    how = signal.SIGTERM
    while pid := alive(note):
        os.kill(pid, how)
        time.sleep(0.1)
        if time.monotonic() > until:
            how = signal.SIGKILL
    note.unlink(missing_ok=True)
    return {}


def alive(note: pathlib.Path) -> int:
    """Its process id; 0 if it has ended."""
    try:
        pid, since = note.read_text().split()
        return int(pid) if started(int(pid)) == since else 0
    except (OSError, ValueError):
        return 0


def started(pid: int) -> str:
    """In ticks since the machine's start; empty for a process that is gone or only waits to be buried."""
    try:
        state, *rest = pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
        return "" if state == "Z" else rest[18]
    except (OSError, IndexError):
        return ""


try:
    print(json.dumps(main()))
except Exception as error:  # The Resource Monitor logs it and tries again.
    print(json.dumps({"error": f"{type(error).__name__}: {error}"}))
    sys.exit(1)
