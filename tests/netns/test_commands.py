# SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
"""The commands that rules are made with, asked of a real agent: what weir(8) and the cookbook show."""

import json

from lab import expect, expect_equal, udp_socket
from suite import test


def echoes(lab, host, peer, port=7):
    """A function that says whether a datagram of a new client comes through and its answer back."""
    server = udp_socket(host, "10.1.0.1", port)
    server.settimeout(0.5)
    lab.on_close(server.close)

    def once():
        with udp_socket(peer, "10.1.0.2") as client:
            client.settimeout(0.5)
            client.connect(("10.1.0.1", port))
            try:
                client.send(b"x")
                _, sender = server.recvfrom(10)
                server.sendto(b"x", sender)
                return client.recv(10) == b"x"
            except (TimeoutError, ConnectionError):
                return False
    return once


@test()
def sentences_become_rules(lab):
    """drop, rules, explain, move and delete on the command line do with packets what they say; a rule prints as a sentence
    that makes the same rule; mistakes are shown before anything changes"""
    host, peer = lab.hosts()
    agent = lab.agent(host)
    agent.wait_watched("w0")
    echo = echoes(lab, host, peer)
    expect(echo(), "no echo before")
    expect_equal(agent.weir("drop", "in", "udp", "to", "port", "7").stdout, "rule 1: drop in udp to port 7\n", "drop")
    expect(not echo(), "an echo in spite of the rule")
    line = agent.weir("rules").stdout.splitlines()[1].split()
    expect_equal((line[0], line[2], " ".join(line[-6:])), ("1", "1", "drop in udp to port 7"), "weir rules")
    explained = agent.weir("explain", "in", "udp", "from", "10.1.0.2", "to", "10.1.0.1", "port", "7").stdout
    expect(explained.startswith("drop by rule 1: drop in udp to port 7\n"), explained)
    expect("default" in agent.weir("explain", "in", "udp", "from", "10.1.0.2", "to", "10.1.0.1", "port", "9").stdout, "port 9")
    agent.weir("accept", "in", "from", "10.1.0.2")
    expect(not echo(), "an echo, though the rule that accepts is behind")
    expect_equal(agent.weir("move", "2", "before", "1").stdout, "moved rule 2: accept in from 10.1.0.2\n", "move")
    expect(echo(), "no echo, though the rule that accepts is in front")
    agent.weir("delete", "2")
    expect(not echo(), "an echo, though the rule that accepts is gone")
    warned = agent.weir("redirect", "to", "nowhere", "in", "tcp").stderr
    expect("there is no interface nowhere" in warned, warned)
    for words in (("drop", "in", "tpc"), ("drop", "from", "@nothing"), ("drop", "matching", "tcp[13] ="), ("delete", "77")):
        done = agent.weir(*words, check=False)
        expect(done.returncode in (1, 2) and done.stderr.startswith("weir: "), f"{words}: {done}")
    texts = [rule["text"] for rule in json.loads(agent.weir("rules", "--json").stdout)["rules"]]
    expect_equal(texts, ["drop in udp to port 7", "redirect to nowhere in tcp"], "the rules")
    agent.weir("flush")
    expect(echo(), "no echo after flush")
    agent.weir("count", "out", "on", "w0", "udp", "from", "10.1.0.1")
    for words in (("out", "udp", "to", "10.1.0.2", "port", "9"), ("out", "on", "w0", "udp", "to", "10.1.0.2", "port", "9")):
        explained = agent.weir("explain", *words).stdout  # without `from`: what the route says
        expect(explained.startswith("passed rule") and ": count out on w0 udp from 10.1.0.1\n" in explained, explained)
    refused = agent.weir("explain", "out", "udp", "to", "198.51.100.1", "port", "9", check=False)
    expect("this host has no route to 198.51.100.1" in refused.stderr, refused)
    for text in texts:
        expect(agent.weir(*text.split()).stdout.rstrip().endswith(text), text)


