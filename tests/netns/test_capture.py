# SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
"""weir capture: what tcpdump would capture, at other places, into files that others can read."""

import json
import os
import signal
import socket
import struct
import subprocess
import time

import pcap
import pcapng
from lab import (Capture, Skip, expect, expect_equal, need, open_tun, run, send_frames, tcp_transfer, udp_send,
                 udp_socket, wait_for)
from suite import each, test, variants


class Captured:
    """One `weir capture -w`."""

    def __init__(self, lab, agent, *words, name="capture.pcapng"):
        self.path = lab.path(name)
        if os.path.exists(self.path):
            os.unlink(self.path)
        self.err = lab.path(os.path.basename(name) + ".err")
        with open(self.err, "w", encoding="utf-8") as err:
            self.process = agent.namespace.start(lab.weir, "capture", *words, "-w", self.path, "--run-dir",
                                                 agent.run_dir, stderr=err)
        wait_for(lambda: (os.path.exists(self.path) and os.path.getsize(self.path))
                 or self.process.poll() is not None, 10, "the capture to begin")
        expect(self.process.poll() is None or self.process.returncode == 0, f"weir capture: {self.messages()}")
        self.begun, self.ended = time.time(), None

    def messages(self):
        with open(self.err, encoding="utf-8") as file:
            return file.read()

    def wait(self, status=0):
        expect_equal(self.process.wait(10), status, f"exit status ({self.messages()})")
        return pcapng.read(self.path)

    def stop(self):
        """Ends the capture as a person does."""
        time.sleep(0.05)  # what has been sent is through the interface
        self.interrupt()
        return self.wait()

    def interrupt(self):
        self.ended = time.time()
        self.process.send_signal(signal.SIGINT)

    def is_compared(self, data, seconds):
        """Whoever compares has begun before us and ends behind us; the kernel sends some packets at times of its own."""
        return not data.startswith(UNASKED) or self.begun <= seconds <= self.ended

    def keys(self, file):
        return [packet.key() for packet in file.packets if self.is_compared(packet.data, packet.time)]

    def tcpdump_keys(self, path):
        packets = pcap.read(path, times=True)
        next(packets)
        return [(data, length) for data, length, seconds in packets if self.is_compared(data, seconds)]


def short(keys):
    return [f"{data[:64].hex()}… ({len(data)} of {length})" for data, length in keys[:2]]


# To whom the kernel reports memberships and calls for routers.
UNASKED = (bytes.fromhex("333300000016"), bytes.fromhex("333300000002"))


def expect_same(got, wanted, what):
    """The same packets; packets of different CPUs may stand in another order."""
    expect(wanted, f"{what}: tcpdump captured nothing, nothing was compared")
    missing, more = sorted(set(wanted) - set(got)), sorted(set(got) - set(wanted))
    expect(not missing and not more,
           f"{what}: {len(missing)} packets are missing, {len(more)} are too many: missing {short(missing)}, "
           f"too many {short(more)}")
    expect_equal(sorted(got), sorted(wanted), what)


def traffic(host, peer):
    """A little of everything, in both families."""
    for address, own in (("10.1.0.2", "10.1.0.1"), ("fd00:1::2", "fd00:1::1")):
        udp_send(host, peer, own, address, 53, 7, 100)
        udp_send(peer, host, address, own, 5353, 3, 1200)
        tcp_transfer(host, peer, address, 8080, 300_000, 40_000)
        tcp_transfer(host, peer, address, 8081, 3000, 2000)
    host.run("ping", "-c", "2", "-i", "0.01", "10.1.0.2")
    host.run("ping", "-c", "2", "-i", "0.01", "fd00:1::2")


@each(**{"vm-6.1": "tcp[13] & 3 != 0"})
@variants("expression", "", "udp port 53 or tcp port 8080", "tcp[13] & 3 != 0", "icmp or icmp6")
def capture_equals_tcpdump(lab, expression):
    """`weir capture '{expression}'` has the packets that tcpdump has, byte for byte, with their lengths"""
    host, peer = lab.hosts()
    agent = lab.agent(host)
    reference = Capture(lab, host, "w0", expression=[expression] if expression else [])
    captured = Captured(lab, agent, *([expression] if expression else []))
    traffic(host, peer)
    file = captured.stop()
    expect_same(captured.keys(file), captured.tcpdump_keys(reference.stop()), f"'{expression}'")
    expect_equal(file.interfaces[0]["filter"], expression, "filter of the interface")
    own = bytes.fromhex(host.address_of("w0").replace(":", ""))
    for packet in file.packets:
        expect_equal(packet.direction, "out" if packet.data[6:12] == own else "in", "direction")
    ns = [packet.ns for packet in file.packets]
    expect(ns == sorted(ns), "the packets are not in the order of time")
    expect_equal(file.statistics["w0"]["accepted"], len(file.packets), "packets that the filter accepted")
    expect_equal(file.statistics["w0"]["lost"], 0, "lost packets")


