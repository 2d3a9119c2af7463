# SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
"""How packets are judged at tc: packets of every kind, both directions, and what rules do to packets."""

import errno
import os
import signal
import socket
import struct
import subprocess
import sys

import pcap
from lab import (expect, expect_equal, need_kernel, open_tun, run, send_frames, tcp_transfer, udp_send, udp_socket,
                 wait_for)
from suite import test
from test_rules import add, apply, done, rule, rules

HERE, THERE = {4: "10.1.0.1", 6: "fd00:1::1"}, {4: "10.1.0.2", 6: "fd00:1::2"}
OPTIONS = (0, b"\0" + bytes([1, 4, 0, 0, 0, 0]))  # hop-by-hop or destination options that say nothing
CONFIG = "interfaces: [w0]\nxdp: off\n"
SYN, ACK, RST = 2, 16, 4


def packets(agent, *entries):
    """What the rules have counted, in the order of `entries`; tc counts before the sender's call returns."""
    counts = {entry["id"]: entry["packets"] for entry in rules(agent)}
    return [counts[entry["id"]] for entry in entries]


def captured(capture):
    """The frames that it saw."""
    records = pcap.read(capture.stop())
    next(records)
    return [frame for frame, _ in records]


def protocol(frame):
    return frame[20] if frame[12:14] == b"\x86\xdd" else frame[23]


def send_quietly(sock, *where):
    """Sends to where a rule drops it: then some kernels say so."""
    try:
        sock.sendto(b"x", *where)
    except OSError as error:
        expect_equal(error.errno, errno.ENOBUFS, "sendto()")


def headers_of_every_kind():
    """(what it is, frame, does `udp to port 2222` fit it?)"""
    frame, v4, v6, udp = pcap.ethernet, pcap.ipv4, pcap.ipv6, pcap.udp(1111, 2222, bytes(30))
    other = pcap.udp(1111, 2223, bytes(30))
    eight = [(0, OPTIONS[1])] + [(60, OPTIONS[1])] * 7
    first6 = (44, b"\0" + struct.pack("!HI", 1, 77))
    later6 = (44, b"\0" + struct.pack("!HI", 8 << 3, 77))
    inner = v4(17, pcap.udp(1111, 2222), "10.1.0.1", "10.1.0.9")[:28]
    return [
        ("UDP", frame(v4(17, udp)), True),
        ("UDP over IPv6", frame(v6(17, udp)), True),
        ("with options", frame(v4(17, udp, options=bytes([1] * 40))), True),
        ("in a VLAN", frame(v4(17, udp), tags=[(0x8100, 5)]), True),
        ("in a VLAN, IPv6", frame(v6(17, udp), tags=[(0x8100, 5)]), True),
        ("in QinQ", frame(v4(17, udp), tags=[(0x88A8, 6), (0x8100, 7)]), True),
        ("in QinQ, IPv6", frame(v6(17, udp), tags=[(0x88A8, 6), (0x8100, 7)]), True),
        ("behind eight extension headers", frame(v6(17, udp, extensions=eight)), True),
        ("first fragment", frame(v4(17, udp, fragment=0x2000)), True),
        ("first fragment, IPv6", frame(v6(17, udp, extensions=[first6])), True),
        ("behind padding", frame(v4(17, pcap.udp(1111, 2222))) + bytes(18), True),
        ("later fragment that looks like it", frame(v4(17, udp, fragment=8)), False),
        ("later fragment that looks like it, IPv6", frame(v6(17, udp, extensions=[later6])), False),
        ("another port", frame(v4(17, other)), False),
        ("another port, IPv6", frame(v6(17, other)), False),
        ("port in the options", frame(v4(17, other, options=struct.pack("!HHHH", 1111, 2222, 1111, 2222))), False),
        ("TCP", frame(v4(6, pcap.tcp(1111, 2222, SYN))), False),
        ("from that port", frame(v4(17, pcap.udp(2222, 1111, bytes(30)))), False),
        ("port in an ICMP error", frame(v4(1, pcap.icmp(3, 3, payload=inner))), False),
        ("header cut short", frame(v4(17, udp[:4])), False),
        ("not IP", frame(bytes(10) + udp, kind=0x88CC), False),
    ]


