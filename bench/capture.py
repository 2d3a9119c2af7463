#!/usr/bin/python3
# SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
"""Packets captured to a file, 96 bytes of each, against tcpdump: bench/capture.py BUILD_DIR [SECONDS]

Frames of 200 bytes leave an interface that drops them (ifb), sent by the kernel itself on one CPU, or on two.  In turns,
each SECONDS (2) long: nobody captures; tcpdump -s 96 -w; tcpdump with a buffer of 32 MiB; weir capture -s 96 -w.  The
file is in a tmpfs with huge pages, and written over.  First as fast as it goes: packets a second that pass, what of them is in the file,
and CPU time per packet: what capturing adds to its way, and what the readers take (tcpdump; weir's agent and command),
without what they take to begin.  Their sum says what a CPU that did nothing else could capture: the source takes more
time for a packet than capturing it does, so what is in the file a second can differ by no more than `nobody` does.
Then the highest rate, out of a list, at which nothing is lost, one CPU sending.  About three minutes.
"""

import collections
import os
import re
import signal
import statistics
import struct
import subprocess
import sys
import time

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
sys.path.insert(0, os.path.join(ROOT, "tests/netns"))

from lab import Lab, run, wait_for  # pylint: disable=wrong-import-position,import-error

BYTES, SNAP = 200, 96
WARM_BYTES = 1 << 30


class File:
    """What is captured is written over a file that is there and long, which is both tools' standard output.  A virtual
    machine's host takes the memory of files that are cut, and to find it again takes longer than a packet's own way."""

    def __init__(self, path):
        self.number = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
        while os.fstat(self.number).st_size < WARM_BYTES:
            os.write(self.number, bytes(1 << 20))

    def begin(self):
        os.lseek(self.number, 0, os.SEEK_SET)
        return self.number

    def written(self):
        return os.lseek(self.number, 0, os.SEEK_CUR)

    def end(self, count):
        """The last bytes that were written."""
        return os.pread(self.number, count, self.written() - count)


Result = collections.namedtuple("Result", "sent rate captured lost path reader")
RATES = [1e6, 1.25e6, 1.5e6, 2e6, 2.5e6, 3e6, 4e6]


def cpu_seconds(pid):
    """User and system time of a process, to the nanosecond (its clock, clock_getcpuclockid(3))."""
    return time.clock_gettime(~pid << 3 | 2)


class Tcpdump:
    def __init__(self, bench, buffer=None):
        self.err = bench.lab.path("t.err")
        more = ["-B", str(buffer)] if buffer else []
        with open(self.err, "w", encoding="utf-8") as err:
            self.process = bench.host.start("tcpdump", "-Z", "root", "-i", "i0", "-n", "-s", SNAP, *more, "-w", "-",
                                            "udp port 9", stdout=bench.file.begin(), stderr=err)
        wait_for(lambda: "listening on" in self.text(), 10, "tcpdump")
        self.before = cpu_seconds(self.process.pid)

    def text(self):
        with open(self.err, encoding="utf-8") as file:
            return file.read()

    def end(self):
        """(captured, lost, CPU seconds)"""
        time.sleep(1.3)  # a block of its ring that is not full is handed on after a second
        cpu = cpu_seconds(self.process.pid) - self.before
        self.process.send_signal(signal.SIGINT)
        self.process.wait(30)
        numbers = {what: int(count) for count, what in re.findall(r"^(\d+) packets? (.*)$", self.text(), re.M)}
        return numbers["captured"], numbers["dropped by kernel"], cpu


class Weir:
    def __init__(self, bench):
        self.agent, self.file = bench.agent.pid, bench.file
        self.err = bench.lab.path("w.err")
        with open(self.err, "w", encoding="utf-8") as err:
            self.process = bench.host.start(bench.lab.weir, "capture", "udp port 9", "on", "i0", "-s", SNAP, "-w", "-",
                                            "--run-dir", bench.agent.run_dir, stdout=self.file.begin(), stderr=err)
        wait_for(lambda: self.file.written(), 10, "weir capture")
        self.before = cpu_seconds(self.process.pid) + cpu_seconds(self.agent)

    def end(self):
        time.sleep(0.3)
        cpu = cpu_seconds(self.process.pid) + cpu_seconds(self.agent) - self.before
        self.process.send_signal(signal.SIGINT)
        self.process.wait(30)
        with open(self.err, encoding="utf-8") as file:
            words = file.read().split()
        captured, lost = int(words[0]), int(words[-2])
        assert struct.unpack("<Q", self.file.end(16)[:8])[0] == lost  # what the program says is what the file says
        return captured, lost, cpu