@each()
@variants("place", "xdp", "socket")
def capture_at_other_places(lab, place):
    """`at {place}` captures what tcpdump captures (at xdp: of what comes in), with an expression"""
    host, peer = lab.hosts()
    host.offload("w0", False)
    peer.offload("p0", False)  # no packet is longer than a frame: at xdp there is no GRO yet
    agent = lab.agent(host)
    reference = Capture(lab, host, "w0", expression=["udp port 53 or udp port 5353"])
    captured = Captured(lab, agent, "udp port 53 or udp port 5353", "at", place)
    traffic(host, peer)
    file = captured.stop()
    expect(file.interfaces[0]["description"].startswith(place), f"described as {file.interfaces[0]['description']}")
    wanted = captured.tcpdump_keys(reference.stop())
    if place == "xdp":
        own = bytes.fromhex(host.address_of("w0").replace(":", ""))
        wanted = [key for key in wanted if key[0][:6] == own]
    expect_same(captured.keys(file), wanted, place)


@test()
def capture_of_vlan_tags(lab):
    """A VLAN tag that the kernel keeps beside the packet is in the capture where it was on the wire"""
    host, peer = lab.hosts()
    agent = lab.agent(host)
    frame = bytes.fromhex("020000000101 020000000102 81000005 0800 4500001e000100004011 66cc 0a010002 0a010001"
                          "0fa0 0035 000a 0000 6162")
    for expression in ("vlan 5 and udp port 53", "vlan and udp", "udp port 53", "vlan 6"):
        reference = Capture(lab, host, "w0", expression=[expression])
        captured = Captured(lab, agent, expression)
        send_frames(peer, "p0", [frame, frame[:12] + frame[16:], frame[:15] + b"\x06" + frame[16:]])
        send_frames(host, "w0", [frame])
        file = captured.stop()
        expect_same(captured.keys(file), captured.tcpdump_keys(reference.stop()), expression)
        if "vlan 5" in expression:
            expect_equal(file.keys(), [(frame, len(frame))] * 2, "packets")


@test()
def capture_snap_length_and_count(lab):
    """-s cuts packets to that length and keeps what they had; -c ends after exactly so many packets"""
    host, peer = lab.hosts()
    agent = lab.agent(host)
    captured = Captured(lab, agent, "udp port 53", "-s", 60, "-c", 5)
    udp_send(host, peer, "10.1.0.1", "10.1.0.2", 53, 20, 200)
    file = captured.wait()
    expect_equal([(len(p.data), p.length) for p in file.packets], [(60, 242)] * 5, "bytes, length")
    expect_equal(file.interfaces[0]["snaplen"], 60, "snap length of the interface")
    expect("5 packets captured" in captured.messages(), captured.messages())


@test()
def capture_told_twice_to_end(lab):
    """Two signals at once, as timeout(1) sends them, are one: the capture ends in order, with its statistics"""
    host, _ = lab.hosts()
    agent = lab.agent(host)
    for number in range(5):
        captured = Captured(lab, agent, "icmp", name=f"{number}.pcapng")
        captured.interrupt()
        captured.interrupt()
        expect_equal(captured.wait().statistics["w0"]["lost"], 0, "lost packets")
        expect("0 packets captured" in captured.messages(), captured.messages())


@test()
def capture_cuts_anywhere(lab):
    """Whatever the snap length, and wherever the kernel holds a packet's bytes, the file has the packet's first ones"""
    host, peer = lab.hosts(mtu=9000)
    agent = lab.agent(host)
    frames = []
    for payload in (*range(0, 120, 3), 1000, 5000):  # of 5000 bytes the kernel holds 14 in front, the others in pages
        length = struct.pack("!H", 8 + payload)
        frames.append(bytes.fromhex("020000000101 020000000102 0800 4500") + struct.pack("!H", 28 + payload) +
                      bytes.fromhex("0001 0000 4011 0000 0a010003 0a010004 0fa0 0035") + length + bytes(2) +
                      os.urandom(payload))
    captures = {cut: Captured(lab, agent, "udp port 53", "-s", cut, "-c", 2 * len(frames), name=f"{cut}.pcapng")
                for cut in (32, 33, 63, 64, 65, 96, 128, 129)}
    send_frames(host, "w0", frames)
    send_frames(peer, "p0", frames)
    for cut, captured in captures.items():
        packets = captured.wait().packets
        for direction in ("out", "in"):
            expect_equal([(p.data, p.length) for p in packets if p.direction == direction],
                         [(frame[:cut], len(frame)) for frame in frames], f"{direction}, cut at {cut}")


