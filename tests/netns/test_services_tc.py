# SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
"""Services where XDP cannot be had: balanced in tc, with real peers whose cards leave segments and checksums to others."""

import contextlib
import signal
import socket

from lab import address_family, expect, expect_equal, send_frames, udp_socket, wait_for
from suite import test
from test_balancing import SERVICE, Site
from test_rules import add as rule_add
from test_rules import done, refused
from test_services import add, change, services
from test_shield import Foreign, datagram
from test_shield import packets as counted

CLIENT = {4: "10.1.0.2", 6: "fd00:1::2"}
OFF = "interfaces: [w0]\nxdp: off\n"
UDP_SEGMENT = 103


class Offloaded(Site):
    """The client leaves checksums and segments to its card, which leaves them to whoever comes next: weir sees packets of
    up to 64 KB with unfinished checksums.  Weir's cards to the backends can do neither, so the kernel makes them there."""

    def __init__(self, lab, count=2, config=OFF):
        super().__init__(lab, count, config)
        self.client.run("ethtool", "-K", "c0", "tx", "on", "tso", "on", "gso", "on")
        for name, backend in self.backends.items():
            self.host.run("ethtool", "-K", f"w{name[1:]}", "tx", "off")
            backend.namespace.run("ethtool", "-K", "b0", "gro", "off")  # each is read as it comes

    def send_much(self, family, size=300000):
        """So many bytes over one connection; how many its backend says it has got."""
        sock = self.connect(family, 10)
        sock.sendall(b"x" * size)
        got, rest = 0, b""
        while got < size:
            *lines, rest = (rest + sock.recv(65536)).split(b"\n")
            got += sum(int(line.split()[1]) for line in lines)
        sock.close()
        return got


@test("vm-6.1")
def tc_delivers_everything(lab):
    """with XDP off TCP and UDP of both families reach the backends by ipip, gue and l2, from a client that leaves segments
    and checksums to its card, much of TCP, too; each service says that it is at tc, and why"""
    site = Offloaded(lab)
    for deliver in ("ipip", "gue", "l2"):
        for family in (4, 6):
            add(site.agent, f"s{family} {SERVICE[family]} port 80 to {site.to(family)} deliver {deliver}")
            site.reached(family)
            expect_equal({site.ask(family) for _ in range(30)}, set(site.backends), f"{deliver}, who answers")
            expect_equal(site.send_much(family), 300000, f"{deliver}, IPv{family}: bytes that came over")
            with site.client:
                sock = socket.socket(address_family(SERVICE[family]), socket.SOCK_DGRAM)
            sock.settimeout(5)
            sock.sendto(b"x" * 300, (SERVICE[family], 80))
            expect_equal(sock.recv(100).split()[1], b"300", f"{deliver}: bytes of a datagram")
            sock.close()
            service = services(site.agent, name=f"s{family}")[0]
            expect_equal(service["hook"], "tc", "the hook")
            expect_equal(service["hooks"], [{"interface": "w0", "hook": "tc", "why": "XDP is off"}], "by interface")
            done(site.agent, "POST", "/v1/services/delete", name=f"s{family}")
    site.agent.losses()


