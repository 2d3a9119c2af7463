#!/usr/bin/python3
# SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
"""What rules cost at tc, beside nftables: bench/rules.py BUILD_DIR [-r ROUNDS] [-s SECONDS] [-c CLASSBENCH] [-k WORD]

One core makes packets and takes them at the other end of a veth pair, where all are dropped: by a program that does
nothing else, by weir at tc, and by nftables (where it is installed) at its ingress hook.  Cases take turns, ROUNDS times;
shown are medians: million packets a second, ns a packet, and how that compares with the bare drop.  Packets of `1,024
flows` are known to weir's flow cache; `first packets` come from 4,194,304 sources in turn, so that each is the first of
its flow.  Unless it says otherwise weir does not read the kernel's reports of drops (drops: {enabled: off}).  What XDP
drops is in bench-shield, what varied headers cost in bench-classify.

Behind that come weir with 10,000 rules and nftables with one, side by side in short turns, since they differ by less
than what a busy machine adds to one of them (-k beside: only that): once while nobody reads those reports, once while
weir does, as it comes, which is paid by whoever drops on the host; then the times from a request at
the API to its answer and to its effect, the last packet that still came through, and the agent's CPU time, which a busy
machine leaves as it is (-k times).
"""

import argparse
import os
import random
import shutil
import socket
import statistics
import struct
import sys
import time
import urllib.parse

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
sys.path.insert(0, os.path.join(ROOT, "tests/netns"))

from lab import Failure, Lab, UnixConnection, run  # pylint: disable=wrong-import-position,import-error

KNOWN, FIRST = 1024, 1 << 22
BESIDE_ROUNDS, BESIDE_SECONDS = 21, 0.015
COUNTS = [1, 10, 100, 1000, 10000]
BARE = "bare drop at tc"
SETS = ["acl1", "fw1", "ipc1"]


def source(n):
    """The n-th source address of bench/generate.h."""
    n ^= n >> 16
    n = n * 0x85ebca6b & 0xffffffff
    n ^= n >> 13
    n = n * 0xc2b2ae35 & 0xffffffff
    return n ^ n >> 16


def dotted(address):
    return ".".join(str(address >> shift & 255) for shift in (24, 16, 8, 0))


def others(count):
    """Addresses that no packet comes from, with ports that none goes to."""
    rng = random.Random(4711)
    return [(f"10.77.{i >> 8 & 255}.{i & 255}", 1000 + rng.randrange(60000)) for i in range(count)]


def own_rules(count):
    """Rules of which the last fits."""
    return [f"drop in udp from {address} to port {port}" for address, port in others(count - 1)] + \
        ["drop in udp to port 9"]


def classbench(path, count):
    """The first filters of a file as sentences; what none fits is dropped by default."""
    sentences = []
    with open(path, encoding="ascii") as file:
        for line in file:
            fields = line.split()
            if len(sentences) == count or len(fields) < 9:
                break
            words = ["drop" if len(sentences) % 2 else "reject", "in ip"]
            proto, mask = (int(x, 16) for x in fields[8].split("/"))
            if mask:
                words.append(f"proto {proto}")
            for word, prefix, low, high in (("from", fields[0][1:], *fields[2:5:2]), ("to", fields[1], *fields[5:8:2])):
                address, length = prefix.split("/")
                number = sum(int(part) << shift for part, shift in zip(address.split("."), (24, 16, 8, 0)))
                number &= 0xffffffff << (32 - int(length)) & 0xffffffff
                end = f" {dotted(number)}/{length}" if int(length) else ""
                if (low, high) != ("0", "65535"):
                    end += f" port {low}" if low == high else f" port {low}-{high}"
                if end:
                    words.append(word + end)
            # answers cost more than the rules that ask for them
            sentences.append(" ".join(words).replace("reject", "drop"))
    return sentences


def policy(sentences, head=""):
    return "default: {in: drop}\n" + head + "rules:\n" + "".join(f"  - {sentence}\n" for sentence in sentences)


