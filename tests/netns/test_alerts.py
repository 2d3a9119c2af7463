# SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
"""weir capture --when: what waits for something to happen begins with the packets of the time before it."""

import datetime
import glob
import os
import signal
import threading
import time

import pcapng
from lab import expect, expect_equal, need, run, udp_send, udp_socket, wait_for
from suite import test
from test_capture import programs_named
from test_rules import add as add_rule
from test_services import add as add_service

KEEPS = "interfaces: [w0]\ncapture: {before: 8mb, snaplen: 200}\n"


class Waiting:
    """One `weir capture --when`, up to its end."""

    def __init__(self, lab, agent, event, *words, name="event.pcapng"):
        self.agent, self.path, self.err = agent, lab.path(name), lab.path("waiting.err")
        with open(self.err, "w", encoding="utf-8") as err:
            self.process = agent.namespace.start(lab.weir, "capture", *words, "--when", event, "-w", self.path,
                                                 "--run-dir", agent.run_dir, stderr=err)
        wait_for(lambda: f"waiting for: {event}" in self.said(), 10, "the capture to wait")

    def said(self):
        with open(self.err, encoding="utf-8") as file:
            return file.read()

    def told(self):
        """What has happened, a line each."""
        return [line for line in self.said().splitlines() if not line.startswith("waiting for: ") and "captured" not in line]

    def waits(self):
        return any(capture.get("waiting") for capture in self.agent.get("/v1/status")["captures"])

    def wait(self):
        expect_equal(self.process.wait(20), 0, f"exit status ({self.said()})")
        return pcapng.read(self.path)

    def interrupt(self):
        self.process.send_signal(signal.SIGINT)
        expect_equal(self.process.wait(10), 0, f"exit status ({self.said()})")


class Numbered:
    """Datagrams with numbers from 0 on, sent until somebody has had enough."""

    def __init__(self, host, peer, port=53):
        self.sender, self.receiver = udp_socket(host, "10.1.0.1"), udp_socket(peer, "10.1.0.2", port)
        self.port, self.sent, self.over = port, 0, threading.Event()
        self.thread = threading.Thread(target=self.send, daemon=True)
        self.thread.start()

    def send(self):
        while not self.over.wait(0.002):
            self.sender.sendto(self.sent.to_bytes(4, "big"), ("10.1.0.2", self.port))
            self.sent += 1

    def stop(self):
        self.over.set()
        self.thread.join(5)
        self.sender.close()
        self.receiver.close()


def numbers(file, port=53):
    return [int.from_bytes(packet.data[42:46], "big") for packet in file.packets
            if packet.data[36:38] == port.to_bytes(2, "big")]


@test("vm-6.1")
def capture_when_a_rule_logs(lab):
    """when a rule has logged a packet the file has what was before it and what comes behind it, none twice and none missing;
    what another rule logs is nothing to it"""
    host, peer = lab.hosts()
    agent = lab.agent(host, KEEPS)
    add_rule(agent, "log out udp to port 7")
    wanted = add_rule(agent, "log out udp to port 9")["id"]
    waiting = Waiting(lab, agent, f"log rule {wanted}", "udp", "--before", "30s", "--for", "500ms")
    stream = Numbered(host, peer)
    udp_send(host, peer, "10.1.0.1", "10.1.0.2", 7, 3, 10)
    wait_for(lambda: agent.get("/v1/log")["log"], 5, "what the other rule logs")
    expect(waiting.waits() and not waiting.told(), f"it does not wait any more: {waiting.said()}")
    wait_for(lambda: stream.sent > 100, 10, "packets")
    before = stream.sent
    udp_send(host, peer, "10.1.0.1", "10.1.0.2", 9, 1, 10)
    file = waiting.wait()
    stream.stop()
    found = numbers(file)
    expect_equal(found, list(range(len(found))), "the numbers of the packets")
    expect(len(found) > before, f"{len(found)} packets, {before} of them were sent before the event")
    expect_equal((len(numbers(file, 7)), len(numbers(file, 9))), (3, 1), "packets that were logged")
    line, = waiting.told()
    time_said, text = line.split(" ", 1)
    expect(text.startswith(f"rule {wanted}: log out on w0 from 10.1.0.1:") and text.endswith(" to 10.1.0.2:9"), line)
    expect_equal(file.comment, line, "the file's comment")
    logged = next(packet for packet in file.packets if packet.data[36:38] == b"\0\x09")
    told = datetime.datetime.fromisoformat(time_said).timestamp()
    expect(logged.time - 0.001 <= told <= time.time(), f"{time_said} is told of a packet of {logged.time}")
    expect_equal(agent.get("/v1/status")["captures"], [], "captures")


