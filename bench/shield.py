#!/usr/bin/python3
# SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
"""Drops at XDP beside a program that does nothing but drop, and xdp-filter: bench/shield.py BUILD_DIR [SECONDS]

Figures are of one core's time (CLOCK_THREAD_CPUTIME_ID), sender and receiver together.  `sources` is how many different
addresses the packets come from, each inside a prefix of its own.
"""

import os
import shutil
import subprocess
import sys

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
sys.path.insert(0, os.path.join(ROOT, "tests/netns"))

from lab import Lab  # pylint: disable=wrong-import-position,import-error


def bpffs():
    """The file system that xdp-filter pins its map in; says whether it had to be mounted."""
    with open("/proc/mounts", encoding="utf-8") as mounts:
        if any(line.split()[1:3] == ["/sys/fs/bpf", "bpf"] for line in mounts):
            return False
    subprocess.run(["mount", "-t", "bpf", "bpf", "/sys/fs/bpf"], check=True)
    return True


def main():
    if len(sys.argv) < 2:
        sys.exit(f"usage: {sys.argv[0]} BUILD_DIR [SECONDS]")
    build = os.path.abspath(sys.argv[1])
    lab = Lab(build)
    mounted = False
    try:
        host, peer = lab.hosts()
        seconds = sys.argv[2] if len(sys.argv) > 2 else "0.3"
        command = [os.path.join(build, "bench/bench-shield"), host.name, "w0", peer.name, "p0", seconds]
        subprocess.run(command, check=True)
        if not shutil.which("xdp-filter"):
            print("xdp-filter is not installed (xdp-tools)")
            return
        mounted = bpffs()
        # its map is pinned in the usual place, which `ip netns exec` would hide
        inside = ["nsenter", f"--net=/run/netns/{host.name}", "xdp-filter"]
        subprocess.run([*inside, "load", "w0", "--mode", "native", "--policy", "allow", "--features", "ipv4"],
                       check=True)
        try:
            subprocess.run([*command, "/sys/fs/bpf/xdp-filter/filter_ipv4"], check=True)
        finally:
            subprocess.run([*inside, "unload", "w0"], check=True)
            subprocess.run(["find", "/sys/fs/bpf/xdp", "-depth", "-type", "d", "-empty", "-delete"], check=False)
    finally:
        lab.close()
        if mounted:
            subprocess.run(["umount", "/sys/fs/bpf"], check=True)


if __name__ == "__main__":
    main()