class Bench:
    def __init__(self, lab, options):
        self.lab, self.options = lab, options
        self.host, self.peer = lab.hosts()
        lab.quiet(self.host, self.peer)
        # with GRO the other end of a veth pair takes frames as an interface with a queue does
        self.host.offload("w0", True)
        self.groups = []  # ([(name, flows, rates)], begin, end)
        self.weir_agent = None
        self.files = 0

    def rate(self, flows):
        done = run(os.path.join(self.lab.build, "bench/bench-rate"), flows, self.options.seconds, 1,
                   self.peer.name, "p0", self.host.name, "w0", timeout=120)
        return float(done.stdout)

    def file(self, content):
        self.files += 1
        return self.lab.write(f"file{self.files}", content) or self.lab.path(f"file{self.files}")

    def add(self, cases, begin, end):
        """Cases that are measured between one begin() and its end(): (name, number of flows)."""
        self.groups.append(([(name, flows, []) for name, flows in cases], begin, end))

    def run_all(self):
        for turn in range(self.options.rounds):
            for cases, begin, end in self.groups:
                begin()
                try:
                    for name, flows, rates in cases:
                        rates.append(self.rate(flows))
                        print(f"{turn + 1}/{self.options.rounds} {name}: {rates[-1] / 1e6:.3f}", file=sys.stderr)
                finally:
                    end()

    def show(self):
        medians = {name: statistics.median(rates) for cases, *_ in self.groups for name, _, rates in cases}
        print(f"{'':58} {'Mpps':>8} {'ns':>9} {'of bare':>8} {'net ns':>9}")
        bare = medians[BARE]
        for name, rate in medians.items():
            print(f"{name:58} {rate / 1e6:8.3f} {1e9 / rate:9.1f} {rate / bare:8.3f} {1e9 / rate - 1e9 / bare:9.1f}")
        return medians

    # Bare programs.

    def tc_on(self):
        self.host.tc("qdisc", "add", "dev", "w0", "clsact")
        self.host.tc("filter", "add", "dev", "w0", "ingress", "protocol", "all", "bpf", "da", "bytecode", "1,6 0 0 2")

    def tc_off(self):
        self.host.tc("qdisc", "del", "dev", "w0", "clsact")

    # nftables.

    def nft(self, name, rules, sets=""):
        path = self.file(f"table netdev bench {{\n{sets}\nchain drops {{\ntype filter hook ingress device w0 priority 0;\n"
                         + "\n".join(rules) + "\n}\n}\n")
        self.add([(name, KNOWN)], lambda: self.host.run("nft", "-f", path, timeout=300),
                 lambda: self.host.run("nft", "delete", "table", "netdev", "bench", timeout=300))

    def nft_cases(self):
        for count in COUNTS:
            self.nft(f"nft, {count} rules 'ip saddr'",
                     [f"ip saddr {address} drop" for address, _ in others(count - 1)] + ["udp dport 9 drop"])
            self.nft(f"nft, {count} rules '@nh'",
                     [f"@nh,96,32 0x{sum(int(b) << s for b, s in zip(a.split('.'), (24, 16, 8, 0))):08x} drop"
                      for a, _ in others(count - 1)] + ["@nh,72,8 17 drop"])
        known = {dotted(source(i)) for i in range(KNOWN)}
        entries = sorted(known | {dotted(source(i)) for i in range(1 << 20, (1 << 20) + 10000 - KNOWN)})
        self.nft("nft, set of 10000 addresses", ["ip saddr @s drop"],
                 "set s { type ipv4_addr; elements = { " + ", ".join(entries) + " } }")
        self.nft("nft, set of 10000 addresses and ports (pipapo)", ["ip saddr . udp dport @s drop"],
                 "set s { type ipv4_addr . inet_service; flags interval; elements = { " +
                 ", ".join(f"{entry} . 1-1000" for entry in entries) + " } }")

    # weir.

    def weir(self, name, text, config="xdp: off\ndrops: {enabled: off}\n",
             flows=((KNOWN, "1,024 flows"), (FIRST, "first packets"))):
        """Cases of one policy: an agent of its own each time, since each begins with nothing known."""
        path = self.file(text)

        def begin():
            self.weir_agent = self.lab.agent(self.host, f"interfaces: [w0]\n{config}", run_dir="bench")
            self.weir_agent.weir("apply", path, timeout=120)

        self.add([(f"weir, {name}, {what}", count) for count, what in flows], begin, lambda: self.weir_agent.stop())

    def weir_cases(self):
        for count in COUNTS:
            self.weir(f"{count} rules at tc", policy(own_rules(count)))
        # as it comes: the kernel's own report of each drop is read, too
        self.weir("10000 rules at tc, drops on", policy(own_rules(10000)), "xdp: off\n", ((KNOWN, "1,024 flows"),))
        for name in SETS:
            path = os.path.join(self.options.classbench, name)
            if not os.path.exists(path + "_10k"):
                print(f"there is no {path}_10k", file=sys.stderr)
                continue
            for count in (10, 10000):
                self.weir(f"{name}, {count} rules at tc", policy(classbench(path + "_10k", count)))

    # Many rules of weir beside one of nftables: each on a pair of its own, all there at once, in short turns, so
    # that what else the machine does falls on all of them.

    def pair(self, number):
        host, peer = self.lab.namespace(f"host{number}"), self.lab.namespace(f"peer{number}")
        self.lab.pair(host, "w0", peer, "p0")
        self.lab.quiet(host, peer)
        host.offload("w0", True)
        return host, peer

    def beside(self):
        pairs = {"weir, 10000 rules": self.pair(1)}
        for number, rule in enumerate(("udp dport 9 drop", "@nh,72,8 17 drop"), 2):
            host, _ = pairs[f"nft, '{rule}'"] = self.pair(number)
            host.run("nft", "-f", self.file("table netdev bench {\nchain drops {\n"
                                            f"type filter hook ingress device w0 priority 0;\n{rule}\n}}\n}}\n"))
        words = [word for host, peer in pairs.values() for word in (peer.name, "p0", host.name, "w0")]
        for title, config in (("nobody reads the kernel's reports of drops", "drops: {enabled: off}\n"),
                              ("weir reads them (as it comes)", "")):
            agent = self.lab.agent(pairs["weir, 10000 rules"][0], f"interfaces: [w0]\nxdp: off\n{config}", run_dir="beside")
            agent.weir("apply", self.file(policy(own_rules(10000))), timeout=120)
            self.beside_show(title, list(pairs), words)
            agent.stop()

    def beside_show(self, title, names, words):
        print(f"\n{'drops at tc, side by side: ns a packet':58} {'1 flow':>9} {'1,024 flows':>12}\n{title}:")
        rates = []
        for flows in (1, KNOWN):
            # in front of all others on its core: their work empties the caches, which are what many flows need
            done = run("chrt", "-f", "1", os.path.join(self.lab.build, "bench/bench-rate"), flows, BESIDE_SECONDS,
                       BESIDE_ROUNDS, *words, timeout=600)
            rates.append([[float(word) for word in line.split()] for line in done.stdout.splitlines()])
        for number, name in enumerate(names):
            print(f"{name:58}" + "".join(f" {1e9 / statistics.median(of[number]):{width}.1f}"
                                         for of, width in zip(rates, (9, 12))))
        for number, name in list(enumerate(names))[1:]:
            # of the turns next to each other, the median
            print(f"{'weir / ' + name + ' (more than 1)':58}" +
                  "".join(f" {statistics.median(a / b for a, b in zip(of[0], of[number])):{width}.3f}"
                          for of, width in zip(rates, (9, 12))))

    # From a request at the API to its answer, and to its effect: the last packet that still came through.

    def timed(self, what, limit, *request, body=None, effect=None):
        agent = self.weir_agent
        if effect:
            effect.wait()
        connection = UnixConnection(agent.socket, 120)
        connection.connect()
        cpu = self.cpu_seconds()
        began = time.monotonic()
        connection.request("POST", *request, body=body)
        answer = connection.getresponse()
        text = answer.read().decode()
        took = time.monotonic() - began
        cpu = self.cpu_seconds() - cpu
        connection.close()
        if answer.status != 200 or '"error"' in text:
            raise Failure(f"{what}: status {answer.status}: {text[-300:]}")
        seen = f"{(effect.last() - began) * 1e3:9.1f} ms" if effect else f"{'':12}"
        print(f"{what:34} {took * 1e3:9.1f} ms {seen} {cpu * 1e3:9.1f} ms   {limit}")

    def policy_put(self, what, sentences, effect=None):
        self.timed(what, "under 1 s", "/v1/policy", body=policy(sentences).replace("{in: drop}", "{in: accept}"),
                   effect=effect)

    @staticmethod
    def query(path, **parameters):
        return path + "?" + urllib.parse.urlencode(parameters, quote_via=urllib.parse.quote)

    def cpu_seconds(self):
        return time.clock_gettime(~self.weir_agent.pid << 3 | 2)  # the agent's CPU time (clock_getcpuclockid(3))

    def memory(self):
        """Of the agent, in MiB: resident, its peak, the maps that it has mapped, and what of them is not resident."""
        with open(f"/proc/{self.weir_agent.pid}/status", encoding="ascii") as file:
            lines = dict(line.split(":", 1) for line in file)
        maps, is_map = {"Size:": 0, "Rss:": 0}, False
        with open(f"/proc/{self.weir_agent.pid}/smaps", encoding="ascii") as file:
            for word, *rest in map(str.split, file):
                if not word.endswith(":"):
                    is_map = "bpf-map" in rest[-1]
                elif is_map and word in maps:
                    maps[word] += int(rest[0])
        return [kib / 1024 for kib in (int(lines["VmRSS"].split()[0]), int(lines["VmHWM"].split()[0]), maps["Size:"],
                                       maps["Size:"] - maps["Rss:"])]

    def times(self):
        self.weir_agent = self.lab.agent(self.host, "interfaces: [w0]\nxdp: off\n", run_dir="bench")
        effect = Effect(self.host, self.peer)
        rules = own_rules(10000)[:-1]  # which nothing of what is sent here fits
        print(f"\n{'at the API':34} {'answer':>12} {'effect':>12} {'CPU':>12}")
        self.policy_put("apply 10,000 rules", rules)
        changed = [rule.replace("10.77.", "10.78.") for rule in rules[:-1]]
        self.policy_put("apply 10,000 others", changed + [f"drop in udp to port {effect.port}"], effect)
        self.policy_put("apply 10,000 others", rules)
        self.timed("add a rule to 10,000", "under 100 ms",
                   self.query("/v1/rules/add", text=f"drop in udp to port {effect.port}"), effect=effect)
        self.timed("make a set", "", self.query("/v1/sets/create", name="million"))
        self.policy_put("apply 10,000 others", ["drop in from @million"] + changed)
        prefixes = "".join(f"{dotted(source(i) & 0xffffffff << (32 - 24 - i % 9) & 0xffffffff)}/{24 + i % 9}\n"
                           for i in range(1000000))
        self.timed("load 1,000,000 prefixes", "under 3 s", self.query("/v1/sets/load", name="million"), body=prefixes)
        for number in range(4):
            self.timed("add a prefix to 1,000,000", "under 5 ms", self.query("/v1/sets/add", name="million"),
                       body=f"192.0.{number}.0/24\n")
        self.timed("add a prefix to 1,000,000", "under 5 ms", self.query("/v1/sets/add", name="million"),
                   body=f"{effect.source}\n", effect=effect)
        effect.close()
        self.weir_agent.stop()
        self.load_memory(prefixes)

    def load_memory(self, prefixes):
        """Of an agent that does nothing else, first into an empty set, then in place of what is there."""
        self.weir_agent = self.lab.agent(self.host, "interfaces: [w0]\nxdp: off\n", run_dir="bench")
        self.timed("make a set", "", self.query("/v1/sets/create", name="million"))
        self.policy_put("apply a rule", ["drop in from @million"])
        before = self.memory()
        for turn in ("1,000,000 prefixes", "the same in their place"):
            with open(f"/proc/{self.weir_agent.pid}/clear_refs", "w", encoding="ascii") as file:
                file.write("5")  # the peak begins anew
            self.timed(f"load {turn}", "under 3 s", self.query("/v1/sets/load", name="million"), body=prefixes)
            now, peak, maps, rest = self.memory()
            # sets are in maps that the agent has mapped: what it has touched of them is part of its own
            print(f"memory, {turn}: the agent {before[0]:.0f} MiB before, {peak:.0f} at its peak, {now:.0f} then; maps "
                  f"{maps - before[2]:.0f} more; together {peak + rest - before[3]:.0f} MiB (under 200)")
        self.weir_agent.stop()


