# SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
"""Socket rules: what processes of other users, cgroups and executables may do with sockets, and when that changes."""

import ctypes
import errno
import json
import os
import shutil
import signal
import socket
import struct
import subprocess
import sys
import urllib.parse

from lab import LIBC, SYS_BPF, UnixConnection, expect, expect_equal, need, need_kernel, run, wait_for
from suite import test

GUEST, OTHER = 64321, 64322  # users that nobody else is

# A process that does what each line says and answers with a line: "ok", or the name of the error.
CALLER = """
import errno, os, socket, sys
families = {4: socket.AF_INET, 6: socket.AF_INET6}
kinds = {"tcp": (socket.SOCK_STREAM, 0), "udp": (socket.SOCK_DGRAM, 0), "mptcp": (socket.SOCK_STREAM, 262),
         "raw": (socket.SOCK_RAW, 1), "raw6": (socket.SOCK_RAW, 58), "ping": (socket.SOCK_DGRAM, 1)}
def do(call, kind, family, address="", port="0"):
    with socket.socket(families[int(family)], *kinds[kind]) as s:
        s.settimeout(5)
        if call == "connect":
            s.connect((address, int(port)))
        elif call == "bind":
            s.bind((address, int(port)))
        elif call == "send":
            s.sendto(b"x", (address, int(port)))
        elif call == "fastopen":
            s.sendto(b"x", socket.MSG_FASTOPEN, (address, int(port)))
for line in sys.stdin:
    try:
        do(*line.split())
        print("ok", flush=True)
    except OSError as error:
        print(errno.errorcode.get(error.errno, "timeout"), flush=True)
"""


class Caller:
    """A process of some user, in a namespace, an executable and a cgroup, that makes calls when it is told to."""

    def __init__(self, lab, namespace, uid=0, gid=0, python=sys.executable, cgroup=None):
        words = namespace.command("setpriv", "--reuid", uid, "--regid", gid, "--clear-groups")
        if uid:
            words += ["--inh-caps", "+net_raw", "--ambient-caps", "+net_raw"]
        words += [python, "-I", "-c", CALLER]
        if cgroup:
            words = ["sh", "-c", f"echo $$ > '{cgroup}/cgroup.procs' && exec \"$@\"", "sh", *words]
        self.process = lab.start(*words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1)

    def __call__(self, *call):
        self.process.stdin.write(" ".join(str(word) for word in call) + "\n")
        answer = self.process.stdout.readline().strip()
        expect(answer, f"{call}: no answer")
        return answer

    @property
    def pid(self):
        """Of the process itself: `ip netns exec` and setpriv become it."""
        return self.process.pid


def serve(namespace, lab, port=80):
    """A listener on all addresses of both families; nobody accepts, and nobody needs to."""
    with namespace:
        listener = socket.create_server(("::", port), family=socket.AF_INET6, dualstack_ipv6=True, backlog=500)
    lab.on_close(listener.close)
    return listener


def ask(agent, method, path, **parameters):
    """(status, document).  Rules are as they are at once: unlike tables of flows they need no time to settle.  The first
    one waits until the kernel has verified the programs, which takes an emulated one long."""
    connection = UnixConnection(agent.socket, 60)
    try:
        query = urllib.parse.urlencode(parameters, quote_via=urllib.parse.quote)
        connection.request(method, f"{path}?{query}" if query else path)
        answer = connection.getresponse()
        return answer.status, json.loads(answer.read())
    finally:
        connection.close()


def add(agent, text, **parameters):
    """Adds a rule; returns its entry."""
    status, answer = ask(agent, "POST", "/v1/rules/add", text=text, **parameters)
    expect_equal(status, 200, f"{text}: {answer}")
    return answer["rules"][0]


def delete(agent, number):
    status, answer = ask(agent, "POST", "/v1/rules/delete", id=number)
    expect_equal(status, 200, f"deleting {number}: {answer}")


