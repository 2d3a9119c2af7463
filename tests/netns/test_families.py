# SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
"""Rules by pid are about a process with all that it starts, wherever those come to hang, until the last has ended."""

import json
import os
import signal
import socket
import sys

from lab import expect, expect_equal, udp_socket, wait_for
from suite import test
from test_rules import add, done, refused, rule, rules

# A process that forks and sends datagrams when it is told to; so do those that it forks.  Each has a name, by which
# it is spoken to.
NODE = """
import errno, os, signal, socket, sys
directory, name = sys.argv[1:]
signal.signal(signal.SIGCHLD, signal.SIG_IGN)
def control_open():
    control = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    control.bind(f"{directory}/{name}")
    return control
control = control_open()
kept = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
while True:
    line, asker = control.recvfrom(1024)
    verb, *words = line.decode().split()
    answer = "ok"
    if verb == "fork":
        if not os.fork():
            control.close()
            name = words[0]
            kept = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            control = control_open()
            continue
    elif verb == "pid":
        answer = str(os.getpid())
    elif verb == "exit":
        control.sendto(b"ok", asker)
        os._exit(0)
    elif verb == "send":
        try:
            kept.sendto(b"x" * 32, (words[0], int(words[1])))
        except OSError as error:
            answer = errno.errorcode[error.errno]
    control.sendto(answer.encode(), asker)
"""


class Tree:
    """Processes that are spoken to by name; the first is `root`."""

    counter = 0

    def __init__(self, lab, namespace):
        Tree.counter += 1
        self.directory = lab.path(f"tree{Tree.counter}")
        os.mkdir(self.directory)
        lab.start(*namespace.command(sys.executable, "-I", "-c", NODE, self.directory, "root"))
        self.control = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.control.bind(f"{self.directory}/test")
        self.control.settimeout(20)
        lab.on_close(self.control.close)
        lab.on_close(self.end)
        self.names = ["root"]
        self.await_name("root")

    def await_name(self, name):
        wait_for(lambda: os.path.exists(f"{self.directory}/{name}"), 20, f"process {name}")

    def __call__(self, name, *words):
        self.control.sendto(" ".join(str(word) for word in words).encode(), f"{self.directory}/{name}")
        return self.control.recv(1024).decode()

    def fork(self, name, child):
        self(name, "fork", child)
        self.names.append(child)
        self.await_name(child)

    def pid(self, name):
        return int(self(name, "pid"))

    def end_one(self, name):
        pid = self.pid(name)
        self(name, "exit")
        self.names.remove(name)
        # a zombie has ended; its parent may take its time
        wait_for(lambda: not os.path.exists(f"/proc/{pid}/fd/0"), 20, f"the end of {name}")

    def end(self):
        for name in list(self.names):
            self(name, "exit")


def build(lab):
    host, peer = lab.hosts()
    return host, peer, lab.agent(host)


@test("vm-6.12")
def children_inherit(lab):
    """A rule by pid is about the children that the process has, those it gets, and theirs, wherever they hang; and about nobody else"""
    host, peer, agent = build(lab)
    sink = udp_socket(peer, "10.1.0.2", 9)
    lab.on_close(sink.close)
    tree, other = Tree(lab, host), Tree(lab, host)
    tree.fork("root", "before")
    tree.fork("before", "grandchild")
    number = add(agent, f"deny send by pid {tree.pid('root')}")["id"]
    tree.fork("root", "after")
    tree.fork("after", "daemon")
    tree.fork("grandchild", "late")
    tree.end_one("after")  # the daemon hangs elsewhere now
    other.fork("root", "before")
    for name in ("root", "before", "grandchild", "daemon", "late"):
        expect_equal(tree(name, "send", "10.1.0.2", 9), "EPERM", f"{name} of the family")
    for name in ("root", "before"):
        expect_equal(other(name, "send", "10.1.0.2", 9), "ok", f"{name} of another")
    done(agent, "POST", "/v1/rules/delete", id=number)
    for name in ("root", "before", "grandchild", "daemon", "late"):
        expect_equal(tree(name, "send", "10.1.0.2", 9), "ok", f"{name} without the rule")
    # another family is not the first one's again
    add(agent, f"deny send by pid {other.pid('root')}")
    expect_equal(tree("daemon", "send", "10.1.0.2", 9), "ok", "who belonged to a family that is gone")
    expect_equal(other("before", "send", "10.1.0.2", 9), "EPERM", "the family that has the rule now")


def count(sink):
    """Datagrams that have arrived."""
    sink.setblocking(False)
    number = 0
    while True:
        try:
            sink.recv(2048)
            number += 1
        except BlockingIOError:
            return number


@test()
def packets_of_a_family(lab):
    """A rule on packets by pid is about the family's, those of sockets that are open already too; the sockets of whoever has ended stay its"""
    host, peer, agent = build(lab)
    sink = udp_socket(peer, "10.1.0.2", 9)
    lab.on_close(sink.close)
    tree = Tree(lab, host)
    tree.fork("root", "before")
    for name in ("root", "before"):
        tree(name, "send", "10.1.0.2", 9)
    expect_equal(count(sink), 2, "datagrams without a rule")
    number = add(agent, f"drop out udp by pid {tree.pid('root')}")["id"]
    tree.fork("before", "after")
    for name in ("root", "before", "after"):
        tree(name, "send", "10.1.0.2", 9)
    expect_equal(rule(agent, number)["packets"], 3, "packets dropped")
    expect_equal(count(sink), 0, "datagrams of the family")
    other = Tree(lab, host)
    other("root", "send", "10.1.0.2", 9)
    expect_equal(count(sink), 1, "datagrams of another process")


@test()
def a_family_ends_with_its_last(lab):
    """A rule by pid goes on when the process has ended and a child lives; with the last one it says that it has ended, and goes soon after; a kill -9 of the agent changes nothing"""
    host, peer, agent = build(lab)
    sink = udp_socket(peer, "10.1.0.2", 9)
    lab.on_close(sink.close)
    tree = Tree(lab, host)
    tree.fork("root", "child")
    pid = tree.pid("root")
    number = add(agent, f"deny send by pid {pid}")["id"]
    tree.end_one("root")
    expect("ended" not in rule(agent, number), "a child lives")
    expect_equal(agent.get("/v1/status")["families"]["processes"], 1, "processes")
    agent.stop(signal.SIGKILL)
    tree.fork("child", "born")
    expect_equal(tree("born", "send", "10.1.0.2", 9), "EPERM", "born without an agent")
    agent = lab.agent(host)
    expect_equal([entry["id"] for entry in rules(agent)], [number], "the rules of the next agent")
    tree.fork("child", "late")
    for name in ("child", "born", "late"):
        expect_equal(tree(name, "send", "10.1.0.2", 9), "EPERM", f"{name}, with the next agent")
    for name in ("child", "born", "late"):
        tree.end_one(name)
    # it says so, and goes by itself; a slow machine may only see the second
    wait_for(lambda: all(entry.get("ended") for entry in rules(agent)), 5, "the rule has ended")
    metrics = agent.request("GET", "/metrics")[1]
    expect("weir_family_processes 0" in metrics, "nobody is left")
    wait_for(lambda: not rules(agent), 30, "the rule goes")
    wait_for(lambda: f"rule {number} has ended: deny send by pid {pid}" in json.dumps(agent.get("/v1/audit")), 5,
             "the trail tells that it went")
    refused(agent, 400, "there is no process", "POST", "/v1/rules/add", text=f"deny send by pid {pid}")
