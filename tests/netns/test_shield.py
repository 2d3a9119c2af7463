# SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
"""Rules at XDP: what is dropped there, limits, connections that go on, who else is there, the agent's end."""

import ctypes
import os
import random
import signal
import socket
import struct
import time

import pcap
from lab import (LIBC, SYS_BPF, Skip, expect, expect_equal, maps_of_program, send_frames, udp_socket,
                 wait_for)
from suite import each, test, variants
from test_capture import Captured
from test_rules import add, apply, done, rule, rules

BPF_PROG_LOAD, BPF_LINK_CREATE, PROG_TYPE_XDP, ATTACH_XDP = 5, 28, 6, 37


def put(agent, name, *entries, what="add"):
    done(agent, "POST", f"/v1/sets/{what}", "".join(f"{entry}\n" for entry in entries), name=name)


def place(agent, interface="w0"):
    return next(entry for entry in agent.get("/v1/status")["xdp"] if entry["interface"] == interface)


def need_xdp(agent, interface="w0"):
    """Rules that XDP decides are there: it is in use now, or this kernel or driver has none."""
    found = place(agent, interface)
    if found["mode"] == "off" and "not supported" in found.get("failure", "").lower():
        raise Skip(f"no XDP: {found['failure']}")
    expect(found["mode"] in ("native", "generic"), f"XDP is not in use: {found}, {agent.errors()[-500:]}")
    agent.programs.add(found["program"])  # it must be gone at the end
    agent.maps.update(maps_of_program(found["program"]))
    return found


def packets(agent, number):
    return rule(agent, number)["packets"]


def seen(agent):
    """Packets that came in as far as tc."""
    return agent.interface("w0")["in"]["packets"]


class Foreign:
    """Somebody else's program at XDP, which passes everything."""

    def __init__(self, lab, namespace, interface):
        self.fds = []
        code = struct.pack("<BBhi", 0xb7, 0, 0, 2) + struct.pack("<BBhi", 0x95, 0, 0, 0)
        instructions, name = ctypes.create_string_buffer(code), ctypes.create_string_buffer(b"GPL")
        program = self.bpf(BPF_PROG_LOAD, struct.pack("IIQQ", PROG_TYPE_XDP, 2, ctypes.addressof(instructions),
                                                      ctypes.addressof(name)))
        with namespace:
            index = socket.if_nametoindex(interface)
            self.bpf(BPF_LINK_CREATE, struct.pack("IIII", program, index, ATTACH_XDP, 0))
        lab.on_close(self.close)

    def bpf(self, command, attributes):
        buffer = ctypes.create_string_buffer(attributes, 128)
        fd = LIBC.syscall(SYS_BPF, command, buffer, 128)
        if fd < 0:
            raise Skip(f"bpf(2): {os.strerror(ctypes.get_errno())}")
        self.fds.append(fd)
        return fd

    def close(self):
        while self.fds:
            os.close(self.fds.pop())


def datagram(source, port=9, family=4, tags=(), **options):
    if family == 6:
        return pcap.ethernet(pcap.ipv6(17, pcap.udp(1000, port, b"x" * 18), source=source, **options), tags=tags)
    return pcap.ethernet(pcap.ipv4(17, pcap.udp(1000, port, b"x" * 18), source=source, **options), tags=tags)


