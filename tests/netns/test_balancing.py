# SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
"""Services with real peers: clients connect, the program at XDP delivers, backends answer directly."""

import contextlib
import fcntl
import os
import signal
import socket
import struct
import threading

from lab import address_family, expect, expect_equal, wait_for
from suite import test
from test_rules import done
from test_services import add, change, services

TUNSETIFF, IFF_TUN, IFF_NO_PI = 0x400454ca, 1, 0x1000
SERVICE = {4: "203.0.113.10", 6: "2001:db8:113::10"}
GUE_PORT = 6080
IPIP, IPV6 = 4, 41


class Backend:
    """A host behind weir: it has the services' addresses on lo, takes packets out of their tunnels, and answers
    to TCP with its name and what it was told, to UDP with the same."""

    def __init__(self, lab, host, number):
        self.name = f"b{number}"
        self.namespace = lab.namespace(self.name)
        self.address = {4: f"10.{number}.0.2", 6: f"fd00:{number}::2"}
        lab.pair(host, f"w{number}", self.namespace, "b0", number)
        ns = self.namespace
        # what is redirected to a veth arrives only where the other end has NAPI
        ns.run("ethtool", "-K", "b0", "gro", "on", "tx", "off")
        ns.sysctl("net.ipv4.conf.all.rp_filter=0", "net.ipv4.conf.default.rp_filter=0")
        ns.ip("route", "add", "default", "via", f"10.{number}.0.1")
        ns.ip("-6", "route", "add", "default", "via", f"fd00:{number}::1")
        ns.ip("addr", "add", f"{SERVICE[4]}/32", "dev", "lo")
        ns.ip("-6", "addr", "add", f"{SERVICE[6]}/128", "dev", "lo", "nodad")
        self.sockets = []
        self.unwraps = True  # False: as if there were no tunnel
        self.tunnel()
        for family in (4, 6):
            self.serve(family)
        lab.on_close(self.close)

    def close(self):
        for sock in self.sockets:
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
            sock.close()
        os.close(self.tun)

    def thread(self, function, *arguments):
        threading.Thread(target=self.quietly, args=(function, *arguments), daemon=True).start()

    @staticmethod
    def quietly(function, *arguments):
        with contextlib.suppress(OSError):
            while True:
                function(*arguments)

    def open(self, *arguments):
        with self.namespace:
            sock = socket.socket(*arguments)
        self.sockets.append(sock)
        return sock

    def tunnel(self):
        """What arrives in a tunnel comes out of a device; the kernel's own tunnels are not in every kernel."""
        with self.namespace:
            self.tun = os.open("/dev/net/tun", os.O_RDWR)
            fcntl.ioctl(self.tun, TUNSETIFF, struct.pack("16sH22x", b"t0", IFF_TUN | IFF_NO_PI))
        self.namespace.ip("link", "set", "t0", "up")
        for family, proto in ((socket.AF_INET, IPIP), (socket.AF_INET6, IPIP), (socket.AF_INET6, IPV6)):
            self.thread(self.unwrap, self.open(family, socket.SOCK_RAW, proto), family == socket.AF_INET)
        for family, address in ((socket.AF_INET, self.address[4]), (socket.AF_INET6, self.address[6])):
            gue = self.open(family, socket.SOCK_DGRAM)
            if family == socket.AF_INET6:
                gue.setsockopt(socket.SOL_UDP, 102, 1)  # UDP_NO_CHECK6_RX: tunnels leave it out (RFC 6935)
            gue.bind((address, GUE_PORT))
            self.thread(self.unwrap, gue, False)

    def unwrap(self, sock, with_header):
        packet = sock.recv(65536)
        if not packet:
            raise OSError("closed")
        if self.unwraps:
            os.write(self.tun, packet[(packet[0] & 15) * 4:] if with_header else packet)

    def serve(self, family):
        kind = socket.AF_INET if family == 4 else socket.AF_INET6
        listener, datagrams = self.open(kind, socket.SOCK_STREAM), self.open(kind, socket.SOCK_DGRAM)
        for sock in (listener, datagrams):
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            sock.bind((SERVICE[family], 80))
        listener.listen(128)
        self.thread(self.accept, listener)
        self.thread(self.answer, datagrams)

    def accept(self, listener):
        connection, _ = listener.accept()
        self.sockets.append(connection)
        threading.Thread(target=self.talk, args=(connection,), daemon=True).start()

    def talk(self, connection):
        with contextlib.suppress(OSError):
            while said := connection.recv(65536):
                connection.sendall(f"{self.name} {len(said)}\n".encode())

    def answer(self, datagrams):
        said, who = datagrams.recvfrom(65536)
        if not who:
            raise OSError("closed")
        datagrams.sendto(f"{self.name} {len(said)}".encode(), who)