def listed(agent):
    status, answer = ask(agent, "GET", "/v1/rules")
    expect_equal(status, 200, "GET /v1/rules")
    return answer


def without_rates(answer):
    """Rates are means since the last question, so two questions in a row tell of different times."""
    return {**answer, "rules": [{key: value for key, value in entry.items() if not key.startswith("rate_")}
                                for entry in answer["rules"]]}


def rules(agent):
    return listed(agent)["rules"]


def hits(agent):
    return {rule["id"]: rule["hits"] for rule in rules(agent)}


def expect_calls(caller, who, *cases):
    """Each case: the call's words and what it answers."""
    for *call, wanted in cases:
        expect_equal(caller(*call), wanted, f"{who}: {' '.join(map(str, call))}")


def cgroup_directory(lab, name):
    """A new cgroup; its directory, and its path from the root."""
    with open("/proc/self/mounts", encoding="utf-8") as file:
        mounts = [line.split()[1] for line in file if line.split()[2] == "cgroup2"]
    if not mounts:
        mounts = [lab.path("cgroup")]
        os.mkdir(mounts[0])
        need_kernel(lambda: run("mount", "-t", "cgroup2", "none", mounts[0]), "cgroup2")
        lab.on_close(lambda: run("umount", mounts[0], check=False))
    path = ""
    for part in name.strip("/").split("/"):
        path += "/" + part
        if not os.path.isdir(mounts[0] + path):
            os.mkdir(mounts[0] + path)
            lab.on_close(lambda path=path: wait_for(lambda: remove(mounts[0] + path), 3, "an empty cgroup"))
    return mounts[0] + path, path


def remove(directory):
    """Removes a cgroup and ends who is in it; False: they have not ended yet."""
    with open(directory + "/cgroup.procs", encoding="utf-8") as file:
        for pid in file.read().split():
            os.kill(int(pid), signal.SIGKILL)
    try:
        os.rmdir(directory)
        return True
    except OSError as error:
        if error.errno != errno.EBUSY:
            raise
        return False


@test("vm")
def denied_calls_fail_with_eperm(lab):
    """create, bind, connect and send fail with EPERM for whom a rule denies them, in both families, and for nobody else;
    every denied call is counted"""
    host, peer = lab.hosts()
    serve(peer, lab)
    serve(host, lab)
    agent = lab.agent(host)
    guest, other, elsewhere = (Caller(lab, host, GUEST), Caller(lab, host, OTHER), Caller(lab, peer, GUEST))
    cases = (("connect", "tcp", 4, "10.1.0.2", 80), ("connect", "tcp", 6, "fd00:1::2", 80),
             ("connect", "udp", 4, "10.1.0.2", 53), ("connect", "udp", 6, "fd00:1::2", 53),
             ("send", "udp", 4, "10.1.0.2", 53), ("send", "udp", 6, "fd00:1::2", 53),
             ("bind", "tcp", 4, "0.0.0.0", 8080), ("bind", "tcp", 6, "::", 8080), ("bind", "udp", 6, "::1", 0),
             ("create", "raw", 4), ("create", "raw6", 6))
    # The first datagrams of peer's port 53 come back as "refused" to connected sockets only.
    for caller, who in ((guest, "guest before"), (other, "other before")):
        expect_calls(caller, who, *((*case, "ok") for case in cases))
    ids = [add(agent, f"deny {call} by user {GUEST}")["id"] for call in ("create raw", "bind", "connect", "send")]
    expect_calls(guest, "guest", *((*case, "EPERM") for case in cases))
    expect_calls(guest, "guest", ("create", "tcp", 4, "ok"), ("create", "udp", 6, "ok"))
    expect_calls(other, "other", *((*case, "ok") for case in cases))
    there = [tuple(str(w).replace("10.1.0.2", "10.1.0.1").replace("fd00:1::2", "fd00:1::1") for w in c) for c in cases]
    expect_calls(elsewhere, "another namespace", *((*case, "ok") for case in there))
    expect_equal(hits(agent), dict(zip(ids, (2, 3, 4, 2))), "hits")
    answer = listed(agent)
    expect_equal((answer["denied"], answer["unidentified"]), (11, 0), "denied and unidentified")
    wait_for(lambda: sorted(e["call"] for e in agent.get("/v1/audit", limit=1000)["audit"] if e["kind"] == "denied")
             == sorted(case[0] for case in cases), 10, "the calls in the audit trail")
    for number in ids:
        delete(agent, number)
    expect_calls(guest, "guest after", *((*case, "ok") for case in cases))