@test()
def capture_read_by_wireshark(lab):
    """tshark and capinfos read the file: times, interface, filter, statistics, and the process of each packet"""
    need("tshark", "capinfos")
    host, peer = lab.hosts()
    agent = lab.agent(host)
    captured = Captured(lab, agent, "udp port 53")
    with udp_socket(peer, "10.1.0.2", 53) as receiver:
        sender = host.start("python3", "-c", "import socket, time\ns = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)\n"
                            "for i in range(4): s.sendto(b'x', ('10.1.0.2', 53)); time.sleep(0.02)\ntime.sleep(1)")
        for _ in range(4):
            _, source = receiver.recvfrom(100)
            receiver.sendto(b"y", source)
    file = captured.stop()
    expect_equal(len(file.packets), 8, "packets")
    senders = {packet.process for packet in file.packets if packet.direction == "out"}
    expect_equal({command for _, command in senders - {None}}, {"python3"}, f"process of what went out ({senders})")
    listed = run("tshark", "-r", captured.path, "-T", "fields", "-e", "ip.src", "-e", "frame.interface_name",
                 "-e", "frame.packet_flags_direction").stdout.split()
    expect_equal(listed, ["10.1.0.1", "w0", "0x00000002", "10.1.0.2", "w0", "0x00000001"] * 4, "tshark")
    infos = run("capinfos", "-M", captured.path).stdout
    for line in ("Capture application: weir", "Name = w0", "Filter string = udp port 53", "Number of packets = 8",
                 "Number of stat entries = 1"):
        expect(line in infos, f"'{line}' is not in {infos}")
    blocks = run("tshark", "-r", captured.path, "-X", "read_format:MIME Files Format", "-V").stdout
    expect("Darwin Process Name: python3" in blocks, "tshark shows no process")
    expect_equal(sender.wait(5), 0, "the sender")


@test()
def capture_by_owner(lab):
    """`by pid N` captures what a process sends and receives, and nothing of others"""
    host, peer = lab.hosts()
    agent = lab.agent(host)
    program = ("import socket, sys, time\ns = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)\n"
               "s.bind(('10.1.0.1', int(sys.argv[1])))\nsys.stdin.readline()\n"
               "for i in range(5): s.sendto(b'x', ('10.1.0.2', 53)); s.recv(100)\n")
    with udp_socket(peer, "10.1.0.2", 53) as receiver:
        senders = [host.start("python3", "-c", program, port, stdin=subprocess.PIPE, text=True)
                   for port in (4001, 4002)]
        pid = wait_for(lambda: [p for p in host.processes() if "4001" in cmdline(p)], 5, "the sender")[0]
        time.sleep(0.2)
        captured = Captured(lab, agent, "udp", "by", "pid", pid)
        for sender in senders:
            sender.stdin.write("\n")
            sender.stdin.flush()
        for _ in range(10):
            _, source = receiver.recvfrom(100)
            receiver.sendto(b"y", source)
        for sender in senders:
            expect_equal(sender.wait(5), 0, "a sender")
    file = captured.stop()
    ports = [int.from_bytes(p.data[34:36] if p.direction == "out" else p.data[36:38], "big") for p in file.packets]
    expect_equal(ports, [4001] * 10, "own ports")
    expect_equal({p.process[0] for p in file.packets}, {pid}, "processes")


def read_bytes(path):
    with open(path, "rb") as file:
        return file.read()


def cmdline(pid):
    try:
        with open(f"/proc/{pid}/cmdline", encoding="utf-8") as file:
            return file.read()
    except OSError:
        return ""


@test()
def capture_to_pipes_and_lines(lab):
    """`-w -` writes pcapng to a pipe; without -w there is a line a packet; with --json an object"""
    host, peer = lab.hosts()
    agent = lab.agent(host)
    outs = {}
    words = {"pipe": ["-w", "-"], "lines": [], "json": ["--json"]}
    for name, more in words.items():
        with open(lab.path(name), "wb") as out:
            outs[name] = host.start(lab.weir, "capture", "udp port 53", "-c", "2", *more, "--run-dir", agent.run_dir,
                                    stdout=out)
    wait_for(lambda: len(agent.get("/v1/status")["captures"]) == 3, 10, "three captures")
    udp_send(host, peer, "fd00:1::1", "fd00:1::2", 53, 2, 100, own_port=4000)
    for process in outs.values():
        expect_equal(process.wait(10), 0, "exit status")
    expect_equal(len(pcapng.read(lab.path("pipe")).packets), 2, "packets in the pipe")
    with open(lab.path("lines"), encoding="utf-8") as file:
        lines = file.read().splitlines()
    expect_equal([line.split("  ")[0].split(" ", 1)[1] for line in lines],
                 ["w0 out fd00:1::1.4000 > fd00:1::2.53 udp 162"] * 2, "lines")
    with open(lab.path("json"), encoding="utf-8") as file:
        packet = json.loads(file.readline())
    expect_equal({k: packet[k] for k in ("interface", "direction", "proto", "src", "sport", "dst", "dport", "length",
                                         "captured")},
                 {"interface": "w0", "direction": "out", "proto": "udp", "src": "fd00:1::1", "sport": 4000,
                  "dst": "fd00:1::2", "dport": 53, "length": 162, "captured": 162}, "object")