@test("vm-6.1")
def sets_are_dropped_at_xdp(lab):
    """What comes from a set is dropped at XDP, so that tc never sees it: both families, with one tag and with two, with
    options, extension headers, as fragments; and nothing else is"""
    host, peer = lab.hosts()
    lab.quiet(host, peer)
    agent = lab.agent(host)
    put(agent, "bad", "198.51.100.0/24", "203.0.113.7", "2001:db8:bad::/48")
    number = add(agent, "drop in from @bad")["id"]
    need_xdp(agent)
    expect_equal(rule(agent, number)["hook"], "xdp", "where the rule is decided")

    bad4, bad6 = "198.51.100.77", "2001:db8:bad::1"
    qinq, vlan = ((0x88a8, 7), (0x8100, 8)), ((0x8100, 5),)
    frames = [datagram(bad4), datagram("203.0.113.7"), datagram(bad6, family=6), datagram(bad4, tags=vlan),
              datagram(bad6, family=6, tags=vlan), datagram(bad4, tags=qinq), datagram(bad6, family=6, tags=qinq),
              datagram(bad4, options=b"\x01" * 8), datagram(bad4, fragment=0x2000), datagram(bad4, fragment=0x00b9),
              datagram(bad6, family=6, extensions=((60, bytes(7)),) * 8)]
    for source, hook in ((bad4, "xdp"), ("192.0.2.1", "tc")):
        asked = done(agent, "GET", "/v1/explain", packet=f"in on w0 udp from {source} port 1 to 10.1.0.1 port 9")
        expect_equal(asked["hook"], hook, f"where a packet from {source} is decided")
    before = seen(agent)
    send_frames(peer, "p0", frames * 3)
    wait_for(lambda: packets(agent, number) >= 3 * len(frames), 3, "the packets to be counted")
    expect_equal(packets(agent, number), 3 * len(frames), "packets of the rule")
    expect_equal(rule(agent, number)["bytes"], 3 * sum(map(len, frames)), "bytes of the rule")
    expect_equal(seen(agent) - before, 0, "packets that came as far as tc")

    good = [datagram("198.51.101.77"), datagram("203.0.113.6"), datagram("2001:db8:bae::1", family=6),
            datagram("10.1.0.2", tags=vlan)]
    send_frames(peer, "p0", good)
    wait_for(lambda: seen(agent) - before >= len(good), 3, "what is in no set")
    expect_equal(packets(agent, number), 3 * len(frames), "packets of the rule")

    put(agent, "bad", "198.51.100.0/24", what="remove")
    send_frames(peer, "p0", [datagram(bad4)])
    wait_for(lambda: seen(agent) - before > len(good), 3, "what is no longer in the set")
    done(agent, "POST", "/v1/rules/delete", id=number)
    expect_equal(place(agent)["mode"], "off", "XDP without rules for it")


@test()
def prefixes_from_elsewhere_are_dropped_at_xdp(lab):
    """Of 140,000 IPv6 prefixes that begin alike each drops at XDP, and so do one that begins otherwise and one around all of
    them, put in later; what was taken out does no longer"""
    host, peer = lab.hosts()
    lab.quiet(host, peer)
    agent = lab.agent(host)
    numbers = random.Random(5).sample(range(1 << 31), 140_000)
    networks = [f"2001:db8:{n >> 16:x}:{n & 0xffff:x}::" for n in numbers]  # the first bit behind what is common is 0
    got, text, _ = agent.request("POST", "/v1/sets/load?name=bad", body="\n".join(f"{n}/64" for n in networks), timeout=60)
    expect_equal(got, 200, f"status of the load: {text[-500:]}")
    number = add(agent, "drop in from @bad")["id"]
    need_xdp(agent)
    sent = 0

    def dropped(*sources):
        nonlocal sent
        before = seen(agent)
        send_frames(peer, "p0", [datagram(source, family=6) for source in sources])
        sent += len(sources)
        wait_for(lambda: packets(agent, number) >= sent, 5, f"{sources[:3]} to be dropped")
        expect_equal((packets(agent, number), seen(agent)), (sent, before), "dropped in all, and come as far as tc")

    def let_through(*sources):
        before = seen(agent)
        send_frames(peer, "p0", [datagram(source, family=6) for source in sources])
        wait_for(lambda: seen(agent) >= before + len(sources), 5, f"{sources} to come as far as tc")
        expect_equal(packets(agent, number), sent, "packets of the rule")

    dropped(*(f"{network}77" for network in networks[:200]))
    let_through("2001:db8:8000::1", "2001:db9::1", "2a00:77::1")
    put(agent, "bad", "2a00:77::/32")
    dropped("2a00:77::1", f"{networks[1]}1")
    let_through("2001:db8:8000::1", "2001:db9::1")
    put(agent, "bad", "2001:db8::/31")
    dropped("2001:db8:8000::1", "2001:db9::1", "2a00:77::1", f"{networks[2]}1")
    put(agent, "bad", f"{networks[2]}/64", "2a00:77::/32", what="remove")
    dropped(f"{networks[2]}1", f"{networks[3]}1")
    put(agent, "bad", "2001:db8::/31", what="remove")
    let_through(f"{networks[2]}1", "2001:db8:8000::1", "2001:db9::1", "2a00:77::1")
    dropped(f"{networks[3]}1")