@test()
def a_file_becomes_the_policy(lab):
    """diff says what apply does; what --confirm waits for, rollback takes back and confirm keeps; save keeps it for the
    next agent; what policy prints can be applied; sets are loaded from files that they are named in"""
    host, peer = lab.hosts()
    lab.write("bad.list", "10.1.0.2 # the peer\n192.0.2.0/24\n")
    policy = lab.write("web.yaml", "sets: {bad: {file: bad.list}}\nrules:\n  - drop in udp from @bad to port 7\n")
    agent = lab.agent(host, config="log: info\n")
    agent.wait_watched("w0")
    echo = echoes(lab, host, peer)
    expect(echo(), "no echo before")
    for named in (lab.directory, "/dev/null", "nothing"):
        wrong = lab.write("wrong.yaml", f"sets: {{bad: {{file: {named}}}}}\n")
        expect_equal(agent.weir("apply", wrong, check=False).returncode, 1, f"apply, with {named} for a set")
    agent.weir("diff", policy)
    expect(echo(), "diff has changed something")
    said = agent.weir("apply", policy, "--confirm", "60s").stdout
    expect("applied: 1 rule (1 new, 0 gone, 0 as before)" in said and "goes back in 60s" in said, said)
    expect(not echo(), "an echo in spite of the policy")
    agent.weir("rollback")
    expect(echo(), "no echo after rollback")
    agent.weir("apply", policy, "--confirm", "60s")
    agent.weir("confirm")
    expect("no difference" in agent.weir("diff", policy).stdout, "a difference to what was applied")
    printed = agent.weir("policy").stdout
    lab.write("web.yaml", printed)
    expect("(0 new, 0 gone, 1 as before)" in agent.weir("apply", policy).stdout, printed)
    expect_equal(agent.weir("set", "create", "other").stdout, "other: created\n", "create")
    expect_equal(agent.weir("set", "destroy", "other").stdout, "other: destroyed\n", "destroy")
    agent.weir("save")
    expect(not echo(), "an echo after saving")
    agent.stop()
    expect(echo(), "no echo without an agent")
    agent.start()
    agent.wait_watched("w0")
    expect(not echo(), "an echo, though the saved policy drops it")


@test()
def services_by_command(lab):
    """services are made, listed, changed and taken away by command; a file has them, folded sentences too; a service may have
    a thousand backends; save keeps them for the next agent"""
    host, _ = lab.hosts()
    agent = lab.agent(host, config="log: info\n")
    agent.wait_watched("w0")
    web = "web tcp 203.0.113.10 port 443 to 10.1.0.2 weight 2, 10.1.0.3"
    expect_equal(agent.weir("service", "add", *web.split(), "deliver", "ipip").stdout, f"service 1: service {web}\n", "add")
    for words, wanted in (
            (("drain", "web", "10.1.0.3"), "10.1.0.2 weight 2, 10.1.0.3 drain"),
            (("set", "web", "10.1.0.2", "weight", "5"), "10.1.0.2 weight 5, 10.1.0.3 drain"),
            (("add", "web", "10.1.0.4"), "10.1.0.2 weight 5, 10.1.0.3 drain, 10.1.0.4"),
            (("undrain", "web", "10.1.0.3"), "10.1.0.2 weight 5, 10.1.0.3, 10.1.0.4"),
            (("remove", "web", "10.1.0.2"), "10.1.0.3, 10.1.0.4")):
        expect_equal(agent.weir("backend", *words).stdout,
                     f"service 1: service web tcp 203.0.113.10 port 443 to {wanted}\n", " ".join(words))
    for words, wanted in ((("backend", "drain", "wbe", "10.1.0.3"), "there is no service 'wbe'; did you mean 'web'?"),
                          (("backend", "drain", "web", "10.1.0.9"), "service web has no backend 10.1.0.9; did you mean 10.1.0.3?"),
                          (("service", "add", "two", "tcp", "203.0.113.10", "port", "443", "to", "10.1.0.2"), "service web")):
        refused = agent.weir(*words, check=False)
        expect(refused.returncode == 1 and wanted in refused.stderr, f"{words}: {refused}")
    lines = agent.weir("services").stdout.splitlines()
    expect_equal([line.split()[:2] for line in lines[2:4]], [["10.1.0.3:443", "up"], ["10.1.0.4:443", "up"]], "the list")
    explained = agent.weir("explain", *"in on w0 tcp from 192.0.2.1 port 4000 to 203.0.113.10 port 443".split()).stdout
    expect(explained.startswith("service 1, web: 10.1.0."), explained)
    many = ", ".join(f"10.1.{i // 250 + 1}.{i % 250 + 1} weight {i + 1}" for i in range(1000))
    host.run("ip", "route", "add", "10.1.0.0/16", "via", "10.1.0.2")
    agent.weir("service", "add", "many", "tcp", "203.0.113.11", "to", *many.split())
    shown = json.loads(agent.weir("service", "show", "many", "--json").stdout)["services"][0]
    expect_equal((len(shown["backends"]), shown["backends"][999]["weight"]), (1000, 1000), "a thousand backends")
    policy = lab.write("all.yaml", agent.weir("policy").stdout)
    expect_equal(agent.weir("diff", policy).stdout, "no difference\n", "what was printed")
    expect_equal(agent.weir("service", "delete", "many").stdout.split()[:4], ["deleted", "service", "2:", "service"], "delete")
    folded = lab.write("folded.yaml", "services:\n  - >\n    web tcp 203.0.113.10 port 443\n    to 10.1.0.3,\n    10.1.0.2 weight 3\n")
    expect_equal(agent.weir("diff", folded).stdout,
                 "~ service web: 1 backend comes (10.1.0.2 weight 3), 1 backend goes (10.1.0.4)\n", "the difference")
    agent.weir("apply", folded, "--confirm", "60s")
    agent.weir("rollback")
    expect("10.1.0.4" in agent.weir("services").stdout, "after rollback")
    agent.weir("apply", policy)
    agent.weir("save")
    agent.stop()
    agent.start()
    agent.wait_watched("w0")
    expect_equal(agent.weir("diff", policy).stdout, "no difference\n", "what was saved")
    expect_equal(len(json.loads(agent.weir("service", "show", "many", "--json").stdout)["services"][0]["backends"]), 1000, "saved")


