# SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
"""Classes: which there are, what the kernel has of them, how they change, and what is not weir's."""

import json
import signal
import time

from lab import Skip, expect, expect_equal, need_kernel, udp_socket, wait_for
from suite import test
from test_rules import add, ask, done, refused, rule, rules

MAJOR = "7765:"  # of the qdiscs that are weir's


def shapes(agent):
    return done(agent, "GET", "/v1/shapes")["shapes"]


def gone(entry, packets):
    """The class, if so many packets have been sent or dropped."""
    return entry if entry["sent_packets"] + entry["dropped_packets"] == packets else None


def shape(agent, number):
    return next(entry for entry in shapes(agent) if entry["id"] == number)


def declare(agent, text, **parameters):
    return done(agent, "POST", "/v1/shapes/add", text=text, **parameters)["shapes"][0]


def change(agent, text, **parameters):
    return done(agent, "POST", "/v1/shapes/change", text=text, **parameters)["shapes"][0]


def root(namespace, interface="w0"):
    """(kind, handle) of the root qdisc."""
    listed = json.loads(namespace.tc("-j", "qdisc", "show", "dev", interface).stdout or "[]")
    return next(((q["kind"], q["handle"]) for q in listed if q.get("root")), None)


def tree(namespace, interface="w0"):
    """Classes by handle: (parent, rate, ceiling) in bits a second, as tc shows them."""
    found = {}
    for line in namespace.tc("class", "show", "dev", interface).stdout.splitlines():
        words = line.split()
        parent = words[words.index("parent") + 1] if "parent" in words else "root"
        found[words[2]] = (parent, words[words.index("rate") + 1], words[words.index("ceil") + 1])
    return found


def leaves(namespace, interface="w0"):
    """Handles of the queues of leaves, by the class they belong to."""
    listed = json.loads(namespace.tc("-j", "qdisc", "show", "dev", interface).stdout or "[]")
    return {q["parent"]: q["handle"] for q in listed if "parent" in q}


def has_qdisc(host, kind):
    """A veth pair of our own tells: nothing of the test's is touched."""
    host.ip("link", "add", "t0", "type", "veth", "peer", "name", "t1")
    found = host.tc("qdisc", "add", "dev", "t0", "root", "handle", "1:", kind, check=False).returncode == 0
    host.ip("link", "del", "t0")
    return found


def need_htb(host):
    if not has_qdisc(host, "htb"):
        raise Skip("this kernel has no qdisc htb")


@test()
def classes_form_a_tree(lab):
    """a limit of all that leaves an interface gives the link its rate; limits, guarantees and declared classes stand below
    it, or below the class they name; the list says which engine holds each and why"""
    host, _ = lab.hosts()
    agent = lab.agent(host)
    link = add(agent, "limit out on w0 to 100mbit")["id"]
    bulk = declare(agent, "bulk under w0 weight 2 ceiling 50mbit")
    small = declare(agent, "small under bulk ceiling 5mbit")
    api = add(agent, "guarantee out tcp from port 80 40mbit ceiling 80mbit priority high")["id"]
    given = add(agent, "assign out udp to bulk")["id"]
    inward = add(agent, "limit in tcp to port 80 to 50mbit")["id"]
    alone = add(agent, "limit tcp to port 81 to 50mbit")["id"]
    found = {entry["id"]: entry for entry in shapes(agent)}
    expect_equal(sorted(found), sorted([link, bulk["id"], api, small["id"], inward, alone]), f"not {given}, which assigns")
    expect_equal((found[bulk["id"]]["parent"], small["parent"], found[api]["parent"]), (link, bulk["id"], link), "parents")
    expect("parent" not in found[link] and "parent" not in found[inward], "roots")
    expect_equal((found[link]["interface"], found[bulk["id"]]["interface"]), ("w0", "w0"), "interfaces")
    expect_equal((found[api]["rate_bps"], found[api]["ceiling_bps"], found[api]["guarantee_bps"], found[api]["priority"]),
                 (40000000, 80000000, 40000000, "high"), "what the sentence said")
    expect_equal([found[n]["engine"] for n in (inward, alone)], ["policer", "policer"], "engines of what comes in")
    expect("comes in" in found[inward]["engine_reason"] and "both directions" in found[alone]["engine_reason"], "reasons")
    expect_equal((found[bulk["id"]]["name"], found[bulk["id"]]["weight"]), ("bulk", 2), "a declared class")
    expect_equal([entry["text"] for entry in rules(agent) if entry["text"].startswith("shape")], [],
                 "declared classes are no rules")