@test()
def headers_are_looked_at_in_order(lab):
    """Rules on headers are decided at XDP in their order: what an earlier rule accepts, counts or logs goes on to tc,
    which decides the same; a rule about the state stays in tc"""
    host, peer = lab.hosts()
    lab.quiet(host, peer)
    agent = lab.agent(host)
    put(agent, "bad", "198.51.100.0/24")
    apply(agent, "accept in from 198.51.100.9", "count in udp to port 55", "drop in udp to port 53-60",
          "drop in from @bad", "drop in tcp state invalid", "drop in ip6 udp to port 9 from 2001:db8::/32")
    need_xdp(agent)
    accepted, counted, ports, bad, _, last = [entry["id"] for entry in rules(agent)]
    expect_equal([entry["hook"] for entry in rules(agent)], ["tc", "tc", "xdp", "xdp", "tc", "xdp"], "hooks")
    before = seen(agent)
    send_frames(peer, "p0", [datagram("198.51.100.9", 53), datagram("198.51.100.9"), datagram("10.1.0.2", 55),
                             datagram("10.1.0.2", 54), datagram("10.1.0.2", 60), datagram("198.51.100.8"),
                             datagram("2001:db8::1", 9, family=6), datagram("10.1.0.2", 61)])
    wait_for(lambda: packets(agent, last) == 1, 3, "the last rule to be hit")
    agent.settle()
    expect_equal([packets(agent, number) for number in (accepted, counted, ports, bad, last)], [2, 1, 3, 1, 1],
                 "packets of the rules")
    expect_equal(seen(agent) - before, 4, "packets in tc: two accepted, one counted (and dropped), one of no rule")


@test()
def limits_at_xdp_are_exact(lab):
    """A limit per source lets through its burst of each source and no more, and is judged once, not in tc again"""
    host, peer = lab.hosts()
    lab.quiet(host, peer)
    agent = lab.agent(host)
    number = add(agent, "limit in udp to port 9 per source to 1/d burst 5")["id"]
    all_of_them = add(agent, "limit in udp to port 9 to 1/d burst 12")["id"]
    need_xdp(agent)
    expect_equal(rule(agent, number)["hook"], "xdp", "where the limit is judged")
    with udp_socket(host, "10.1.0.1", 9) as receiver:
        receiver.settimeout(0.3)
        send_frames(peer, "p0", [datagram(f"10.1.0.{20 + n % 3}") for n in range(60)])
        got = []
        try:
            while True:
                got.append(receiver.recvfrom(100)[1][0])
        except socket.timeout:
            pass
    expect_equal(sorted(got), ["10.1.0.20"] * 4 + ["10.1.0.21"] * 4 + ["10.1.0.22"] * 4, "what was let through")
    expect_equal((packets(agent, number), packets(agent, all_of_them)), (60, 15), "packets that the limits fitted")


@test(seconds=60)
def sources_pushed_out_of_a_limit_are_counted(lab):
    """Where more sources come than limits have room for, those that made room are counted: with the rule, in status and
    metrics; together with those that are there they are all that ever came"""
    host, peer = lab.hosts()
    lab.quiet(host, peer)
    agent = lab.agent(host)
    number = add(agent, "limit in ip6 udp to port 9 per source to 1/s")["id"]
    other = add(agent, "limit in ip6 udp to port 10 per source to 1/s")["id"]
    room = agent.get("/v1/status")["rules"]["limited_room"]
    sources = room + 20000
    peer.run(lab.tool("blast"), "p0", 6, sources, sources, sources, 0, timeout=60)

    def limit(which=number):
        found = rule(agent, which)
        return found["limited"], found["pushed_out"]
    wait_for(lambda: sum(limit()) == sources, 30, "all sources, there or pushed out", interval=0.3)
    limited, pushed_out = limit()
    expect(pushed_out >= 20000 and limited <= room, f"{limited} of {room}, {pushed_out} pushed out")
    expect_equal(limit(other), (0, 0), "of a limit that nothing came to")
    status = agent.get("/v1/status")["rules"]
    expect_equal((status["limited"], status["limited_pushed_out"]), (limited, pushed_out), "in status")
    expect(f"weir_limited_pushed_out_total {pushed_out}\n" in agent.request("GET", "/metrics")[1], "not in the metrics")
    agent.kill(signal.SIGKILL)
    agent.process.wait()
    agent.start()
    wait_for(lambda: limit() == (limited, pushed_out), 30, "the next agent knows the same", interval=0.3)


