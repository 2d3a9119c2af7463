#!/usr/bin/python3
# SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
"""Steering beside none, with one busy queue: bench/steer.py BUILD_DIR [ROUNDS]

One sender on CPU 0 fills the queue of a veth, whose packets that CPU handles, too, unless they are steered.  First comes
what a packet costs that CPU (the sender's own work included): how much of it is left is what steering is for, and no other
process on the machine changes it.  Then what weir has accounted and judged in tc, a second, which wants two idle CPUs;
`lost` did not fit into the queue of a CPU.  `light`: only that; `heavy`: with rules that look into each packet.  The ways
take turns, and ratios are of medians.
"""

import os
import resource
import statistics
import sys
import time

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
sys.path.insert(0, os.path.join(ROOT, "tests/netns"))

from lab import Lab, udp_socket  # pylint: disable=wrong-import-position,import-error

PACKETS, FLOWS = 300000, 1024
WAYS = ("", "in on w0 to cpus 0-1", "in on w0 to cpus 1")
HEAVY = [f'count in udp matching "udp[8:4] = {number} and udp[12:4] = {number}"' for number in range(1, 9)]


def policy(way, rules):
    lines = [f"steer: ['{way}']"] if way else ["steer: []"]
    return "\n".join(lines + ["rules:"] + [f"  - '{rule}'" for rule in rules]) + "\n" if rules else lines[0] + "\n"


def lost(agent):
    return sum(cpu["lost"] for cpu in agent.get("/v1/steers")["cpus"])


def seen(agent):
    return agent.interface("w0")["in"]["packets"]


def cpu_ns():
    """Of all children that have ended: what is handled while they run counts as theirs."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return (used.ru_utime + used.ru_stime) * 1e9


def one(lab, agent, peer, way, rules):
    """Nanoseconds of CPU 0 a packet, packets a second in tc, and which part of them was lost."""
    status, answer, _ = agent.request("POST", "/v1/policy", body=policy(way, rules))
    if status != 200:
        sys.exit(answer)
    packets, dropped, spent, began = seen(agent), lost(agent), cpu_ns(), time.monotonic()
    sender = peer.run("taskset", "-c", "0", lab.tool("blast"), "p0", 4, FLOWS, 16, PACKETS, 0, timeout=120)
    elapsed, spent = time.monotonic() - began, cpu_ns() - spent
    time.sleep(0.2)  # what is still in a queue is no more than 2,048
    packets, dropped = seen(agent) - packets, lost(agent) - dropped
    if not sender.stdout or not packets:
        sys.exit("nothing was sent")
    return spent / PACKETS, packets / elapsed, dropped / PACKETS


def main():
    if len(sys.argv) < 2:
        sys.exit(f"usage: {sys.argv[0]} BUILD_DIR [ROUNDS]")
    if os.cpu_count() < 2:
        sys.exit("this wants two CPUs")
    rounds = int(sys.argv[2]) if len(sys.argv) > 2 else 7
    lab = Lab(os.path.abspath(sys.argv[1]))
    try:
        host, peer = lab.hosts()
        host.ip("addr", "add", "10.1.0.77/24", "dev", "w0")
        sink = udp_socket(host, "10.1.0.77", 9)  # nobody reads: full, it takes no more
        agent = lab.agent(host, config="log: warning\n")
        agent.wait_watched("w0")
        for name, rules in (("light", []), ("heavy", HEAVY)):
            found = {way: [] for way in WAYS}
            for _ in range(rounds):
                for way in WAYS:
                    found[way].append(one(lab, agent, peer, way, rules))
            medians = {way: [statistics.median(column) for column in zip(*found[way])] for way in WAYS}
            for way in WAYS:
                (cost, rate, part), base = medians[way], medians[WAYS[0]]
                print(f"{name}  {way or 'nothing steered':22} {cost:6.0f} ns of CPU 0 (x {cost / base[0]:.2f})  "
                      f"{rate / 1000:6.0f} kpps (x {rate / base[1]:.2f})  lost {100 * part:4.1f} %", flush=True)
        sink.close()
    finally:
        lab.close(check=False)


if __name__ == "__main__":
    main()