@test()
def the_first_rule_that_fits_decides(lab):
    """the first rule that fits decides: an allow in front of a deny is an exception, behind it is nothing"""
    host, peer = lab.hosts()
    for port in (80, 81):
        serve(peer, lab, port)
    agent = lab.agent(host)
    guest = Caller(lab, host, GUEST)
    wide = add(agent, f"deny connect by user {GUEST} to 10.0.0.0/8")["id"]
    late = add(agent, f"allow connect by user {GUEST} to 10.1.0.2 port 80")["id"]
    expect_calls(guest, "behind", ("connect", "tcp", 4, "10.1.0.2", 80, "EPERM"),
                 ("connect", "tcp", 6, "fd00:1::2", 80, "ok"))
    early = add(agent, f"allow connect tcp by user {GUEST} to 10.1.0.2 port 80,443", before=wide)["id"]
    expect_calls(guest, "in front", ("connect", "tcp", 4, "10.1.0.2", 80, "ok"),
                 ("connect", "tcp", 4, "10.1.0.2", 81, "EPERM"), ("connect", "udp", 4, "10.1.0.2", 80, "EPERM"))
    expect_equal([rule["id"] for rule in rules(agent)], [early, wide, late], "order")
    expect_equal(hits(agent), {early: 1, wide: 3, late: 0}, "hits")
    # ... and the thousandth rule is asked as well
    for number in range(100):
        add(agent, f"deny connect by user {OTHER} to 10.1.0.2 port {1000 + number}", before=early)
    expect_calls(guest, "behind many", ("connect", "tcp", 4, "10.1.0.2", 80, "ok"),
                 ("connect", "tcp", 4, "10.1.0.2", 81, "EPERM"))


@test()
def addresses_in_other_clothes_are_recognised(lab):
    """an IPv4 address inside an IPv6 one, no address at all, fast open and multipath TCP are judged as what they are; a send
    rule judges the connect() of a UDP socket, which then sends without being asked, and a connect rule no sendto()"""
    host, peer = lab.hosts()
    serve(host, lab)
    serve(peer, lab)
    agent = lab.agent(host)
    host.sysctl("net.ipv4.tcp_fastopen=1")
    guest = Caller(lab, host, GUEST)
    add(agent, f"deny connect by user {GUEST} to 10.0.0.0/8")
    add(agent, f"deny connect by user {GUEST} to 127.0.0.0/8")
    add(agent, f"deny connect by user {GUEST} to ::1")
    add(agent, f"deny send by user {GUEST} to 10.0.0.0/8 port 53")
    expect_calls(guest, "guest", ("connect", "tcp", 6, "::ffff:10.1.0.2", 80, "EPERM"),
                 ("fastopen", "tcp", 4, "10.1.0.2", 80, "EPERM"), ("connect", "tcp", 4, "0.0.0.0", 80, "EPERM"),
                 ("connect", "tcp", 6, "::", 80, "EPERM"), ("send", "udp", 6, "::ffff:10.1.0.2", 53, "EPERM"),
                 ("send", "udp", 6, "::ffff:10.1.0.2", 54, "ok"), ("connect", "tcp", 6, "fd00:1::2", 80, "ok"))
    add(agent, f"deny send udp by user {OTHER} to port 53")
    add(agent, f"deny connect udp by user {OTHER} to port 54")
    expect_calls(Caller(lab, host, OTHER), "send and connect", ("connect", "udp", 4, "10.1.0.2", 53, "EPERM"),
                 ("send", "udp", 4, "10.1.0.2", 53, "EPERM"), ("connect", "udp", 4, "10.1.0.2", 55, "ok"),
                 ("connect", "udp", 4, "10.1.0.2", 54, "EPERM"), ("send", "udp", 4, "10.1.0.2", 54, "ok"))
    if Caller(lab, host)("create", "mptcp", 4) == "ok":
        add(agent, f"deny create tcp by user {GUEST}")
        expect_calls(guest, "multipath", ("create", "mptcp", 4, "EPERM"), ("create", "udp", 4, "ok"))