@test()
def capture_lines_are_printable(lab):
    """A process is called whatever it likes; its name does nothing to the terminal that lines are printed on"""
    host, peer = lab.hosts()
    agent = lab.agent(host)
    program = ("import socket, sys\nopen('/proc/self/comm', 'wb').write(b'a\\x1b[2J\\nb\\xff')\n"
               "s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)\ns.bind(('10.1.0.1', 4001))\n"
               "sys.stdin.readline()\ns.sendto(b'x', ('10.1.0.2', 53))\n")
    with udp_socket(peer, "10.1.0.2", 53) as receiver:
        sender = host.start("python3", "-c", program, stdin=subprocess.PIPE, text=True)
        with open(lab.path("lines"), "wb") as out:
            capture = host.start(lab.weir, "capture", "udp port 53", "-c", "1", "--run-dir", agent.run_dir, stdout=out)
        wait_for(lambda: agent.get("/v1/status")["captures"], 10, "the capture")
        sender.stdin.write("\n")
        sender.stdin.flush()
        receiver.recvfrom(100)
        expect_equal(sender.wait(5), 0, "the sender")
        expect_equal(capture.wait(10), 0, "the capture's exit status")
    with open(lab.path("lines"), "rb") as file:
        lines = file.read()
    expect(lines.isascii() and all(byte >= 0x20 for byte in lines[:-1]), f"not printable: {lines!r}")
    expect(b"  a?[2J?b? (" in lines, f"the name: {lines!r}")


@test()
def capture_on_a_full_disk(lab):
    """When the disk is full, the file holds whole packets up to there, and the exit status is 1 with a line"""
    host, peer = lab.hosts()
    agent = lab.agent(host)
    small = lab.path("small")
    os.mkdir(small)
    run("mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", small)
    try:
        # behind small packets so little is left that the statistics have no room for all of them either
        for count, size, least, most in ((400, 1300, 150, 200), (4000, 4, 2400, 2700)):
            captured = Captured(lab, agent, "udp", name=f"small/full-{size}.pcapng")
            udp_send(host, peer, "10.1.0.1", "10.1.0.2", 53, count, size)
            expect_equal(captured.process.wait(10), 1, "exit status")
            file = pcapng.read(captured.path)
            message = captured.messages()
            os.unlink(captured.path)
            expect(least < len(file.packets) < most, f"{len(file.packets)} packets of {size} bytes in 256 KiB")
            expect(f"No space left on device; the {len(file.packets)} packets captured before are in the file"
                   in message, message)
            wait_for(lambda: not agent.get("/v1/status")["captures"], 5, "the capture to end")
    finally:
        run("umount", small)


@test()
def capture_bad_questions(lab):
    """What cannot be captured is said in a line before anything is: nothing is written, nothing is attached"""
    host, _ = lab.hosts()
    agent = lab.agent(host)
    path = lab.path("never.pcapng")
    for words, status, message in (
            (["tcp prt 80"], 1, "syntax error"),
            (["tcp port 80 on w1"], 1, "there is no interface 'w1'"),
            (["at tx"], 1, "one cannot capture at 'tx'"),
            (["at"], 2, "'at' needs a word behind it"),
            (["tcp at tc at xdp"], 2, "'at' stands there twice"),
            (["by pid 4194304"], 1, "there is no process 4194304; the id of one that runs"),
            (["by unit no-such-unit"], 1, "there is no unit no-such-unit.service; one that runs or is installed"),
            (["by cgroup /no-such.slice"], 1, "there is no cgroup /no-such.slice"),
            (["at xdp by user root"], 1, "whose a packet is is not known at xdp; tc or drop"),
            (["tcp at socket by pid 1"], 1, "whose a packet is is not known at socket; tc or drop"),
            (["by usr root"], 1, "unknown kind of owner 'usr'; did you mean 'user'?"),
            (["-s", "3"], 2, "a number from 32 to 262144"),
            (["-c", "0"], 2, "--count: '0' is not such a number")):
        done = agent.weir("capture", *words, "-w", path, check=False)
        expect_equal(done.returncode, status, f"status of {words} ({done.stderr})")
        expect(message in done.stderr, f"{words}: {done.stderr}")
        expect(not os.path.exists(path), f"{words} left a file")
    done = agent.weir("capture", "tcp prt 80", check=False)
    expect(done.stderr.splitlines()[1:] == ["  tcp prt 80", "      ^"], f"no caret: {done.stderr}")
    done = agent.weir("capture", "-w", "/proc/none/x.pcapng", check=False)
    expect_equal((done.returncode, done.stderr.strip()),
                 (1, "weir: cannot write /proc/none/x.pcapng: No such file or directory"), "unwritable")
    with open(path, "w", encoding="utf-8") as file:
        file.write("precious")
    agent.weir("capture", "tcp prt 80", "-w", path, check=False)
    with open(path, encoding="utf-8") as file:
        expect_equal(file.read(), "precious", "the file that was there")
    expect_equal(agent.get("/v1/status")["captures"], [], "captures")


