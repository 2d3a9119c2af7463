# SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
"""Reads pcapng, written from the draft and apart from weir's own reader."""

import struct

SECTION, INTERFACE, STATISTICS, PACKET, PROCESS = 0x0A0D0D0A, 1, 5, 6, 0x80000001


class Malformed(Exception):
    """The file is not what the draft says."""


def options(data):
    found, offset = {}, 0
    while offset + 4 <= len(data):
        code, length = struct.unpack_from("<HH", data, offset)
        if code == 0:
            break
        if offset + 4 + length > len(data):
            raise Malformed(f"an option of {length} bytes reaches beyond its block")
        found[code] = data[offset + 4:offset + 4 + length]
        offset += 4 + (length + 3) // 4 * 4
    return found


class Packet:
    """One captured packet."""

    def __init__(self, body, interfaces, processes):
        number, high, low, captured, self.length = struct.unpack_from("<IIIII", body)
        self.interface = interfaces[number]["name"]
        self.time = (high << 32 | low) / 1e9
        self.ns = high << 32 | low
        self.data = body[20:20 + captured]
        if len(self.data) != captured:
            raise Malformed("a packet is shorter than it says")
        found = options(body[20 + (captured + 3) // 4 * 4:])
        self.flags = struct.unpack("<I", found[2])[0] if 2 in found else 0
        self.direction = {1: "in", 2: "out"}.get(self.flags & 3)
        self.comment = found[1].decode() if 1 in found else None
        self.process = processes[struct.unpack("<I", found[0x8001])[0]] if 0x8001 in found else None

    def key(self):
        return self.data, self.length


class File:
    """A whole file; every block has to be whole."""

    def __init__(self, data):
        self.interfaces, self.processes, self.packets, self.statistics = [], [], [], {}
        self.section = None
        self.comment = ""
        offset = 0
        while offset < len(data):
            if offset + 12 > len(data):
                raise Malformed(f"{len(data) - offset} bytes at the end are no block")
            kind, length = struct.unpack_from("<II", data, offset)
            if length < 12 or length % 4 or offset + length > len(data):
                raise Malformed(f"a block of type {kind} and {length} bytes at {offset} of {len(data)}")
            if struct.unpack_from("<I", data, offset + length - 4)[0] != length:
                raise Malformed(f"the block at {offset} has two lengths")
            self.block(kind, data[offset + 8:offset + length - 4])
            offset += length

    def block(self, kind, body):
        if kind == SECTION:
            if struct.unpack_from("<I", body)[0] != 0x1A2B3C4D:
                raise Malformed("the byte order is not this machine's")
            if self.section is not None:
                raise Malformed("a second section begins")
            self.section = options(body[16:])
            self.comment = self.section.get(1, b"").decode()
        elif kind == INTERFACE:
            link, _, snap = struct.unpack_from("<HHI", body)
            found = options(body[8:])
            self.interfaces.append({"link": link, "snaplen": snap, "name": found[2].decode(),
                                    "description": found.get(3, b"").decode(),
                                    "resolution": found[9][0], "filter": found.get(11, b"\0")[1:].decode()})
        elif kind == PROCESS:
            self.processes.append((struct.unpack_from("<I", body)[0], options(body[4:])[2].decode()))
        elif kind == STATISTICS:
            found = options(body[12:])
            names = {4: "received", 5: "dropped", 6: "accepted", 7: "lost"}
            number = struct.unpack_from("<I", body)[0]
            self.statistics[self.interfaces[number]["name"]] = {
                name: struct.unpack("<Q", found[code])[0] for code, name in names.items()}
        elif kind == PACKET:
            self.packets.append(Packet(body, self.interfaces, self.processes))

    def keys(self):
        return [packet.key() for packet in self.packets]


def read(path):
    with open(path, "rb") as file:
        return File(file.read())
