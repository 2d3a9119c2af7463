# SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
"""Random policies and random packets, and a plain judge who says what becomes of which: a second opinion, which knows
nothing of weir but the meaning of its sentences."""

import functools
import ipaddress
import struct

import pcap

TCP, UDP, UDPLITE, SCTP, DCCP = 6, 17, 136, 132, 33
PORT_PROTOCOLS = (TCP, UDP, UDPLITE, SCTP, DCCP)
FLAGS = ("fin", "syn", "rst", "psh", "ack", "urg", "ece", "cwr")
ADDRESSES = {4: [f"10.{a}.{b}.{c}" for a in (1, 2) for b in (0, 1, 128) for c in (2, 3, 200)] + ["192.0.2.1"],
             6: [f"fd00:{a}:{b:x}::{c:x}" for a in (1, 2) for b in (0, 1, 0x8000) for c in (2, 3, 0xf000)] + ["2001:db8::1"]}
PORTS = (1, 22, 53, 80, 443, 1023, 1024, 8080, 40000, 65535)
SETS = {"near": "10.1.0.0/16 fd00:1::/32", "some": "10.1.1.0/24 10.2.128.2 fd00:1:1::/48 fd00:2:8000::2",
        "ones": "10.1.1.2 10.1.1.200 192.0.2.1 2001:db8::1 fd00:1:1::2"}
PORT_SETS = {"web": ((80, 80), (443, 443), (8000, 8999)), "low": ((0, 1023),)}
# What libpcap makes of a packet without a tag, extension headers and options.
EXPRESSIONS = {"udp dst port 53": lambda p: p.proto == UDP and p.dport == 53,
               "tcp src port 80 or tcp src port 443": lambda p: p.proto == TCP and p.sport in (80, 443),
               "ip[8] = 7": lambda p: p.family == 4 and p.ttl == 7,
               "ip6[7] = 7": lambda p: p.family == 6 and p.ttl == 7,
               "ether[12:2] = 0x86dd": lambda p: p.family == 6}


class Packet:
    """One packet: what it is, and make(tail), its frame."""

    def __init__(self, random, like=None):
        self.direction = like.direction if like else random.choice(("in", "in", "out"))
        self.family = like.family if like else random.choice((4, 6))
        self.proto = like.proto if like else random.choice(
            (TCP, TCP, UDP, UDP, {4: 1, 6: 58}[self.family], UDPLITE, SCTP, DCCP, 47, 50, 1, 58, 99))
        self.src = like.src if like else random.choice(ADDRESSES[self.family])
        self.dst = like.dst if like else random.choice(ADDRESSES[self.family])
        self.sport = like.sport if like else random.choice(PORTS)
        self.dport = like.dport if like else random.choice(PORTS)
        self.vlan = like.vlan if like else random.choice((None, None, None, 5, 7))
        # the same flow's packets differ in these
        self.outer = random.choice((None, None, 5, 100)) if self.vlan is not None else None
        self.flags = random.choice((2, 16, 18, 24, 4, 17, random.randrange(256)))
        self.icmp = random.choice(((8, 0), (0, 0), (3, 1), (3, 3), (11, 0), (128, 0), (129, 0), (1, 4), (135, 0)))
        self.dscp = random.choice((0, 0, 10, 46, 63))
        self.ttl = random.choice((7, 64))
        self.fragment = random.choice(("", "", "", "first", "later"))
        self.long_headers = random.random() < 0.3 or self.fragment != "" and self.family == 6
        self.extra = random.randbytes(random.choice((4, 8, 200)))
        self.mark = 0

    @property
    def has_ports(self):
        return self.proto in PORT_PROTOCOLS and self.fragment != "later"

    @property
    def is_icmp(self):
        return self.proto == {4: 1, 6: 58}[self.family] and self.fragment != "later"

    def plain(self):
        """Does an expression of libpcap's see it as a person would?"""
        return self.vlan is None and not self.long_headers and not self.fragment

    def transport(self, tail):
        rest = self.extra + bytes(16) + tail
        if self.proto == TCP:
            return pcap.tcp(self.sport, self.dport, self.flags, rest)
        if self.proto in (UDP, UDPLITE):
            return pcap.udp(self.sport, self.dport, rest)
        if self.proto in (SCTP, DCCP):
            return pcap.sctp(self.sport, self.dport, rest)
        if self.proto in (1, 58):
            return pcap.icmp(*self.icmp, payload=rest)
        return rest

    def make(self, tail):
        payload = self.transport(tail)
        if self.family == 4:
            options = bytes([1, 1, 1, 1, 1, 1, 1, 1]) if self.long_headers else b""
            place = {"": 0, "first": 0x2000, "later": 0x2000 | 100}[self.fragment]
            made = pcap.ipv4(self.proto, payload, self.src, self.dst, options, place)
            made = made[:1] + bytes([self.dscp << 2]) + made[2:8] + bytes([self.ttl]) + made[9:]
        else:
            extensions = [(0, bytes([0, 1, 4, 0, 0, 0, 0])), (60, bytes([1, 1, 12]) + bytes(12))] if self.long_headers else []
            if self.fragment:
                extensions.append((44, struct.pack("!BHI", 0, 1 if self.fragment == "first" else 801, 77)))
            made = pcap.ipv6(self.proto, payload, self.src, self.dst, extensions)
            word = struct.unpack("!I", made[:4])[0] | self.dscp << 22
            made = struct.pack("!I", word) + made[4:7] + bytes([self.ttl]) + made[8:]
        tags = [] if self.vlan is None else [(0x8100, self.vlan)]
        if self.outer is not None:
            tags.insert(0, (0x88A8, self.outer))
        frame = pcap.ethernet(made, tags=tags)
        return frame if self.direction == "in" else frame[6:12] + frame[:6] + frame[12:]

    def __repr__(self):
        return (f"{self.direction} IPv{self.family} protocol {self.proto} {self.src} {self.sport} > {self.dst} {self.dport}"
                f" vlan {self.vlan} outer {self.outer} flags {self.flags:#x} icmp {self.icmp} dscp {self.dscp} ttl {self.ttl}"
                f" fragment {self.fragment or '-'} long {self.long_headers}")