@test("vm-6.1")
def htb_stands_as_the_classes_do(lab):
    """with engine htb the kernel's tree is that of the classes, each change in place and no queue made anew; a killed agent
    leaves it at work and the next one finds it as it is; with the last class the default is back"""
    host, _ = lab.hosts()
    need_htb(host)
    before = root(host)
    agent = lab.agent(host)
    add(agent, "limit out on w0 to 100mbit engine htb")
    web = add(agent, "guarantee out tcp from port 80 40mbit ceiling 80mbit")["id"]
    expect_equal(root(host), ("htb", MAJOR), "the root")
    found = tree(host)
    expect_equal(found[f"{MAJOR}ffff"], ("root", "100Mbit", "100Mbit"), "the link")
    expect_equal(found[f"{MAJOR}fffe"][::2], (f"{MAJOR}ffff", "100Mbit"), "what has no class")
    # what it has by right: its guarantee and half of what the link has left, beside what has no class
    own = [key for key, value in found.items() if value == (f"{MAJOR}ffff", "70Mbit", "80Mbit")]
    expect_equal(len(own), 1, f"the guarantee: {found}")
    queues = leaves(host)
    change(agent, "to 50mbit ceiling 90mbit", id=web)
    expect_equal(tree(host)[own[0]], (f"{MAJOR}ffff", "75Mbit", "90Mbit"), "changed")
    expect_equal(leaves(host), queues, "queues stay")
    tenant = declare(agent, "tenant under w0 ceiling 60mbit")["id"]
    inner = declare(agent, "inner under tenant ceiling 10mbit guarantee 1mbit")["id"]
    found = tree(host)
    depth = [key for key, value in found.items() if value[2] == "10Mbit"]
    expect_equal(len(depth), 1, f"a class below a class: {found}")
    expect_equal(found[found[depth[0]][0]][2], "60Mbit", "its parent")
    agent.kill(signal.SIGKILL)
    agent.process.wait()
    expect_equal(tree(host), found, "without an agent")
    agent.start()
    expect_equal((tree(host), root(host)), (found, ("htb", MAJOR)), "adopted")
    expect_equal({entry["engine"] for entry in shapes(agent)}, {"htb"}, "engines of the next agent")
    queues = leaves(host)
    refused(agent, 400, f"'tenant' is still what rule {inner} names", "POST", "/v1/shapes/delete", id=tenant)
    done(agent, "POST", "/v1/shapes/delete", id=inner)
    done(agent, "POST", "/v1/rules/delete", id=tenant)
    expect(depth[0] not in tree(host), "the class is gone")
    expect_equal(leaves(host)[own[0]], queues[own[0]], "its neighbour's queue")
    done(agent, "POST", "/v1/rules/flush")
    expect_equal(root(host), before, "the default is back")


@test()
def the_loopback_has_queues_too(lab):
    """a class of engine htb can be on the loopback, and on another interface beside it; with the classes both queues go"""
    host, _ = lab.hosts()
    need_htb(host)
    before = root(host, "lo"), root(host)
    agent = lab.agent(host)
    add(agent, "limit out on lo to 50mbit engine htb")
    add(agent, "limit out on w0 to 50mbit engine htb")
    expect_equal([root(host, "lo"), root(host)], [("htb", MAJOR)] * 2, "queues")
    expect_equal({entry["engine"] for entry in shapes(agent)}, {"htb"}, "engines")
    done(agent, "POST", "/v1/rules/flush")
    expect_equal((root(host, "lo"), root(host)), before, "the defaults are back")