@test()
def tc_keeps_segments_of_datagrams_apart(lab):
    """datagrams that a client hands to its card as one (UDP GSO) reach one backend each for itself, by ipip, gue and l2, in both
    families, and are counted as so many; such as do not fit the tunnel are told to be too big"""
    site = Offloaded(lab)
    for deliver in ("ipip", "gue", "l2"):
        for family in (4, 6):
            add(site.agent, f"s{family} udp {SERVICE[family]} port 80 to {site.to(family)} deliver {deliver}")
            with site.client:
                sock = socket.socket(address_family(SERVICE[family]), socket.SOCK_DGRAM)
            sock.settimeout(0.5)
            sock.connect((SERVICE[family], 80))

            def asked(sock=sock):
                with contextlib.suppress(TimeoutError):
                    sock.send(b"x")
                    return sock.recv(100)
                return None

            wait_for(asked, 15, "an answer from a backend")
            sock.settimeout(5)

            def answers(count, sock=sock):
                got = []
                while len(got) < count:
                    name, size = sock.recv(100).split()[:2]
                    if int(size) > 1:  # or it is to a question that was asked again
                        got.append((int(size), name))
                return sorted(got)

            before = services(site.agent, name=f"s{family}")[0]["packets"]
            sock.setsockopt(socket.IPPROTO_UDP, UDP_SEGMENT, 1000)
            sock.send(b"x" * 2500)
            got = answers(3)
            expect_equal([size for size, _ in got], [500, 1000, 1000], f"{deliver}: bytes of each")
            expect_equal(len({name for _, name in got}), 1, f"{deliver}: backends that answered: {got}")
            counted_now = services(site.agent, name=f"s{family}")[0]["packets"]
            expect(counted_now >= before + 3, f"{deliver}: packets that were counted: {counted_now}, {before} before")
            # as large as the client's link has them: nothing fits around
            largest = {4: 1472, 6: 1452}[family]
            sock.setsockopt(socket.IPPROTO_UDP, UDP_SEGMENT, largest)
            sock.send(b"x" * (largest + 500))
            if deliver == "l2":
                expect_equal([size for size, _ in answers(2)], [500, largest], "l2: large ones")
            else:
                wait_for(lambda family=family: services(site.agent, name=f"s{family}")[0]["lost"]["too_big"], 5,
                         f"{deliver}, IPv{family}: what does not fit")
            sock.close()
            done(site.agent, "POST", "/v1/services/delete", name=f"s{family}")
            site.client.ip(f"-{family}", "route", "flush", "cache")  # what the client has learned of the way
    site.agent.losses()


@test()
def tc_and_xdp_hand_over(lab):
    """connections stay on their backends while XDP comes, goes, is somebody else's and is free again, and while the agent is
    killed and started: the same tables are used at both hooks"""
    site = Site(lab, count=3, config="interfaces: [w0]\nxdp: off\nflows: {scan: 500ms}\n")
    add(site.agent, f"web tcp {SERVICE[4]} port 80 to {site.to(4, ['b11', 'b12'])}")
    site.reached()
    connections = [site.connect() for _ in range(24)]
    names = [site.ask(sock=sock) for sock in connections]
    expect_equal(set(names), {"b11", "b12"}, "who has them")

    def stay(what, hook):
        wait_for(lambda: services(site.agent)[0]["hook"] == hook, 10, f"{hook} {what}")
        expect_equal([site.ask(sock=sock) for sock in connections], names, f"who has them {what}")

    def configure(text):
        with open(site.agent.config, "w", encoding="utf-8") as file:
            file.write(f"interfaces: [w0]\n{text}\nflows: {{scan: 500ms}}\n")
        site.agent.reload()

    change(site.agent, "web", f"add {site.backends['b13'].address[4]} weight 3")
    stay("behind an addition", "tc")
    configure("xdp: generic")
    stay("at XDP", "xdp-generic")
    change(site.agent, "web", f"drain {site.backends['b11'].address[4]}")
    configure("xdp: off")
    stay("in tc again, behind a drain", "tc")
    expect_equal({site.ask() for _ in range(30)}, {"b12", "b13"}, "who gets new ones")
    site.agent.stop(signal.SIGKILL)
    expect_equal([site.ask(sock=sock) for sock in connections], names, "who has them behind a killed agent")
    expect_equal({site.ask() for _ in range(30)}, {"b12", "b13"}, "who gets new ones without an agent")
    site.agent.start()
    stay("behind a new agent", "tc")
    foreign = Foreign(lab, site.host, "w0")
    configure("xdp: auto")
    stay("beside somebody else's program", "tc")
    hooks = services(site.agent)[0]["hooks"]
    expect("another program" in hooks[0]["why"], f"why in tc: {hooks}")
    foreign.close()
    stay("when the place is free", "xdp")
    for sock in connections:
        sock.close()
    site.agent.losses()


@test()
def tc_takes_tags_off(lab):
    """what comes with a tag is balanced in tc, too, and leaves by another interface without"""
    site = Site(lab, config=OFF)
    add(site.agent, f"dns udp {SERVICE[4]} port 80 to {site.to(4)}")
    with udp_socket(site.client, CLIENT[4], 1000) as sock:
        sock.settimeout(0.5)

        def answer():
            frame = datagram(CLIENT[4], port=80, tags=((0x8100, 5),), destination=SERVICE[4])
            send_frames(site.client, "c0", [frame])
            with contextlib.suppress(TimeoutError):
                return sock.recv(100).split()[1]
            return None

        # the first may come before the neighbours are known
        expect_equal(wait_for(answer, 15, "an answer to what has a tag"), b"18", "bytes that came over")
    flows = [flow for flow in site.agent.flows() if flow.get("dst") == SERVICE[4]]
    expect_equal({flow.get("vlan") for flow in flows}, {5}, "tags of the flows")
    site.agent.losses()


