#!/usr/bin/python3
# SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
"""Packets captured to a file, 96 bytes of each, against tcpdump: bench/capture.py BUILD_DIR [SECONDS]

Frames of 200 bytes leave an interface that drops them (ifb), sent by the kernel itself on one CPU, or on two.  In turns,
each SECONDS (3) long: nobody captures; tcpdump -s 96 -w; tcpdump with a buffer of 32 MiB; weir capture -s 96 -w.  The
files are in a tmpfs.  First as fast as it goes: packets a second that pass, what of them is in the file, and the time
that capturing takes out of each packet's way.  Then the highest rate, out of a list, at which nothing is lost.
"""

import os
import signal
import struct
import subprocess
import sys
import time

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
sys.path.insert(0, os.path.join(ROOT, "tests/netns"))

from lab import Lab, run, wait_for  # pylint: disable=wrong-import-position,import-error

BYTES, SNAP = 200, 96
RATES = [250e3, 500e3, 750e3, 1e6, 1.25e6, 1.5e6, 1.75e6, 2e6, 2.5e6, 3e6, 4e6]


class Tcpdump:
    def __init__(self, bench, buffer=None):
        self.path, self.err = bench.lab.path("t.pcap"), bench.lab.path("t.err")
        more = ["-B", str(buffer)] if buffer else []
        with open(self.err, "w", encoding="utf-8") as err:
            self.process = bench.host.start("tcpdump", "-Z", "root", "-i", "i0", "-n", "-s", SNAP, *more, "-w", self.path,
                                            "udp port 9", stderr=err)
        wait_for(lambda: "listening on" in self.text(), 10, "tcpdump")

    def text(self):
        with open(self.err, encoding="utf-8") as file:
            return file.read()

    def end(self):
        """(captured, lost)"""
        time.sleep(0.3)
        self.process.send_signal(signal.SIGINT)
        self.process.wait(30)
        numbers = {line.split(" packets ")[1]: int(line.split()[0]) for line in self.text().splitlines()
                   if " packets " in line and line[0].isdigit()}
        os.unlink(self.path)
        return numbers["captured"], numbers["dropped by kernel"]


class Weir:
    def __init__(self, bench):
        self.path, self.err = bench.lab.path("w.pcapng"), bench.lab.path("w.err")
        with open(self.err, "w", encoding="utf-8") as err:
            self.process = bench.host.start(bench.lab.weir, "capture", "udp port 9", "on", "i0", "-s", SNAP, "-w", self.path,
                                            "--run-dir", bench.agent.run_dir, stderr=err)
        wait_for(lambda: os.path.exists(self.path) and os.path.getsize(self.path), 10, "weir capture")

    def end(self):
        time.sleep(0.3)
        self.process.send_signal(signal.SIGINT)
        self.process.wait(30)
        with open(self.err, encoding="utf-8") as file:
            words = file.read().split()
        captured, lost = int(words[0]), int(words[-2])
        with open(self.path, "rb") as file:  # what the program says is what the file says
            file.seek(-16, os.SEEK_END)
            assert struct.unpack("<Q", file.read(8))[0] == lost
        os.unlink(self.path)
        return captured, lost


class Bench:
    def __init__(self, build, seconds):
        self.lab, self.seconds = Lab(build), seconds
        self.host = self.lab.namespace("host")
        self.host.ip("link", "add", "i0", "numtxqueues", os.cpu_count(), "type", "ifb")
        self.host.ip("link", "set", "i0", "up")
        self.host.tc("qdisc", "replace", "dev", "i0", "root", "noqueue")
        # weir itself watches another interface: what is measured is capturing
        self.agent = self.lab.agent(self.host, "interfaces: [lo]\n")
        self.index = int(self.host.run("cat", "/sys/class/net/i0/ifindex").stdout)
        self.kinds = {"nobody": None, "tcpdump": Tcpdump, "tcpdump -B 32768": lambda b: Tcpdump(b, 32768), "weir": Weir}

    def send(self, cpus, rate):
        """(packets, seconds)"""
        sources = [self.host.start(os.path.join(self.lab.build, "bench/bench-capture"), self.index, cpu, rate / cpus,
                                   self.seconds, BYTES, stdout=subprocess.PIPE, text=True) for cpu in range(cpus)]
        results = [source.communicate()[0].split() for source in sources]
        return sum(int(packets) for packets, _ in results), max(float(seconds) for _, seconds in results)

    def once(self, kind, cpus, rate):
        """(sent, per second, captured, lost)"""
        taker = self.kinds[kind](self) if self.kinds[kind] else None
        sent, seconds = self.send(cpus, rate)
        captured, lost = taker.end() if taker else (0, 0)
        if taker and captured + lost < sent:
            lost = sent - captured  # whoever does not count its losses has them all the same
        return sent, sent / seconds, captured / seconds, lost


def table(bench, cpus, rounds=3):
    print(f"as fast as it goes, {cpus} CPU{'s' * (cpus > 1)} sending, best of {rounds}")
    print(f"{'':<18} {'sent/s':>12} {'in file/s':>12} {'lost':>8} {'ns a packet':>12}")
    best = {}
    for _ in range(rounds):
        for kind in bench.kinds:
            got = bench.once(kind, cpus, 0)
            value = got[2] if bench.kinds[kind] else got[1]
            if kind not in best or value > best[kind][0]:
                best[kind] = (value, got)
    alone = best["nobody"][1][1]
    for kind, (_, (sent, rate, captured, lost)) in best.items():
        cost = cpus * 1e9 / rate - cpus * 1e9 / alone
        print(f"{kind:<18} {rate:>12,.0f} {captured:>12,.0f} {lost / sent:>8.2%} {cost:>12.0f}")
    print(f"weir/tcpdump: {best['weir'][1][2] / best['tcpdump'][1][2]:.2f} in the file\n")


def highest(bench, cpus):
    print(f"highest rate without loss, {cpus} CPU{'s' * (cpus > 1)} sending (two tries each)")
    found = {}
    for kind in list(bench.kinds)[1:]:
        for rate in RATES:
            tries = [bench.once(kind, cpus, rate) for _ in range(2)]
            good = [t for t in tries if t[3] == 0]
            if not good:
                break
            found[kind] = max(found.get(kind, 0), *(t[2] for t in good))
            if max(t[1] for t in tries) < 0.9 * rate:
                break  # the source cannot go faster
        print(f"{kind:<18} {found.get(kind, 0):>12,.0f}/s")
    if found.get("tcpdump"):
        print(f"weir/tcpdump: {found.get('weir', 0) / found['tcpdump']:.2f}\n")


def main():
    if len(sys.argv) < 2:
        sys.exit(f"usage: {sys.argv[0]} BUILD_DIR [SECONDS]")
    bench = Bench(sys.argv[1], float(sys.argv[2]) if len(sys.argv) > 2 else 3)
    try:
        small = bench.lab.path("memory")
        os.mkdir(small)
        run("mount", "-t", "tmpfs", "tmpfs", small)
        bench.lab.path, usual = (lambda name: os.path.join(small, name)), bench.lab.path
        try:
            for cpus in sorted({1, min(2, os.cpu_count())}):
                table(bench, cpus)
                highest(bench, cpus)
        finally:
            bench.lab.path = usual
            run("umount", "-l", small)
    finally:
        bench.lab.close()


if __name__ == "__main__":
    main()