@test("vm-6.1")
def other_peoples_qdiscs_stay(lab):
    """a qdisc that weir has not made is never replaced: a queue there is refused by naming it, and without one the classes
    are held all the same; what somebody puts in the place of weir's own stays, too"""
    host, _ = lab.hosts()
    need_htb(host)
    host.tc("qdisc", "add", "dev", "w0", "root", "handle", "8001:", "htb", "default", "1")
    host.tc("class", "add", "dev", "w0", "parent", "8001:", "classid", "8001:1", "htb", "rate", "1gbit")
    theirs = (root(host), tree(host))
    agent = lab.agent(host)
    refused(agent, 400, "somebody else", "POST", "/v1/rules/add", text="limit out on w0 to 100mbit engine htb")
    expect_equal((root(host), tree(host), shapes(agent)), (*theirs, []), "after what was refused")
    link = add(agent, "limit out on w0 to 100mbit")["id"]
    expect_equal(shape(agent, link)["engine"], "pacing", "held without a queue")
    expect_equal((root(host), tree(host)), theirs, "with a class")
    host.tc("qdisc", "del", "dev", "w0", "root")
    change(agent, "engine htb", id=link)
    expect_equal(root(host), ("htb", MAJOR), "now it is free")
    host.tc("qdisc", "replace", "dev", "w0", "root", "handle", "8002:", "tbf", "rate", "1gbit", "burst", "1mb",
            "latency", "10ms")
    add(agent, "limit out tcp from port 80 to 20mbit")
    found = shape(agent, link)
    expect_equal(found["engine"], "pacing", f"behind somebody's back: {found}")
    expect("somebody else" in found["engine_reason"], f"why: {found}")
    expect_equal(root(host), ("tbf", "8002:"), "theirs")
    done(agent, "POST", "/v1/rules/flush")
    expect_equal(root(host), ("tbf", "8002:"), "theirs, without a class")
    host.tc("qdisc", "del", "dev", "w0", "root")


@test()
def books_that_cannot_be_are_refused(lab):
    """guarantees beyond their parent, loops, names that are not there, a second rate for a link, a class without a place
    among several, directions and interfaces that do not meet: one line that says so, and nothing has changed"""
    host, _ = lab.hosts()
    agent = lab.agent(host)
    link = add(agent, "limit out on w0 to 100mbit")["id"]
    declare(agent, "tenant under w0 guarantee 60mbit ceiling 80mbit")
    inner = declare(agent, "inner under tenant guarantee 20mbit")["id"]
    declare(agent, "inward in under w0 ceiling 10mbit")
    given = add(agent, "assign out udp to inner")["id"]
    before = [(entry["id"], entry["text"], entry["rate_bps"]) for entry in shapes(agent)]
    rule, new, other = "/v1/rules/add", "/v1/shapes/add", "/v1/shapes/change"
    for status, what, path, parameters in (
            (400, "add up to 120mbit, and it has 100mbit", rule, {"text": "guarantee out tcp 60mbit"}),
            (400, "a guarantee of 200mbit is above the 100mbit of w0", rule, {"text": "guarantee out tcp 200mbit"}),
            (400, "add up to 90mbit, and it has 60mbit", new, {"text": "more under tenant guarantee 70mbit"}),
            (400, "a guarantee of 60mbit is above the 50mbit of w0", other, {"id": link, "text": "to 50mbit"}),
            (400, "stands below itself", other, {"name": "tenant", "text": "under inner"}),
            (400, "did you mean 'tenant'", new, {"text": "more under tenamt"}),
            (400, "no class and no interface 'w7'", new, {"text": "more under w7"}),
            (400, "there is no class 'inne'; did you mean 'inner'", rule, {"text": "assign out tcp to inne"}),
            (400, "there is a class 'inner' already", new, {"text": "inner under w0"}),
            (400, "has a rate already", rule, {"text": "limit out on w0 to 10mbit"}),
            (400, "comes in", rule, {"text": "assign in udp to inner"}),
            (400, "comes in", rule, {"text": "assign out udp to inward"}),
            (400, "one direction", rule, {"text": "guarantee tcp 1mbit"}),
            (400, "nothing fits both", rule, {"text": "limit out on w1 tcp to 1mbit under tenant"}),
            (400, "engine ifb", rule, {"text": "limit in tcp to 1mbit engine htb"}),
            (400, "expected a rate, an address", rule, {"text": "limit out tcp to 1e9mbit"}),
            (400, "expected a rate, an address", rule, {"text": "limit out tcp to"}),
            (400, "comes in", rule, {"text": "limit out tcp to 1mbit engine ifb"}),
            (400, "gives nothing a rate", other, {"id": given, "text": "to 1mbit"}),
            (404, "did you mean 'inner'", other, {"name": "iner", "text": "to 1mbit"}),
            (400, "either id=NUMBER or name=NAME", other, {"text": "to 1mbit"}),
            (400, "'lo' is an interface", new, {"text": "lo under w0"}),
            (400, f"'inner' is still what rule {given} names", "/v1/shapes/delete", {"id": inner})):
        got, answer = ask(agent, "POST", path, **parameters)
        error = answer.get("error", {"what": answer})
        text = f"{error['what']}; {error.get('want', '')}"
        expect_equal((got, what in text), (status, True), f"{path} {parameters}: {text}")
    add(agent, "limit out on w1 to 100mbit")
    refused(agent, 400, "under which link? there are w0, w1", "POST", rule, text="guarantee out tcp 1mbit")
    # another link may not make what stood below the only one ambiguous
    done(agent, "POST", "/v1/rules/delete", id=max(entry["id"] for entry in shapes(agent)))
    unplaced = add(agent, "guarantee out tcp 1mbit")["id"]
    refused(agent, 400, f"rule {unplaced} would not know its link, of w0, w1", "POST", rule,
            text="limit out on w1 to 100mbit")
    change(agent, "under w0", id=unplaced)
    queued = add(agent, "limit out udp to 1mbit engine htb")["id"] if has_qdisc(host, "htb") else None
    if queued:  # not the sentence that comes is at fault
        refused(agent, 400, "on all of them: limit out udp to 1mbit engine htb", "POST", rule,
                text="limit out on w1 to 100mbit")
        done(agent, "POST", "/v1/rules/delete", id=queued)
    add(agent, "limit out on w1 to 100mbit")
    done(agent, "POST", "/v1/rules/delete", id=unplaced)
    done(agent, "POST", "/v1/rules/delete", id=max(entry["id"] for entry in shapes(agent)))
    expect_equal([(entry["id"], entry["text"], entry["rate_bps"]) for entry in shapes(agent)], before, "what there was")


