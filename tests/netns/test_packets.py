# SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
"""Packets of every kind: fragments, tags, extension headers, other protocols, no link header, nonsense."""

import os
import socket
import time

import pcap
from lab import (expect, expect_equal, need_kernel, open_tun, send_frames, tcp_transfer, udp_send, udp_socket)
from suite import each, test, variants
from test_count import HEADERS, SYN_EXTRA, expect_same_flows, set_offload, without_chatter

ADDRESS = {4: ("10.1.0.1", "10.1.0.2"), 6: ("fd00:1::1", "fd00:1::2")}


@each()
@variants("family", 4, 6)
def ping_is_a_flow_each_way(lab, family):
    """ping over IPv{family} is one flow each way, with type, code and identifier, as tcpdump saw it"""
    host, peer = lab.hosts()
    agent = lab.agent(host)
    capture = lab.capture(host, "w0")
    host.run("ping", "-c", 5, "-i", 0.05, "-s", 300, ADDRESS[family][1])
    expect_same_flows(agent, capture, host)
    proto, request, reply = ("icmp", 8, 0) if family == 4 else ("icmp6", 128, 129)
    flows = {f["direction"]: f for f in agent.flows(proto) if f["icmp_type"] in (request, reply)}
    expect_equal((flows["out"]["icmp_type"], flows["in"]["icmp_type"]), (request, reply), "types")
    expect_equal(flows["out"]["icmp_id"], flows["in"]["icmp_id"], "identifier")
    expect_equal((flows["out"]["sport"], flows["out"]["dport"]), (0, 0), "ports")
    expect_equal(flows["out"]["packets"], 5, "packets")


@each()
@variants("family", 4, 6)
def fragments_have_no_ports(lab, family):
    """of a fragmented datagram (IPv{family}) the first fragment has ports, later ones are flows of their own"""
    host, peer = lab.hosts()
    set_offload(host, peer, False)
    agent = lab.agent(host)
    capture = lab.capture(host, "w0")
    own, other = ADDRESS[family]
    udp_send(host, peer, own, other, 5353, 4, 4000, own_port=6000)
    udp_send(peer, host, other, own, 5353, 3, 6000, own_port=6000)
    host.run("ping", "-c", 2, "-i", 0.05, "-s", 4000, other)
    expect_same_flows(agent, capture, host)
    flows = agent.flows("udp")
    for direction, datagrams, later in (("out", 4, 2), ("in", 3, 4)):
        first = [f for f in flows if f["direction"] == direction and f["dport"] == 5353]
        rest = [f for f in flows if f["direction"] == direction and f.get("fragment")]
        expect_equal([(f["packets"], f.get("fragment", False)) for f in first], [(datagrams, False)], "first fragments")
        expect_equal([(f["packets"], f["sport"], f["dport"]) for f in rest], [(datagrams * later, 0, 0)],
                     "later fragments")
    expect_equal(len(agent.flows("udp port 5353")), 2, "flows with the port")
    expect_equal({f["proto"] for f in agent.flows("fragment")}, {"udp", "icmp" if family == 4 else "icmp6"},
                 "protocols of later fragments")


def vlan(namespace, parent, name, number, own, other, kind="802.1Q", vlan_id=5):
    need_kernel(lambda: namespace.ip("link", "add", "link", parent, "name", name, "type", "vlan", "proto", kind,
                                     "id", vlan_id), f"VLAN interfaces ({kind})")
    lab_mac = f"02:00:00:00:01:{other:02x}"  # VLAN interfaces have their parent's address
    namespace.lab.address(namespace, name, number, own, other, lab_mac)