class Effect:
    """Datagrams that come all the time, each with the time at which it was sent."""

    port, source = 7777, "10.1.0.2"
    SENDER = """import socket, struct, time
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
while True:
    s.sendto(struct.pack("d", time.monotonic()), ("10.1.0.1", 7777))
    time.sleep(0.0001)
"""

    def __init__(self, host, peer):
        with host:
            self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.setsockopt(socket.SOL_SOCKET, 33, 64 << 20)  # SO_RCVBUFFORCE
        self.socket.bind(("10.1.0.1", self.port))
        self.sender = peer.start("python3", "-c", self.SENDER)

    def wait(self):
        """They come, and what came before is read."""
        self.socket.settimeout(10)
        end = time.monotonic()
        while struct.unpack("d", self.socket.recv(64))[0] < end:
            pass

    def last(self):
        """When the last was sent that came through; none comes any more."""
        last, end = 0, time.monotonic() + 10
        self.socket.settimeout(0.2)
        try:
            while time.monotonic() < end:
                last = struct.unpack("d", self.socket.recv(64))[0]
        except TimeoutError:
            return last
        raise Failure("what is dropped still comes through")

    def close(self):
        self.sender.kill()
        self.sender.wait()
        self.socket.close()


def show_goals(medians):
    def ns(name):
        return 1e9 / medians[name]

    tc = ns(BARE)
    print()
    for name in SETS + ["own"]:
        rules = "rules at tc" if name == "own" else f"{name}, % rules at tc"
        for flows, most in (("1,024 flows", 1.25), ("first packets", 4)):
            ten, many = (f"weir, {rules.replace('%', str(n)) if '%' in rules else f'{n} {rules}'}, {flows}"
                         for n in (10, 10000))
            if ten not in medians:
                continue
            few, all_ = ns(ten) - tc, ns(many) - tc
            # of a packet that a sender, a veth and the drop take hundreds for, less cannot be told
            ratio = f"{all_ / few:.2f} x" if few > tc / 10 else "too little to compare"
            print(f"{name}, {flows}: 10,000 rules cost {all_:.0f} ns, ten {few:.0f} ns: {ratio} (at most {most})")