@test()
def a_change_of_rate_is_not_a_change_of_rules(lab):
    """a class with another rate is the same class, with the same id and what it has counted; the policy is not compiled
    anew, and of the packets that come meanwhile none is lost; what is changed survives a restart"""
    host, peer = lab.hosts()
    agent = lab.agent(host)
    agent.wait_watched("w0")
    number = add(agent, "limit out udp to port 9 to 100mbit")["id"]
    taker, sender = udp_socket(peer, "10.1.0.2", 9), udp_socket(host, "10.1.0.1")
    generation = done(agent, "GET", "/v1/rules")["generation"]
    for i in range(20):
        for _ in range(10):
            sender.sendto(b"x" * 100, ("10.1.0.2", 9))
        change(agent, f"to {50 + i}mbit", id=number)
    expect_equal([len(taker.recv(200)) for _ in range(200)], [100] * 200, "what came through")
    found = wait_for(lambda: shape(agent, number)["sent_packets"] == 200 and shape(agent, number), 5, "200 packets")
    expect_equal((found["sent_bytes"], found["dropped_packets"], found["rate_bps"], found["text"]),
                 (200 * 142, 0, 69000000, "limit out udp to port 9 to 69mbit"), "the class")
    expect_equal(done(agent, "GET", "/v1/rules")["generation"], generation, "the policy's generation")
    agent.kill(signal.SIGKILL)
    agent.process.wait()
    sender.sendto(b"x" * 100, ("10.1.0.2", 9))
    agent.start()
    found = shape(agent, number)
    expect_equal((found["rate_bps"], found["sent_packets"]), (69000000, 201), "after a restart")
    sender.close()
    taker.close()