@functools.lru_cache(None)
def within(address, prefix):
    network = ipaddress.ip_network(prefix, strict=False)
    return ipaddress.ip_address(address) in network


def random_prefix(random, family):
    address = random.choice(ADDRESSES[family])
    bits = random.choice((8, 15, 16, 17, 24, 32) if family == 4 else (16, 32, 33, 48, 64, 127, 128))
    return str(ipaddress.ip_network(f"{address}/{bits}", strict=False))


def random_ports(random):
    """(words, ranges)"""
    ranges = []
    for _ in range(random.choice((1, 1, 1, 2, 3))):
        low = random.choice(PORTS)
        ranges.append((low, low) if random.random() < 0.6 else (low, min(65535, low + random.choice((1, 100, 1000, 60000)))))
    return ",".join(f"{low}" if low == high else f"{low}-{high}" for low, high in ranges), ranges


class Rule:
    """One rule: its sentence, and tests that a packet has to pass."""

    def __init__(self, random, limits=False):
        self.tests, used = [], set()
        self.asks_header = self.has_fragment = False
        self.verb = random.choice(("accept", "accept", "drop", "drop", "drop", "reject", "count", "mark") +
                                  ("limit", "limit") * limits)
        head = self.verb
        if self.verb == "mark":
            self.mark, self.mask = random.choice(((5, 0xFFFFFFFF), (0x30, 0xF0), (1, 3)))
            head = f"mark {self.mark}" if self.mask == 0xFFFFFFFF else f"mark {self.mark:#x}/{self.mask:#x}"
        self.head = [head]
        if random.random() < 0.6:
            direction = random.choice(("in", "out"))
            self.ask(lambda p: p.direction == direction, direction)
        if random.random() < 0.2:
            name = random.choice(("w0", "w0", "s0"))
            self.ask(lambda p: name == "w0", f"on {name}")
        self.family = random.choice((None, None, 4, 6))
        if self.family:
            self.ask(lambda p: p.family == self.family, "ip" if self.family == 4 else "ip6")
        self.proto = None
        if random.random() < 0.6:
            self.ask_protocol(random)
        choices = {"from": self.ask_end, "to": self.ask_end, "host": self.ask_host, "port": self.ask_port,
                   "flags": self.ask_flags, "dscp": self.ask_dscp, "vlan": self.ask_vlan, "fragment": self.ask_fragment,
                   "mark": self.ask_mark, "matching": self.ask_expression, "by": self.ask_owner}
        wanted = [random.choice(("from", "from", "to", "to", *choices)) for _ in range(random.choice((1, 1, 2, 2, 3)))]
        for what in sorted(wanted, key="port".__ne__):  # behind an end it would be that end's
            if what in used or (what == "host" and used & {"from", "to"}) or (what in ("from", "to") and "host" in used) \
                    or (what in ("vlan", "matching") and used & {"vlan", "matching"}):
                continue
            used.add(what)
            choices[what](random, what)
        if self.verb == "limit":
            # so slow that no test lasts until the next packet may pass
            self.burst, self.per, self.passed = random.choice((1, 3, 10)), random.choice(("", "source", "destination")), {}
            self.head.append((f"per {self.per} " if self.per else "") + f"to 1/d burst {self.burst}")
        self.text = " ".join(self.head)

    def take(self, packet, taken):
        """One more that the limit's rule fits: is it within?  Those in `taken`, (rule, who), are not counted yet."""
        who = self, {"": None, "source": packet.src, "destination": packet.dst}[self.per]
        within = self.passed.get(who, 0) + taken.count(who) < self.burst
        if within:
            taken.append(who)
        return within

    def ask(self, test, words):
        self.tests.append(test)
        self.head.append(words)

    def ask_protocol(self, random):
        name, numbers = random.choice((("tcp", (6,)), ("tcp", (6,)), ("udp", (17,)), ("udp", (17,)), ("sctp", (132,)),
                                       ("gre", (47,)), ("proto 99", (99,)), ("proto 136", (136,)), ("icmp", (1,)),
                                       ("icmp6", (58,))))
        if name in ("icmp", "icmp6"):
            family = 4 if name == "icmp" else 6
            if self.family not in (None, family):
                return
            self.family = family  # an address of the other one fits nothing, and is refused
            self.ask(lambda p: p.proto == numbers[0], name)  # the number, in either family
            if random.random() < 0.6:
                kind, code = random.choice((8, 0, 3, 11) if family == 4 else (128, 129, 1, 135)), random.choice((None, 0, 1, 3))
                self.asks_header = True
                self.ask(lambda p: p.is_icmp and p.icmp[0] == kind and code in (None, p.icmp[1]),
                         f"{kind}" if code is None else f"{kind}/{code}")
            self.proto = numbers[0]
            return
        self.proto = numbers[0]
        self.ask(lambda p: p.proto in numbers, name)

    def may_have_ports(self):
        return self.proto in (None, TCP, UDP, SCTP) and not self.has_fragment

    def ask_end(self, random, what):
        get = (lambda p: p.src) if what == "from" else (lambda p: p.dst)
        port = (lambda p: p.sport) if what == "from" else (lambda p: p.dport)
        kind = random.choice(("prefix", "prefix", "set", "any"))
        words = what
        if kind == "prefix":
            self.family = self.family or random.choice((4, 6))
            family, prefix = self.family, random_prefix(random, self.family)
            self.tests.append(lambda p: p.family == family and within(get(p), prefix))
            words += f" {prefix}"
        elif kind == "set":
            name = random.choice(sorted(SETS))
            self.tests.append(lambda p: any(within(get(p), prefix) for prefix in SETS[name].split()))
            words += f" @{name}"
        if self.may_have_ports() and (kind == "any" or random.random() < 0.5):
            if random.random() < 0.3:
                port_set = random.choice(sorted(PORT_SETS))
                ranges, spoken = PORT_SETS[port_set], f"@{port_set}"
            else:
                spoken, ranges = random_ports(random)
            self.asks_header = True
            self.tests.append(lambda p: p.has_ports and any(low <= port(p) <= high for low, high in ranges))
            words += f" port {spoken}"
        if words != what:
            self.head.append(words)

    def ask_host(self, random, _):
        if random.random() < 0.4:
            name = random.choice(sorted(SETS))
            self.ask(lambda p: any(within(end, prefix) for prefix in SETS[name].split() for end in (p.src, p.dst)),
                     f"host @{name}")
            return
        self.family = self.family or random.choice((4, 6))
        family, prefix = self.family, random_prefix(random, self.family)
        self.ask(lambda p: p.family == family and (within(p.src, prefix) or within(p.dst, prefix)), f"host {prefix}")

    def ask_port(self, random, _):
        if self.may_have_ports():
            spoken, ranges = random_ports(random)
            if random.random() < 0.3:
                port_set = random.choice(sorted(PORT_SETS))
                ranges, spoken = PORT_SETS[port_set], f"@{port_set}"
            self.asks_header = True
            self.ask(lambda p: p.has_ports and any(low <= port <= high for low, high in ranges
                                                   for port in (p.sport, p.dport)), f"port {spoken}")

    def ask_flags(self, random, _):
        if self.proto != TCP or self.has_fragment:
            return
        wanted = random.randrange(256) & random.choice((2, 16, 18, 255))
        mask = wanted | random.choice((0, 2, 18, 255))
        if not mask:
            return
        names = ["none" if not bits else ",".join(name for place, name in enumerate(FLAGS) if bits >> place & 1)
                 for bits in (wanted, mask)]
        self.asks_header = True
        self.ask(lambda p: p.proto == TCP and p.has_ports and p.flags & mask == wanted, "flags " + "/".join(names))

    def ask_dscp(self, random, _):
        word, value = random.choice((("0", 0), ("af11", 10), ("ef", 46), ("63", 63), ("cs1", 8)))
        self.ask(lambda p: p.dscp == value, f"dscp {word}")

    def ask_vlan(self, random, _):
        number = random.choice((5, 7, None))
        self.ask(lambda p: p.vlan == number, "untagged" if number is None else f"vlan {number}")

    def ask_fragment(self, random, _):
        word = random.choice(("", "first", "later"))
        if word != "first" and self.asks_header:
            return  # later ones have no header
        self.has_fragment = word != "first"
        self.ask(lambda p: bool(p.fragment) and word in ("", p.fragment), f"fragment {word}".strip())

    def ask_mark(self, random, _):
        value, mask = random.choice(((5, 0xFFFFFFFF), (0x10, 0x10), (1, 1), (0, 0xF)))
        self.ask(lambda p: p.mark & mask == value,
                 f"mark {value}" if mask == 0xFFFFFFFF else f"mark {value:#x}/{mask:#x}")

    def ask_owner(self, random, _):
        self.ask(lambda p: False, f"by user {random.randrange(64000, 64010)}")  # nobody sends these packets

    def ask_expression(self, random, _):
        text, fits = random.choice(sorted(EXPRESSIONS.items(), key=lambda item: item[0]))
        if self.proto is None or self.proto in (TCP, UDP):
            negated = random.random() < 0.3
            # only where both understand the same by it
            self.tests.append(lambda p: p.vlan is None and (fits(p) != negated if p.plain() else None))
            self.head.append(f"untagged{' not' if negated else ''} matching \"{text}\"")

    def fits(self, packet):
        """True, False, or None: libpcap may see that otherwise."""
        answers = [test(packet) for test in self.tests]
        if False in answers:
            return False
        return None if None in answers else True


def judge(rules, defaults, packet):
    """Does the packet pass?  None: that cannot be said, and it is not to be sent.  Limits count those that can be."""
    taken = []
    passes = look(rules, defaults, packet, taken)
    for rule, who in taken if passes is not None else ():
        rule.passed[rule, who] = rule.passed.get((rule, who), 0) + 1
    return passes


def look(rules, defaults, packet, taken):
    packet.mark = 0
    for rule in rules:
        fits = rule.fits(packet)
        if fits is None:
            return None
        if not fits:
            continue
        if rule.verb == "mark":
            packet.mark = packet.mark & ~rule.mask | rule.mark
        elif rule.verb == "limit":
            if not rule.take(packet, taken):
                return False
        elif rule.verb != "count":
            return rule.verb == "accept"
    return defaults[packet.direction] == "accept"
