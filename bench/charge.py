#!/usr/bin/python3
# SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
"""Whether each byte is charged to the class of its user: bench/charge.py BUILD_DIR [MEGABYTES [RATE]]

Two users send bulk (so much, both together: 1000), a line of 400 bytes each millisecond and datagrams, all at once, each
held to RATE (400mbit).  What their classes have counted is compared with a capture of the wire, packet by packet summed;
what differs is printed, and how much that is.  The netns test does the same with 60 MB.
"""

import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "tests/netns"))

# pylint: disable=wrong-import-position,import-error
from lab import Lab
from test_shaping import charge


def main():
    if not 2 <= len(sys.argv) <= 4:
        sys.exit(__doc__)
    megabytes, rate = (sys.argv[2:] + ["1000", "400mbit"][len(sys.argv) - 2:])[:2]
    lab, wrong, total = Lab(os.path.abspath(sys.argv[1])), 0, 0
    try:
        for text, (charged, wire) in charge(lab, int(megabytes) * 500000, rate, seconds=300).items():
            print(f"{text}: {charged[0]} packets, {charged[1]} bytes charged; {wire[0]} packets, {wire[1]} bytes sent")
            wrong += abs(charged[1] - wire[1])
            total += wire[1]
    finally:
        lab.close()
    print(f"wrong: {wrong} of {total} bytes")
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    main()