@test()
def headers_are_judged_as_what_they_are(lab):
    """options, tags, extension headers and fragments hide no port from a rule, and what only looks like that port is not
    dropped for it; each frame is counted by the rule that decided, and its flow tells"""
    host, peer = lab.hosts()
    host.sysctl("net.ipv4.icmp_ratelimit=0")
    agent = lab.agent(host, CONFIG)
    agent.wait_watched("w0")
    dropped = add(agent, "drop in udp to port 2222")
    others = add(agent, "count in")
    for twice in range(2):  # the second time the verdict is kept with the flow
        for what, frame, fits in headers_of_every_kind():
            before = packets(agent, dropped, others)
            send_frames(peer, "p0", [frame])
            after = wait_for(lambda: packets(agent, dropped, others) != before and packets(agent, dropped, others), 5,
                             f"{what} to be judged")
            expect_equal([b - a for a, b in zip(before, after)], [1, 0] if fits else [0, 1], f"{what}, round {twice}")
    flows = agent.flows("in udp to port 2222")
    expect(len(flows) > 5, "too few flows")
    for flow in flows:
        expect_equal((flow["verdict"], flow["rule"]), ("drop", dropped["id"]), "verdict and rule of a dropped flow")
    for flow in agent.flows("in udp to port 2223"):
        expect_equal((flow["verdict"], flow["rule"]), ("accept", 0), "verdict and rule of the others")


@test()
def rules_have_directions(lab):
    """what leaves is judged apart from what comes in, in both families; on the loopback interface a packet is judged both
    times"""
    host, peer = lab.hosts()
    agent = lab.agent(host, "interfaces: [w0, lo]\nxdp: off\n")
    agent.wait_watched("w0")
    agent.wait_watched("lo")
    out, loop = add(agent, "drop out udp to port 7000"), add(agent, "count on lo udp to port 7001")
    for family in 4, 6:
        udp_send(peer, host, THERE[family], HERE[family], 7000, 3, 10)
        expect_equal(packets(agent, out), [0], "packets in of a rule for out")
        with udp_socket(peer, THERE[family], 7000) as receiver, udp_socket(host, HERE[family]) as sender:
            receiver.settimeout(0.1)
            for _ in range(3):
                send_quietly(sender, (THERE[family], 7000))
            try:
                receiver.recv(1)
                expect(False, "a datagram came through")
            except TimeoutError:
                pass
        expect_equal(packets(agent, out), [3], "packets out")
        done(agent, "POST", "/v1/rules/delete", id=out["id"])
        udp_send(host, peer, HERE[family], THERE[family], 7000, 3, 10)
        out = add(agent, "drop out udp to port 7000")
    udp_send(host, host, "127.0.0.1", "127.0.0.1", 7001, 5, 10)
    expect_equal(packets(agent, loop), [10], "packets over lo")


@test()
def each_packet_of_a_flow_is_judged(lab):
    """rules on TCP flags, DSCP and fragments see each packet of a flow, whatever was decided about the one before"""
    host, peer = lab.hosts()
    agent = lab.agent(host, CONFIG)
    agent.wait_watched("w0")
    syn = add(agent, "drop in tcp to port 80 flags syn/syn,ack")
    ef = add(agent, "drop in udp to port 81 dscp ef")
    fragment = add(agent, "drop in udp to port 82 fragment first")
    rest = add(agent, "count in")
    frame, v4 = pcap.ethernet, pcap.ipv4

    def with_dscp(dscp):
        packet = bytearray(v4(17, pcap.udp(1, 81, bytes(20))))
        packet[1], packet[10:12] = dscp << 2, b"\0\0"
        packet[10:12] = struct.pack("!H", pcap.checksum(bytes(packet[:20])))
        return frame(bytes(packet))

    pairs = ((frame(v4(6, pcap.tcp(1, 80, SYN))), frame(v4(6, pcap.tcp(1, 80, ACK)))), (with_dscp(46), with_dscp(0)),
             (frame(v4(17, pcap.udp(1, 82, bytes(24)), fragment=0x2000)), frame(v4(17, pcap.udp(1, 82, bytes(24))))))
    for entry, (fits, fits_not) in zip((syn, ef, fragment), pairs):
        before = packets(agent, entry, rest)
        send_frames(peer, "p0", [fits, fits_not] * 5 + [fits])
        wait_for(lambda: [b - a for a, b in zip(before, packets(agent, entry, rest))] == [6, 5], 5,
                 f"6 and 5 packets: {entry['text']}")