def main():
    parser = argparse.ArgumentParser(usage="%(prog)s BUILD_DIR [-r ROUNDS] [-s SECONDS] [-c CLASSBENCH] [-k WORD]")
    parser.add_argument("build")
    parser.add_argument("-r", "--rounds", type=int, default=3)
    parser.add_argument("-s", "--seconds", type=float, default=0.3)
    parser.add_argument("-c", "--classbench", default=os.path.join(ROOT, "../shared/data/classbench"))
    parser.add_argument("-k", "--only", default="", help="only cases with this word, and the bare ones")
    options = parser.parse_args()
    lab = Lab(os.path.abspath(options.build))
    try:
        bench = Bench(lab, options)
        bench.add([(BARE, KNOWN)], bench.tc_on, bench.tc_off)
        bench.weir_cases()
        if shutil.which("nft"):
            bench.nft_cases()
        if options.only:
            bench.groups = [group for group in bench.groups
                            if group[0][0][0] == BARE or any(options.only in name for name, *_ in group[0])]
        bench.run_all()
        medians = bench.show()
        if not options.only:
            show_goals(medians)
        if shutil.which("nft") and (not options.only or options.only == "beside"):
            bench.beside()
        if not options.only or options.only == "times":
            bench.times()
    except Failure as failure:
        sys.exit(f"bench/rules: {failure}")
    finally:
        lab.close()


if __name__ == "__main__":
    main()