@test()
def owners_are_told_apart(lab):
    """rules by executable, cgroup, unit, container, process and group hold for whom they name and for nobody else: from the
    very first call of a process on, for one that is moved to a cgroup, and for one that was forgotten in between"""
    host, peer = lab.hosts()
    serve(peer, lab)
    container = "0123456789abcdef" * 4
    inside, path = cgroup_directory(lab, f"{lab.name}.slice/deep/er")
    unit, _ = cgroup_directory(lab, f"{lab.name}.slice/{lab.name}.service")
    scope, _ = cgroup_directory(lab, f"{lab.name}.slice/docker-{container}.scope")
    copy = lab.path("another-python")
    shutil.copy(os.path.realpath(sys.executable), copy)
    agent = lab.agent(host)
    call, call6 = ("connect", "tcp", 4, "10.1.0.2", 80), ("connect", "tcp", 6, "fd00:1::2", 80)

    add(agent, f"deny connect by exe {copy} to 10.1.0.2")
    add(agent, f"deny connect not by exe {copy} to fd00:1::2")
    expect_calls(Caller(lab, host, python=copy), "the executable", (*call, "EPERM"), (*call6, "ok"))
    expect_calls(Caller(lab, host), "another executable", (*call, "ok"), (*call6, "EPERM"))

    for text, directory in ((f"cgroup {os.path.dirname(path)}", inside), (f"unit {lab.name}", unit),
                            (f"container {container}", scope)):
        number = add(agent, f"deny connect by {text} to port 80", before=1)["id"]
        for other in (inside, unit, scope):
            expect_calls(Caller(lab, host, cgroup=other), f"{text}, in {other}",
                         (*call, "EPERM" if other == directory else "ok"))
        mover = Caller(lab, host)
        expect_calls(mover, "before it is moved", (*call, "ok"))
        with open(directory + "/cgroup.procs", "w", encoding="utf-8") as file:
            file.write(str(mover.pid))
        expect_calls(mover, "moved", (*call, "EPERM"))
        expect_equal(hits(agent)[number], 2, f"{text}: hits")
        delete(agent, number)

    one, two = Caller(lab, host, GUEST, GUEST), Caller(lab, host, GUEST, OTHER)
    expect_calls(one, "before", (*call, "ok"))
    number = add(agent, f"deny connect by pid {one.pid}")["id"]
    expect_calls(one, "by pid", (*call, "EPERM"))
    expect_calls(two, "by pid", (*call, "ok"))
    delete(agent, number)
    number = add(agent, f"deny connect by group {OTHER}")["id"]
    expect_calls(one, "by group", (*call, "ok"))
    expect_calls(two, "by group", (*call, "EPERM"))

    # more processes than the kernel remembers push others out
    owners = os.path.join(agent.get("/v1/status")["pins"], "owners")
    for entry in json.loads(run("bpftool", "-j", "map", "dump", "pinned", owners).stdout):
        run("bpftool", "map", "delete", "pinned", owners, "key", *entry["key"], check=False)
    expect_calls(two, "forgotten", (*call, "EPERM"))
    expect_equal((hits(agent)[number], listed(agent)["unidentified"]), (2, 0), "hits and unidentified")

    one.process.stdin.close()
    one.process.wait(5)
    status, answer = ask(agent, "POST", "/v1/rules/add", text=f"deny connect by pid {one.pid}")
    expect_equal((status, answer["error"]["what"]), (400, f"there is no process {one.pid}"), "ended process")