class Site:
    """A client, weir, and backends behind it."""

    def __init__(self, lab, count=2, config=None):
        self.client, self.host = lab.namespace("client"), lab.namespace("host")
        lab.pair(self.host, "w0", self.client, "c0")
        # XDP sees checksums that are still to be made by a card
        self.client.run("ethtool", "-K", "c0", "tx", "off", "gro", "on")
        self.client.ip("route", "add", "default", "via", "10.1.0.1")
        self.client.ip("-6", "route", "add", "default", "via", "fd00:1::1")
        self.host.sysctl("net.ipv4.ip_forward=1", "net.ipv6.conf.all.forwarding=1")
        self.backends = {backend.name: backend for backend in (Backend(lab, self.host, 11 + i) for i in range(count))}
        self.agent = lab.agent(self.host, config)

    def to(self, family, names=None):
        return ", ".join(self.backends[name].address[family] for name in names or self.backends)

    def connect(self, family=4, seconds=5):
        with self.client:
            sock = socket.socket(address_family(SERVICE[family]), socket.SOCK_STREAM)
        sock.settimeout(seconds)
        sock.connect((SERVICE[family], 80))
        return sock

    def ask(self, family=4, size=3, sock=None):
        """The name of the backend that answers on a connection, or on a new one."""
        own = sock is None
        sock = sock or self.connect(family)
        try:
            sock.sendall(b"x" * size)
            answer = sock.recv(100).decode().split()
            return answer[0]
        finally:
            if own:
                sock.close()

    def reached(self, family=4):
        """The first connection may come before the neighbours are known."""
        def attempt():
            with contextlib.suppress(OSError):
                return self.ask(family)
            return None
        return wait_for(attempt, 15, "an answer from a backend")


def by_backend(service):
    return {entry["address"]: entry for entry in service["backends"]}


@test()
def services_deliver(lab):
    """TCP of both families reaches the backends through ipip, is answered directly, counted by backend, and accounted by
    flow: seen = cached + emitted + lost"""
    site = Site(lab)
    for family in (4, 6):
        add(site.agent, f"web{family} tcp {SERVICE[family]} port 80 to {site.to(family)}")
        site.reached(family)
    for family in (4, 6):
        before = by_backend(services(site.agent, name=f"web{family}")[0])
        got = [site.ask(family) for _ in range(20)]
        expect_equal(set(got), set(site.backends), "who answers")
        service = services(site.agent, name=f"web{family}")[0]
        expect_equal(service["lost"], dict.fromkeys(service["lost"], 0) | {"no_neighbour": service["lost"]["no_neighbour"]},
                     "what was lost")
        for name, backend in site.backends.items():
            now, then = by_backend(service)[backend.address[family]], before[backend.address[family]]
            # SYN, ACK, data, FIN, ACK of the FIN: at least
            expect(now["packets"] - then["packets"] >= 5 * got.count(name), f"packets to {name}: {then}, {now}")
        flows = [flow for flow in site.agent.flows() if flow.get("dst") == SERVICE[family]]
        expect(len(flows) >= 20, f"flows to the service: {len(flows)}")
    site.agent.losses()


@test("vm-6.1")
def services_of_the_policy_deliver(lab):
    """services that the policy has when the agent starts deliver connections of both families through ipip; those that are open
    stay while a backend drains and is back, and new ones go by what is said then"""
    policy = "".join(f"  - s{family} {SERVICE[family]} port 80 to {to}\n"
                     for family, to in ((4, "10.11.0.2, 10.12.0.2"), (6, "fd00:11::2, fd00:12::2")))
    site = Site(lab, config=f"policy: {lab.write('policy.yaml', 'services:' + chr(10) + policy)}\n")
    expect_equal([service["name"] for service in services(site.agent)], ["s4", "s6"], "services at the start")
    for family in (4, 6):
        site.reached(family)
        count = max(int(100 * lab.scale), 25)
        expect_equal({site.ask(family) for _ in range(count)}, set(site.backends), f"IPv{family}: who answers")
        connections = [site.connect(family) for _ in range(20)]
        names = [site.ask(sock=sock) for sock in connections]
        expect_equal(set(names), set(site.backends), f"IPv{family}: who has those that stay open")
        change(site.agent, f"s{family}", f"drain {site.backends['b11'].address[family]}")
        expect_equal({site.ask(family) for _ in range(count)}, {"b12"}, f"IPv{family}: who answers while one drains")
        change(site.agent, f"s{family}", f"undrain {site.backends['b11'].address[family]}")
        expect_equal({site.ask(family) for _ in range(count)}, set(site.backends), f"IPv{family}: who answers behind that")
        expect_equal([site.ask(sock=sock) for sock in connections], names, f"IPv{family}: who has them then")
        for sock in connections:
            sock.close()
    site.agent.losses()


