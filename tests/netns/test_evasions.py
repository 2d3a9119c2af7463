# SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
"""What gets past other filters: disguised packets, and packets that look like others.  Each is sent, and seen or not seen
behind weir."""

import itertools
import struct

import pcap
from lab import expect_equal, tcp_transfer
from suite import each, test, variants
from test_rules import add, apply, rule
from test_sets import change
from wire import Wire, turn

ADDRESS = {4: ("10.1.0.1", "10.1.0.2"), 6: ("fd00:1::1", "fd00:1::2")}
BUILD = {4: pcap.ipv4, 6: pcap.ipv6}
ICMP = {4: 1, 6: 58}
TCP, UDP = 6, 17
HOP, ROUTING, FRAGMENT, AH, DESTINATION, MOBILITY, HIP, SHIM = 0, 43, 44, 51, 60, 135, 139, 140
FIN, SYN, RST, ACK = 1, 2, 4, 16
MORE = 0x2000  # IPv4: another fragment follows

TAGS = (("no tag", ()), ("802.1Q", ((0x8100, 5),)), ("802.1ad", ((0x88A8, 5),)), ("a priority tag", ((0x8100, 0),)),
        ("QinQ", ((0x88A8, 100), (0x8100, 7))), ("two 802.1Q", ((0x8100, 8), (0x8100, 9))),
        ("three tags", ((0x88A8, 3), (0x8100, 8), (0x8100, 9))))


def case(name, packet, passes, direction="in", tags=()):
    """A case for Wire.expect(): packet(tail) makes an IP packet."""
    turned = turn if direction == "out" else bytes
    return name, lambda tail: turned(pcap.ethernet(packet(tail), tags=tags)), passes


def syn(family, port, **options):
    return lambda tail: BUILD[family](TCP, pcap.tcp(40000, port, SYN, tail), **options)


def extension(kind, words=0):
    """(number, body) of an extension header: `words` of eight bytes more than needed, padded (PadN)."""
    if kind == FRAGMENT:  # offset 0, no more: the whole packet
        return kind, struct.pack("!BHI", 0, 0, 77)
    if kind == AH:
        return kind, bytes([2 + 2 * words]) + bytes(14 + 8 * words)
    length = 8 * (words + 1)
    if kind in (HOP, DESTINATION):
        return kind, bytes([words, 1, length - 4]) + bytes(length - 4)
    return kind, bytes([words]) + bytes(length - 2)


def chain(count, words=3):
    """So many extension headers, of changing kinds and lengths."""
    kinds = (HOP, DESTINATION, ROUTING, AH, DESTINATION, FRAGMENT, MOBILITY, HIP, SHIM)
    return tuple(extension(kind, place % words) for place, kind in enumerate(kinds[:count]))