@test()
def rules_change_under_a_running_loop(lab):
    """rules that come and go while a process connects without pause: each call succeeds or fails with EPERM, and none is
    judged by a rule that is gone or by half a policy"""
    host, peer = lab.hosts()
    serve(peer, lab)
    agent = lab.agent(host)
    guest = Caller(lab, host, GUEST)
    call = ("connect", "udp", 4, "10.1.0.2", 80)
    # At every moment one of two rules, an allow or a deny, decides before a deny of everything else.
    base = add(agent, f"deny connect by user {OTHER}")["id"]
    for _ in range(5):
        number = add(agent, f"deny connect by user {GUEST}")["id"]
        expect_calls(guest, "denied", *((*call, "EPERM") for _ in range(50)))
        exception = add(agent, f"allow connect by user {GUEST}", before=number)["id"]
        expect_calls(guest, "excepted", *((*call, "ok") for _ in range(50)))
        delete(agent, exception)
        expect_calls(guest, "denied again", *((*call, "EPERM") for _ in range(50)))
        expect_equal(hits(agent), {base: 0, number: 100}, "hits")
        delete(agent, number)
        expect_calls(guest, "free", *((*call, "ok") for _ in range(50)))


@test()
def counters_are_exact_and_reports_bounded(lab):
    """calls of many processes at once are counted one by one; the audit trail gets some of them, and what it does not get
    is counted as well"""
    host, _ = lab.hosts()
    agent = lab.agent(host)
    number = add(agent, f"deny connect by user {GUEST}")["id"]
    script = ("import socket\nfor _ in range(2000):\n s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)\n"
              " try:\n  s.connect(('10.1.0.2', 9))\n  raise SystemExit(1)\n"
              " except PermissionError:\n  s.close()\n")
    callers = [host.start("setpriv", "--reuid", GUEST, "--clear-groups", sys.executable, "-I", "-c", script)
               for _ in range(4)]
    expect_equal([caller.wait(30) for caller in callers], [0] * 4, "exit statuses")
    expect_equal(hits(agent), {number: 8000}, "hits")
    answer = listed(agent)
    expect_equal(answer["denied"], 8000, "denied")
    entries = [e for e in agent.get("/v1/audit", limit=65536)["audit"] if e["kind"] == "denied"]
    expect_equal(len(entries), 8000 - answer["unreported"], "entries of the audit trail")
    expect(0 < len(entries) < 1000, f"{len(entries)} entries")
    expect_equal({(e["rule"], e["remote"], e["rport"], e["owner"]["uid"]) for e in entries},
                 {(number, "10.1.0.2", 9, GUEST)}, "what the entries say")
    metrics = agent.request("GET", "/metrics")[1].splitlines()
    expect(f'weir_rule_hits_total{{rule="{number}"}} 8000' in metrics, "the metric of the rule")
    expect("weir_denied_calls_total 8000" in metrics, "the metric of all")