@test()
def capture_beside_an_xdp_program(lab):
    """Where an XDP program is, `at xdp` says so in a line and leaves it alone"""
    host, _ = lab.hosts()
    agent = lab.agent(host)
    first = Captured(lab, agent, "on", "w0", "at", "xdp")
    done = agent.weir("capture", "at", "xdp", check=False)
    expect_equal((done.returncode, done.stderr.strip()),
                 (1, "weir: interface 'w0' has an XDP program already; capture at tc, which shares; or take that "
                     "program off first"), "second")
    first.stop()


@test()
def capture_on_an_interface_that_comes_again(lab):
    """`on w0` goes on where an interface of that name is there again"""
    host, peer = lab.hosts()
    agent = lab.agent(host)
    captured = Captured(lab, agent, "udp port 5000", "on", "w0")
    udp_send(peer, host, "10.1.0.2", "10.1.0.1", 5000, 1, 100)
    host.ip("link", "del", "w0")
    lab.pair(host, "w0", peer, "p0")

    def is_taken():
        udp_send(peer, host, "10.1.0.2", "10.1.0.1", 5000, 1, 200)
        return b"\0" * 200 in read_bytes(captured.path)

    wait_for(is_taken, 10, "packets of the new interface", 0.2)
    expect_equal({packet.length for packet in captured.stop().packets}, {142, 242}, "lengths")


@test("alone")  # counts all programs of the machine
def capture_with_a_killed_client(lab):
    """When the client is killed, its capture ends: nothing of it stays attached"""
    host, peer = lab.hosts()
    agent = lab.agent(host)
    before = programs_named("capture")
    captured = Captured(lab, agent, "udp")
    expect(programs_named("capture") > before, "no program of the capture was seen: nothing was checked")
    captured.process.kill()
    wait_for(lambda: not agent.get("/v1/status")["captures"], 5, "the capture to end")
    wait_for(lambda: programs_named("capture") == before, 5, "its programs to go")
    udp_send(host, peer, "10.1.0.1", "10.1.0.2", 53, 3, 10)


@test()
def capture_into_shared_memory(lab):
    """Root's command writes packets from the agent's memory, one of another namespace is sent them: the same packets"""
    host, peer = lab.hosts()
    agent = lab.agent(host)
    near = Captured(lab, agent, "udp port 53", name="near.pcapng")
    far_path = lab.path("far.pcapng")
    far = peer.start(lab.weir, "capture", "udp port 53", "-w", far_path, "--run-dir", agent.run_dir,
                     stderr=subprocess.DEVNULL)
    wait_for(lambda: os.path.exists(far_path) and os.path.getsize(far_path), 10, "the other capture to begin")
    expect_equal(sorted(c["shared"] for c in agent.get("/v1/status")["captures"]), [False, True], "who shares")
    near.process.send_signal(signal.SIGSTOP)
    udp_send(host, peer, "10.1.0.1", "10.1.0.2", 53, 3000, 1300)
    udp_send(peer, host, "fd00:1::2", "fd00:1::1", 53, 300, 100)
    wait_for(lambda: all(c["packets"] == 3300 for c in agent.get("/v1/status")["captures"]), 10, "the packets")
    near.process.send_signal(signal.SIGCONT)
    file = near.stop()
    far.send_signal(signal.SIGINT)
    expect_equal(far.wait(10), 0, "exit status of the other")
    expect_equal(len(file.packets), 3300, "packets")
    expect_equal(file.keys(), pcapng.read(far_path).keys(), "packets of both")
    expect_equal(file.statistics["w0"]["lost"], 0, "lost packets")


def programs_named(prefix):
    listed = json.loads(run("bpftool", "-j", "prog", "show").stdout)
    return len([p for p in listed if p.get("name", "").startswith(prefix)])