@each(**{"vm-6.1": "on"})
@variants("offload", "on", "off")
def vlan_tags_are_wire_bytes(lab, offload):
    """tagged packets count with their tag and name their VLAN, tag offload and GSO {offload}"""
    host, peer = lab.hosts()
    for namespace, parent, own, other in ((host, "w0", 1, 2), (peer, "p0", 2, 1)):
        namespace.offload(parent, offload == "on")
        namespace.run("ethtool", "-K", parent, "txvlan", offload, "rxvlan", offload, check=False)
        vlan(namespace, parent, f"{parent}.5", 5, own, other)
        namespace.offload(f"{parent}.5", offload == "on")
    agent = lab.agent(host)
    capture = lab.capture(host, "w0")
    client, server, port = tcp_transfer(host, peer, "10.5.0.2", 8080, 2_000_000, 1_000_000)
    udp_send(peer, host, "fd00:5::2", "fd00:5::1", 53, 10, 200)
    host.run("ping", "-c", 2, "-i", 0.05, "10.5.0.2")
    if offload == "off":
        expect_same_flows(agent, capture, host)
    for direction, packets, payload in (("out", client["segs_out"], 2_000_000),
                                        ("in", server["segs_out"] + 1, 1_000_000)):
        flow = next(f for f in agent.flows(f"{direction} tcp") if port in (f["sport"], f["dport"]))
        expect_equal((flow["vlan"], flow["packets"], flow["bytes"]),
                     (5, packets, payload + packets * (HEADERS[4] + 4) + SYN_EXTRA), f"VLAN, packets, bytes {direction}")
    expect_equal(len(agent.flows("tcp vlan 5")), 2, "flows with VLAN 5")
    expect_equal(len(agent.flows("vlan 6")), 0, "flows with VLAN 6")


@test()
def vlan_interface_sees_no_tag(lab):
    """on the VLAN interface itself the same flow has no tag, and its bytes are those without"""
    host, peer = lab.hosts()
    vlan(host, "w0", "w0.5", 5, 1, 2)
    vlan(peer, "p0", "p0.5", 5, 2, 1)
    agent = lab.agent(host, "interfaces: [w0, w0.5]\n")
    udp_send(host, peer, "10.5.0.1", "10.5.0.2", 53, 10, 200)
    flows = {f["interface"]: f for f in agent.flows("out udp")}
    expect_equal((flows["w0"]["bytes"], flows["w0"].get("vlan")), (10 * (18 + 28 + 200), 5), "on w0")
    expect_equal((flows["w0.5"]["bytes"], flows["w0.5"].get("vlan")), (10 * (14 + 28 + 200), None), "on w0.5")


@test()
def qinq_names_the_inner_vlan(lab):
    """doubly tagged packets count with both tags and name the inner VLAN"""
    host, peer = lab.hosts()
    for namespace, parent, own, other in ((host, "w0", 1, 2), (peer, "p0", 2, 1)):
        namespace.offload(parent, False)
        vlan(namespace, parent, "outer", 6, own, other, "802.1ad", 100)
        vlan(namespace, "outer", "inner", 7, own, other, "802.1Q", 7)
        namespace.offload("inner", False)
    agent = lab.agent(host)
    capture = lab.capture(host, "w0")
    tcp_transfer(host, peer, "10.7.0.2", 8080, 300_000, 100_000)
    udp_send(host, peer, "fd00:7::1", "fd00:7::2", 53, 10, 200)
    expect_same_flows(agent, capture, host)
    udp = agent.flows("out udp")[0]
    expect_equal((udp["vlan"], udp["packets"], udp["bytes"]), (7, 10, 10 * (22 + 48 + 200)), "VLAN, packets, bytes")


@test("vm-6.1")
def gso_with_qinq_is_exact(lab):
    """doubly tagged TCP with GSO counts to the segment and byte"""
    host, peer = lab.hosts()
    for namespace, parent, own, other in ((host, "w0", 1, 2), (peer, "p0", 2, 1)):
        namespace.offload(parent, True)
        vlan(namespace, parent, "outer", 6, own, other, "802.1ad", 100)
        vlan(namespace, "outer", "inner", 7, own, other, "802.1Q", 7)
    agent = lab.agent(host)
    client, server, port = tcp_transfer(host, peer, "10.7.0.2", 8080, 2_000_000, 1_000_000)
    for direction, packets, payload in (("out", client["segs_out"], 2_000_000),
                                        ("in", server["segs_out"] + 1, 1_000_000)):
        flow = next(f for f in agent.flows(f"{direction} tcp") if port in (f["sport"], f["dport"]))
        expect_equal((flow["packets"], flow["bytes"]), (packets, payload + packets * (HEADERS[4] + 8) + SYN_EXTRA),
                     f"packets, bytes {direction}")