@test()
def sentences_become_classes(lab):
    """limit, guarantee, shape add and assign, shapes, change, explain and delete on the command line: each prints what it did,
    the tree shows it; a sentence that is refused changes nothing"""
    host, _ = lab.hosts()
    agent = lab.agent(host)
    agent.wait_watched("w0")
    typed = (("limit out on w0 to 100mbit", "rule 1: limit out on w0 to 100mbit"),
             ("limit out by user root to 10mbit burst 1mb", "rule 2: limit out by user root to 10mbit burst 1mb"),
             ("guarantee out tcp to port 443 40mbit ceiling 80mbit priority high",
              "rule 3: guarantee out tcp to port 443 40mbit ceiling 80mbit priority high"),
             ("shape add bulk under w0 weight 1 ceiling 20mbit", "class 4: shape bulk under w0 ceiling 20mbit weight 1"),
             ("shape assign out tcp from port 80 to bulk", "rule 5: assign out tcp from port 80 to bulk"),
             ("limit in tcp from 10.0.0.0/8 to 50mbit", "rule 6: limit in tcp from 10.0.0.0/8 to 50mbit"),
             ("change 6 to 20mbit", "class 6: limit in tcp from 10.0.0.0/8 to 20mbit"),
             ("change bulk ceiling 30mbit weight 3", "class 4: shape bulk under w0 ceiling 30mbit weight 3"))
    for words, said in typed:
        expect_equal(agent.weir(*words.split()).stdout, said + "\n", words)
    shapes = {shape["id"]: shape for shape in json.loads(agent.weir("shapes", "--json").stdout)["shapes"]}
    expect_equal({i: (s["rate_bps"], s.get("parent"), s["direction"]) for i, s in shapes.items()},
                 {1: (100_000_000, None, "out"), 2: (10_000_000, 1, "out"), 3: (40_000_000, 1, "out"),
                  4: (30_000_000, 1, "out"), 6: (20_000_000, None, "in")}, "the classes")
    lines = agent.weir("shapes").stdout.splitlines()
    at = lines[0].index("CLASS")
    expect_equal([line[at:] for line in lines[1:3]],
                 ["limit out on w0 to 100mbit", "  limit out by user root to 10mbit burst 1mb"], "the tree")
    explained = agent.weir("explain", *"out tcp from 10.1.0.1 port 80 to 10.1.0.2 port 443".split()).stdout
    for class_id in (1, 3, 4):
        expect(f"class {class_id}: {shapes[class_id]['text']}\n  {shapes[class_id]['engine']}: " in explained, explained)
    expect("class 2" not in explained and "class 6" not in explained, explained)
    policy = agent.weir("policy").stdout
    for words in ("limit out by user root to 10mb/s", "guarantee out udp 90mbit", "guarantee out udp 10mbit ceiling 5mbit",
                  "limit out by pid 4194305 to 1mbit", "shape add a under b", "shape add a under a", "assign out udp to nobody",
                  "change 5 to 1mbit", "change 2 to 0mbit", "change 99 to 1mbit", "shape add bulk under w0", "shape delete bulk"):
        done = agent.weir(*words.split(), check=False)
        expect(done.returncode in (1, 2) and done.stderr.startswith("weir: "), f"{words}: {done}")
    expect_equal(agent.weir("policy").stdout, policy, "the policy after sentences that were refused")
    for words, said in (("delete 5", "deleted rule 5: assign out tcp from port 80 to bulk"),
                        ("shape delete bulk", "deleted class 4: shape bulk under w0 ceiling 30mbit weight 3"),
                        ("delete 2", "deleted rule 2: limit out by user root to 10mbit burst 1mb")):
        expect_equal(agent.weir(*words.split()).stdout, said + "\n", words)
    left = json.loads(agent.weir("shapes", "--json").stdout)["shapes"]
    expect_equal(sorted(shape["id"] for shape in left), [1, 3, 6], "what is left")