@test("vm-6.12")
def capture_with_a_killed_agent(lab):
    """When the agent is killed in the middle, the file has whole packets, and the next agent captures as before"""
    host, peer = lab.hosts()
    agent = lab.agent(host)
    captured = Captured(lab, agent, "udp")
    udp_send(host, peer, "10.1.0.1", "10.1.0.2", 53, 30, 100)
    wait_for(lambda: os.path.getsize(captured.path) > 30 * 100, 5, "packets in the file")
    agent.stop(signal.SIGKILL)
    expect_equal(captured.process.wait(10), 1, "exit status")
    expect_equal(len(pcapng.read(captured.path).packets), 30, "packets in the file")
    agent.start()
    again = Captured(lab, agent, "udp", name="again.pcapng")
    udp_send(host, peer, "10.1.0.1", "10.1.0.2", 53, 4, 100)
    expect_equal(len(again.stop().packets), 4, "packets captured by the next agent")


@test()
def capture_without_a_link_header(lab):
    """On an interface without Ethernet headers packets begin with their IP header, and the file says so"""
    host, peer = lab.hosts()
    frames = []
    tun = open_tun(host, "u0")
    host.ip("link", "set", "u0", "up")
    host.ip("addr", "add", "10.5.0.1/24", "dev", "u0")
    agent = lab.agent(host, "interfaces: [u0]\n")
    captured = Captured(lab, agent, "udp port 53")
    with udp_socket(host, "10.5.0.1", 4000) as sender:
        for _ in range(3):
            sender.sendto(b"hello", ("10.5.0.2", 53))
            frames.append(os.read(tun, 2000))
        sender.sendto(b"hello", ("10.5.0.2", 54))
    file = captured.stop()
    os.close(tun)
    expect_equal(file.interfaces[0]["link"], pcap.RAW, "link type")
    expect_equal(file.keys(), [(frame, len(frame)) for frame in frames], "packets")


@test("vm")
def capture_at_drop(lab):
    """`at drop` captures packets that the kernel drops, each with the reason as a comment, and with an expression"""
    host, peer = lab.hosts()
    agent = lab.agent(host)
    captured = Captured(lab, agent, "udp port 9999", "at", "drop")
    for address, source in (("10.1.0.1", "10.1.0.2"), ("fd00:1::1", "fd00:1::2")):
        with udp_socket(peer, source, 4000) as sender:
            sender.sendto(b"nobody wants this", (address, 9999))
            sender.sendto(b"nor that", (address, 9998))
    wait_for(lambda: agent.get("/v1/status")["captures"][0]["packets"] == 2, 5, "two packets")
    file = captured.stop()
    expect_equal({interface["link"] for interface in file.interfaces}, {276}, "link type")
    for packet, version in zip(file.packets, (4, 6)):
        expect_equal((packet.interface, packet.direction, packet.data[20] >> 4), ("w0", "in", version), "packet")
        expect(packet.data.endswith(b"nobody wants this"), f"data {packet.data}")
        expect_equal(packet.length, len(packet.data), "length")
        expect_equal(int.from_bytes(packet.data[:2], "big"), 0x0800 if version == 4 else 0x86DD, "EtherType")
        expect(packet.comment and packet.comment.startswith("dropped: "), f"comment {packet.comment}")
    if "NO_SOCKET" not in file.packets[0].comment:
        raise Skip(f"this kernel's reason is not NO_SOCKET: {file.packets[0].comment}")
    expect(" at " in file.packets[0].comment and "udp" in file.packets[0].comment, file.packets[0].comment)


@test()
def capture_not_for_everybody(lab):
    """Who may not change anything may not capture either, and is told so"""
    host, _ = lab.hosts()
    agent = lab.agent(host, 'interfaces: [w0]\napi: {mode: "0666"}\n')
    done = host.run("setpriv", "--reuid", "65534", "--clear-groups", lab.weir, "capture", "--run-dir", agent.run_dir,
                    check=False)
    expect_equal(done.returncode, 1, "exit status")
    expect("not allowed" in done.stderr, done.stderr)


