# SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
"""A server farm: clients behind a router; one or more weirs and the backends on the router's other network, where packets
to the service go through a weir and answers go straight to the router."""

import contextlib
import json
import os
import subprocess

from lab import need_kernel, run, wait_for
from test_rules import done

SERVICE = {4: "203.0.113.10", 6: "2001:db8:113::10"}
SOURCES = {4: [f"10.1.0.{i}" for i in range(2, 12)], 6: [f"fd00:1::{i:x}" for i in range(2, 12)]}
MAC = "02:00:00:00:02:{:02x}"


class Crowd:
    """Clients of a service (crowd.c).  A command may be given to several before their answers are waited for.  Each has a
    CPU: so all packets of a connection are on one, as a card that spreads them by their ends would have it."""

    number = 0

    def __init__(self, lab, namespace, proto, family=4, port=80, sources=None):
        self.proto = proto
        cpus = sorted(os.sched_getaffinity(0))
        Crowd.number += 1
        cpu = cpus[Crowd.number % len(cpus)]
        self.process = namespace.start(lab.tool("crowd"), "ask", proto, SERVICE[family], port, *(sources or SOURCES[family]),
                                       stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=None, text=True)
        os.sched_setaffinity(self.process.pid, {cpu})

    def tell(self, *words):
        self.process.stdin.write(" ".join(map(str, words)) + "\n")
        self.process.stdin.flush()

    def hear(self):
        line = self.process.stdout.readline()
        if not line:
            raise OSError(f"crowd ended: {self.process.wait(5)}")
        return json.loads(line)

    def do(self, *words):
        self.tell(*words)
        return self.hear()


def batch(namespace, lines):
    """Several commands of ip(8) at once."""
    run("ip", "-n", namespace.name, "-batch", "-", input="\n".join(lines) + "\n")


def neighbour(device, address, mac):
    return f"neigh replace {address} lladdr {mac} nud permanent dev {device}"


class Member:
    """A host on the farm's network."""

    def __init__(self, farm, label, number, device):
        self.namespace, self.label, self.number, self.device = farm.lab.namespace(label), label, number, device
        self.address = {4: f"10.2.0.{number}", 6: f"fd00:2::{number:x}"}
        port = f"r-{label}"
        ns, router = self.namespace, farm.router
        router.ip("link", "add", port, "type", "veth", "peer", "name", device, "address", MAC.format(number),
                  "netns", ns.name)
        router.ip("link", "set", port, "master", "br0", "up")
        # what is redirected to a veth, or sent back, arrives only where the other end has NAPI
        router.run("ethtool", "-K", port, "gro", "on")
        ns.sysctl("net.ipv4.conf.all.rp_filter=0", "net.ipv4.conf.default.rp_filter=0",
                  f"net.ipv4.conf.{device}.rp_filter=0")
        # those of IPv4 are asked for; without link-local addresses nobody answers for those of IPv6
        batch(ns, [f"link set {device} up", f"addr add {self.address[4]}/24 dev {device}",
                   f"addr add {self.address[6]}/64 dev {device} nodad", "route add default via 10.2.0.1",
                   "route add default via fd00:2::1", neighbour(device, "fd00:2::1", MAC.format(1)),
                   *(neighbour(device, other.address[6], MAC.format(other.number)) for other in farm.members)])
        batch(router, [neighbour("br0", self.address[6], MAC.format(number))])
        for other in farm.members:
            batch(other.namespace, [neighbour(other.device, self.address[6], MAC.format(number))])
        farm.members.append(self)


class Backend(Member):
    """Has the service's addresses on lo or a dummy, takes packets out of their tunnels, and tells its name."""

    def __init__(self, farm, number, ports=(80,), holder="lo"):
        super().__init__(farm, f"b{number}", 10 + number, "b0")
        self.name = f"b{number}"
        ns, lab = self.namespace, farm.lab
        ns.sysctl("net.ipv4.conf.all.arp_ignore=1", "net.ipv4.conf.all.arp_announce=2", "net.core.somaxconn=65535",
                  "net.ipv4.tcp_max_syn_backlog=65535")
        if holder != "lo":
            ns.ip("link", "add", holder, "type", "dummy")
            ns.ip("link", "set", holder, "up")
        ns.ip("addr", "add", f"{SERVICE[4]}/32", "dev", holder)
        ns.ip("-6", "addr", "add", f"{SERVICE[6]}/128", "dev", holder, "nodad")
        farm.ready(ns, "unwrap", "b0")
        self.servers = [farm.ready(ns, "crowd", "serve", self.name, port, *SERVICE.values(), *self.address.values())
                        for port in ports]

    def kill(self):
        """Without a word to anybody."""
        self.namespace.ip("link", "set", "b0", "down")


