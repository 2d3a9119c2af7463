#!/usr/bin/python3
# SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
"""How exactly classes hold their rates, and what waits: bench/shape.py BUILD_DIR [OPTION VALUES]...

    --engine    auto,none,pacing,htb,policer    engines; none: no class at all, the control     auto,none
    --rate      1,10,100,1000                   Mbit/s                                          10,100
    --rtt       0,2,20                          ms, besides the path's own                      0,20
    --flows     1,8,128                         TCP streams; 0: only datagrams                  1,8
    --control   cubic,bbr                       congestion control                              cubic
    --udp       0,200                           Mbit/s of datagrams beside them, offered        0
    --seconds   8                               of each cell                                    8
    --ramp      3                               of them that are not looked at, 1 or more       3
    --rounds    5                               of --cost                                       0

For each combination: a class with the rate on the interface (`limit out on …`) and in it the streams and a probe, which
asks for 200 bytes every 10 ms.  Between the two hosts stands a stage of our own (bench/shape.c) that delays and counts
what is on the wire, headers included.  Printed: the median second as a part of the rate, the lowest and the highest
second, and all seconds together (at 1 Mbit/s a single packet is 1.2 % of a second); the probe's median and 99th
percentile, and the class's engine.  The machine has to do all of this at once:
1000 Mbit/s with eight streams is as much as two cores can.

With --rounds it is told instead what a rate costs: CPU seconds of the whole machine (/proc/stat) for each Gbit that was
moved by --flows streams between two hosts without the stage, for engines pacing and htb and for HTB made by hand, with
weir at work (tc) and without it (bare); the rounds are interleaved, the median and the lowest are printed, and their
ratios to the bare HTB.  What else the machine does is in it: the lowest has the least of that.
"""

import itertools
import os
import statistics
import subprocess
import sys
import time
import urllib.parse

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
sys.path.insert(0, os.path.join(ROOT, "tests/netns"))

from lab import Lab, wait_for  # pylint: disable=wrong-import-position,import-error

OPTIONS = {"--engine": "auto,none", "--rate": "10,100", "--rtt": "0,20", "--flows": "1,8", "--control": "cubic",
           "--udp": "0", "--seconds": "8", "--ramp": "3", "--rounds": "0"}
FAR = "10.77.0.2"
CONFIG = "interfaces: [w0]\nnames: off\n"


class Course:
    """Two hosts and the stage between them."""

    def __init__(self, lab):
        self.lab = lab
        self.near, self.stage, self.far = (lab.namespace(label) for label in ("near", "stage", "far"))
        for host, name, own in ((self.near, "n0", "10.77.0.1/24"), (self.far, "f0", f"{FAR}/24")):
            host.ip("link", "add", "w0", "type", "veth", "peer", "name", name, "netns", self.stage.name)
            host.ip("address", "add", own, "dev", "w0")
            host.ip("link", "set", "w0", "up")
            self.stage.ip("link", "set", "dev", name, "up")
            host.sysctl("net.ipv4.tcp_no_metrics_save=1")
        self.agent = lab.agent(self.near, CONFIG)
        self.agent.wait_watched("w0")

    def start(self, host, *arguments, **options):
        # pylint: disable-next=consider-using-with
        return subprocess.Popen(host.command(f"{self.lab.build}/bench/bench-shape", *map(str, arguments)), **options)

    def post(self, path, **parameters):
        query = urllib.parse.urlencode(parameters, quote_via=urllib.parse.quote)
        status, answer, _ = self.agent.request("POST", f"{path}?{query}")
        if status >= 300:
            raise SystemExit(f"bench/shape: {path} {parameters}: {answer}")

    def limit(self, engine, rate):
        self.post("/v1/rules/flush")
        if engine != "none":
            how = "" if engine == "auto" else f" engine {engine}"
            self.post("/v1/rules/add", text=f"limit out on w0 to {rate}mbit{how}")

    def engine(self):
        found = self.agent.get("/v1/shapes")["shapes"]
        return found[0]["engine"] if found else "-"