@test()
def an_applied_rate_changes_its_class(lab):
    """a policy in which rates, burst, weight and priority of a class are others changes the class that is there: it keeps its
    id and what it has counted, through a rollback, an agent that is killed and a start with another file; another match is
    another class"""
    host, peer = lab.hosts()
    agent = lab.agent(host)
    agent.wait_watched("w0")
    sender = udp_socket(host, "10.1.0.1")
    sent = 0

    def send(what):
        sender.sendto(b"x" * 100, ("10.1.0.2", 9))
        wait_for(lambda: {entry["sent_packets"] for entry in shapes(agent) if entry["id"] in ids} == {sent + 1}, 5,
                 f"{what}: {sent + 1} packets in both classes")
        return sent + 1

    def texts(rate, weight):
        return f"shapes:\n  - bulk under w0 weight {weight}\nrules:\n  - limit out on w0 to 100mbit\n" \
               f"  - limit out udp to port 9 to {rate}\n  - assign out udp to port 9 to bulk\n"

    first = done(agent, "POST", "/v1/policy", texts("10mbit", 1))
    expect_equal((first["added"], first["changed"], first["removed"]), (4, 0, 0), f"{first}")
    ids = {entry["id"] for entry in shapes(agent) if "w0 to" not in entry["text"]}
    expect_equal(len(ids), 2, "classes of the packets")
    sent = send("at first")
    answer = done(agent, "POST", "/v1/policy", texts("20mbit burst 1mb priority high", 3))
    expect_equal((answer["added"], answer["changed"], answer["removed"], answer["kept"]), (0, 2, 0, 2), f"{answer}")
    sent = send("at other rates")
    done(agent, "POST", "/v1/policy", texts("30mbit", 3), confirm="1h")
    sent = send("not confirmed")
    done(agent, "POST", "/v1/policy/rollback")
    sent = send("taken back")
    expect_equal({entry["rate_bps"] for entry in shapes(agent) if entry["id"] in ids} - {0}, {20000000}, "its rate")
    done(agent, "POST", "/v1/policy", texts("40mbit", 1))
    agent.stop(signal.SIGKILL)
    agent.start()
    sent = send("with the next agent")
    answer = done(agent, "POST", "/v1/policy", texts("40mbit", 1).replace("limit out udp to port 9 to", "limit out udp to"))
    expect_equal((answer["added"], answer["changed"], answer["removed"]), (1, 0, 1), f"another match: {answer}")
    expect_equal(len(ids & {entry["id"] for entry in shapes(agent)}), 1, "the one that was declared stays")
    sender.close()


@test()
def policies_carry_classes(lab):
    """a policy's section `shapes` comes and goes with it: applied, compared, confirmed or taken back, saved, and read by the
    next start"""
    host, _ = lab.hosts()
    agent = lab.agent(host)
    head = "shapes:\n  - bulk under w0 ceiling 20mbit\n  - small under bulk ceiling 5mbit\n"
    body = head + "rules:\n  - limit out on w0 to 100mbit\n  - assign out udp to small\n"
    answer = done(agent, "POST", "/v1/policy", body)
    expect_equal(answer["added"], 4, f"{answer}")
    first = {entry["text"]: entry["id"] for entry in shapes(agent)}
    expect_equal(done(agent, "GET", "/v1/policy").split(), body.split(), "the policy as it is printed")
    less = body.replace("20mbit", "30mbit")
    difference = done(agent, "POST", "/v1/policy/diff", less)["diff"]
    expect_equal([(line["sign"], line["text"]) for line in difference],
                 [("~", "shape bulk under w0 ceiling 30mbit (before: shape bulk under w0 ceiling 20mbit)")],
                 "what differs")
    done(agent, "POST", "/v1/policy", less, confirm="1h")
    expect_equal(sorted(e["rate_bps"] for e in shapes(agent)), [5000000, 30000000, 100000000], "not yet confirmed")
    done(agent, "POST", "/v1/policy/rollback")
    expect_equal({entry["text"]: entry["id"] for entry in shapes(agent)}, first, "taken back")
    done(agent, "POST", "/v1/policy", less, confirm="1h")
    done(agent, "POST", "/v1/policy/confirm")
    expect_equal(sorted(e["rate_bps"] for e in shapes(agent)), [5000000, 30000000, 100000000], "confirmed")
    got, answer = ask(agent, "POST", "/v1/policy", body.replace("to small", "to smal"))
    expect_equal((got, "there is no class 'smal'" in answer["error"]["what"]), (400, True), f"{answer}")
    expect_equal((answer["error"]["line"], answer["error"]["column"]), (6, 5), f"where: {answer}")
    expect_equal(sorted(e["rate_bps"] for e in shapes(agent)), [5000000, 30000000, 100000000], "after what was refused")
    done(agent, "POST", "/v1/policy/save")
    kept = shapes(agent)
    agent.stop(signal.SIGINT)
    agent.start()
    expect_equal(sorted((e["text"], e["rate_bps"]) for e in shapes(agent)),
                 sorted((e["text"], e["rate_bps"]) for e in kept), "read by the next start")