@test()
def capture_of_the_past(lab):
    """--before begins with the packets of that time before the capture, filtered, none twice and none missing"""
    host, peer = lab.hosts()
    agent = lab.agent(host, "interfaces: [w0]\ncapture: {before: 4mb, snaplen: 80}\n")
    reference = Capture(lab, host, "w0", snap=80, expression=["udp port 53"])
    udp_send(host, peer, "10.1.0.1", "10.1.0.2", 53, 30, 100)
    udp_send(host, peer, "10.1.0.1", "10.1.0.2", 54, 30, 100)
    captured = Captured(lab, agent, "udp port 53", "--before", "30s", "-s", 70)
    udp_send(peer, host, "fd00:1::2", "fd00:1::1", 53, 20, 100)
    file = captured.stop()
    wanted = captured.tcpdump_keys(reference.stop())
    expect_equal(len(wanted), 50, "packets that tcpdump has")
    expect_same(file.keys(), [(data[:70], length) for data, length in wanted], "past and present")
    ns = [packet.ns for packet in file.packets]
    expect(ns == sorted(ns), "the packets are not in the order of time")
    done = agent.weir("capture", "--before", "5s", "at", "xdp", check=False)
    expect("packets are not kept at xdp; tc" in done.stderr, done.stderr)
    lab.write("weir.yaml", "")
    with open(agent.config, "w", encoding="utf-8") as config:
        config.write("interfaces: [w0]\n")
    agent.reload()
    done = agent.weir("capture", "--before", "5s", check=False)
    expect("no packets are kept from before a capture; capture: {before: 16mb}" in done.stderr, done.stderr)


@test()
def capture_of_a_past_that_was_overwritten(lab):
    """Of more packets than are kept from before, the last ones are there, all whole and in order"""
    host, peer = lab.hosts()
    agent = lab.agent(host, "interfaces: [w0]\ncapture: {before: 1mb, snaplen: 1000}\n")
    for round_number in range(12):
        udp_send(host, peer, "10.1.0.1", "10.1.0.2", 1000 + round_number, 500, 900)
    captured = Captured(lab, agent, "udp", "--before", "1m")
    file = captured.stop()
    ports = [int.from_bytes(packet.data[36:38], "big") for packet in file.packets]
    expect(400 < len(ports) < 6000, f"{len(ports)} packets of 6000 kept in 1 MB")
    expect(ports == sorted(ports) and ports[-1] == 1011, "not the last packets, or not in order")


EXPRESSIONS = """
ip|ip6|arp|tcp|udp|icmp|icmp6|sctp|igmp|esp|not ip|not tcp|not (tcp or udp)|ip and not tcp|ip6 and not udp|tcp port 443
udp port 53|port 53|sctp port 7|src port 1000|dst port 443|tcp src port 443 or udp dst port 53|not port 443
portrange 1000-2000|tcp portrange 440-450|src portrange 1-1023|dst portrange 1-1023|host 10.0.0.1|src host 10.0.0.1
dst host 10.0.0.2|src and dst host 10.0.0.1|host fd00::1|src host fd00::1|dst host fd00::2|host 10.0.0.1 or fd00::1
not host 10.0.0.1|ip host 10.0.0.2|arp host 10.0.0.1|net 10.0.0.0/8|src net 10.0.0.0/24|dst net 192.168.0.0 mask 255.255.0.0
net 10|ip6 net fd00::/64|src net fd00::/16|net 2001:db8::/33|ip proto 6|ip proto \\udp|ip6 proto 17|ip6 proto 58|proto 47
ip protochain 6|ip6 protochain 6|ip6 protochain 17|ether proto 0x800|ether proto \\arp|ether src 02:00:00:00:00:01
ether broadcast|ether multicast|broadcast|multicast|ip multicast|ip6 multicast|vlan|vlan 100|vlan 5 and tcp
vlan 100 and udp port 53|vlan and vlan|vlan and ip6|not vlan|tcp or vlan 100|mpls|mpls 100|pppoes|less 60|greater 60
len > 100|len = 42|tcp[tcpflags] & (tcp-syn|tcp-fin) != 0|tcp[tcpflags] = tcp-syn|tcp[13] & 2 != 0|tcp[0:2] = 1000
tcp[2:2] = 443|udp[4:2] > 8|icmp[icmptype] = icmp-echo|icmp[0] = 3 and icmp[1] = 4|icmp6[0] = 128|ip[0] & 0xf != 5
ip[2:2] > 60|ip[6:2] & 0x1fff = 0|ip[6:2] & 0x3fff != 0|ip[8] < 64|ip[12:4] = 0x0a000001|ip6[6] = 6|ip6[40] & 0xf0 = 0
ether[0] & 1 = 0 and ip[16] >= 224|ether[12:2] = 0x86dd|ether[100] = 0|ether[2000] = 0|ether[ip[3]] = 0
tcp port 80 and (((ip[2:2] - ((ip[0]&0xf)<<2)) - ((tcp[12]&0xf0)>>2)) != 0)|tcp[((tcp[12:1] & 0xf0) >> 2):4] = 0x47455420
udp[8:2] = 0x1234|ip[ip[2:2] - 1] = 0|ether[len - 1] = 0|ip[8] / 2 = 32|ip[8] % 3 = 1|100 / (ip[8] - 64) = 1
tcp[0:2] = tcp[2:2]|ip[10:2] & ip[2:2] != 0|udp and (src port 67 and dst port 68 or src port 68 and dst port 67)
"""
AT_ONCE = 8  # captures