@test("vm-6.1")
def rejected_packets_are_answered(lab):
    """reject refuses TCP with a reset and the rest with an ICMP error, both families, both directions: the caller's error says
    so at once; what the rule says instead is done instead"""
    host, peer = lab.hosts()
    agent = lab.agent(host, CONFIG)
    agent.wait_watched("w0")
    apply(agent, "reject tcp to port 80", "reject udp to port 81", "reject udp to port 82 with prohibited",
          "reject in udp to port 83 with host-unreachable")
    for family in 4, 6:
        errors = {81: errno.ECONNREFUSED, 82: errno.EHOSTUNREACH if family == 4 else errno.EACCES}
        for client, address in ((peer, HERE[family]), (host, THERE[family])):
            with client, socket.socket(socket.AF_INET6 if family == 6 else socket.AF_INET) as sock:
                sock.settimeout(5)
                expect_equal(sock.connect_ex((address, 80)), errno.ECONNREFUSED, f"connect({address})")
            for port, wanted in errors.items():
                with udp_socket(client, "::" if family == 6 else "0.0.0.0") as sock:
                    sock.connect((address, port))
                    sock.send(b"x")
                    try:
                        sock.recv(1)
                        expect(False, "an answer")
                    except OSError as error:
                        expect_equal(error.errno, wanted, f"{address} port {port}")
        with udp_socket(peer, THERE[family]) as sock:
            sock.setsockopt(*((41, 25) if family == 6 else (0, 11)), 1)  # IPV6_RECVERR, IP_RECVERR
            sock.connect((HERE[family], 83))
            sock.send(b"x")
            try:
                sock.recv(1)
                expect(False, "an answer")
            except OSError as error:
                expect_equal(error.errno, errno.EHOSTUNREACH, "host-unreachable")
    counts = {entry["text"]: entry["packets"] for entry in rules(agent)}
    expect_equal(counts["reject udp to port 81"], 4, "rejected datagrams")


@test()
def packets_are_marked_and_rewritten(lab):
    """mark, rewrite dscp and rewrite mac change the packet and go on; a later rule sees the mark, checksums stay right, and TCP
    goes on as if nothing were"""
    host, peer = lab.hosts()
    agent = lab.agent(host, CONFIG)
    agent.wait_watched("w0")
    apply(agent, "mark 0x10/0xff out udp to port 90", "rewrite dscp af21 out", "rewrite source mac 02:00:00:00:07:07 out udp",
          "drop out mark 0x10/0xf0")
    capture = lab.capture(peer, "p0")
    for family in 4, 6:
        with udp_socket(host, HERE[family]) as sock:
            send_quietly(sock, (THERE[family], 90))
        udp_send(host, peer, HERE[family], THERE[family], 91, 2, 10)
        tcp_transfer(host, peer, THERE[family], 92, 200_000, 100_000)
    seen = 0
    for frame in captured(capture):
        proto, v6 = protocol(frame), frame[12:14] == b"\x86\xdd"
        if frame[6:12].hex() not in ("020000000101", "020000000707") or proto not in (6, 17):
            continue
        tos = (frame[14] & 15) << 4 | frame[15] >> 4 if v6 else frame[15]
        expect_equal(tos >> 2, 18, "DSCP")
        expect_equal(frame[6:12].hex(), "020000000707" if proto == 17 else "020000000101", "source MAC")
        if not v6:
            expect_equal(pcap.checksum(frame[14:34]), 0, "checksum of the IPv4 header")
        seen += 1
    expect(seen > 20, f"{seen} packets seen")
    counts = {entry["text"]: entry["packets"] for entry in rules(agent)}
    expect_equal(counts["drop out mark 0x10/0xf0"], 2, "marked packets")