def cell(course, engine, rate, rtt, flows, control, udp, seconds, ramp):
    course.limit(engine, rate)
    said = course.lab.path("stage.log")
    with open(said, "w", encoding="ascii") as log:
        servers = [course.start(course.stage, "stage", "n0", "f0", rtt / 2, 50, 0, stdout=log),
                   course.start(course.far, "receive", 5001), course.start(course.far, "answer", 5002)]
        wait_for(lambda: os.path.getsize(said), 5, "the stage counts")
        begin, loads = time.monotonic(), []
        if flows:
            loads.append(course.start(course.near, "send", FAR, 5001, flows, control, seconds))
        if udp:
            loads.append(course.start(course.near, "datagrams", FAR, 5003, udp * 1e6, seconds))
        time.sleep(ramp - 1)
        asks = course.start(course.near, "ask", FAR, 5002, seconds - ramp + 1, 10, 200, stdout=subprocess.PIPE, text=True)
        _, middle, high, _ = asks.communicate()[0].split()
        held = course.engine()
        for load in loads:
            load.wait()
        time.sleep(0.1)
        for server in servers:
            server.terminate()
            server.wait()
    with open(said, encoding="ascii") as log:
        counts = [tuple(map(float, line.split())) for line in log if len(line.split()) == 5]
    marks = [min(counts, key=lambda c, at=begin + second: abs(c[0] - at)) for second in range(ramp, seconds + 1)]
    parts = [(b[1] - a[1]) * 8e-6 / (b[0] - a[0]) / rate for a, b in zip(marks, marks[1:])]
    parts.append((marks[-1][1] - marks[0][1]) * 8e-6 / (marks[-1][0] - marks[0][0]) / rate)
    return parts, float(middle) / 1e3, float(high) / 1e3, held, counts[-1][3]


HOLDERS = ("bare", "tc", "htb", "pacing")


def busy():
    """CPU seconds of the machine so far, idle and waiting not counted."""
    with open("/proc/stat", encoding="ascii") as file:
        ticks = list(map(int, file.readline().split()[1:9]))
    return (sum(ticks) - ticks[3] - ticks[4]) / os.sysconf("SC_CLK_TCK")


class Wire:
    """Two hosts with a cable between them, and what holds the rate; without weir where it is to be bare."""

    def __init__(self, lab, weir):
        self.near, self.far = lab.hosts()
        self.lab, self.agent = lab, lab.agent(self.near, CONFIG) if weir else None
        for host in (self.near, self.far):
            host.offload("w0" if host is self.near else "p0", True)

    def hold(self, holder, rate):
        if holder in ("bare", "tc"):
            self.near.tc("qdisc", "add", "dev", "w0", "root", "handle", "1:", "htb", "default", "1")
            self.near.tc("class", "add", "dev", "w0", "parent", "1:", "classid", "1:1", "htb", "rate", f"{rate}mbit")
        else:
            status, answer, _ = self.agent.request(
                "POST", f"/v1/rules/add?text=limit%20out%20on%20w0%20to%20{rate}mbit%20engine%20{holder}")
            if status >= 300:
                raise SystemExit(f"bench/shape: {answer}")

    def free(self, holder):
        if holder in ("bare", "tc"):
            self.near.tc("qdisc", "del", "dev", "w0", "root")
        else:
            self.agent.request("POST", "/v1/rules/flush")

    def start(self, host, *arguments):
        # pylint: disable-next=consider-using-with
        return subprocess.Popen(host.command(f"{self.lab.build}/bench/bench-shape", *map(str, arguments)))

    def cost(self, holder, rate, flows, seconds):
        """CPU seconds per Gbit, Mbit/s."""
        self.hold(holder, rate)
        receiver = self.start(self.far, "receive", 5001)
        time.sleep(0.2)
        sender = self.start(self.near, "send", "10.1.0.2", 5001, flows, "cubic", seconds + 2)
        time.sleep(1)
        began, before, spent = time.monotonic(), self.near.counters("w0")[3], busy()
        time.sleep(seconds)
        spent, moved, took = busy() - spent, self.near.counters("w0")[3] - before, time.monotonic() - began
        sender.wait()
        receiver.terminate()
        receiver.wait()
        self.free(holder)
        return spent / (moved * 8e-9), moved * 8e-6 / took