def assorted_frames():
    """What the expressions tell apart, in both families; for nobody's hardware address, so that nobody answers."""
    def frame(payload, tags=(), kind=None, destination="02:00:00:00:00:09"):
        return pcap.ethernet(payload, kind=kind, destination=destination, source="02:00:00:00:00:01", tags=tags)

    payloads = [b"", b"GET / HTTP/1.1\r\n\r\n", b"\x12\x34" + bytes(120)]
    transports = [(6, pcap.tcp(1000, 443, 2)), (6, pcap.tcp(443, 1000, 18)), (6, pcap.tcp(50000, 80, 24, payloads[1])),
                  (6, pcap.tcp(443, 443, 17, payloads[2], options=b"\x01\x01\x01\x00")), (17, pcap.udp(53, 4000, payloads[2])),
                  (17, pcap.udp(1500, 53)), (17, pcap.udp(67, 68, payloads[1])), (132, pcap.sctp(7, 7)), (2, bytes(8)),
                  (47, bytes(16)), (50, bytes(16))]
    addresses4 = [("10.0.0.1", "10.0.0.2"), ("192.168.1.1", "192.168.2.2"), ("10.9.9.9", "224.0.0.5")]
    addresses6 = [("fd00::1", "fd00::2"), ("2001:db8::1", "fd00::1"), ("fe80::1", "ff02::1")]
    frames = []
    for number, (proto, payload) in enumerate(transports):
        source, destination = addresses4[number % 3]
        packets = [pcap.ipv4(proto, payload, source, destination), pcap.ipv4(proto, payload, "10.0.0.1", "10.0.0.1", options=bytes(4)),
                   pcap.ipv4(proto, payload, fragment=0x2000), pcap.ipv4(proto, payload, fragment=3)]
        source, destination = addresses6[number % 3]
        packets.append(pcap.ipv6(proto, payload, source, destination))
        frames += [frame(packet) for packet in packets]
        frames += [frame(packets[0], tags=tags) for tags in ([(0x8100, 100)], [(0x8100, 5)], [(0x88a8, 1), (0x8100, 100)])]
        frames += [frame(packets[4], tags=[(0x8100, 100)])]
    frames += [frame(pcap.ipv4(1, pcap.icmp(kind, code))) for kind, code in ((8, 0), (0, 0), (3, 4), (3, 1))]
    frames += [frame(pcap.ipv6(58, pcap.icmp(kind, 0), *addresses6[0])) for kind in (128, 129, 135)]
    arp = bytes.fromhex("0001080006040001 020000000001 0a000001 000000000000 0a000002")
    frames += [frame(arp, kind=0x806, destination="ff:ff:ff:ff:ff:ff"), frame(bytes.fromhex("00064140") + bytes(60), kind=0x8847),
               frame(bytes.fromhex("11000001002a0021") + pcap.ipv4(6, transports[0][1]), kind=0x8864),
               frame(pcap.ipv4(17, pcap.udp(5, 6)), destination="01:00:5e:00:00:05")]
    return frames


@test(seconds=90)
def capture_of_a_hundred_expressions(lab):
    """for each of more than a hundred expressions, weir captures what tcpdump captures at the same time, packet by packet"""
    need("tcpdump")
    host, peer = lab.hosts()
    lab.quiet(host, peer)
    agent = lab.agent(host)
    frames = assorted_frames()
    expressions = [line for line in EXPRESSIONS.replace("\n", "|").replace("(tcp-syn|tcp-fin)", "(tcp-syn^tcp-fin)").split("|") if line]
    expressions = [expression.replace("^", "|") for expression in expressions]
    expect(len(expressions) > 100, f"only {len(expressions)} expressions")
    told_apart = set()
    for begin in range(0, len(expressions), AT_ONCE):
        some = expressions[begin:begin + AT_ONCE]
        references = [Capture(lab, host, "w0", expression=[expression], name=f"-{number}", buffer=16384)
                      for number, expression in enumerate(some)]
        captures = [Captured(lab, agent, expression, name=f"{number}.pcapng") for number, expression in enumerate(some)]
        send_frames(peer, "p0", frames)
        time.sleep(0.3)  # tcpdump has written what it has
        for expression, reference, captured in zip(some, references, captures):
            captured.interrupt()
            file, wanted = captured.wait(), captured.tcpdump_keys(reference.end())
            if wanted:
                expect_same(captured.keys(file), wanted, f"'{expression}'")
            expect_equal(len(captured.keys(file)), len(wanted), f"packets of '{expression}'")
            expect_equal(file.statistics.get("w0", {}).get("lost", 0), 0, "lost packets")
            told_apart.add(tuple(sorted(wanted)))
    expect(len(told_apart) > 60, f"the frames tell only {len(told_apart)} expressions apart")