@test("sanitize")
def reload_changes_the_rules_of_the_file(lab):
    """a reload replaces the rules of the file; a sentence that stays keeps its id and its hits, rules from the API keep
    their place, and a file with an error changes nothing"""
    host, peer = lab.hosts()
    serve(peer, lab)
    call = ("connect", "tcp", 4, "10.1.0.2", 80)

    def write(*sentences):
        with open(agent.config, "w", encoding="utf-8") as file:
            file.write("interfaces: [w0]\nrules:\n" + "".join(f"  - {sentence}\n" for sentence in sentences))

    first, second, third = (f"deny connect by user {GUEST} to 10.1.0.2 port {port}" for port in (80, 81, 82))
    agent = lab.agent(host, f"interfaces: [w0]\nrules: ['{first}', '{second}']\n")
    guest = Caller(lab, host, GUEST)
    expect_calls(guest, "start", (*call, "EPERM"))
    before = rules(agent)
    expect_equal([(r["text"], r["source"]) for r in before], [(first, "file"), (second, "file")], "rules")
    live = add(agent, f"deny bind by user {GUEST} to port 9999", before=before[1]["id"])
    write(third, first, second)
    expect("read again" in agent.reload(), f"the reload failed: {agent.errors()[-500:]}")
    after = rules(agent)
    expect_equal([(r["text"], r["source"]) for r in after],
                 [(third, "file"), (first, "file"), (live["text"], "api"), (second, "file")], "rules")
    expect_equal([r["id"] for r in after[1:]], [before[0]["id"], live["id"], before[1]["id"]], "ids")
    expect_equal(after[1]["hits"], 1, "hits of the rule that stayed")
    write(third, "deny conect to 10.0.0.1")
    message = agent.reload()
    expect("3:8: " in message or "4:10: " in message, f"place of the error: {message}")
    expect("did you mean 'connect'?" in message, f"hint: {message}")
    expect_equal(rules(agent), after, "rules after a reload that failed")
    write(third)
    agent.reload()
    expect_equal([r["text"] for r in rules(agent)], [third, live["text"]], "rules")
    expect_calls(guest, "end", (*call, "ok"), ("bind", "tcp", 4, "0.0.0.0", 9999, "EPERM"))


@test("vm-6.12")
def rules_outlive_the_agent(lab):
    """killed with SIGKILL, the agent leaves its rules in force and counting; the next one knows them with ids, hits and
    origin, and can change them; weir down takes them away"""
    host, peer = lab.hosts()
    serve(peer, lab)
    call = ("connect", "tcp", 4, "10.1.0.2", 80)
    agent = lab.agent(host, f"interfaces: [w0]\nrules: ['deny bind by user {GUEST}']\n")
    number = add(agent, f"deny connect by user {GUEST} \"the comment\"")["id"]
    guest = Caller(lab, host, GUEST)
    expect_calls(guest, "before", (*call, "EPERM"))
    agent.stop(signal.SIGKILL)
    expect_calls(guest, "without an agent", (*call, "EPERM"), ("bind", "tcp", 4, "0.0.0.0", 9999, "EPERM"))
    agent.start()
    expect_calls(guest, "with the next agent", (*call, "EPERM"))
    found = rules(agent)
    expect_equal([(r["text"], r["source"], r["hits"]) for r in found],
                 [(f"deny bind by user {GUEST}", "file", 1),
                  (f"deny connect by user {GUEST} \"the comment\"", "api", 3)], "rules")
    expect_equal(found[1]["id"], number, "id")
    expect(add(agent, "deny bind to port 1")["id"] not in {r["id"] for r in found}, "an id was used again")
    delete(agent, number)
    expect_calls(guest, "deleted", (*call, "ok"), ("bind", "tcp", 4, "0.0.0.0", 9999, "EPERM"))
    agent.stop(signal.SIGTERM)
    expect_calls(guest, "stopped", ("bind", "tcp", 4, "0.0.0.0", 9999, "EPERM"))
    agent.weir("down")
    expect_calls(guest, "down", ("bind", "tcp", 4, "0.0.0.0", 9999, "ok"))


def bpf(command, attribute):
    buffer = ctypes.create_string_buffer(attribute, 128)
    result = LIBC.syscall(SYS_BPF, command, buffer, 128)
    if result < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return result