@test()
def capture_when_packets_are_dropped(lab):
    """drops above a rate begin it, fewer do not; without --before it begins there, at drop, too"""
    host, peer = lab.hosts()
    agent = lab.agent(host, KEEPS)
    waiting = Waiting(lab, agent, "drops above 50/s", "udp port 7", "--before", "30s", "-c", "200")
    dropped = Waiting(lab, agent, "drops above 50/s", "udp port 7", "at", "drop", "-c", "1", name="drop.pcapng")
    with udp_socket(peer, "10.1.0.2") as sender:  # nobody listens: the kernel drops it
        for _ in range(30):
            sender.sendto(bytes(20), ("10.1.0.1", 7))
        wait_for(lambda: agent.get("/v1/drops")["packets"] >= 30, 5, "the drops to be counted")
        expect(waiting.waits(), f"30 drops began it: {waiting.said()}")
        for _ in range(200):
            sender.sendto(bytes(20), ("10.1.0.1", 7))
        file = waiting.wait()
        while dropped.process.poll() is None:
            sender.sendto(bytes(20), ("10.1.0.1", 7))
            time.sleep(0.01)
    expect_equal(len(file.packets), 200, "packets")
    expect(file.comment.endswith(" packets dropped within a second"), file.comment)
    expect(int(file.comment.split()[1]) > 50, file.comment)
    packet, = dropped.wait().packets
    expect(packet.comment.startswith("dropped: NO_SOCKET"), packet.comment)


@test()
def capture_when_a_backend_goes_down(lab):
    """a backend that fails its checks begins it, with the check that failed"""
    host, _ = lab.hosts()
    agent = lab.agent(host, KEEPS)
    waiting = Waiting(lab, agent, "backend down", "tcp port 80", "--before", "30s", "--for", "100ms")
    add_service(agent, "web tcp 203.0.113.10 port 80 to 10.1.0.2 check tcp direct every 250ms timeout 250ms")
    file = waiting.wait()
    expect(file.comment.endswith(" backend 10.1.0.2 port 80 of service web is down: connection refused"), file.comment)
    expect({packet.data[47] for packet in file.packets} >= {2, 0x14}, "a SYN and its reset")
    named = Waiting(lab, agent, "backend down web", name="never.pcapng")
    named.interrupt()


@test()
def capture_of_each_event(lab):
    """a file name with a % is made of the time of each event: a file each, whole, until it is interrupted"""
    host, peer = lab.hosts()
    agent = lab.agent(host, KEEPS)
    add_rule(agent, "log out udp to port 9")
    waiting = Waiting(lab, agent, "log", "udp port 9", "--before", "10s", "-c", "1", name="event-%s.pcapng")
    for count in (1, 2, 3):
        udp_send(host, peer, "10.1.0.1", "10.1.0.2", 9, 1, count)
        wait_for(lambda count=count: waiting.said().count("waiting for: ") == count + 1, 10, "the next to wait")
    waiting.interrupt()
    files = sorted(glob.glob(lab.path("event-*.pcapng")))
    expect_equal(len(files), 3, "files")
    expect_equal([pcapng.read(path).comment for path in files], waiting.told(), "what they are about")
    expect_equal([len(pcapng.read(path).packets) for path in files], [1, 1, 1], "packets")
    need("tshark", "capinfos")
    for path, line in zip(files, waiting.told()):
        expect(f"Capture comment:     {line}" in run("capinfos", path).stdout, "capinfos shows no comment")
        expect_equal(run("tshark", "-r", path, "-T", "fields", "-e", "ip.dst").stdout.split(), ["10.1.0.2"], "tshark")


