#!/usr/bin/python3
# SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
"""What socket rules cost: bench/guard.py BUILD_DIR [CALLS]

A process connects a UDP socket again and again (CALLS, 200000), which is the cheapest call that rules judge.  Printed is
the time that weir's program took of each call, as the kernel measures it (kernel.bpf_stats_enabled), for lists of rules
none of which fits, so that each is asked; and what fits last, so that it is counted.
"""

import json
import os
import socket
import sys
import time

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
sys.path.insert(0, os.path.join(ROOT, "tests/netns"))

from lab import Lab, run  # pylint: disable=wrong-import-position,import-error


def program_figures(pins):
    """(nanoseconds, calls) of the program at connect4 so far."""
    link = json.loads(run("bpftool", "-j", "link", "show", "pinned", f"{pins}/cgroup_guard_connect4").stdout)
    program = json.loads(run("bpftool", "-j", "prog", "show", "id", link["prog_id"]).stdout)
    return program.get("run_time_ns", 0), program.get("run_cnt", 0)


def connect(host, calls):
    """Nanoseconds of one connect(), as the process sees it."""
    with host:
        sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    with sock:
        address, method = ("127.0.0.1", 9), sock.connect
        began = time.perf_counter_ns()
        for _ in range(calls):
            method(address)
        return (time.perf_counter_ns() - began) / calls


def main():
    if len(sys.argv) < 2:
        sys.exit(f"usage: {sys.argv[0]} BUILD_DIR [CALLS]")
    calls = int(sys.argv[2]) if len(sys.argv) > 2 else 200_000
    before = run("sysctl", "-n", "kernel.bpf_stats_enabled").stdout.strip()
    lab = Lab(os.path.abspath(sys.argv[1]))
    try:
        host = lab.namespace("bench")
        run("sysctl", "-qw", "kernel.bpf_stats_enabled=1")
        agent = lab.agent(host, "interfaces: [lo]\n")
        pins = agent.get("/v1/status")["pins"]
        print(f"{'rules':28}  {'program, ns':>12}  {'call, ns':>9}")
        for title, sentences in (
                ("none", []),
                ("1, of another call", ["deny bind by user 64321"]),
                ("1, by user", ["deny connect by user 64321"]),
                ("10, by user", [f"deny connect by user 64321 to port {port}" for port in range(1000, 1010)]),
                ("100, by user", [f"deny connect by user 64321 to port {port}" for port in range(1000, 1100)]),
                ("100, by unit", [f"deny connect by unit u{number}" for number in range(100)]),
                ("100, to prefixes", [f"deny connect to 10.{number}.0.0/16" for number in range(100)]),
                ("1000, by user", [f"deny connect by user 64321 to port {port}" for port in range(1000, 2000)]),
                ("1, an allow that fits", ["allow connect udp to 127.0.0.0/8"])):
            with open(agent.config, "w", encoding="utf-8") as file:
                file.write("interfaces: [lo]\nrules:\n" + "".join(f"  - {sentence}\n" for sentence in sentences))
            status, body, _ = agent.request("POST", "/v1/reload")
            if status != 200:
                sys.exit(body)
            connect(host, calls // 10)
            time_before, calls_before = program_figures(pins)
            each = connect(host, calls)
            time_after, calls_after = program_figures(pins)
            print(f"{title:28}  {(time_after - time_before) / (calls_after - calls_before):12.1f}  {each:9.0f}")
    finally:
        run("sysctl", "-qw", f"kernel.bpf_stats_enabled={before}")
        left = lab.close()
        if left:
            print("left:", left)


if __name__ == "__main__":
    main()
