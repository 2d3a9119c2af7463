#!/usr/bin/python3
# SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
"""Drops at XDP beside a program that does nothing but drop: bench/shield.py BUILD_DIR [SECONDS]"""

import os
import subprocess
import sys

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
sys.path.insert(0, os.path.join(ROOT, "tests/netns"))

from lab import Lab  # pylint: disable=wrong-import-position,import-error


def main():
    if len(sys.argv) < 2:
        sys.exit(f"usage: {sys.argv[0]} BUILD_DIR [SECONDS]")
    build = os.path.abspath(sys.argv[1])
    lab = Lab(build)
    try:
        host, peer = lab.hosts()
        subprocess.run([os.path.join(build, "bench/bench-shield"), host.name, "w0", peer.name, "p0", *sys.argv[2:]],
                       check=True)
    finally:
        lab.close()


if __name__ == "__main__":
    main()