class Farm:
    def __init__(self, lab, backends=3, weirs=1, config=None, ports=(80,), holder="lo"):
        self.lab = lab
        self.client, self.router = lab.namespace("client"), lab.namespace("router")
        lab.pair(self.router, "r0", self.client, "c0")
        self.client.ip("route", "add", "default", "via", "10.1.0.1")
        self.client.ip("-6", "route", "add", "default", "via", "fd00:1::1")
        # XDP sees sums that a local sender leaves unfinished, and nothing larger than a packet is to be on the wire
        self.client.run("ethtool", "-K", "c0", "tx", "off", "tso", "off", "gso", "off")
        self.client.sysctl("net.ipv4.ip_local_port_range=1024 65535", "net.ipv4.tcp_max_tw_buckets=1048576")
        batch(self.client, [f"addr add {address}/24 dev c0" for address in SOURCES[4][1:]] +
              [f"addr add {address}/64 dev c0 nodad" for address in SOURCES[6][1:]])
        batch(self.router, [neighbour("r0", address, "02:00:00:00:01:02") for address in SOURCES[6][1:]])
        self.router.sysctl("net.ipv4.ip_forward=1", "net.ipv6.conf.all.forwarding=1", "net.ipv4.conf.all.rp_filter=0",
                           "net.ipv4.conf.default.rp_filter=0", "net.ipv4.conf.all.send_redirects=0",
                           "net.ipv4.conf.default.send_redirects=0", "net.ipv4.fib_multipath_hash_policy=1")
        need_kernel(lambda: self.router.ip("link", "add", "br0", "address", MAC.format(1), "type", "bridge",
                                           "mcast_snooping", "0"), "bridges")
        self.router.ip("link", "set", "br0", "up")
        self.router.ip("addr", "add", "10.2.0.1/24", "dev", "br0")
        self.router.ip("-6", "addr", "add", "fd00:2::1/64", "dev", "br0", "nodad")
        self.members = []
        self.weirs = [Member(self, f"weir{i}", 2 + i, "w0") for i in range(weirs)]
        for weir in self.weirs:
            self.ready(self.router, "unwrap", f"r-{weir.label}", "pass")
            weir.namespace.sysctl("net.ipv4.ip_forward=1", "net.ipv6.conf.all.forwarding=1",
                                  "net.ipv4.conf.all.send_redirects=0")
        self.backends = {}
        for i in range(1, backends + 1):
            backend = Backend(self, i, ports, holder)
            self.backends[backend.name] = backend
        self.route(*self.weirs)
        self.agents = [lab.agent(weir.namespace, config, run_dir=f"run{i}") for i, weir in enumerate(self.weirs)]
        self.agent = self.agents[0]

    def ready(self, namespace, tool, *arguments):
        process = namespace.start(self.lab.tool(tool), *arguments, stdout=subprocess.PIPE, stderr=None, text=True)
        if process.stdout.readline() != "ready\n":
            raise OSError(f"{tool} {arguments} does not begin")
        return process

    def route(self, *weirs):
        """Through these weirs packets come to the service from now on."""
        for family in (4, 6):
            hops = [word for weir in weirs for word in ("nexthop", "via", weir.address[family])]
            self.router.ip(f"-{family}", "route", "replace", SERVICE[family], *hops)

    def crowd(self, proto="tcp", family=4, port=80, sources=None):
        return Crowd(self.lab, self.client, proto, family, port, sources)

    def to(self, family=4, **weights):
        """The backends as a sentence lists them: to(b1=2, b2=1)."""
        return ", ".join(f"{self.backends[name].address[family]} weight {weight}" for name, weight in weights.items())

    def add(self, text):
        """A service at every weir."""
        for agent in self.agents:
            done(agent, "POST", "/v1/services/add", text=text)

    def change(self, name, text, **parameters):
        for agent in self.agents:
            done(agent, "POST", "/v1/services/change", name=name, text=text, **parameters)

    def reached(self, crowd):
        """The first packets come before the ways to the backends are known."""
        def everybody():
            with contextlib.suppress(OSError):
                return len(crowd.do("short", 64)["by"]) == len(self.backends)
            return False
        wait_for(everybody, 30, "an answer from each backend")