def fragment(family, proto, payload, place, more, number=77):
    """A fragment; `place` in bytes."""
    if family == 4:
        made = pcap.ipv4(proto, payload, fragment=place // 8 | (MORE if more else 0))
        return pcap.ipv4_numbered(made, number)
    return pcap.ipv6(proto, payload, extensions=[(FRAGMENT, struct.pack("!BHI", 0, place | more, number))])


def unreadable(agent):
    return agent.get("/v1/status")["rules"]["unreadable"]


@each()
@variants("direction", "in", "out")
def tags_do_not_hide_a_port(lab, direction):
    """no VLAN or QinQ tag, in the data or beside it, gets a packet past a rule about its port, going {direction}; rules about
    VLANs look at the innermost tag"""
    wire = Wire(lab)
    add(wire.agent, f"drop {direction} tcp to port 80")
    add(wire.agent, f"drop {direction} tcp to port 82 vlan 7")
    add(wire.agent, f"drop {direction} tcp to port 83 untagged")
    tags = TAGS if direction == "in" else TAGS[:-1]  # here no tag is taken out of the data
    wire.expect(2 * [case(f"IPv{family}, {name}, port {port}", syn(family, port), passes, direction, tagged)
                     for family, (name, tagged) in itertools.product((4, 6), tags)
                     for port, passes in ((80, False), (81, True), (82, name != "QinQ"), (83, name != "no tag"))], direction)


@test()
def headers_do_not_hide_a_port(lab):
    """neither IPv4 options nor up to eight IPv6 extension headers, of any kind and length, get a packet past a rule about its
    port or flags"""
    wire = Wire(lab)
    add(wire.agent, "drop in tcp to port 80")
    add(wire.agent, "drop in tcp to port 82 flags syn")
    cases = [case(f"{size} bytes of options, port {port}", syn(4, port, options=bytes([1]) * size), port == 81)
             for size in (0, 4, 24, 40) for port in (80, 81, 82)]
    cases += [case(f"{count} extension headers, up to {8 * words} bytes, port {port}",
                   syn(6, port, extensions=chain(count, words)), port == 81)
              for count in range(9) for words in (1, 3, 6) for port in (80, 81, 82)]
    cases += [case(f"extension header {kind} {count} times, port {port}",
                   syn(6, port, extensions=[extension(kind)] * count), port == 81)
              for kind in (HOP, ROUTING, FRAGMENT, AH, DESTINATION, MOBILITY, HIP, SHIM) for count in (1, 8)
              for port in (80, 81)]
    wire.expect(2 * cases)


@test()
def hidden_ports_are_dropped(lab):
    """what cannot be read as far as its ports and flags is dropped and counted while a rule drops anything: nine extension
    headers, four tags, first fragments without the whole TCP header, whatever stands behind them in the frame"""
    wire = Wire(lab)
    nothing = syn(6, 81, extensions=chain(9))
    tiny = pcap.tcp(40000, 81, ACK, bytes(8))
    cases = [
        case("nine extension headers", nothing, False),
        case("nine times the same", syn(6, 81, extensions=[extension(DESTINATION)] * 9), False),
        case("four tags", syn(4, 81), False, tags=((0x8100, 5),) * 4),
        case("8 bytes of TCP", lambda tail: fragment(4, TCP, tiny[:8], 0, True) + tail, False),
        case("8 bytes of TCP, the rest behind the packet",
             lambda tail: pcap.ipv4(TCP, tiny + tail, fragment=MORE, length=28), False),
        case("16 bytes of TCP", lambda tail: fragment(4, TCP, tiny[:16], 0, True) + tail, False),
        case("8 bytes of TCP in IPv6", lambda tail: fragment(6, TCP, tiny[:8], 0, True) + tail, False),
        case("8 bytes of TCP in IPv6, the rest behind the packet",
             lambda tail: short_ipv6(fragment(6, TCP, tiny, 0, True), 16) + tail, False),
        case("an extension header broken off", lambda tail: pcap.ipv6(DESTINATION, bytes([6, 200]) + tail), False),
        case("a TCP header of 16 bytes", lambda tail: pcap.ipv4(TCP, tiny[:12] + b"\x40" + tiny[13:] + tail), False),
    ]
    wire.expect([(name, make, True) for name, make, _ in cases])
    number = add(wire.agent, "count in tcp")["id"]
    wire.expect([(name, make, True) for name, make, _ in cases])
    add(wire.agent, "accept in tcp")
    add(wire.agent, "drop in udp to port 53")
    before = unreadable(wire.agent)
    wire.expect(2 * cases + [case("IPv4", syn(4, 81), True), case("IPv6", syn(6, 81, extensions=chain(8)), True)])
    expect_equal(unreadable(wire.agent) - before, 2 * len(cases), "packets counted as unreadable")
    expect_equal(rule(wire.agent, number)["text"], "count in tcp", "the rule")


def short_ipv6(packet, length):
    """The packet with another length in its header."""
    return packet[:4] + struct.pack("!H", length) + packet[6:]


def check_later_fragments_have_no_ports(wire, family):
    def later(port, proto=UDP, number=1):
        header = pcap.udp(40000, port, bytes(8)) if proto == UDP else pcap.tcp(40000, port, SYN)
        return lambda tail: fragment(family, proto, header + tail, 1480, False, number)

    def first(port, proto=UDP, number=1):
        header = pcap.udp(40000, port, bytes(24)) if proto == UDP else pcap.tcp(40000, port, SYN, bytes(20))
        return lambda tail: fragment(family, proto, header + tail, 0, True, number)

    apply(wire.agent, "drop in port 53")
    wire.expect(2 * [case(f"later, protocol {proto}, port {port}", later(port, proto), True)
                     for proto in (UDP, TCP) for port in (53, 54)]
                + 2 * [case(f"first, protocol {proto}, port {port}", first(port, proto), port == 54)
                       for proto in (UDP, TCP) for port in (53, 54)])
    apply(wire.agent, "accept in port 53", head="default: {in: drop}\n")
    wire.expect([case(f"later, protocol {proto}, port {port}", later(port, proto), False)
                 for proto in (UDP, TCP) for port in (53, 54)]
                + [case(f"first, protocol {proto}, port {port}", first(port, proto), port == 53)
                   for proto in (UDP, TCP) for port in (53, 54)])
    apply(wire.agent, "drop in udp fragment later", "drop in tcp fragment first")
    wire.expect([case(f"{name}, protocol {proto}", make(53, proto), passes) for name, make, proto, passes in (
        ("later", later, UDP, False), ("first", first, UDP, True), ("later", later, TCP, True), ("first", first, TCP, False))]
        + [case("whole", syn(family, 53), True)])


@test()
def later_fragments_have_no_ports(lab):
    """a later fragment whose payload looks like a header is neither dropped nor accepted by its looks"""
    wire = Wire(lab)
    for family in (4, 6):
        check_later_fragments_have_no_ports(wire, family)


def check_fragments_follow_their_first(wire, family):
    apply(wire.agent, "drop in state invalid", "accept in port 53", "accept in state new,established fragment later",
          head="default: {in: drop}\n")

    def part(place, number, port=53, proto=UDP):
        header = pcap.udp(40000, port, bytes(24)) if proto == UDP else pcap.tcp(40000, port, SYN, bytes(20))
        return lambda tail: fragment(family, proto, (header if not place else bytes(16)) + tail, place, not place, number)

    wire.expect([
        case("a later one before the first", part(40, 1), False),
        case("the first", part(0, 1), True), case("its later one", part(40, 1), True),
        case("another packet's later one", part(40, 2), False),
        case("the first that is not accepted", part(0, 3, 54), False), case("its later one", part(40, 3, 54), False),
        case("the first of TCP", part(0, 4, 53, TCP), True),
        case("one over the TCP header's flags", part(8, 4, 53, TCP), False),
        case("one over its end", part(16, 4, 53, TCP), False),
        case("one behind it", part(48, 4, 53, TCP), True)])


@test()
def fragments_follow_their_first(lab):
    """with rules about states a later fragment comes through if its first one did, and no other; one of TCP that
    would write over the header is invalid"""
    wire = Wire(lab)
    for family in (4, 6):
        check_fragments_follow_their_first(wire, family)


def error_about(family, inner, kind=None, code=None, **options):
    """An ICMP unreachable about this packet; `options` are its addresses."""
    kind, code = (kind or 3, 3 if code is None else code) if family == 4 else (kind or 1, 4 if code is None else code)
    return lambda tail: BUILD[family](ICMP[family], pcap.icmp(kind, code, payload=inner + tail), **options)


def check_errors_belong_to_their_connection(wire, family):
    own, other = ADDRESS[family]
    apply(wire.agent, "accept in state related", "accept in port 80", "accept in state established",
          head="default: {in: drop}\n")
    build = BUILD[family]

    def sent(port, sport=40000, source=own, destination=other, proto=UDP):
        header = pcap.udp(sport, port, bytes(8)) if proto == UDP else pcap.tcp(sport, port, SYN)
        return build(proto, header, source=source, destination=destination)

    wire.expect([case("UDP out", lambda tail: sent(53) + tail, True, "out"),
                 case("TCP out", lambda tail: sent(443, proto=TCP) + tail, True, "out")], "out")
    wire.expect(2 * [
        case("about the datagram", error_about(family, sent(53)), True),
        case("about the SYN", error_about(family, sent(443, proto=TCP)), True),
        case("too big, about the SYN", error_about(family, sent(443, proto=TCP), *((3, 4) if family == 4 else (2, 0))), True),
        case("from a router", error_about(family, sent(53), source="10.9.9.9" if family == 4 else "fd00:9::9"), True),
        case("about another port", error_about(family, sent(54)), False),
        case("about another source port", error_about(family, sent(53, 40001)), False),
        case("about a port that is open", error_about(family, sent(80)), False),
        case("about what its sender sent", error_about(family, sent(40000, 53, other, own)), False),
        case("to somebody else", error_about(family, sent(53), destination="10.1.0.77" if family == 4 else "fd00:1::77"),
             False),
        case("about nothing", lambda tail: build(ICMP[family], pcap.icmp(3 if family == 4 else 1, 3) + tail), False),
        case("an echo reply that nobody asked for",
             lambda tail: build(ICMP[family], pcap.icmp(0 if family == 4 else 129, 0, b"\0\1\0\1", tail)), False),
        case("the answer itself", lambda tail: build(UDP, pcap.udp(53, 40000, tail)), True)])


@test()
def errors_belong_to_their_connection(lab):
    """the ports in an ICMP error are not the packet's: no rule about ports fits it; it is related to the
    connection of the packet inside if that was sent by whom it goes to, and else invalid"""
    wire = Wire(lab)
    for family in (4, 6):
        check_errors_belong_to_their_connection(wire, family)


def segment(family, sport, dport, seq, ack, flags, out=False):
    own, other = ADDRESS[family] if out else ADDRESS[family][::-1]

    def make(tail):
        header = struct.pack("!HHIIBBHHH", sport, dport, seq & 0xFFFFFFFF, ack & 0xFFFFFFFF, 5 << 4, flags, 8192, 0, 0)
        packet = BUILD[family](TCP, header, source=own, destination=other)
        return packet + tail  # behind the packet, as padding is: it takes no sequence numbers
    return make


def check_tcp_is_held_to_its_connection(wire, family):
    apply(wire.agent, "drop in state invalid", "accept in tcp to port 80 state new", "accept in state established",
          head="default: {in: drop}\n")

    def inward(name, seq, ack, flags, passes):
        return case(name, segment(family, 40000, 80, 1000 + seq, ack, flags), passes)

    wire.expect([
        inward("ACK without a connection", 1, 1, ACK, False), inward("RST without a connection", 1, 0, RST, False),
        inward("FIN without a connection", 1, 1, FIN | ACK, False), inward("SYN+ACK without a SYN", 0, 1, SYN | ACK, False),
        inward("SYN+FIN", 0, 0, SYN | FIN, False), inward("SYN+RST", 0, 0, SYN | RST, False),
        inward("no flags", 0, 0, 0, False), inward("all flags", 0, 0, 0x3F, False), inward("SYN", 0, 0, SYN, True)])
    wire.expect([case("SYN+ACK", segment(family, 80, 40000, 5000, 1001, SYN | ACK, True), True, "out")], "out")
    wire.expect([
        inward("its ACK", 1, 5001, ACK, True),
        inward("far before the window", 1 - 200000, 5001, ACK, False),
        inward("far behind the window", 1 + 200000, 5001, ACK, False),
        inward("an ACK of what was not sent", 1, 5001 + 200000, ACK, False),
        inward("a reset far behind the window", 1 + 200000, 5001, RST | ACK, False),
        inward("a reset far before it", 1 - 200000, 5001, RST, False),
        inward("SYN+FIN", 1, 5001, SYN | FIN, False), inward("no flags", 1, 5001, 0, False),
        inward("the connection goes on", 1, 5001, ACK, True)])
    wire.expect([case("it does the other way", segment(family, 80, 40000, 5001, 1001, ACK, True), True, "out")], "out")
    wire.expect([inward("the exact reset", 1, 5001, RST, True)])


@test("vm-6.1")
def tcp_is_held_to_its_connection(lab):
    """TCP without a SYN, resets and data out of the window and impossible flags are invalid; what is in order
    passes, and only an exact reset ends the connection"""
    wire = Wire(lab)
    for family in (4, 6):
        check_tcp_is_held_to_its_connection(wire, family)


@test()
def flags_are_what_they_are(lab):
    """each of the 256 combinations of TCP flags fits exactly the rules that ask for it, first packet of its flow or not"""
    wire = Wire(lab)
    asked = (("syn/syn,ack,fin,rst", SYN, SYN | ACK | FIN | RST), ("fin,urg,psh/ack,rst,syn", 0x29, 0x3F),
             ("none/fin,syn,rst,ack,psh,urg", 0, 0x3F), ("syn,fin", SYN | FIN, SYN | FIN), ("ece,cwr/syn", 0xC0, 0xC2))
    for place, (words, _, _) in enumerate(asked):
        add(wire.agent, f"drop in tcp to port {100 + place} flags {words}")
    for family in (4, 6):
        wire.expect(2 * [case(f"IPv{family}, flags {flags:#x} against {words}",
                              lambda tail, port=100 + place, flags=flags, family=family:
                              BUILD[family](TCP, pcap.tcp(40000, port, flags, tail)), flags & mask != wanted)
                         for place, (words, wanted, mask) in enumerate(asked) for flags in range(256)])


@test()
def sets_overlap(lab):
    """an address that is in several sets fits the rules of each of them, in the rules' order, also when one of them changes"""
    wire = Wire(lab)
    agent = wire.agent
    for name, listed in (("all", "10.0.0.0/8 fd00::/8"), ("net", "10.1.0.0/16 fd00:1::/32"), ("some", "10.1.2.0/24 fd00:1:2::/48"),
                         ("one", "10.1.2.3 fd00:1:2::3"), ("open", "10.1.2.3-10.1.2.200 22.0.0.0/8"), ("ports", "80 8000-8080")):
        change(agent, "add", "\n".join(listed.split()), name=name)
    apply(agent, "accept in from @one", "drop in from @some to port @ports", "accept in from @open",
          "drop in from @net to port 22", "drop in from @all to port 23", "drop in to @one")

    def cases(one=True):
        where = {4: ("10.9.0.1", "10.1.9.1", "10.1.2.2", "10.1.2.3", "10.1.2.4", "11.0.0.1"),
                 6: ("fd00:9::1", "fd00:1:9::1", "fd00:1:2::2", "fd00:1:2::3", "fd00:1:2::4", "fc00::1")}
        for family, port in itertools.product((4, 6), (22, 23, 80, 443, 8040, 8081)):
            for place, source in enumerate(where[family]):
                in_some, in_net = place in (2, 3, 4), place in (1, 2, 3, 4)
                in_open = family == 4 and place in (3, 4)
                dropped = (in_net and port == 22) or (place != 5 and port == 23)
                passes = (one and place == 3) or (not (in_some and port in (80, 8040)) and (in_open or not dropped))
                yield case(f"{source} to port {port}", syn(family, port, source=source), passes)
            yield case(f"to @one, port {port}",
                       syn(family, port, source=where[family][5], destination=where[family][3]), not one)

    wire.expect(2 * list(cases()))
    change(agent, "remove", "10.1.2.3\nfd00:1:2::3", name="one")
    wire.expect(2 * list(cases(one=False)))
    change(agent, "add", "10.1.2.3\nfd00:1:2::3", name="one")
    wire.expect(2 * list(cases()))


@test()
def families_are_apart(lab):
    """packets of another family, or none, whose bits are the same as those a rule asks for do not fit it"""
    wire = Wire(lab)
    apply(wire.agent, "drop in from 10.1.0.2", "drop in from fc01:2::/32", "drop in icmp echo-request", "drop in icmp6 133",
          "drop in tcp to port 80")
    payload = pcap.tcp(40000, 81, SYN)
    wire.expect(2 * [
        case("IPv6 with the IPv4 address in front", syn(6, 81, source="a01:2::"), True),
        case("IPv6 with the IPv4 address mapped", syn(6, 81, source="::ffff:10.1.0.2"), True),
        case("IPv6 with the IPv4 address at the end", syn(6, 81, source="::10.1.0.2"), True),
        case("IPv4", syn(4, 81), False), case("IPv6", syn(6, 81, source="fc01:2::9"), False),
        case("IPv4 with the IPv6 address' first bits", syn(4, 81, source="252.1.0.2"), True),
        case("ICMP in IPv6", lambda tail: pcap.ipv6(1, pcap.icmp(8, 0, payload=tail)), True),
        case("ICMPv6 in IPv4", lambda tail: pcap.ipv4(58, pcap.icmp(133, 0, payload=tail), source="10.1.0.3"), True),
        case("ICMPv6 echo", lambda tail: pcap.ipv6(58, pcap.icmp(128, 0, payload=tail)), True),
        case("type 8 in ICMPv6", lambda tail: pcap.ipv6(58, pcap.icmp(8, 0, payload=tail)), True),
        case("router solicitation", lambda tail: pcap.ipv6(58, pcap.icmp(133, 0, payload=tail)), False),
        case("an IPv4 address where the port stands", syn(4, 81, source="0.80.0.80"), True)])
    wire.expect(2 * [(f"the bytes of TCP behind EtherType {kind:#x}",
                      lambda tail, kind=kind: pcap.ethernet(pcap.ipv4(TCP, payload) + tail, kind), True)
                     for kind in (0x0806, 0x88B5, 0x8847, 0x8864)])


@test()
def loopback_is_an_interface(lab):
    """on the loopback interface rules fit as on any other, once each way; those of another interface do not"""
    host, _ = lab.hosts()
    agent = lab.agent(host, "interfaces: [w0, lo]\n")
    add(agent, "reject in on lo tcp to port 80")
    add(agent, "drop on w0 tcp to port 81")
    number = add(agent, "count out on lo tcp to port 81 flags syn/syn,ack")["id"]
    for address in ("127.0.0.1", "::1", "10.1.0.1"):
        try:
            tcp_transfer(host, host, address, 80, 1)
        except ConnectionRefusedError:
            pass
        else:
            raise AssertionError(f"{address} port 80 was reached")
        tcp_transfer(host, host, address, 81, 100_000)
    expect_equal(rule(agent, number)["packets"], 3, "SYNs that were counted")


def check_big_packets_count_as_on_the_wire(agent, host, peer, family):
    out = add(agent, "count out tcp to port 8080")["id"]
    inward = add(agent, "count in tcp from port 8080")["id"]
    client, server, _ = tcp_transfer(host, peer, ADDRESS[family][1], 8080, 3_000_000, 1_000_000)
    expect_equal(rule(agent, out)["packets"], client["segs_out"], "packets out")
    # the last ACK of the client's FIN is not the transfer's
    expect_equal(rule(agent, inward)["packets"] - server["segs_out"] in (0, 1), True, "packets in")


@test()
def big_packets_count_as_on_the_wire(lab):
    """rules count a GSO packet as the packets it becomes on the wire, so a limit is no wider for them"""
    host, peer = lab.hosts()
    for namespace, name in ((host, "w0"), (peer, "p0")):
        namespace.offload(name, True)
    agent = lab.agent(host)
    for family in (4, 6):
        check_big_packets_count_as_on_the_wire(agent, host, peer, family)