@test()
def interfaces_come_and_go(lab):
    """a class on an interface that is not there yet waits for it; with the interface its queue comes, also a second time"""
    host, peer = lab.hosts()
    need_htb(host)
    agent = lab.agent(host, "interfaces: [w0, w9]\nrules: ['limit out on w9 to 10mbit engine htb']\n"
                            "shapes: [bulk under w9 ceiling 5mbit]\n")
    expect_equal(len(shapes(agent)), 2, "classes that wait")
    for _ in range(2):
        lab.pair(host, "w9", peer, "p9", number=9)
        wait_for(lambda: root(host, "w9") == ("htb", MAJOR), 5, "the queue")
        wait_for(lambda: any(value[2] == "5Mbit" for value in tree(host, "w9").values()), 5, "the class")
        expect_equal({entry["engine"] for entry in shapes(agent)}, {"htb"}, "engines")
        host.ip("link", "del", "w9")
    done(agent, "POST", "/v1/rules/flush")


@test()
def what_comes_in_waits_in_an_ifb(lab):
    """with engine ifb what comes in goes through a queue of its own interface and on to its socket as if nothing had been;
    interface and queue go with the class"""
    host, peer = lab.hosts()
    need_htb(host)
    before, links = root(host), host.ip("-br", "link").stdout
    need_kernel(lambda: (host.ip("link", "add", "t0", "type", "ifb"), host.ip("link", "del", "t0")), "ifb")
    agent = lab.agent(host)
    agent.wait_watched("w0")
    number = add(agent, "limit in on w0 udp to port 9 to 8mbit engine ifb")["id"]
    expect_equal(shape(agent, number)["engine"], "htb", "the engine")
    index = json.loads(host.ip("-j", "link", "show", "dev", "w0").stdout)[0]["ifindex"]
    expect(any(value[2] == "8Mbit" for value in tree(host, f"weir-{index}").values()), "its tree")
    taker, sender = udp_socket(host, "10.1.0.1", 9), udp_socket(peer, "10.1.0.2")
    taker.settimeout(5)
    for i in range(50):
        sender.sendto(bytes([i]) * 100, ("10.1.0.1", 9))
    expect_equal([taker.recvfrom(200) for _ in range(50)],
                 [(bytes([i]) * 100, sender.getsockname()) for i in range(50)], "what came, in order")
    wait_for(lambda: shape(agent, number)["sent_packets"] == 50, 5, "50 packets through the queue")
    expect_equal(root(host), before, "what leaves has no queue of ours")
    done(agent, "POST", "/v1/shapes/delete", id=number)
    expect_equal(host.ip("-br", "link").stdout.split()[::3], links.split()[::3], "interfaces are as they were")
    sender.close()
    taker.close()


@test("vm-6.1")
def datagrams_never_exceed_their_class(lab):
    """whatever is sent, what leaves through a class is at most its rate and burst: policed, in HTB, and by departure times
    where the kernel has fq; what the class says it sent is what arrived"""
    host, peer = lab.hosts()
    need_htb(host)
    agent = lab.agent(host)
    agent.wait_watched("w0")
    for engine in ("policer", "htb", "fq"):
        if engine == "fq" and not has_qdisc(host, "fq"):
            refused(agent, 400, "no qdisc fq", "POST", "/v1/rules/add", text="limit out on w0 to 8mbit engine fq")
            continue
        number = add(agent, f"limit out on w0 udp to port 9 to 8mbit burst 20kb engine {engine}")["id"]
        arrived = peer.counters("p0")[:2]
        sender = udp_socket(host, "10.1.0.1")
        begun = time.monotonic()
        for _ in range(1500):
            sender.sendto(b"x" * 958, ("10.1.0.2", 9))  # 1000 bytes on the wire
        found = wait_for(lambda number=number: gone(shape(agent, number), 1500), 20, f"{engine}: all have left")
        wanted = (found["sent_packets"] + arrived[0], found["sent_bytes"] + arrived[1])
        wait_for(lambda wanted=wanted: peer.counters("p0")[:2] == wanted, 5, f"{engine}: {wanted} at the other end")
        took = time.monotonic() - begun
        expect(found["sent_bytes"] <= 1000000 * took + 20000 + 1000, f"{engine}: {found} in {took:.3f} s")
        expect(found["sent_packets"] >= 20, f"{engine}: a burst of 20 packets passes, not {found}")
        # a queue holds the sender up instead
        expect(found["dropped_packets"] > 0 or engine != "policer", f"{engine}: nothing was too much")
        done(agent, "POST", "/v1/rules/delete", id=number)
        sender.close()