@test()
def connections_stay(lab):
    """connections stay on their backends while others are added, drained, given weights and removed, and while the agent is
    killed and started again; new ones go by what is said now, also without an agent"""
    site = Site(lab, count=3)
    add(site.agent, f"web tcp {SERVICE[4]} port 80 to {site.to(4, ['b11', 'b12'])}")
    site.reached()
    connections = [site.connect() for _ in range(24)]
    names = [site.ask(sock=sock) for sock in connections]
    expect_equal(set(names), {"b11", "b12"}, "who has them")

    def stay(what):
        expect_equal([site.ask(sock=sock) for sock in connections], names, f"who has them {what}")

    change(site.agent, "web", f"add {site.backends['b13'].address[4]} weight 3")
    stay("behind an addition")
    change(site.agent, "web", f"set {site.backends['b12'].address[4]} weight 5")
    stay("behind a weight")
    change(site.agent, "web", f"drain {site.backends['b11'].address[4]}")
    stay("behind a drain")
    expect_equal({site.ask() for _ in range(30)}, {"b12", "b13"}, "who gets new ones")
    site.agent.stop(signal.SIGKILL)
    stay("behind a killed agent")
    expect_equal({site.ask() for _ in range(30)}, {"b12", "b13"}, "who gets new ones without an agent")
    site.agent.start()
    stay("behind a new agent")
    expect_equal({site.ask() for _ in range(30)}, {"b12", "b13"}, "who gets new ones with the new agent")
    for sock in connections:
        sock.close()


@test()
def other_deliveries(lab):
    """gue and l2 deliver TCP and fragmented UDP of both families"""
    site = Site(lab)
    # fragments that fit into tunnels
    site.client.ip("route", "change", "default", "via", "10.1.0.1", "mtu", 1400)
    site.client.ip("-6", "route", "change", "default", "via", "fd00:1::1", "mtu", 1400)
    for deliver in ("gue", "l2"):
        for family in (4, 6):
            add(site.agent, f"s{family} {SERVICE[family]} port 80 to {site.to(family)} deliver {deliver}")
            site.reached(family)
            expect_equal({site.ask(family) for _ in range(30)}, set(site.backends), f"{deliver}, who answers")
            with site.client:
                sock = socket.socket(address_family(SERVICE[family]), socket.SOCK_DGRAM)
            sock.settimeout(5)
            sock.sendto(b"x" * 3000, (SERVICE[family], 80))
            expect_equal(sock.recv(100).split()[1], b"3000", f"{deliver}: bytes in fragments")
            sock.close()
            done(site.agent, "POST", "/v1/services/delete", name=f"s{family}")
    site.agent.losses()


@test("vm-6.12")
def neighbours_find_the_host(lab):
    """a client on weir's own link goes on finding the host behind an IPv6 address that a service of all protocols has: what it asks
    of that address as of a neighbour is the host's to answer, and what it pings is the service's"""
    site = Site(lab)
    address = "fd00:1::10"
    site.host.ip("-6", "addr", "add", f"{address}/64", "dev", "w0", "nodad")
    # what neighbours are asked from
    site.host.ip("-6", "addr", "add", "fe80::1/64", "dev", "w0", "nodad")
    site.client.ip("-6", "addr", "add", "fe80::2/64", "dev", "c0", "nodad")
    for backend in site.backends.values():
        backend.namespace.ip("-6", "addr", "add", f"{address}/128", "dev", "lo", "nodad")
    for deliver in ("ipip", "gue", "l2"):
        add(site.agent, f"all {address} to {site.to(6)} deliver {deliver}")
        wait_for(lambda: site.client.run("ping", "-c1", "-W1", address, check=False).returncode == 0, 15,
                 f"an echo from a backend behind {deliver}")
        # it is asked at its own address whether it is there still
        for state in ("stale", "probe"):
            site.client.ip("-6", "neigh", "change", address, "dev", "c0", "nud", state)
        wait_for(lambda: "REACHABLE" in site.client.ip("-6", "neigh", "show", address).stdout, 15,
                 f"the neighbour at an address that {deliver} delivers for")
        expect(sum(entry["packets"] for entry in services(site.agent)[0]["backends"]), f"packets by {deliver}")
        done(site.agent, "POST", "/v1/services/delete", name="all")


@test()
def senders_are_told(lab):
    """a sender whose packets do not fit around the tunnel is told so by ICMP and sends smaller ones; the address answers
    to pings (generic XDP, which sends back on a veth pair whatever the other end has)"""
    site = Site(lab, config="interfaces: [w0]\nxdp: generic\n")
    # nothing larger than a packet is to be seen at XDP
    site.client.offload("c0", False)
    for family in (4, 6):
        add(site.agent, f"web{family} tcp {SERVICE[family]} port 80 to {site.to(family)}")
        site.reached(family)
        sock = site.connect(family)
        sock.sendall(b"x" * 200000)
        got = 0
        while got < 200000:
            for line in sock.recv(65536).decode().split("\n"):
                got += int(line.split()[1]) if len(line.split()) > 1 else 0
        expect_equal(got, 200000, "bytes")
        sock.close()
        lost = services(site.agent, name=f"web{family}")[0]["lost"]
        expect(lost["too_big"] >= 1, f"packets that did not fit: {lost}")
        ping = site.client.run("ping", "-c", 1, "-W", 2, SERVICE[family], check=False)
        expect_equal(ping.returncode, 0, "ping")