@test()
def connections_go_on_at_xdp(lab):
    """A connection that was there before a rule at XDP goes on against it, while new ones are dropped; unless it is
    cut"""
    host, peer = lab.hosts()
    lab.quiet(host, peer)
    agent = lab.agent(host)
    tracking = add(agent, "count in tcp state new")["id"]
    with host:
        listener = socket.create_server(("10.1.0.1", 5555))
    with peer:
        client = socket.create_connection(("10.1.0.1", 5555), timeout=5)
    server, _ = listener.accept()
    server.settimeout(2)
    lab.on_close(server.close)
    lab.on_close(client.close)
    lab.on_close(listener.close)

    def goes_through():
        client.sendall(b"still there")
        try:
            return server.recv(100) == b"still there"
        except socket.timeout:
            return False

    expect(goes_through(), "the connection does not work to begin with")
    time.sleep(0.05)
    put(agent, "bad", "10.1.0.2", "198.51.100.0/24")
    number = add(agent, "drop in from @bad", before=tracking)["id"]
    need_xdp(agent)
    for _ in range(3):
        expect(goes_through(), "the connection ended with the rule")
        time.sleep(0.1)
    before = seen(agent)
    with peer, socket.socket() as late:
        late.settimeout(0.4)
        try:
            late.connect(("10.1.0.1", 5555))
            raise AssertionError("a new connection was made against the rule")
        except socket.timeout:
            pass
    send_frames(peer, "p0", [datagram("198.51.100.1")] * 5)
    wait_for(lambda: packets(agent, number) >= 6, 3, "what is new to be dropped")
    expect_equal(seen(agent) - before, 0, "packets of nothing that goes on, which came as far as tc")
    add(agent, "drop in udp to port 99", cut=1)
    expect(not goes_through(), "the connection goes on though it was cut")


@test()
def somebody_elses_program_stays(lab):
    """Where somebody else is at XDP weir decides in tc, and says so; it takes the place when that is free"""
    host, peer = lab.hosts()
    lab.quiet(host, peer)
    foreign = Foreign(lab, host, "w0")
    agent = lab.agent(host, "interfaces: [w0]\nflows: {scan: 500ms}\n")
    number = add(agent, "drop in udp to port 9")["id"]
    found = place(agent)
    expect_equal((found["mode"], found["wanted"]), ("off", True), "what weir has of XDP")
    expect("another program" in found["failure"] and "w0" in found["failure"], found)
    expect("another program" in agent.errors(), "no line in the log")
    expect_equal(rule(agent, number)["hook"], "tc", "where the rule is decided")
    send_frames(peer, "p0", [datagram("10.1.0.2")] * 4)
    wait_for(lambda: packets(agent, number) == 4, 3, "the rule to be decided in tc")
    expect_equal(place(agent)["program"], found["program"], "the program at XDP")
    foreign.close()
    wait_for(lambda: place(agent)["mode"] == "native", 5, "the free place to be taken")
    send_frames(peer, "p0", [datagram("10.1.0.2")] * 4)
    wait_for(lambda: packets(agent, number) == 8, 3, "the rule to be decided at XDP")
    expect_equal(rule(agent, number)["hook"], "xdp", "where the rule is decided now")


@test()
def the_configuration_says_how(lab):
    """xdp: generic and off are obeyed, at a reload too; the loopback interface is left alone unless it is named"""
    host, peer = lab.hosts()
    lab.quiet(host, peer)
    agent = lab.agent(host, "interfaces: [w0, lo]\nxdp: generic\n")
    number = add(agent, "drop in udp to port 9")["id"]
    expect_equal((place(agent)["mode"], place(agent, "lo")["mode"]), ("generic", "generic"), "modes")
    send_frames(peer, "p0", [datagram("10.1.0.2", tags=((0x8100, 5),))] * 4)
    wait_for(lambda: packets(agent, number) == 4, 3, "the rule to be decided")
    for text, modes in (("xdp: auto", ("native", "off")), ("xdp: {mode: auto, interfaces: {w0: off, lo: generic}}",
                                                           ("off", "generic")), ("xdp: off", ("off", "off"))):
        with open(agent.config, "w", encoding="utf-8") as file:
            file.write(f"interfaces: [w0, lo]\n{text}\n")
        agent.reload()
        expect_equal((place(agent)["mode"], place(agent, "lo")["mode"]), modes, f"modes with {text}")
    expect_equal(rule(agent, number)["hook"], "tc", "where the rule is decided")