@test()
def rules_count_what_their_classes_saw(lab):
    """a rule with a rate counts every packet that it fitted, as its class does: across a change of the rate, a killed
    agent and the next one, a link that comes to stand above it, and when that goes"""
    host, _ = lab.hosts()
    agent = lab.agent(host)
    agent.wait_watched("w0")
    number = add(agent, "limit out udp to port 9 to 800mbit burst 1mb engine policer")["id"]
    sent = 0
    with udp_socket(host, "10.1.0.1") as sender:

        def send(count):
            for _ in range(count):
                sender.sendto(bytes(58), ("10.1.0.2", 9))  # 100 bytes on the wire
            return sent + count

        def counted(what):
            found = wait_for(lambda: gone(shape(agent, number), sent), 10, f"{what}: the class has seen {sent} packets")
            hits = rule(agent, number)
            expect_equal((hits["packets"], hits["bytes"]), (sent, 100 * sent), f"{what}: the rule's packets and bytes")
            expect("last_hit" in hits, f"{what}: {hits}")
            return found

        sent = send(300)
        counted("alone")
        metrics = agent.request("GET", "/metrics")[1]
        expect(f'weir_rule_packets_total{{rule="{number}"}} {sent}\n' in metrics, "the rule's packets in the metrics")
        change(agent, "to 400mbit", id=number)
        sent = send(100)
        counted("at another rate")
        agent.stop(signal.SIGKILL)
        sent = send(50)
        agent.start()
        counted("without an agent")
        sent = send(50)
        counted("with the next agent")
        link = add(agent, "limit out on w0 to 900mbit engine policer")["id"]
        sent = send(100)
        counted("below a link")
        done(agent, "POST", "/v1/rules/delete", id=link)
        sent = send(100)
        counted("alone again")


@test()
def a_link_tells_what_it_dropped(lab):
    """what a link lets through and what it drops of packets without a class of their own is all that there was"""
    host, peer = lab.hosts()
    agent = lab.agent(host)
    agent.wait_watched("w0")
    lab.quiet(host, peer)
    number = add(agent, "limit out on w0 to 8mbit burst 20kb engine policer")["id"]
    sender = udp_socket(host, "10.1.0.1")
    for _ in range(500):
        sender.sendto(b"x" * 958, ("10.1.0.2", 9))
    found = wait_for(lambda: gone(shape(agent, number), 500), 5, "500 packets sent or dropped")
    expect(found["dropped_packets"] > 0, f"nothing was too much: {found}")
    sender.close()


@test()
def classes_are_in_status_and_metrics(lab):
    """status counts classes by engine and names queues; the metrics have a series for each class"""
    host, _ = lab.hosts()
    need_htb(host)
    agent = lab.agent(host)
    add(agent, "limit out on w0 to 100mbit engine htb")
    number = add(agent, "limit in tcp to port 80 to 1mbit")["id"]
    found = done(agent, "GET", "/v1/status")["shapes"]
    expect_equal((found["classes"]["htb"], found["classes"]["policer"]), (1, 1), f"{found}")
    expect_equal(found["queues"], [{"interface": "w0", "direction": "out", "engine": "htb"}], "queues")
    text = done(agent, "GET", "/metrics")
    for line in ("weir_shapes 2", f'weir_shape_sent_bytes_total{{class="{number}"}} 0'):
        expect(line in text.splitlines(), f"no {line}")


@test(seconds=60)
def many_classes_are_one_list(lab):
    """a thousand classes below one link come with one policy, are in the kernel's tree, and go again"""
    host, _ = lab.hosts()
    need_htb(host)
    before = root(host)
    agent = lab.agent(host)
    body = "rules:\n  - limit out on w0 to 1gbit engine htb\n" + "".join(
        f"  - limit out to 10.{i // 250}.{i % 250}.0/24 to 1mbit\n" for i in range(1000))
    done(agent, "POST", "/v1/policy", body)
    expect_equal((len(shapes(agent)), root(host)), (1001, ("htb", MAJOR)), "classes")
    expect_equal(sum(value[2] == "1Mbit" for value in tree(host).values()), 1000, "classes in the tree")
    done(agent, "POST", "/v1/policy", "rules: []\n")
    expect_equal((shapes(agent), root(host)), ([], before), "none is left")