@test()
def packets_go_elsewhere(lab):
    """mirror sends a copy through another interface and goes on; redirect sends the packet itself there"""
    host, peer = lab.hosts()
    lab.pair(host, "w1", peer, "p1", number=2)
    agent = lab.agent(host, CONFIG)
    agent.wait_watched("w0")
    mirrored, redirected = add(agent, "mirror to w1 in udp to port 95"), add(agent, "redirect to w1 in udp to port 96")
    capture = lab.capture(peer, "p1")
    for family in 4, 6:
        udp_send(peer, host, THERE[family], HERE[family], 95, 5, 33)
        send_frames(peer, "p0", [pcap.ethernet((pcap.ipv4 if family == 4 else pcap.ipv6)(17, pcap.udp(4, 96, bytes(8))))] * 4)
    expect_equal(packets(agent, mirrored, redirected), [10, 8], "packets of the rules")
    found = [struct.unpack_from("!H", frame, 56 if frame[12:14] == b"\x86\xdd" else 36)[0]
             for frame in captured(capture) if protocol(frame) == 17]
    expect_equal((found.count(95), found.count(96)), (10, 8), "what came out of the other interface")


SENDER = """
import socket, sys
sock = socket.socket(socket.AF_INET6 if ":" in sys.argv[1] else socket.AF_INET, socket.SOCK_DGRAM)
sock.settimeout(5)
if len(sys.argv) > 3:
    sock.bind(("::" if ":" in sys.argv[1] else "0.0.0.0", int(sys.argv[3])))
    print("bound", flush=True)
for line in sys.stdin:
    try:
        sock.sendto(b"x", (sys.argv[1], int(sys.argv[2])))
    except OSError:
        pass
    print("sent", flush=True)
"""


@test()
def owners_are_asked(lab):
    """by and not by hold for packets of local sockets in both directions, from the first packet on, and for no forwarded packet
    nor the kernel's own"""
    host, peer = lab.hosts()
    agent = lab.agent(host, CONFIG)
    agent.wait_watched("w0")
    entries = [add(agent, text) for text in (
        "count by user 64321", "count out udp not by user 64321", f"count out by exe {os.path.realpath(sys.executable)}",
        "count in udp to port 4999 by user 64321")]

    def sender(user):
        process = lab.start(*host.command("setpriv", "--reuid", user, "--clear-groups", sys.executable, "-I", "-c", SENDER,
                                          THERE[4], 98, *([4999] if user else [])),
                            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1)

        def send():
            process.stdin.write("go\n")
            process.stdin.flush()
            expect_equal(process.stdout.readline().strip(), "sent", "the sender")

        if user:
            expect_equal(process.stdout.readline().strip(), "bound", "the sender")
        return send

    guest, root = sender(64321), sender(0)
    for _ in range(3):
        guest()
        root()
    expect_equal(packets(agent, *entries)[:3], [3, 3, 6], "of the guest, not of the guest, of the executable")
    send_frames(peer, "p0", [pcap.ethernet(pcap.ipv4(17, pcap.udp(98, 4999, b"y")))] * 4)
    wait_for(lambda: packets(agent, entries[3]) == [4], 5, "what came in for the guest")
    host.run("ping", "-c", 1, THERE[4])
    expect_equal(packets(agent, entries[0]), [7], "of the guest in both directions")


@test("vm-6.12")
def expressions_are_asked(lab):
    """matching "EXPRESSION" means to a rule what it means to tcpdump, several of them in one policy, in both families, and on
    an interface without a link header; it goes with other words and with `not`"""
    host, peer = lab.hosts()
    agent = lab.agent(host, "interfaces: [w0, t0]\nxdp: off\n")
    tun = open_tun(host, "t0")
    lab.on_close(lambda: os.close(tun))
    host.ip("addr", "add", "10.9.0.1/24", "dev", "t0")
    host.ip("link", "set", "t0", "up")
    agent.wait_watched("w0")
    agent.wait_watched("t0")
    entries = [add(agent, text) for text in (
        'count in matching "udp[8] = 0x41"', 'count in udp not matching "udp[8] = 0x41"',
        'count in matching "ip6 and udp port 77"', 'count in matching "ether src 02:00:00:00:01:02"',
        'drop in udp matching "greater 200"')]
    frames = [pcap.ethernet(pcap.ipv4(17, pcap.udp(76, 77, b"A"))), pcap.ethernet(pcap.ipv4(17, pcap.udp(76, 77, b"B"))),
              pcap.ethernet(pcap.ipv6(17, pcap.udp(76, 77, b"A"))), pcap.ethernet(pcap.ipv4(17, pcap.udp(76, 77, bytes(300))))]
    for wanted in ([1, 3, 1, 4, 1], [2, 6, 2, 8, 2]):
        send_frames(peer, "p0", frames)
        wait_for(lambda: packets(agent, *entries) == wanted, 5, f"{wanted}, not {packets(agent, *entries)}")
    os.write(tun, pcap.ipv4(17, pcap.udp(76, 77, b"A"), "10.9.0.2", "10.9.0.1"))
    wait_for(lambda: packets(agent, *entries) == [3, 6, 2, 8, 2], 5, f"the tun's packet: {packets(agent, *entries)}")


