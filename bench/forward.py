#!/usr/bin/python3
# SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
"""Forwarding by weir beside the kernel's own: bench/forward.py BUILD_DIR [SECONDS [ROUNDS [FLOWS]]]

A host between two others, five times: the kernel routes, weir routes; the kernel's bridge, weir's switch, weir's cable.
Frames of 60 bytes are made in the kernel, go through the host, and end at the far side in a program at XDP that drops all.  The
five take turns in one run; printed are the medians, of packets for each second of the core's time, and ratios.
"""

import os
import statistics
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "tests/netns"))

# pylint: disable=wrong-import-position,import-error
from lab import Lab, run, wait_for
from test_rules import add, rules

MAC = "02:00:00:00:01:01"  # that the frames are for: the router's first interface, or the far host's


class Line:
    """Three hosts in a row: near (n0), the one that forwards (w0, w1), far (f0)."""

    def __init__(self, lab, name, routed):
        self.near, self.host, self.far = (lab.namespace(f"{name}-{part}") for part in ("near", "host", "far"))
        for inner, outer, end, inner_mac, outer_mac in (
                ("w0", "n0", self.near, MAC if routed else "02:00:00:00:01:03", "02:00:00:00:01:02"),
                ("w1", "f0", self.far, "02:00:00:00:02:01", "02:00:00:00:02:02" if routed else MAC)):
            self.host.ip("link", "add", inner, "up", "address", inner_mac, "type", "veth", "peer", "name", outer,
                         "address", outer_mac, "netns", end.name)
            end.ip("link", "set", outer, "up")
            end.run("ethtool", "-K", outer, "gro", "on")
        self.far.ip("link", "set", "dev", "f0", "xdp", "obj", os.path.join(lab.build, "bench/generate.bpf.o"),
                    "program", "bare_drop")
        if routed:
            self.host.sysctl("net.ipv4.ip_forward=1", "net.ipv4.conf.all.rp_filter=0")
            self.host.ip("addr", "add", "10.1.0.1/16", "dev", "w0")
            self.host.ip("addr", "add", "10.2.0.1/24", "dev", "w1")
            self.host.ip("neigh", "add", "10.2.0.2", "lladdr", "02:00:00:00:02:02", "dev", "w1", "nud", "permanent")

    def words(self):
        return self.near.name, "n0", self.far.name, "f0"


def weir(lab, line, name, sentence):
    agent = lab.agent(line.host, "interfaces: [w0, w1]\n", run_dir=f"run-{name}")
    add(agent, f"forward {sentence}")
    wait_for(lambda: rules(agent, verb="forward")[0]["state"] == "active", 10, sentence)


def main():
    if not 2 <= len(sys.argv) <= 5:
        sys.exit(__doc__)
    build = os.path.abspath(sys.argv[1])
    seconds, rounds, flows = (sys.argv[2:] + ["0.3", "7", "1024"][len(sys.argv) - 2:])[:3]
    lab, lines = Lab(build), {}
    try:
        for name in ("kernel routes", "weir routes", "kernel's bridge", "weir's switch", "weir's cable"):
            lines[name] = Line(lab, f"l{len(lines)}", "routes" in name)
        bridge = lines["kernel's bridge"].host
        bridge.ip("link", "add", "b0", "up", "type", "bridge")
        for port in ("w0", "w1"):
            bridge.ip("link", "set", port, "master", "b0")
            # the same start for all: frames come by NAPI
            bridge.run("ethtool", "-K", port, "gro", "on")
            lines["kernel routes"].host.run("ethtool", "-K", port, "gro", "on")
        for name, sentence in (("weir routes", "from w0 by route"), ("weir's switch", "among w0, w1"),
                               ("weir's cable", "from w0 to w1")):
            weir(lab, lines[name], name.replace(" ", "").replace("'", ""), sentence)
        for name in ("kernel's bridge", "weir's switch"):
            # the far host has spoken once: nothing is flooded any more
            lines[name].far.run("python3", "-c",
                                "import socket; s = socket.socket(socket.AF_PACKET, socket.SOCK_RAW); "
                                "s.bind(('f0', 0)); s.send(b'\\xff' * 6 + bytes.fromhex('020000000101') + bytes(50))")
        words = [word for line in lines.values() for word in line.words()]
        out = run(os.path.join(build, "bench/bench-rate"), f"r{flows}", seconds, rounds, *words, timeout=600).stdout
        turns = dict(zip(lines, ([float(rate) for rate in line.split()] for line in out.splitlines())))
        beside = {"weir routes": "kernel routes", "weir's switch": "kernel's bridge", "weir's cable": "kernel's bridge"}
        print(f"{'':18} {'Mpps':>7} {'ns':>7}  ratio, of turns (least, most)")
        for name, rates in turns.items():
            rate = statistics.median(rates)
            line = f"{name:18} {rate / 1e6:7.2f} {1e9 / rate:7.0f}"
            if name in beside:
                ratios = [a / b for a, b in zip(rates, turns[beside[name]])]
                line += f"  {statistics.median(ratios):.2f} of {beside[name]} ({min(ratios):.2f}, {max(ratios):.2f})"
            print(line)
    finally:
        lab.close()


if __name__ == "__main__":
    main()