@test("vm")
def tagged_frames_both_ways(lab):
    """frames with one tag and with two, in and out, with the tag in the data or beside it, count with all their tags"""
    host, peer = lab.hosts()
    lab.quiet(host, peer)
    agent = lab.agent(host)
    capture = lab.capture(host, "w0")
    made = [pcap.ethernet(packet, tags=tags) for tags in (((0x8100, 5),), ((0x88A8, 5),), ((0x8100, 0),),
                                                          ((0x88A8, 100), (0x8100, 7)), ((0x8100, 8), (0x8100, 9)))
            for packet in (pcap.ipv4(17, pcap.udp(1111, 2222, bytes(60)), destination="10.1.0.77"),
                           pcap.ipv6(6, pcap.tcp(3333, 4444, 2)))]
    back = [frame[6:12] + frame[:6] + frame[12:] for frame in made]
    for _ in range(3):
        send_frames(peer, "p0", made)
        send_frames(host, "w0", back)
    flows = expect_same_flows(agent, capture, host)
    expect_equal({key.vlan for key in flows}, {5, 0, 7, 9}, "VLANs")
    expect_equal(len(flows), 2 * 2 * 4, "flows")  # 0x8100 and 0x88a8 with one id are one VLAN


# Frames as nobody's stack sends them: (what, frame, wanted key fields).
HOP = (0, bytes([0, 1, 4, 0, 0, 0, 0]))
ROUTING = (43, bytes([2, 0, 0]) + bytes(20))
OPTIONS = (60, bytes([1]) + bytes([1, 12]) + bytes(12))
AH = (51, bytes([4]) + bytes(22))
FRAGMENT_FIRST = (44, bytes([0, 0, 1, 0, 0, 0, 9]))
FRAGMENT_LATER = (44, bytes([0, 0x05, 0x08, 0, 0, 0, 9]))


def odd_frames():
    udp, tcp = pcap.udp(1111, 2222, bytes(30)), pcap.tcp(3333, 4444, 0xFF, bytes(10), options=bytes([1] * 20))
    frame = pcap.ethernet
    v4, v6 = pcap.ipv4, pcap.ipv6
    return [
        ("IPv4 options", frame(v4(17, udp, options=bytes([1] * 40))), ("udp", 1111, 2222, False)),
        ("TCP with all flags and options", frame(v4(6, tcp)), ("tcp", 3333, 4444, False)),
        ("SCTP", frame(v4(132, pcap.sctp(5555, 6666, bytes(20)))), ("sctp", 5555, 6666, False)),
        ("SCTP over IPv6", frame(v6(132, pcap.sctp(5555, 6666, bytes(20)))), ("sctp", 5555, 6666, False)),
        ("GRE", frame(v4(47, bytes(24))), ("gre", 0, 0, False)),
        ("ESP", frame(v4(50, bytes(64))), ("esp", 0, 0, False)),
        ("an unknown protocol", frame(v4(253, bytes(8))), ("253", 0, 0, False)),
        ("IPv6 hop-by-hop", frame(v6(17, udp, "fd00:1::3", extensions=[HOP])), ("udp", 1111, 2222, False)),
        ("IPv6 hop-by-hop, routing, options, TCP", frame(v6(6, tcp, "fd00:1::4",
                                                          extensions=[HOP, ROUTING, OPTIONS])),
         ("tcp", 3333, 4444, False)),
        ("IPv6 authentication header", frame(v6(17, udp, "fd00:1::5", extensions=[AH])), ("udp", 1111, 2222, False)),
        ("IPv6 first fragment", frame(v6(17, udp, "fd00:1::6", extensions=[FRAGMENT_FIRST])),
         ("udp", 1111, 2222, False)),
        ("IPv6 later fragment", frame(v6(17, udp, "fd00:1::6", extensions=[HOP, FRAGMENT_LATER])),
         ("udp", 0, 0, True)),
        ("IPv4 later fragment", frame(v4(6, tcp, "10.1.0.6", fragment=0x2010)), ("tcp", 0, 0, True)),
        ("IPv4 last fragment", frame(v4(6, tcp, "10.1.0.7", fragment=0x0010)), ("tcp", 0, 0, True)),
        ("ICMP unreachable", frame(v4(1, pcap.icmp(3, 1, payload=v4(17, udp)), "10.1.0.8")), ("icmp", 0, 0, False)),
        ("UDP behind padding", frame(v4(17, pcap.udp(7777, 8888))) + bytes(18), ("udp", 7777, 8888, False)),
    ]