def costs(build, lists, seconds, rounds):
    labs = [Lab(build), Lab(build)]
    try:
        wires = {holder: wire for wire, holders in zip((Wire(labs[0], False), Wire(labs[1], True)), (HOLDERS[:1], HOLDERS[1:]))
                 for holder in holders}
        print(f"{'Mbit/s':>7}{'flows':>6} {'held by':<9}{'achieved':>9}   {'CPU s/Gbit':>10}{'lowest':>8}   {'of bare':>8}{'lowest':>8}")
        for rate, flows in itertools.product(lists["--rate"], lists["--flows"]):
            cells = {holder: [] for holder in HOLDERS}
            for turn in range(rounds):
                for number in range(len(HOLDERS)):
                    holder = HOLDERS[(number + turn) % len(HOLDERS)]
                    cells[holder].append(wires[holder].cost(holder, int(rate), int(flows), seconds))
            middle = {holder: statistics.median(cell[0] for cell in cells[holder]) for holder in HOLDERS}
            least = {holder: min(cell[0] for cell in cells[holder]) for holder in HOLDERS}
            for holder in HOLDERS:
                print(f"{rate:>7}{flows:>6} {holder:<9}{statistics.median(cell[1] for cell in cells[holder]):>9.1f}   "
                      f"{middle[holder]:>10.3f}{least[holder]:>8.3f}   {middle[holder] / middle['bare']:>8.2f}"
                      f"{least[holder] / least['bare']:>8.2f}", flush=True)
    finally:
        for lab in labs:
            lab.close()


def options_given(options, usage):
    """What the command line says, and what it does not."""
    words = sys.argv[2:]
    if len(sys.argv) < 2 or len(words) % 2 or any(word not in options for word in words[::2]):
        sys.exit(usage)
    return {**options, **dict(zip(words[::2], words[1::2]))}


def main():
    given = options_given(OPTIONS, __doc__)
    lists = {name: values.split(",") for name, values in given.items()}
    seconds = int(given["--seconds"])
    if int(given["--rounds"]):
        costs(os.path.abspath(sys.argv[1]), lists, seconds, int(given["--rounds"]))
        return
    ramp = int(given["--ramp"])
    if ramp < 1 or seconds < ramp + 2:
        sys.exit(f"bench/shape: --ramp is at least 1, --seconds at least {max(ramp, 1) + 2}")
    print(f"{'engine':<9}{'held by':<9}{'Mbit/s':>7}{'RTT ms':>7}{'flows':>6} {'control':<8}{'UDP':>5}   {'median':>7}{'lowest':>8}"
          f"{'highest':>8}{'all':>8}   {'probe p50':>10}{'p99 ms':>8}")
    lab = Lab(os.path.abspath(sys.argv[1]))
    try:
        course = Course(lab)
        for engine, rate, rtt, flows, control, udp in itertools.product(*(lists[name] for name in list(OPTIONS)[:6])):
            (*parts, mean), middle, high, held, lost = cell(course, engine, int(rate), float(rtt), int(flows), control, int(udp),
                                                   seconds, ramp)
            print(f"{engine:<9}{held:<9}{rate:>7}{rtt:>7}{flows:>6} {control:<8}{udp:>5}   {statistics.median(parts):>7.4f}"
                  f"{min(parts):>8.3f}{max(parts):>8.3f}{mean:>8.4f}   {middle:>10.2f}{high:>8.2f}"
                  + (f"   (the stage lost {lost:.0f} frames)" if lost else ""), flush=True)
    finally:
        lab.close()


if __name__ == "__main__":
    main()
