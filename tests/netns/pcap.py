# SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
"""Reads captures and packets, and builds packets: a second opinion, written apart from weir's own parser."""

import collections
import ipaddress
import struct

ETHERNET, RAW = 1, 101  # link types of capture files
FLAG_LETTERS = (("S", 0x02), ("A", 0x10), ("P", 0x08), ("F", 0x01), ("R", 0x04), ("U", 0x20), ("E", 0x40),
                ("C", 0x80))
PROTOCOL_NAMES = {1: "icmp", 6: "tcp", 17: "udp", 47: "gre", 50: "esp", 51: "ah", 58: "icmp6", 132: "sctp"}
PORT_PROTOCOLS = {6, 17, 33, 132, 136}
EXTENSIONS = {0, 43, 44, 51, 60, 135, 139, 140}

Key = collections.namedtuple("Key", "direction proto src sport dst dport vlan fragment icmp")


class Counts:
    """What a flow adds up to."""

    def __init__(self, packets=0, size=0, flags=0):
        self.packets, self.bytes, self.flags = packets, size, flags

    def add(self, packets, size, flags=0):
        self.packets += packets
        self.bytes += size
        self.flags |= flags

    def __eq__(self, other):
        return (self.packets, self.bytes, self.flags) == (other.packets, other.bytes, other.flags)

    def __repr__(self):
        return f"{self.packets} packets, {self.bytes} bytes, flags {flag_text(self.flags) or '-'}"


def flag_text(flags):
    return "".join(letter for letter, bit in FLAG_LETTERS if flags & bit)


def flag_bits(text):
    return sum(bit for letter, bit in FLAG_LETTERS if letter in text)


# ------------------------------------------------------------------------------------------------ reading


def read(path, times=False):
    """Yields (bytes captured, length on the wire), with `times` also the seconds since 1970, and first of all the link
    type."""
    with open(path, "rb") as file:
        head = file.read(24)
        order = "<" if head[:4] in (b"\xd4\xc3\xb2\xa1", b"\x4d\x3c\xb2\xa1") else ">"
        yield struct.unpack(order + "I", head[20:24])[0] & 0x0FFFFFFF
        while True:
            head = file.read(16)
            if len(head) < 16:
                return
            seconds, micro, captured, length = struct.unpack(order + "IIII", head)
            key = file.read(captured), length
            yield (*key, seconds + micro / 1e6) if times else key


