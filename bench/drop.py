#!/usr/bin/python3
# SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
"""What counting a drop costs: bench/drop.py BUILD_DIR [ROUNDS]

A peer sends 200,000 packets as fast as it can to a host that drops each at tc ingress.  Rounds take turns (ROUNDS, 7):
drops in another network namespace, which the program leaves at once; then drops here: with no records, with 1,000 records
a second, with a record for every drop; and drops.enabled off, where the program must not run at all.  Printed in ns a
drop, medians: the time in weir's program as the kernel measures it (kernel.bpf_stats_enabled, whose own cost is in all
of them alike), and the difference to those elsewhere.  What the kernel takes to call a program comes on top.
"""

import json
import os
import statistics
import sys

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
sys.path.insert(0, os.path.join(ROOT, "tests/netns"))

from lab import Lab, run  # pylint: disable=wrong-import-position,import-error

PACKETS = 200_000
SETTINGS = {"elsewhere": "{rate: 0}", "off": "{enabled: off}", "counted": "{rate: 0}", "1,000 records/s": "{rate: 1000}",
            "every one recorded": "{rate: 1000000}"}


def program_of(agent):
    pins = agent.get("/v1/status")["pins"]
    pin = next(name for name in os.listdir(pins) if name.startswith("trace_drop_kfree_skb"))
    return json.loads(run("bpftool", "-j", "link", "show", "pinned", os.path.join(pins, pin)).stdout)["prog_id"]


def measured(program):
    """(runs, ns in them) so far"""
    shown = json.loads(run("bpftool", "-j", "prog", "show", "id", program).stdout)
    return shown.get("run_cnt", 0), shown.get("run_time_ns", 0)


def main():
    if len(sys.argv) < 2:
        sys.exit(f"usage: {sys.argv[0]} BUILD_DIR [ROUNDS]")
    build, rounds = os.path.abspath(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 7
    figures = {name: [] for name in SETTINGS}
    lab = Lab(build)
    try:
        host, peer = lab.hosts()
        other = lab.namespace("other")
        lab.pair(other, "w0", peer, "p1", number=2)
        lab.quiet(host, peer, other)
        for namespace in (host, other):
            namespace.tc("qdisc", "add", "dev", "w0", "clsact")
            namespace.tc("filter", "add", "dev", "w0", "ingress", "protocol", "ip", "bpf", "da", "bytecode", "1,6 0 0 2")
        agent = lab.agent(host)
        program = program_of(agent)
        run("sysctl", "-qw", "kernel.bpf_stats_enabled=1")
        for turn in range(rounds):
            for name in list(SETTINGS)[turn % len(SETTINGS):] + list(SETTINGS)[:turn % len(SETTINGS)]:
                with open(agent.config, "w", encoding="ascii") as file:
                    file.write(f"interfaces: [w0]\ndrops: {SETTINGS[name]}\n")
                agent.weir("reload")
                before = agent.get("/v1/drops")["packets"]
                runs, ns = measured(program)
                peer.run(lab.tool("blast"), "p1" if name == "elsewhere" else "p0", 4, 64, 1, PACKETS, 0, timeout=120)
                runs, ns = (after - value for after, value in zip(measured(program), (runs, ns)))
                if (runs < PACKETS) != (name == "off"):
                    sys.exit(f"{name}: the program ran {runs} times")
                if runs:
                    figures[name].append(ns / runs)
                counted = agent.get("/v1/drops")["packets"] - before
                if counted != (0 if name in ("off", "elsewhere") else PACKETS):
                    sys.exit(f"{name}: {counted} drops were counted")
        document = agent.get("/v1/drops")
    finally:
        run("sysctl", "-qw", "kernel.bpf_stats_enabled=0")
        lab.close()
    elsewhere = statistics.median(figures["elsewhere"])
    print(f"medians of {rounds} rounds of {PACKETS:,} drops, ns a drop in weir's program")
    for name, values in figures.items():
        if name != "off":
            print(f"{name:<20} {statistics.median(values):>7.0f} {statistics.median(values) - elsewhere:>+7.0f}")
    print(f"records {document['records']:,}, unrecorded {document['unrecorded']:,}, lost {document['lost']:,}")


if __name__ == "__main__":
    main()