@test("vm-6.1")
def odd_packets_are_flows(lab):
    """options, extension headers, SCTP, GRE, ESP, lone fragments: each is the flow it should be"""
    host, peer = lab.hosts()
    agent = lab.agent(host)
    capture = lab.capture(host, "w0")
    frames = odd_frames()
    for times in range(2):
        send_frames(peer, "p0", [frame for _, frame, _ in frames])
    time.sleep(0.2)
    flows = without_chatter(pcap.api_flows(agent.flows("in")))
    for what, frame, (proto, sport, dport, fragment) in frames:
        key, flags = pcap.packet_key(frame)
        expect_equal((key.proto, key.sport, key.dport, key.fragment), (proto, sport, dport, fragment),
                     f"{what}: this test's own reading")
        counts = flows.get(key)
        expect(counts is not None, f"{what}: no such flow {tuple(key)} among {[tuple(k) for k in flows]}")
        expect_equal((counts.packets, counts.bytes, counts.flags), (2, 2 * len(frame), flags), what)
    expect_equal(len(flows), len(frames), "flows")
    wanted = pcap.flows(capture.stop(), host.address_of("w0"))[0]
    lines = pcap.differences(flows, without_chatter({k: v for k, v in wanted.items() if k.direction == "in"}))
    expect(not lines, "flows differ from tcpdump's:\n" + "\n".join(lines))


@test()
def unreadable_packets_have_reasons(lab):
    """what cannot be read is counted under its reason, and stays in the totals"""
    host, peer = lab.hosts()
    agent = lab.agent(host)
    before = {entry["reason"]: entry["packets"] for entry in agent.get("/v1/status")["parse"]}
    totals = agent.interface("w0")["in"]
    udp = pcap.udp(1111, 2222, bytes(30))
    whole = pcap.ipv4(17, udp)
    frames = {
        "not-ip": [pcap.ethernet(bytes(46), kind=0x88CC), pcap.ethernet(bytes(46), kind=0x9000)],
        "ip-short": [pcap.ethernet(whole[:12], kind=0x0800), pcap.ethernet(pcap.ipv6(17, udp)[:30], kind=0x86DD)],
        "ip-version": [pcap.ethernet(b"\x65" + whole[1:], kind=0x0800)],
        "ip-length": [pcap.ethernet(b"\x44" + whole[1:], kind=0x0800),
                      pcap.ethernet(pcap.ipv4(17, udp, length=10), kind=0x0800)],
        "l4-short": [pcap.ethernet(pcap.ipv4(17, udp[:4])), pcap.ethernet(pcap.ipv4(6, bytes(12)))],
        "l4-length": [pcap.ethernet(pcap.ipv4(6, pcap.tcp(1, 2, 2)[:12] + b"\x10" + bytes(7)))],
        "extension-short": [pcap.ethernet(pcap.ipv6(0, b"\x11"))],
        "extension-depth": [pcap.ethernet(pcap.ipv6(17, udp, extensions=[OPTIONS] * 9))],
    }
    sent = [frame for some in frames.values() for frame in some]
    send_frames(peer, "p0", sent)
    time.sleep(0.2)
    after = {entry["reason"]: entry["packets"] for entry in agent.get("/v1/status")["parse"]}
    for reason, some in frames.items():
        expect_equal(after.get(reason, 0) - before.get(reason, 0), len(some), f"packets counted as {reason}")
    now = agent.interface("w0")["in"]
    expect(now["packets"] - totals["packets"] >= len(sent), "unreadable packets are missing from the totals")
    agent.losses()


