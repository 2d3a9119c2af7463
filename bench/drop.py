#!/usr/bin/python3
# SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
"""What counting a drop costs: bench/drop.py BUILD_DIR [ROUNDS]

A peer sends 200,000 packets as fast as it can to a host that drops each at tc ingress.  Rounds take turns (ROUNDS, 7):
drops.enabled off, on with no records, on with 1,000 records a second, on with a record for every drop.  Printed in ns a drop,
medians: the time in weir's program as the kernel measures it (kernel.bpf_stats_enabled, whose own cost is in all of
them alike), and the difference to off, where the program returns at once.
"""

import json
import os
import statistics
import sys

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
sys.path.insert(0, os.path.join(ROOT, "tests/netns"))

from lab import Lab, run  # pylint: disable=wrong-import-position,import-error

PACKETS = 200_000
SETTINGS = {"off": "{enabled: off}", "counted": "{rate: 0}", "1,000 records/s": "{rate: 1000}",
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
        host.tc("qdisc", "add", "dev", "w0", "clsact")
        host.tc("filter", "add", "dev", "w0", "ingress", "protocol", "ip", "bpf", "da", "bytecode", "1,6 0 0 2")
        agent = lab.agent(host)
        program = program_of(agent)
        run("sysctl", "-qw", "kernel.bpf_stats_enabled=1")
        for turn in range(rounds):
            for name in list(SETTINGS)[turn % 4:] + list(SETTINGS)[:turn % 4]:
                with open(agent.config, "w", encoding="ascii") as file:
                    file.write(f"interfaces: [w0]\ndrops: {SETTINGS[name]}\n")
                agent.weir("reload")
                before = agent.get("/v1/drops")["packets"]
                runs, ns = measured(program)
                peer.run(lab.tool("blast"), "p0", 4, 64, 1, PACKETS, 0, timeout=120)
                runs, ns = (after - value for after, value in zip(measured(program), (runs, ns)))
                figures[name].append(ns / runs)
                counted = agent.get("/v1/drops")["packets"] - before
                if counted != (0 if name == "off" else PACKETS):
                    sys.exit(f"{name}: {counted} drops were counted")
        document = agent.get("/v1/drops")
    finally:
        run("sysctl", "-qw", "kernel.bpf_stats_enabled=0")
        lab.close()
    off = statistics.median(figures["off"])
    print(f"medians of {rounds} rounds of {PACKETS:,} drops, ns a drop in weir's program")
    for name, values in figures.items():
        print(f"{name:<20} {statistics.median(values):>7.0f} {statistics.median(values) - off:>+7.0f}")
    print(f"records {document['records']:,}, unrecorded {document['unrecorded']:,}, lost {document['lost']:,}")


if __name__ == "__main__":
    main()