@each()
@variants("mode", "native", "generic")
def what_passes_xdp_is_whole_in_tc(lab, mode):
    """what passes {mode} XDP, from a socket with little room before it or in pieces, is judged and counted in tc with its link
    header: the rules there fit, and the bytes are those on the wire"""
    host, peer = lab.hosts()
    agent = lab.agent(host, f"interfaces: [w0]\nxdp: {mode}\n")
    add(agent, "drop in udp to port 9")
    expect_equal(place(agent)["mode"], mode, "the mode")
    number = add(agent, "count in udp to port 7")["id"]
    expect_equal(rule(agent, number)["hook"], "tc", "where the rule is decided")
    sizes = [1, 10, 100, 1000, 1472, 4000]
    with udp_socket(peer, "10.1.0.2") as sender:
        for size in sizes:
            sender.sendto(bytes(size), ("10.1.0.1", 7))
            sender.sendto(bytes(size), ("10.1.0.1", 9))
    # the last one comes in three fragments, of which the rule knows the first
    wait_for(lambda: packets(agent, number) == 6, 5, "the rule to count")
    listed = [f for f in agent.get("/v1/flows", filter="udp to port 7")["flows"]]
    expect_equal(sum(f["packets"] for f in listed), 6, "packets of the flow")
    expect_equal(sum(f["bytes"] for f in listed), sum(42 + size for size in sizes[:5]) + 1514, "bytes of the flow")


@test()
def a_capture_at_xdp_says_who_is_there(lab):
    """Where weir itself decides at XDP a capture there is refused in a line that says what to do, and that shows what the rules
    drop"""
    host, peer = lab.hosts()
    lab.quiet(host, peer)
    agent = lab.agent(host)
    number = add(agent, "drop in udp to port 9")["id"]
    need_xdp(agent)
    done = agent.weir("capture", "at", "xdp", check=False)
    expect_equal((done.returncode, done.stderr.strip()),
                 (1, "weir: weir's own rules are decided at XDP on interface 'w0'; capture at tc; with 'xdp: off' and "
                     "'weir reload' it sees what rules drop, too"), "refused")
    expect_equal(place(agent)["mode"], "native", "XDP afterwards")
    with open(agent.config, "w", encoding="utf-8") as file:
        file.write("interfaces: [w0]\nxdp: off\n")
    agent.reload()
    captured = Captured(lab, agent, "udp", "and", "dst", "port", "9")
    send_frames(peer, "p0", [datagram("10.1.0.2")] * 6)
    wait_for(lambda: packets(agent, number) == 6, 3, "the rule to be decided")
    expect_equal(len(captured.stop().packets), 6, "dropped packets that were captured")


@test("vm-6.1")
def killed_agent_goes_on_at_xdp(lab):
    """A killed agent's program goes on dropping, the next agent takes over without a gap and with the counters; an
    interface that goes and comes back has it again"""
    host, peer = lab.hosts()
    lab.quiet(host, peer)
    agent = lab.agent(host)
    put(agent, "bad", "198.51.100.0/24")
    number = add(agent, "drop in from @bad")["id"]
    program = need_xdp(agent)["program"]
    before = seen(agent)
    send_frames(peer, "p0", [datagram("198.51.100.1")] * 10)
    wait_for(lambda: packets(agent, number) == 10, 3, "the rule")
    agent.kill(signal.SIGKILL)
    agent.process.wait()
    for _ in range(5):
        send_frames(peer, "p0", [datagram("198.51.100.1")] * 4)
    agent.launch()
    sent = 30
    while "weir: ready" not in agent.output():
        send_frames(peer, "p0", [datagram("198.51.100.1")] * 5)
        sent += 5
        time.sleep(0.02)
    agent.note_objects()
    wait_for(lambda: packets(agent, number) == sent, 3, f"{sent} packets of the rule")
    expect_equal(seen(agent) - before, 0, "packets that came as far as tc")
    expect(need_xdp(agent)["program"] != program, "the old agent's program is still there")

    host.ip("link", "del", "w0")
    wait_for(lambda: agent.interface("w0")["state"] == "waiting", 5, "w0 to be gone")
    host.ip("link", "add", "w0", "type", "veth", "peer", "name", "p0", "netns", peer.name)
    host.ip("link", "set", "w0", "up")
    peer.ip("link", "set", "p0", "up")
    agent.wait_watched("w0")
    need_xdp(agent)
    wait_for(lambda: "state UP" in peer.ip("link", "show", "p0").stdout, 5, "p0 to be up")
    send_frames(peer, "p0", [datagram("198.51.100.1")] * 3)
    wait_for(lambda: packets(agent, number) > sent, 3, "the rule on the new interface")
    expect_equal(packets(agent, number), sent + 3, "packets of the rule on the new interface")
