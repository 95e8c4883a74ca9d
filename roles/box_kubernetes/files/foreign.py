#!/usr/bin/env python3
"""Let the kernel start ppc64le programs through qemu for as long as this program runs.

    foreign.py NAME QEMU

It registers QEMU, Debian's ``ppc64le-binfmt-P`` of qemu-user-static, with binfmt_misc as NAME, ends with an error if the
registration is gone, and takes it back when it is asked to end. It mounts binfmt_misc, and so must be started in a mount
namespace of the box's own. Where nothing else has it mounted, Linux 6.7 and later forget the registration together with
that namespace, however it ends. While it lasts it holds for the whole machine, for binfmt_misc is kept by user namespace.
Standard library only.
"""
# ruff: noqa: T201 - standard output is its log

from __future__ import annotations

import re
import signal
import subprocess
import sys
from pathlib import Path

BINFMT = Path("/proc/sys/fs/binfmt_misc")
INTERVAL_S = 10.0
# An ELF header: 64 bits, little-endian, executable or shared, PowerPC 64. The mask leaves out the ABI and the lowest bit
# of the type. As qemu-user-static registers it.
MAGIC = r"\x7fELF\x02\x01\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00\x02\x00\x15\x00"
MASK = r"\xff\xff\xff\xff\xff\xff\xff\xfc\xff\xff\xff\xff\xff\xff\xff\xff\xfe\xff\xff\x00"
# P: argv[0] is kept. O: the program is handed over opened, readable or not. F: qemu is opened now, so that images need
# none. C is left out: a set-uid program gains nothing.
FLAGS = "OPF"


def mount() -> None:
    """Ensure that binfmt_misc can be reached."""
    if not (BINFMT / "register").exists():
        subprocess.run(["mount", "-t", "binfmt_misc", "binfmt_misc", str(BINFMT)], check=True)  # noqa: S603, S607 - util-linux's


def is_registered(entry: Path, qemu: str) -> bool:
    """True if the entry is there, enabled, and has this interpreter."""
    try:
        lines = entry.read_text().splitlines()
    except FileNotFoundError:
        return False
    return lines[0] == "enabled" and f"interpreter {qemu}" in lines


def remove(entry: Path) -> None:
    """Remove the entry if it is there."""
    if entry.exists():
        entry.write_text("-1")


def main() -> None:
    """Run the command line."""
    name, qemu = sys.argv[1:]
    if not re.fullmatch(r"[\w.-]+", name) or not Path(qemu).is_file() or ":" in qemu:
        sys.exit(f"usage: foreign.py NAME QEMU, where QEMU is a file without a colon in its path; got {name!r}, {qemu!r}")
    # Blocked, so that they arrive at the one place that waits for them.
    signals = {signal.SIGTERM, signal.SIGINT}
    signal.pthread_sigmask(signal.SIG_BLOCK, signals)
    entry = BINFMT / name
    try:
        mount()
        if not is_registered(entry, qemu):
            remove(entry)
            (BINFMT / "register").write_text(f":{name}:M::{MAGIC}:{MASK}:{qemu}:{FLAGS}")
    except (OSError, subprocess.CalledProcessError) as error:
        sys.exit(f"binfmt_misc does not take {qemu}: {error}; does this kernel have CONFIG_BINFMT_MISC?")
    print(f"ppc64le programs run through {qemu}", flush=True)
    while signal.sigtimedwait(signals, INTERVAL_S) is None:
        if not is_registered(entry, qemu):
            sys.exit(f"somebody has removed or disabled {name} in binfmt_misc")
    remove(entry)


if __name__ == "__main__":
    main()