def port_denier(port):
    """A cgroup/connect4 program that denies one port."""
    code = b"".join(struct.pack("<BBhi", *instruction) for instruction in (
        (0xb7, 0x00, 0, 1),                   # r0 = 1
        (0x61, 0x12, 24, 0),                  # r2 = ctx->user_port
        (0x55, 0x02, 1, socket.htons(port)),  # if r2 != port: skip
        (0xb7, 0x00, 0, 0),                   # r0 = 0
        (0x95, 0x00, 0, 0)))
    text, gpl = ctypes.create_string_buffer(code, len(code)), ctypes.create_string_buffer(b"GPL")
    prog_load, sock_addr, connect4 = 5, 18, 10
    return bpf(prog_load, struct.pack("<IIQQIIQII16sII", sock_addr, len(code) // 8, ctypes.addressof(text),
                                      ctypes.addressof(gpl), 0, 0, 0, 0, 0, b"other", 0, connect4))


@test()
def other_programs_are_not_disturbed(lab):
    """another program at the same hook of the same cgroup goes on deciding while weir comes, has rules, and goes"""
    host, peer = lab.hosts()
    serve(peer, lab)
    attach, detach, connect4, multi = 8, 9, 10, 2
    root, _ = cgroup_directory(lab, lab.name)
    root = os.open(os.path.dirname(root), os.O_RDONLY)
    program = port_denier(61777)
    bpf(attach, struct.pack("<IIII", root, program, connect4, multi))
    lab.on_close(lambda: bpf(detach, struct.pack("<IIII", root, program, connect4, 0)))
    guest = Caller(lab, host, GUEST)
    denied, free = ("connect", "udp", 4, "10.1.0.2", 61777), ("connect", "udp", 4, "10.1.0.2", 80)
    expect_calls(guest, "before", (*denied, "EPERM"), (*free, "ok"))
    agent = lab.agent(host)
    expect_calls(guest, "weir without rules", (*denied, "EPERM"), (*free, "ok"))
    add(agent, f"allow connect by user {GUEST} to port 61777")
    add(agent, f"deny connect by user {GUEST} to port 80")
    expect_calls(guest, "weir with rules", (*denied, "EPERM"), (*free, "EPERM"))
    agent.stop(signal.SIGINT)
    expect_calls(guest, "after", (*denied, "EPERM"), (*free, "ok"))


@test()
def wrong_rules_change_nothing(lab):
    """what is wrong with a rule is said in one line with what would be right, and nothing changes; the 1024th rule is the
    last that is accepted, and it is asked"""
    host, _ = lab.hosts()
    texts = "".join(f"  - deny connect by user {OTHER} to port {port}\n" for port in range(1, 1024))
    agent = lab.agent(host, f"interfaces: [w0]\nrules:\n{texts}")
    number = add(agent, f"deny connect by user {GUEST} to 10.0.0.0/8")["id"]
    expect_calls(Caller(lab, host, GUEST), "guest", ("connect", "udp", 4, "10.1.0.2", 80, "EPERM"))
    status, answer = ask(agent, "POST", "/v1/rules/add", text="deny connect")
    expect_equal((status, answer["error"]), (400, {"what": "too many rules", "want": "at most 1024"}), "answer")
    expect_equal(hits(agent)[number], 1, "hits of the last rule")
    before = listed(agent)
    for text, what, want in (("deny connect by user no-such-user", "unknown user 'no-such-user'", ""),
                             ("deny conect", "expected a call, got 'conect'", "did you mean 'connect'?"),
                             ("deny connect ip6 to 10.0.0.1", "'10.0.0.1' is IPv4, but 'ip6' is IPv6", "one family"),
                             ("deny create packet", "the kernel asks nobody about packet sockets", "raw"),
                             ("deny connect by pid 4194303", "there is no process 4194303", "one that runs")):
        status, answer = ask(agent, "POST", "/v1/rules/add", text=text)
        expect_equal(status, 400, f"{text}: status")
        error = answer["error"]
        expect(what in error["what"] and want in error.get("want", ""), f"{text}: {error}")
    for path, parameters, status in (("add", {}, 400), ("add", {"text": "deny bind", "before": 7777}, 404),
                                     ("add", {"text": "deny bind", "after": 1}, 400), ("delete", {}, 400),
                                     ("delete", {"id": "x"}, 400), ("delete", {"id": 7777}, 404),
                                     ("delete", {"number": 1}, 400)):
        expect_equal(ask(agent, "POST", f"/v1/rules/{path}", **parameters)[0], status, f"{path} {parameters}")
    expect_equal(ask(agent, "POST", "/v1/rules/delete", id=7777)[1]["error"]["want"],
                 f"the nearest is {number}: deny connect by user {GUEST} to 10.0.0.0/8", "hint")
    expect_equal(ask(agent, "GET", "/v1/rules", x=1)[0], 400, "a parameter that there is not")
    expect_equal(listed(agent), before, "rules")