@test("alone")  # counts all programs of the machine
def capture_that_waits_in_vain(lab):
    """who waits has nothing attached and no file; interrupted, killed, or left by the agent nothing of it stays"""
    host, peer = lab.hosts()
    agent = lab.agent(host, KEEPS)
    filters, programs = host.filters("w0", "ingress"), programs_named("capture")
    precious = lab.write("event.pcapng", "precious")
    waiting = Waiting(lab, agent, "drops above 1000000/s", "udp")
    expect_equal(host.filters("w0", "ingress"), filters, "filters")
    udp_send(host, peer, "10.1.0.1", "10.1.0.2", 9, 10, 10)
    status = agent.get("/v1/status")["captures"]
    expect_equal([(c["when"], c["waiting"], c["packets"]) for c in status], [("drops above 1000000/s", True, 0)], "status")
    waiting.interrupt()
    with open(precious, encoding="utf-8") as file:
        expect_equal(file.read(), "precious", "the file that was there")
    os.unlink(precious)
    killed = Waiting(lab, agent, "log")
    killed.process.kill()
    wait_for(lambda: not agent.get("/v1/status")["captures"], 5, "the capture to end")
    wait_for(lambda: programs_named("capture") == programs, 5, "its programs to go")
    os.unlink(killed.path)
    left = Waiting(lab, agent, "log")
    agent.stop()
    expect_equal(left.process.wait(10), 1, f"exit status ({left.said()})")
    expect("went away before its answer was complete" in left.said(), left.said())
    expect(not os.path.exists(left.path), "a file was left")


@test()
def capture_with_bad_events(lab):
    """what cannot be waited for is said in a line: nothing waits, nothing is written"""
    host, _ = lab.hosts()
    agent = lab.agent(host)
    path = lab.path("never.pcapng")
    add_service(agent, "web tcp 203.0.113.10 port 80 to 10.1.0.2")
    for words, status, message in (
            (["--when", "drop above 3/s"], 1, "unknown event 'drop'; did you mean 'drops'?"),
            (["--when", "rain"], 1, "unknown event 'rain'; log [rule N], drops above N/s or backend down [SERVICE]"),
            (["--when", "drops above 0/s"], 1, "expected packets a second, got '0/s'; 1/s or more, such as 1000/s"),
            (["--when", ""], 1, "expected an event"),
            (["--when", "log rule 77"], 1, "there is no rule 77; one of those that 'weir rules' lists"),
            (["--when", "backend down wbe"], 1, "there is no service 'wbe'; did you mean 'web'?"),
            (["--when", "log", "--before", "5s"], 1, "no packets are kept from before a capture; capture: {before: 16mb}"),
            (["--when", "log", "--before", "0s"], 1, "before: '0s' is not a time"),
            (["--when", "log", "--for", "0s"], 2, "--for: '0s' is not a time to wait")):
        done = agent.weir("capture", "-w", path, *words, check=False)
        expect_equal(done.returncode, status, f"status of {words} ({done.stderr})")
        expect(message in done.stderr, f"{words}: {done.stderr}")
        expect(not os.path.exists(path), f"{words} left a file")
    done = agent.weir("capture", "--when", "log rle 7", check=False)
    expect_equal(done.stderr.splitlines()[1:], ["  log rle 7", "      ^"], "the caret")
    done = agent.weir("capture", "--when", "log", "-w", lab.path("no-such/%F.pcapng"), "-c", 1, check=False)
    expect("cannot write into " in done.stderr and "No such file" in done.stderr, done.stderr)
    done = agent.weir("capture", "--when", "log", "-w", lab.path("%F.pcapng"), check=False)
    expect("a capture needs an end; --for TIME or --count N" in done.stderr, done.stderr)
    expect_equal(agent.get("/v1/status")["captures"], [], "captures")


@test()
def capture_for_a_time(lab):
    """--for ends a capture that waits for nothing, with what was sent until then"""
    host, peer = lab.hosts()
    agent = lab.agent(host)
    stream = Numbered(host, peer)
    path = lab.path("for.pcapng")
    agent.weir("capture", "udp port 53", "--for", "500ms", "-w", path)
    stream.stop()
    found = numbers(pcapng.read(path))
    expect(found and found == list(range(found[0], found[0] + len(found))), f"numbers of the packets: {found}")