class Bench:
    def __init__(self, build, seconds):
        self.lab, self.seconds, self.file = Lab(build), seconds, None
        self.host = self.lab.namespace("host")
        self.host.ip("link", "add", "i0", "numtxqueues", os.cpu_count(), "type", "ifb")
        self.host.ip("link", "set", "i0", "up")
        self.host.tc("qdisc", "replace", "dev", "i0", "root", "noqueue")
        for cpu in range(os.cpu_count()):  # a queue per CPU, as on a network card: else each packet is hashed for one
            self.host.run("sh", "-c", f"echo {1 << cpu:x} > /sys/class/net/i0/queues/tx-{cpu}/xps_cpus")
        # weir itself watches another interface: what is measured is capturing
        self.agent = self.lab.agent(self.host, "interfaces: [lo]\n")
        self.index = int(self.host.run("cat", "/sys/class/net/i0/ifindex").stdout)
        self.kinds = {"nobody": None, "tcpdump": Tcpdump, "tcpdump -B 32768": lambda b: Tcpdump(b, 32768), "weir": Weir}

    def send(self, cpus, rate):
        """(packets, seconds, CPU seconds)"""
        sources = [self.host.start(os.path.join(self.lab.build, "bench/bench-capture"), self.index, cpu, rate / cpus,
                                   self.seconds, BYTES, stdout=subprocess.PIPE, text=True) for cpu in range(cpus)]
        results = [source.communicate()[0].split() for source in sources]
        return (sum(int(result[0]) for result in results), max(float(result[1]) for result in results),
                sum(float(result[2]) for result in results))

    def once(self, kind, cpus, rate):
        taker = self.kinds[kind](self) if self.kinds[kind] else None
        time.sleep(0.5)  # what was in the file is gone
        sent, seconds, path = self.send(cpus, rate)
        captured, lost, reader = taker.end() if taker else (0, 0, 0)
        if taker and captured + lost < sent:
            lost = sent - captured  # whoever does not count its losses has them all the same
        return Result(sent, sent / seconds, captured / seconds, lost, 1e9 * path / sent, 1e9 * reader / max(1, captured))


def table(bench, cpus, rounds=3):
    print(f"as fast as it goes, {cpus} CPU{'s' * (cpus > 1)} sending, median of {rounds}; ns of CPU time a packet")
    print(f"{'':<18} {'sent/s':>12} {'in file/s':>12} {'lost':>8} {'its way':>9} {'readers':>9} {'a CPU could':>14}")
    results = {kind: [] for kind in bench.kinds}
    for _ in range(rounds):
        for kind, got in results.items():
            got.append(bench.once(kind, cpus, 0))
    median = {kind: Result(*(statistics.median(values) for values in zip(*got))) for kind, got in results.items()}
    could = {}
    for kind, got in median.items():
        way = got.path - median["nobody"].path
        could[kind] = 1e9 / (way + got.reader) if bench.kinds[kind] else 0
        print(f"{kind:<18} {got.rate:>12,.0f} {got.captured:>12,.0f} {got.lost / got.sent:>8.2%} {way:>9.0f} "
              f"{got.reader:>9.0f} {could[kind]:>12,.0f}/s")
    print(f"weir/tcpdump: {median['weir'].captured / median['tcpdump'].captured:.2f} in the file (at most "
          f"{median['nobody'].rate / median['tcpdump'].captured:.2f}), {could['weir'] / could['tcpdump']:.2f} by CPU time\n")


def highest(bench):
    print("highest rate without loss, 1 CPU sending (two tries each)")
    found = {}
    for kind in list(bench.kinds)[1:]:
        for rate in RATES:
            tries = [bench.once(kind, 1, rate) for _ in range(2)]
            good = [t for t in tries if t.lost == 0]
            if not good:
                break
            found[kind] = max(found.get(kind, 0), *(t.captured for t in good))
            if max(t.rate for t in tries) < 0.9 * rate:
                break  # the source cannot go faster
        print(f"{kind:<18} {found.get(kind, 0):>12,.0f}/s")
    if found.get("tcpdump"):
        print(f"weir/tcpdump: {found.get('weir', 0) / found['tcpdump']:.2f}\n")


def main():
    if len(sys.argv) < 2:
        sys.exit(f"usage: {sys.argv[0]} BUILD_DIR [SECONDS]")
    sys.stdout.reconfigure(line_buffering=True)
    bench = Bench(sys.argv[1], float(sys.argv[2]) if len(sys.argv) > 2 else 2)
    try:
        small = bench.lab.path("memory")
        os.mkdir(small)
        run("mount", "-t", "tmpfs", "-o", "huge=always", "tmpfs", small)  # as file systems on disks have large folios
        bench.lab.path, usual = (lambda name: os.path.join(small, name)), bench.lab.path
        bench.file = File(bench.lab.path("file"))
        try:
            for cpus in sorted({1, min(2, os.cpu_count())}):
                table(bench, cpus)
            highest(bench)
        finally:
            bench.lab.path = usual
            run("umount", "-l", small)
    finally:
        bench.lab.close()


if __name__ == "__main__":
    main()