@test("sanitize")
def commands_add_list_and_delete(lab):
    """weir deny, allow, rules and delete do what the API does, warn of rules that hide others, and only those who may
    change things can"""
    need("curl")
    host, _ = lab.hosts()
    agent = lab.agent(host)
    expect_equal(agent.weir("rules").stdout, "no rules: every packet is accepted, every call is allowed\n", "no rules")
    done = agent.weir("deny", "connect", "by", "user", GUEST, "to", "10.0.0.0/8", '"no lan"')
    expect_equal(done.stdout, f'rule 1: deny connect by user {GUEST} to 10.0.0.0/8 "no lan"\n', "weir deny")
    done = agent.weir("deny", "connect", "tcp", "by", "user", GUEST, "to", "10.1.0.2")
    expect_equal(done.stderr, f'weir: warning: nothing gets past rule 1: deny connect by user {GUEST} to 10.0.0.0/8 '
                 '"no lan"\n', "a rule that is never asked")
    done = agent.weir("allow", "connect", "by", "user", GUEST, "--before", 1, "--json")
    expect_equal([w.split(":")[0] for w in json.loads(done.stdout)["warnings"]],
                 ["nothing gets past it any more to rule 1", "nothing gets past it any more to rule 2"], "warnings")
    lines = agent.weir("rules").stdout.splitlines()
    expect_equal([line.split()[0] for line in lines], ["ID", "3", "1", "2"], "weir rules")
    expect_equal(without_rates(json.loads(agent.weir("rules", "--json").stdout)), without_rates(listed(agent)),
                 "weir rules --json")
    expect("\nrules      3\n" in agent.weir("status").stdout, "weir status")
    expect_equal(agent.weir("delete", 2).stdout, f"deleted rule 2: deny connect tcp by user {GUEST} to 10.1.0.2\n",
                 "weir delete")
    for words, status, message in ((("delete", "2"), 1, "weir: there is no rule 2; the nearest is "),
                                   (("deny", "conect"), 2, "weir: expected a call, got 'conect'; did you mean"),
                                   (("deny",), 2, "weir: 'weir deny' of what?"),
                                   (("deny", "bind", "--before", "9"), 1, "weir: there is no rule 9; the nearest is 3"),
                                   (("delete", "1", "3"), 2, "weir: 'weir delete' takes one id, not 2")):
        done = agent.weir(*words, check=False)
        expect_equal(done.returncode, status, f"{words}: exit status")
        expect(done.stderr.startswith(message), f"{words}: {done.stderr}")
    os.chmod(agent.socket, 0o666)
    for path in ("add?text=deny%20bind", "delete?id=1"):
        done = host.run("setpriv", "--reuid", GUEST, "--clear-groups", "curl", "-s", "-o", "/dev/null", "-w",
                        "%{http_code}", "-X", "POST", "--unix-socket", agent.socket, f"http://weir/v1/rules/{path}")
        expect_equal(done.stdout, "403", f"{path} by somebody else")
    expect_equal(len(rules(agent)), 2, "rules")
    kinds = [entry["what"] for entry in agent.get("/v1/audit", limit=65536)["audit"] if entry["kind"] == "change"]
    expect(any("(rule 1)" in what for what in kinds) and any("deleted rule 2" in what for what in kinds),
           f"the audit trail: {kinds}")