@test()
def drops_name_their_rule(lab):
    """a packet that a rule or a default verdict drops is among the drops with the rule's id, in and out; packets that others
    drop are not"""
    host, peer = lab.hosts()
    agent = lab.agent(host, CONFIG + "drops: {rate: 10000}\n")
    agent.wait_watched("w0")
    numbers = [entry["id"] for entry in apply(
        agent, "drop in udp to port 50", "drop out udp to port 51", "accept in udp", "accept in tcp",
        head="default: {in: drop}\n") and rules(agent)]
    send_frames(peer, "p0", [pcap.ethernet(pcap.ipv4(17, pcap.udp(1, 50))), pcap.ethernet(pcap.ipv4(17, pcap.udp(1, 52))),
                             pcap.ethernet(pcap.ipv4(1, pcap.icmp(8, 0)))])
    with udp_socket(host, HERE[4]) as sock:
        send_quietly(sock, (THERE[4], 51))

    def found():
        return {(drop["direction"], drop.get("dport", 0)): drop for drop in agent.get("/v1/drops")["recent"]
                if drop.get("family") == 4}

    drops = wait_for(lambda: len(found()) >= 4 and found(), 5, "four drops")
    expect_equal((drops["in", 50]["rule"], drops["in", 50]["reason"]), (numbers[0], "TC_INGRESS"), "in")
    expect_equal((drops["out", 51]["rule"], drops["out", 51]["reason"]), (numbers[1], "TC_EGRESS"), "out")
    expect_equal(drops["in", 0].get("rule"), 0, "by the default verdict")
    expect("rule" not in drops["in", 52], f"another's drop has a rule: {drops['in', 52]}")


@test()
def rules_go_on_without_the_agent(lab):
    """killed with SIGKILL, the agent leaves its rules in force: they drop, reject, count and log on, for new flows as for old;
    the next one knows what happened meanwhile"""
    host, peer = lab.hosts()
    agent = lab.agent(host, CONFIG)
    agent.wait_watched("w0")
    apply(agent, "drop in udp to port 60", "reject in tcp to port 61", 'drop in matching "udp port 62"')
    frames = [pcap.ethernet(pcap.ipv4(17, pcap.udp(port, 60))) for port in range(1, 11)]
    send_frames(peer, "p0", frames[:5])
    agent.kill(signal.SIGKILL)
    agent.stop(signal.SIGKILL)
    send_frames(peer, "p0", frames)
    send_frames(peer, "p0", [pcap.ethernet(pcap.ipv4(17, pcap.udp(1, 62)))] * 3)
    with peer, socket.socket() as sock:
        sock.settimeout(5)
        expect_equal(sock.connect_ex((HERE[4], 61)), errno.ECONNREFUSED, "connect()")
    agent.start()
    expect_equal([entry["packets"] for entry in rules(agent)], [15, 1, 3], "packets of the rules")
    send_frames(peer, "p0", frames)
    wait_for(lambda: [entry["packets"] for entry in rules(agent)] == [25, 1, 3], 5, "packets behind the next agent")


@test()
def address_resolution_goes_on(lab):
    """a default verdict is about IP alone: ARP passes; a rule can still drop it"""
    host, peer = lab.hosts()
    agent = lab.agent(host, CONFIG)
    agent.wait_watched("w0")
    for namespace, name in ((host, "w0"), (peer, "p0")):
        namespace.ip("neigh", "flush", "all", "dev", name)
    apply(agent, "accept icmp", head="default: {in: drop, out: drop}\n")
    peer.run("ping", "-c", 1, "-W", 2, HERE[4])