def write(path, frames, link=ETHERNET):
    with open(path, "wb") as file:
        file.write(struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 262144, link))
        for number, frame in enumerate(frames):
            file.write(struct.pack("<IIII", 1700000000 + number // 1000, number % 1000 * 1000, len(frame), len(frame)))
            file.write(frame)


def packet_key(frame, link=ETHERNET, own_mac=None, own_address=None):
    """(key, TCP flags) of a frame; the key is None when it is no flow (not IP, unreadable)."""
    vlan, offset, flags = None, 0, 0
    direction = None
    if link == ETHERNET:
        if len(frame) < 14:
            return None, 0
        direction = "out" if own_mac and frame[6:12] == own_mac else "in"
        kind, offset = struct.unpack_from("!H", frame, 12)[0], 14
        depth = 0
        while kind in (0x8100, 0x88A8) and depth < 2 and len(frame) >= offset + 4:
            tag, kind = struct.unpack_from("!HH", frame, offset)
            vlan = tag & 0xFFF
            offset += 4
            depth += 1
    else:
        kind = {4: 0x0800, 6: 0x86DD}.get(frame[0] >> 4 if frame else 0, 0)

    fragment = False
    if kind == 0x0800 and len(frame) >= offset + 20 and frame[offset] >> 4 == 4:
        header = (frame[offset] & 15) * 4
        where, proto = struct.unpack_from("!H", frame, offset + 6)[0], frame[offset + 9]
        src, dst = frame[offset + 12:offset + 16], frame[offset + 16:offset + 20]
        if header < 20 or len(frame) < offset + header:
            return None, 0
        fragment = bool(where & 0x1FFF)
        offset += header
    elif kind == 0x86DD and len(frame) >= offset + 40 and frame[offset] >> 4 == 6:
        proto = frame[offset + 6]
        src, dst = frame[offset + 8:offset + 24], frame[offset + 24:offset + 40]
        offset += 40
        while proto in EXTENSIONS and len(frame) >= offset + 8:
            following = frame[offset]
            if proto == 44:
                fragment = bool(struct.unpack_from("!H", frame, offset + 2)[0] & 0xFFF8)
                offset += 8
            else:
                offset += (frame[offset + 1] + 2) * 4 if proto == 51 else (frame[offset + 1] + 1) * 8
            proto = following
            if fragment:
                break
    else:
        return None, 0

    sport = dport = 0
    icmp = None
    if not fragment and proto in PORT_PROTOCOLS and len(frame) >= offset + 4:
        sport, dport = struct.unpack_from("!HH", frame, offset)
        if proto == 6 and len(frame) >= offset + 14:
            flags = frame[offset + 13]
    elif not fragment and proto in (1, 58) and len(frame) >= offset + 8:
        echo = frame[offset] in ((0, 8) if proto == 1 else (128, 129))
        icmp = (frame[offset], frame[offset + 1], struct.unpack_from("!H", frame, offset + 4)[0] if echo else None)
    src, dst = str(ipaddress.ip_address(src)), str(ipaddress.ip_address(dst))
    if own_address and link == RAW:
        direction = "out" if src in own_address else "in"
    return Key(direction, PROTOCOL_NAMES.get(proto, str(proto)), src, sport, dst, dport, vlan, fragment, icmp), flags


def flows(path, own_mac=None, own_address=None):
    """({key: counts} of a capture, counts of what is no flow)"""
    found, rest = collections.defaultdict(Counts), Counts()
    own_mac = bytes.fromhex(own_mac.replace(":", "")) if own_mac else None
    packets = read(path)
    link = next(packets)
    for frame, length in packets:
        key, flags = packet_key(frame, link, own_mac, own_address)
        if key:
            found[key].add(1, length, flags)
        else:
            rest.add(1, length)
    return dict(found), rest


def api_flows(listed, interface=None):
    """The same of what the API answered; entries of one key are added up."""
    found = collections.defaultdict(Counts)
    for flow in listed:
        if interface and flow["interface"] != interface:
            continue
        icmp = None
        if "icmp_type" in flow:
            icmp = (flow["icmp_type"], flow["icmp_code"], flow.get("icmp_id"))
        key = Key(flow["direction"], flow["proto"], flow["src"], flow["sport"], flow["dst"], flow["dport"],
                  flow.get("vlan"), flow.get("fragment", False), icmp)
        found[key].add(flow["packets"], flow["bytes"], flag_bits(flow.get("tcp_flags", "")))
    return dict(found)


def differences(got, wanted, limit=8):
    """What differs between two {key: counts}, as lines; none when they are equal."""
    lines = []
    for key in sorted(set(got) | set(wanted), key=repr):
        if got.get(key) != wanted.get(key):
            lines.append(f"{tuple(key)}: expected {wanted.get(key, 'none')}, got {got.get(key, 'none')}")
    more = [f"… and {len(lines) - limit} more of {len(wanted)} flows"] if len(lines) > limit else []
    return lines[:limit] + more


# ------------------------------------------------------------------------------------------------ building


def checksum(data):
    data += b"\0" * (len(data) % 2)
    total = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def ethernet(payload, kind=None, destination="02:00:00:00:01:01", source="02:00:00:00:01:02", tags=()):
    """A frame; `tags` are (EtherType, VLAN id), the outermost first."""
    if kind is None:
        kind = 0x86DD if payload[0] >> 4 == 6 else 0x0800
    head = bytes.fromhex((destination + source).replace(":", ""))
    for tag_kind, vlan in tags:
        head += struct.pack("!HH", tag_kind, vlan)
    return head + struct.pack("!H", kind) + payload


def ipv4(proto, payload, source="10.1.0.2", destination="10.1.0.1", options=b"", fragment=0, length=None):
    """An IPv4 packet; `fragment` is the field of RFC 791: 0x2000 for more, offset in units of eight bytes."""
    header = 20 + len(options)
    head = struct.pack("!BBHHHBBH4s4s", 0x40 | header // 4, 0, header + len(payload) if length is None else length,
                       4711, fragment, 64, proto, 0, ipaddress.ip_address(source).packed,
                       ipaddress.ip_address(destination).packed) + options
    return head[:10] + struct.pack("!H", checksum(head)) + head[12:] + payload


def ipv4_numbered(packet, number):
    """The packet with this identification: fragments of one packet share it."""
    head = packet[:4] + struct.pack("!H", number) + packet[6:10] + b"\0\0" + packet[12:(packet[0] & 15) * 4]
    return head[:10] + struct.pack("!H", checksum(head)) + head[12:] + packet[len(head):]


def ipv6(proto, payload, source="fd00:1::2", destination="fd00:1::1", extensions=()):
    """An IPv6 packet; `extensions` are (header number, body of the header without its first byte)."""
    chain = b""
    addresses = ipaddress.ip_address(source).packed + ipaddress.ip_address(destination).packed
    if proto == 17 and payload[6:8] == b"\0\0":
        # unlike IPv4's, a UDP checksum over IPv6 may not be left out
        pseudo = addresses + struct.pack("!II", len(payload), proto)
        payload = payload[:6] + struct.pack("!H", checksum(pseudo + payload) or 0xFFFF) + payload[8:]
    numbers = [number for number, _ in extensions] + [proto]
    for (_, body), following in zip(extensions, numbers[1:]):
        chain += bytes([following]) + body
    return struct.pack("!IHBB", 0x60000000, len(chain) + len(payload), numbers[0], 64) + \
        addresses + chain + payload


def udp(sport, dport, payload=b""):
    return struct.pack("!HHHH", sport, dport, 8 + len(payload), 0) + payload


def tcp(sport, dport, flags, payload=b"", options=b""):
    return struct.pack("!HHIIBBHHH", sport, dport, 1, 1, (20 + len(options)) // 4 << 4, flags, 8192, 0, 0) + \
        options + payload


def sctp(sport, dport, payload=b""):
    return struct.pack("!HHII", sport, dport, 1, 0) + payload


def icmp(kind, code, rest=b"\0\0\0\0", payload=b""):
    return struct.pack("!BBH", kind, code, 0) + rest + payload