@test()
def tc_services_come_behind_the_rules_of_xdp(lab):
    """in tc, too, what a rule drops, by a set, or limits as XDP would never comes to a service, and is counted; and a rule that
    only the stack's packets are for does not stand in a service's way"""
    site = Site(lab, config=OFF)
    for family in (4, 6):
        add(site.agent, f"s{family} {SERVICE[family]} port 80 to {site.to(family)}")
        site.reached(family)
    later = rule_add(site.agent, "drop in tcp to port 80 state new")["id"]
    limit = rule_add(site.agent, "limit in udp to port 80 per source to 1/d burst 3")["id"]
    expect_equal({site.ask() for _ in range(20)}, set(site.backends), "who answers in spite of a rule about states")
    expect_equal(counted(site.agent, later), 0, "packets that the rule about states has seen")
    done(site.agent, "POST", "/v1/rules/delete", id=later)
    for family in (4, 6):
        with site.client:
            sock = socket.socket(address_family(SERVICE[family]), socket.SOCK_DGRAM)
        sock.settimeout(5)
        before = counted(site.agent, limit)
        for _ in range(3):
            sock.sendto(b"x", (SERVICE[family], 80))
            expect_equal(sock.recv(100).split()[1], b"1", "a datagram within the limit")
        for _ in range(4):
            sock.sendto(b"x", (SERVICE[family], 80))
        wait_for(lambda before=before: counted(site.agent, limit) == before + 7, 5, "the limit to count")
        sock.setblocking(False)
        with contextlib.suppress(BlockingIOError):
            expect(False, f"over the limit came through: {sock.recv(100)}")
        sock.close()
        done(site.agent, "POST", "/v1/sets/load", f"{CLIENT[family]}\n", name="bad")
        number = rule_add(site.agent, "drop in tcp from @bad to port 80")["id"]
        with contextlib.suppress(TimeoutError):
            site.connect(family, 1)
            expect(False, "a connection was made that a rule forbids")
        expect(counted(site.agent, number) >= 1, "the rule has counted nothing")
        done(site.agent, "POST", "/v1/rules/delete", id=number)
        site.ask(family)
    site.agent.losses()


@test()
def tc_tells_senders(lab):
    """a sender in pieces whose packets do not fit around the tunnel is told so by ICMP, whoever makes its checksums, and
    sends smaller ones; the address answers to pings; the MSS of a service is lowered"""
    site = Offloaded(lab)
    site.client.offload("c0", False)
    for family in (4, 6):
        add(site.agent, f"web{family} tcp {SERVICE[family]} port 80 to {site.to(family)} deliver gue")
        site.reached(family)
        expect_equal(site.send_much(family), 300000, "bytes")
        service = services(site.agent, name=f"web{family}")[0]
        expect(service["lost"]["too_big"] >= 1, f"packets that did not fit: {service['lost']}")
        expect(service["told_too_big"] >= 1, f"senders that were told: {service}")
        ping = site.client.run("ping", "-c", 1, "-W", 2, SERVICE[family], check=False)
        expect_equal(ping.returncode, 0, "ping")
        add(site.agent, f"low{family} tcp {SERVICE[family]} port 81 to {site.to(family)} mss 1000")
        for backend in site.backends.values():
            listener = backend.open(address_family(SERVICE[family]), socket.SOCK_STREAM)
            listener.bind((SERVICE[family], 81))
            listener.listen(8)
            backend.thread(backend.accept, listener)
        with site.client:
            sock = socket.socket(address_family(SERVICE[family]), socket.SOCK_STREAM)
        sock.settimeout(5)
        sock.connect((SERVICE[family], 81))
        expect(site.ask(family, 30000, sock) in site.backends, "an answer over a connection with a lower MSS")
        sock.close()


@test()
def nat_says_that_it_needs_xdp(lab):
    """nat, which is at XDP only, is refused in one line where XDP is off"""
    host, _ = lab.hosts()
    agent = lab.agent(host, OFF)
    refused(agent, 400, "XDP is off, and nat, which service web wants, works only there", "POST", "/v1/services/add",
            text="web tcp 203.0.113.10 port 443 to 10.1.0.2 deliver nat")
    expect_equal(services(agent), [], "services")