@test("vm-6.1")
def interface_without_link_header(lab):
    """a tun interface has no link header: bytes begin with the IP header, both ways"""
    host, _ = lab.hosts()
    fd = need_kernel(lambda: open_tun(host, "t0"), "tun interfaces")
    lab.on_close(lambda: os.close(fd))
    host.lab.address(host, "t0", 9, 1, 2, None)
    agent = lab.agent(host, "interfaces: [t0]\n")
    incoming = [pcap.ipv4(17, pcap.udp(1111, 2222, bytes(100)), "10.9.0.2", "10.9.0.1"),
                pcap.ipv4(6, pcap.tcp(3333, 4444, 0x10), "10.9.0.2", "10.9.0.77"),
                pcap.ipv6(17, pcap.udp(1111, 2222, bytes(100)), "fd00:9::2", "fd00:9::1"),
                pcap.ipv6(58, pcap.icmp(128, 0, b"\x12\x34\0\1"), "fd00:9::2", "fd00:9::77")]
    with udp_socket(host, "10.9.0.1", 2222) as four, udp_socket(host, "fd00:9::1", 2222) as six:
        for packet in incoming:
            os.write(fd, packet)
        four.recv(2000)
        six.recv(2000)
        four.sendto(bytes(50), ("10.9.0.2", 1111))
        six.sendto(bytes(60), ("fd00:9::2", 1111))
    expect_equal(agent.interface("t0")["link"], "raw", "link")
    got = pcap.api_flows(agent.flows(), "t0")
    for packet in incoming:
        key, flags = pcap.packet_key(packet, pcap.RAW, own_address={"10.9.0.1", "fd00:9::1"})
        counts = got.get(key)
        expect(counts is not None, f"no flow {tuple(key)} among {[tuple(k) for k in got]}")
        expect_equal((counts.packets, counts.bytes, counts.flags), (1, len(packet), flags), str(tuple(key)))
    out = {f["family"]: f["bytes"] for f in agent.flows("out udp")}
    expect_equal(out, {4: 20 + 8 + 50, 6: 40 + 8 + 60}, "bytes that went out")


@test()
def interfaces_count_apart(lab):
    """traffic of two interfaces is listed under the interface it passed"""
    host, peer = lab.hosts()
    lab.pair(host, "w1", peer, "p1", number=2)
    agent = lab.agent(host, "interfaces: [w0, w1]\n")
    udp_send(host, peer, "10.1.0.1", "10.1.0.2", 53, 7, 10)
    udp_send(host, peer, "10.2.0.1", "10.2.0.2", 53, 9, 10)
    got = {f["interface"]: f["packets"] for f in agent.flows("out udp")}
    expect_equal(got, {"w0": 7, "w1": 9}, "packets per interface")


@test("vm-6.1")
def raw_gso_from_packet_sockets(lab):
    """a packet socket's GSO packet, whose segments nobody has counted yet, counts as its segments"""
    packet_vnet_hdr, sol_packet = 15, 263
    host, peer = lab.hosts()
    agent = lab.agent(host)
    payload = bytes(5000)
    frame = bytearray(pcap.ethernet(pcap.ipv4(17, pcap.udp(1212, 3434, payload), "10.1.0.1", "10.1.0.2"),
                                    destination="02:00:00:00:01:02", source="02:00:00:00:01:01"))
    # struct virtio_net_hdr: NEEDS_CSUM, GSO_UDP_L4 (5), header length, segment size, checksum start and offset
    header = bytes([1, 5]) + (42).to_bytes(2, "little") + (1000).to_bytes(2, "little") + \
        (34).to_bytes(2, "little") + (6).to_bytes(2, "little")
    with host, socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as sock:
        sock.bind(("w0", 0x0800))
        sock.setsockopt(sol_packet, packet_vnet_hdr, 1)
        need_kernel(lambda: sock.send(header + bytes(frame)), "UDP GSO from packet sockets")
    flow = agent.flows("out udp to port 3434")[0]
    expect_equal((flow["packets"], flow["bytes"]), (5, 5000 + 5 * 42), "packets, bytes")
