# SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
"""Rules on packets: the list, how it changes under traffic, whole policies and the way back, tenants, explain, log."""

import contextlib
import json
import os
import signal
import threading
import time
import urllib.parse
from http.client import HTTPException

from lab import UnixConnection, expect, expect_equal, udp_socket, wait_for
from suite import each, test, variants


def ask(agent, method, path, body=None, **parameters):
    """(status, document, or text where it is none)."""
    connection = UnixConnection(agent.socket, 60)
    try:
        query = urllib.parse.urlencode(parameters, quote_via=urllib.parse.quote)
        connection.request(method, f"{path}?{query}" if query else path, body=body)
        answer = connection.getresponse()
        text = answer.read().decode()
        return answer.status, json.loads(text) if answer.getheader("Content-Type") == "application/json" else text
    finally:
        connection.close()


def done(agent, method, path, body=None, **parameters):
    status, answer = ask(agent, method, path, body, **parameters)
    expect_equal(status, 200, f"{method} {path} {parameters}: {answer}")
    return answer


def add(agent, text, **parameters):
    return done(agent, "POST", "/v1/rules/add", text=text, **parameters)["rules"][0]


def rules(agent, **parameters):
    return done(agent, "GET", "/v1/rules", **parameters)["rules"]


def texts(agent, **parameters):
    return [rule["text"] for rule in rules(agent, **parameters)]


def rule(agent, number, **parameters):
    return next(entry for entry in rules(agent, **parameters) if entry["id"] == number)


def policy(*sentences, head=""):
    return head + "rules:\n" + "".join(f"  - '{sentence}'\n" for sentence in sentences)


def apply(agent, *sentences, head="", **parameters):
    return done(agent, "POST", "/v1/policy", policy(*sentences, head=head), **parameters)


def refused(agent, status, what, method, path, body=None, **parameters):
    """The request is refused with this status, and the error says this."""
    got, answer = ask(agent, method, path, body, **parameters)
    expect_equal(got, status, f"{method} {path} {parameters}: {answer}")
    error = answer["error"]
    expect(what in error["what"] + " " + error.get("want", ""), f"{path} {parameters}: {error}")
    return error


class Echo:
    """Sends datagrams and takes them back; counts both."""

    def __init__(self, lab, host, peer, port=7):
        self.server = udp_socket(host, "10.1.0.1", port)
        self.client = udp_socket(peer, "10.1.0.2")
        self.client.connect(("10.1.0.1", port))
        self.server.settimeout(0.5)
        self.client.settimeout(0.5)
        lab.on_close(self.server.close)
        lab.on_close(self.client.close)

    def once(self):
        """Did one datagram come through and its answer come back?"""
        try:
            self.client.send(b"x")
            data, sender = self.server.recvfrom(10)
            self.server.sendto(data, sender)
            return self.client.recv(10) == b"x"
        except (TimeoutError, ConnectionError):
            return False


class Stranger(Echo):
    """Another client of the same server."""

    def __init__(self, lab, echo, peer):  # pylint: disable=super-init-not-called # the server is there
        self.server = echo.server
        self.client = udp_socket(peer, "10.1.0.2")
        self.client.connect(echo.server.getsockname())
        self.client.settimeout(0.5)
        lab.on_close(self.client.close)


class Stream(threading.Thread):
    """An echo that goes on until it is told to end."""

    def __init__(self, lab, host, peer, port=7):
        super().__init__(daemon=True)
        self.echo, self.sent, self.lost, self.end = Echo(lab, host, peer, port), 0, 0, False
        self.start()

    def run(self):
        while not self.end:
            self.lost += not self.echo.once()
            self.sent += 1

    def stop(self):
        self.end = True
        self.join()
        return self.sent, self.lost


@test("vm-6.1")
def packets_are_dropped_and_counted(lab):
    """a rule that drops takes effect with the answer, counts each packet, and lets everything through again when it is
    deleted; count goes on to the next rule; rules on packets and on sockets stand in one list"""
    host, peer = lab.hosts()
    agent = lab.agent(host)
    agent.wait_watched("w0")
    echo = Echo(lab, host, peer)
    expect(echo.once(), "no echo before")
    counted = add(agent, "count in udp to port 7")["id"]
    dropped = add(agent, "drop in udp to port 7")
    expect_equal((dropped["verdict"], dropped["hook"], dropped["source"], dropped["packets"]),
                 ("drop", dropped["hook"], "api", 0), "the new rule")
    socket_rule = add(agent, "deny connect by user 64321 to 10.9.9.9")
    expect_equal((socket_rule["hook"], socket_rule["call"], socket_rule["hits"]), ("socket", "connect", 0), "on sockets")
    udp_sender = udp_socket(peer, "10.1.0.2")
    for _ in range(5):
        udp_sender.sendto(b"12345", ("10.1.0.1", 7))
    udp_sender.close()
    found = wait_for(lambda: rule(agent, dropped["id"])["packets"] == 5 and rule(agent, dropped["id"]), 5, "five drops")
    expect_equal((found["bytes"], rule(agent, counted)["packets"]), (5 * (14 + 20 + 8 + 5), 5), "bytes, and the count")
    expect("last_hit" in found, "no last hit")
    done(agent, "POST", "/v1/rules/delete", id=dropped["id"])
    expect(echo.once(), "no echo after the rule was deleted")
    expect_equal(texts(agent), ["count in udp to port 7", "deny connect by user 64321 to 10.9.9.9"], "rules")


@test()
def the_list_says_how_fast_and_in_which_order(lab):
    """a rule's rate is what it counted between two questions; the list comes in the order that is asked for, cut where it is
    to be; what it cannot be sorted by is refused with the nearest word"""
    host, peer = lab.hosts()
    agent = lab.agent(host)
    agent.wait_watched("w0")
    add(agent, "drop in udp to port 8")
    add(agent, "drop in udp to port 9")
    expect(all("rate_pps" not in r for r in rules(agent)), "a rate after one question")
    sender = udp_socket(peer, "10.1.0.2")
    begun = time.monotonic()
    for _ in range(60):
        sender.sendto(b"12345678", ("10.1.0.1", 9))
    sender.close()

    def measured():
        found = rules(agent, sort="rate", limit=1)
        return found[0].get("rate_pps") and found[0]
    found = wait_for(measured, 10, "a rate")
    seconds = time.monotonic() - begun
    expect_equal(found["text"], "drop in udp to port 9", "the fastest")
    # the two questions were at least half a second, and at most all the time from before the first packet apart
    expect(60 / (seconds + 1) <= found["rate_pps"] <= 120, f"{found['rate_pps']} packets a second")
    expect(abs(found["rate_bps"] - found["rate_pps"] * 8 * 50) <= 8 * 50, f"{found['rate_bps']} bit/s")
    expect_equal(texts(agent, sort="packets", limit=1), ["drop in udp to port 9"], "by packets")
    expect_equal(texts(agent, sort="packets", order="ascending"), ["drop in udp to port 8", "drop in udp to port 9"], "ascending")
    expect_equal(texts(agent, order="descending"), ["drop in udp to port 9", "drop in udp to port 8"], "from the end")
    refused(agent, 400, "did you mean 'packets'?", "GET", "/v1/rules", sort="packet")


@test()
def changes_do_not_touch_other_traffic(lab):
    """while packets come and go without pause, rules are added, moved, deleted and whole policies applied: none is lost
    that no rule drops, none comes through that one does, ids and counters of sentences that stay go on"""
    host, peer = lab.hosts()
    agent = lab.agent(host)
    agent.wait_watched("w0")
    first = add(agent, "count in udp to port 7")["id"]
    add(agent, "drop in udp to port 9")
    stream = Stream(lab, host, peer)
    dropped = udp_socket(host, "10.1.0.1", 9)
    dropped.setblocking(False)
    sender = udp_socket(peer, "10.1.0.2")
    for number in range(30):
        new = add(agent, f"drop in tcp to port {number + 1000}")["id"]
        done(agent, "POST", "/v1/rules/move", id=new, before=first)
        sender.sendto(b"x", ("10.1.0.1", 9))
        done(agent, "POST", "/v1/rules/delete", id=new)
        apply(agent, f"drop in tcp from 10.7.{number}.0/24", "count in udp to port 7", "drop in udp to port 9")
        sender.sendto(b"x", ("10.1.0.1", 9))
    sent, lost = stream.stop()
    expect(sent > 30, f"only {sent} datagrams were sent")
    expect_equal(lost, 0, f"lost of {sent}")
    try:
        dropped.recv(10)
        expect(False, "a datagram came through the rule that drops it")
    except BlockingIOError:
        pass
    found = rules(agent)
    expect_equal([r["text"] for r in found[1:]], ["count in udp to port 7", "drop in udp to port 9"], "rules")
    expect_equal((found[1]["id"], found[1]["packets"], found[2]["packets"]), (first, sent, 60), "id and counters")


@test()
def rules_move_and_end(lab):
    """rules are moved in front of others and behind them, flushed, and end by themselves after the time they were given"""
    host, _ = lab.hosts()
    agent = lab.agent(host)
    a, b, c = (add(agent, f"drop in tcp to port {port}")["id"] for port in (1, 2, 3))
    for parameters, order in (({"id": c, "before": a}, [c, a, b]), ({"id": c, "after": a}, [a, c, b]),
                              ({"id": a}, [c, b, a]), ({"id": b, "before": b}, [c, b, a]),
                              ({"id": a, "before": b}, [c, a, b])):
        done(agent, "POST", "/v1/rules/move", **parameters)
        expect_equal([r["id"] for r in rules(agent)], order, f"{parameters}")
    generation = done(agent, "GET", "/v1/rules")["generation"]
    short = done(agent, "POST", "/v1/rules/add", text="drop in udp to port 4 for 1s")["rules"][0]
    expect("ends" in short, f"no end: {short}")
    wait_for(lambda: len(rules(agent)) == 3, 5, "the rule to end")
    expect(done(agent, "GET", "/v1/rules")["generation"] > generation + 1, "the generation did not change")
    expect_equal(done(agent, "POST", "/v1/rules/flush")["deleted"], 3, "flushed")
    expect_equal(rules(agent), [], "rules")
    refused(agent, 404, "there is no rule 1", "POST", "/v1/rules/move", id=a)
    refused(agent, 404, "there is no tenant 'web'", "POST", "/v1/rules/flush", tenant="web")


@test()
def warnings_name_what_hides(lab):
    """a rule that another one leaves nothing for, and one that leaves nothing for another, are accepted with a warning that
    names the other"""
    host, _ = lab.hosts()
    agent = lab.agent(host)
    wide = add(agent, "drop in tcp from 10.0.0.0/8")["id"]
    for text, wanted in (("accept in tcp from 10.1.0.0/16 to port 80",
                          [f"nothing gets past rule {wide}: drop in tcp from 10.0.0.0/8"]),
                         ("drop in tcp from 10.0.0.0/8", [f"it is the same as rule {wide}: drop in tcp from 10.0.0.0/8"]),
                         ("drop in udp from 10.0.0.0/8", [])):
        answer = done(agent, "POST", "/v1/rules/add", text=text)
        expect_equal(answer["warnings"], wanted, text)
    answer = done(agent, "POST", "/v1/rules/add", text="accept in", before=wide)
    expect_equal(len(answer["warnings"]), 4, f"rules behind one that accepts everything: {answer['warnings']}")
    apply(agent, "redirect to w7", "drop in on w8")
    answer = done(agent, "POST", "/v1/rules/add", text="drop in tcp")
    expect_equal(answer["warnings"], [], "behind rules whose interface is not there, and which fit nothing")
    refused(agent, 400, "'drop in from @gone' names it", "POST", "/v1/policy", policy("drop in", "drop in from @gone"))
    answer = apply(agent, "drop in tcp", "drop in tcp to port 80")
    expect("nothing gets past rule" in answer["warnings"][0], f"{answer}")


@test()
def names_that_are_not_there_have_a_near_one(lab):
    """who names an interface or a set that is not there is told which one is called nearly so"""
    host, peer = lab.hosts()
    lab.pair(host, "lab0", peer, "lab1", 2)
    agent = lab.agent(host)
    answer = done(agent, "POST", "/v1/rules/add", text="drop in on lab9 tcp")
    expect_equal(answer["warnings"], [f"there is no interface lab9: until there is, nothing fits rule {answer['rules'][0]['id']}: "
                                      "drop in on lab9 tcp; did you mean lab0?"], "warnings")
    answer = done(agent, "POST", "/v1/rules/add", text="drop in on elsewhere")
    expect("did you mean" not in answer["warnings"][0], f"{answer}")
    done(agent, "POST", "/v1/sets/add", body="10.1.0.2", name="bastions")
    refused(agent, 400, "did you mean '@bastions'?", "POST", "/v1/rules/add", text="drop in from @bastion")
    refused(agent, 400, "weir set add gone ...", "POST", "/v1/rules/add", text="drop in from @gone")


@test(seconds=60)
def an_unconfirmed_change_goes_back(lab):
    """a change that is not confirmed in time is undone by the kernel itself, whether the agent lives or was killed; one that
    is confirmed stays; while it waits other changes are refused"""
    host, peer = lab.hosts()
    agent = lab.agent(host)
    agent.wait_watched("w0")
    echo = Echo(lab, host, peer)
    before = add(agent, "count in udp to port 7")["id"]
    answer = apply(agent, "drop in udp to port 7", confirm="2s", cut=1)
    expect("deadline" in answer, f"{answer}")
    expect(not echo.once(), "the new policy is not in force")
    wait_for(echo.once, 5, "the policy of before")
    wait_for(lambda: [r["id"] for r in rules(agent)] == [before], 5, "the rules of before")
    refused(agent, 409, "no change waits", "POST", "/v1/policy/confirm")

    apply(agent, "drop in udp to port 7", confirm="2s", cut=1)
    agent.stop(signal.SIGKILL)
    expect(not echo.once(), "the new policy is not in force")
    wait_for(echo.once, 10, "the policy of before, without an agent")
    agent.start()
    expect_equal([(r["id"], r["text"]) for r in rules(agent)], [(before, "count in udp to port 7")], "rules")
    expect(echo.once(), "the new agent judges otherwise")

    apply(agent, "drop in udp to port 7", confirm="30s", cut=1)
    expect(0 < done(agent, "GET", "/v1/rules")["pending"]["seconds"] <= 30, "no time is left")
    for path, parameters in (("/v1/rules/add", {"text": "drop in"}), ("/v1/rules/flush", {}), ("/v1/policy/save", {})):
        refused(agent, 409, "waits for its confirmation", "POST", path, **parameters)
    agent.stop(signal.SIGKILL)
    agent.start()
    expect("pending" in done(agent, "GET", "/v1/rules"), "the next agent does not know that a change waits")
    done(agent, "POST", "/v1/policy/confirm")
    agent.stop(signal.SIGKILL)
    agent.start()
    expect_equal(texts(agent), ["drop in udp to port 7"], "rules after the confirmation")
    expect(not echo.once(), "the confirmed policy is not in force")


@test()
def connections_go_on(lab):
    """connections that were there before a rule drops them go on, also where nothing tracked them until then; with cut they
    do not; new ones are dropped either way"""
    host, peer = lab.hosts()
    agent = lab.agent(host)
    agent.wait_watched("w0")
    old = Echo(lab, host, peer)
    expect(old.once(), "no echo")
    agent.settle()
    number = add(agent, "drop in udp to port 7")["id"]
    expect(old.once(), "the connection that was there does not go on")
    expect(not Stranger(lab, old, peer).once(), "a new connection comes through")
    expect(old.once(), "the connection that was there does not go on any more")
    done(agent, "POST", "/v1/rules/move", id=number, cut=1)
    add(agent, "count in icmp", cut=1)
    expect(not old.once(), "the connection goes on in spite of the cut")


@test()
def sets_go_with_their_policy(lab):
    """the sets of a policy come with it, as its rules name them; a change that is given up takes them back, in the agent's life
    and without it; a policy whose set is wrong changes nothing"""
    host, peer = lab.hosts()
    agent = lab.agent(host)
    agent.wait_watched("w0")
    echo = Echo(lab, host, peer)

    def entries(name):
        return next((s["entries"] for s in done(agent, "GET", "/v1/sets")["sets"] if s["name"] == name), None)

    apply(agent, "drop in udp from @bl to port 7", head="sets: {bl: [192.0.2.1]}\n")
    expect(echo.once(), "no echo")
    apply(agent, "drop in udp from @bl to port 7", head="sets: {bl: [10.1.0.0/24, 192.0.2.1]}\n", cut=1, confirm="1h")
    expect(not echo.once(), "the set is not in force")
    done(agent, "POST", "/v1/policy/rollback")
    expect(echo.once(), "the set of before is not in force")
    expect_equal(entries("bl"), 1, "entries")
    apply(agent, "drop in udp from @bl to port 7", head="sets: {bl: [10.1.0.0/24, 192.0.2.1]}\n", cut=1, confirm="3s")
    agent.stop(signal.SIGKILL)
    expect(not echo.once(), "the set is not in force without an agent")
    wait_for(echo.once, 10, "the set of before, without an agent")
    agent.start()
    expect_equal((echo.once(), entries("bl")), (True, 1), "echo, and entries, with the next agent")
    refused(agent, 400, "", "POST", "/v1/policy", policy("drop in from @bl", head="sets: {bl: [10.0.0.0/33]}\n"))
    refused(agent, 400, "", "POST", "/v1/policy", policy("drop in from @bl", head="sets: {bl: {file: /nonexistent}}\n"))
    expect_equal((echo.once(), entries("bl")), (True, 1), "echo, and entries, after refused policies")


@test()
def counters_survive_other_changes(lab):
    """what a rule has counted stays when others come, are refused or go, sets change and interfaces come; what a default
    verdict has counted begins anew with another verdict"""
    host, peer = lab.hosts()
    agent = lab.agent(host)
    agent.wait_watched("w0")
    echo = Echo(lab, host, peer)
    number = add(agent, "count in udp to port 7")["id"]
    for _ in range(3):
        expect(echo.once(), "no echo")
    done(agent, "POST", "/v1/sets/add", "192.0.2.1\n", name="bl")
    add(agent, "drop in from @bl")
    refused(agent, 400, "nosuch", "POST", "/v1/rules/add", text="drop in from @nosuch")
    done(agent, "POST", "/v1/sets/add", "198.51.100.0/24\n", name="other")
    add(agent, "drop in from @other to port 9")
    lab.pair(host, "w7", peer, "p7", number=7)
    add(agent, "drop in on w7")
    host.ip("link", "del", "w7")
    expect_equal(rule(agent, number)["packets"], 3, "packets")
    expect(done(agent, "GET", "/v1/rules")["default"]["in"]["packets"] >= 3, "packets of the default verdict")
    apply(agent, "count in udp to port 7", head="default: {in: drop}\n")
    expect_equal(rule(agent, number)["packets"], 3, "packets after a policy")
    expect_equal(done(agent, "GET", "/v1/rules")["default"]["in"]["packets"], 0, "packets of the other verdict")


@test(seconds=90)
def a_large_policy_holds_nobody_up(lab):
    """while a policy of thousands of rules is compiled and verified, questions are answered, and status tells how far it is;
    other changes are refused; a client that goes away does not stop it; an agent that ends before it is ready has changed
    nothing"""
    host, _ = lab.hosts()
    agent = lab.agent(host)
    agent.wait_watched("w0")

    def large(number):
        return policy(*(f"drop in tcp from 10.{number}.{n % 250}.{n // 250} to port {n}" for n in range(1, 6000)))

    def send(text, path="/v1/policy"):
        connection = UnixConnection(agent.socket, 60)
        connection.request("POST", path, body=text.encode())
        return connection

    def at_once(method, path, body=""):
        """Without waiting for anything to settle: (status, answer)"""
        with contextlib.closing(UnixConnection(agent.socket, 60)) as connection:
            connection.request(method, path, body=body.encode())
            answer = connection.getresponse()
            return answer.status, json.loads(answer.read())

    def applying():
        return at_once("GET", "/v1/status")[1]["rules"].get("applying")
    connection = send(large(1))
    found = wait_for(applying, 20, "a policy on its way", interval=0.002)
    others = [at_once("POST", path, body) for path, body in (
        ("/v1/rules/add?text=drop%20in", ""), ("/v1/sets/add?name=a", "10.0.0.1"), ("/v1/policy", policy("drop in")))]
    expect_equal((found["rules"], at_once("GET", "/v1/rules")[1]["rules"]), (5999, []), "on their way; in force")
    for status, said in others:
        expect_equal((status, said.get("error", {}).get("what")), (409, "a policy is being put in place"), "another change")
    answer = json.loads(connection.getresponse().read())
    expect_equal((answer["applied"], answer["rules"], len(rules(agent))), (True, 5999, 5999), "the answer")
    connection.close()
    connection = send(large(3), "/v1/policy?progress=1")
    lines = [json.loads(line) for line in connection.getresponse().read().splitlines() if line]
    expect(all("applying" in line for line in lines[:-1]) and lines[-1]["applied"], f"progress: {lines}")
    connection.close()
    before = rules(agent, limit=1)[0]["text"]
    connection = send(large(4))
    wait_for(applying, 20, "another one on its way", interval=0.002)
    connection.close()
    wait_for(lambda: rules(agent, limit=1)[0]["text"] != before, 30, "what nobody waits for any more")
    changed = rules(agent, limit=1)[0]["text"]
    connection = send(large(5))
    wait_for(applying, 20, "a third one on its way", interval=0.002)
    expect_equal(agent.stop(signal.SIGTERM), 0, "the agent's end")
    connection.close()
    agent.start()
    expect_equal(rules(agent, limit=1)[0]["text"], changed, "rules of the next agent")


@test()
def a_rollback_returns(lab):
    """a rollback returns to before the change that waits, else to the policy before the last one that was applied, with ids
    and counters; a second one has nowhere to go"""
    host, peer = lab.hosts()
    agent = lab.agent(host)
    agent.wait_watched("w0")
    echo = Echo(lab, host, peer)
    number = add(agent, "count in udp to port 7")["id"]
    add(agent, "deny connect by user 64321 to port 99")
    expect(echo.once(), "no echo")
    apply(agent, "drop in udp to port 7", head="default: {in: drop}\n", cut=1)
    expect(not echo.once(), "the policy is not in force")
    expect_equal(done(agent, "GET", "/v1/rules")["applied"], True, "applied")
    expect_equal(done(agent, "POST", "/v1/policy/rollback")["rules"], 2, "rules after the rollback")
    expect(echo.once(), "the rollback is not in force")
    found = done(agent, "GET", "/v1/rules")
    expect_equal((found["rules"][0]["id"], found["rules"][0]["packets"], found["default"]["in"]["verdict"]),
                 (number, 2, "accept"), "the rule that is back")
    refused(agent, 409, "nothing to go back to", "POST", "/v1/policy/rollback")
    apply(agent, "drop in udp to port 7", confirm="1h")
    done(agent, "POST", "/v1/policy/rollback")
    expect(echo.once(), "the rollback of the change that waited is not in force")
    expect_equal(rules(agent)[0]["id"], number, "id")


@test()
def a_policy_is_shown_compared_and_saved(lab):
    """what GET /v1/policy prints can be applied; a diff tells what would come and go; what is saved is in force after a new
    start, and what is not saved is gone"""
    host, _ = lab.hosts()
    agent = lab.agent(host, "interfaces: [w0]\nrules: ['drop in tcp to port 23']\n")
    number = rules(agent)[0]["id"]
    add(agent, "drop in tcp to port 24 \"live\"")
    add(agent, "drop in tcp to port 25 for 1h")
    text = done(agent, "GET", "/v1/policy")
    answer = done(agent, "POST", "/v1/policy", text)
    expect_equal((answer["added"], answer["removed"], answer["kept"]), (0, 0, 3), "what its own policy changes")
    diff = done(agent, "POST", "/v1/policy/diff", policy("drop in tcp to port 23", "drop in udp to port 1"))["diff"]
    expect_equal(sorted((line["sign"], line["text"]) for line in diff),
                 [("+", "drop in udp to port 1"), ("-", 'drop in tcp to port 24 "live"'),
                  ("-", "drop in tcp to port 25 for 1h")], "diff")
    expect_equal(len(rules(agent)), 3, "rules after a diff")
    saved = done(agent, "POST", "/v1/policy/save")
    expect_equal((os.path.basename(saved["saved"]), saved["rules"], saved["left_out"]), ("policy.yaml", 2, 1), "saved")
    add(agent, "drop in tcp to port 26")
    agent.weir("down")
    agent.process.wait(10)
    agent.start()
    expect_equal(texts(agent), ["drop in tcp to port 23", 'drop in tcp to port 24 "live"'], "rules after a new start")
    expect_equal({r["source"] for r in rules(agent)}, {"file"}, "source")
    expect(rules(agent)[0]["id"] <= number, "ids begin anew")
    os.unlink(saved["saved"])
    agent.reload()
    expect_equal(texts(agent), ["drop in tcp to port 23"], "rules of the configuration")


@test()
def an_applied_policy_outlives_the_agent(lab):
    """a policy that was applied is in force, with ids, counters and default verdicts, in the next agent, whether the one
    before was killed or stopped; a reload takes the configuration's in its place, with live rules where they were"""
    host, peer = lab.hosts()
    agent = lab.agent(host, "interfaces: [w0]\nrules: ['drop in tcp to port 23']\n")
    agent.wait_watched("w0")
    echo = Echo(lab, host, peer)
    apply(agent, "count in udp to port 7", "accept in udp to port 7", head="default: {in: drop}\n")
    live = add(agent, "accept in icmp")
    expect(echo.once(), "no echo")
    before = rules(agent)
    for number in (signal.SIGKILL, signal.SIGTERM):
        agent.stop(number)
        expect(echo.once(), "no echo without an agent")
        agent.start()
        expect(echo.once(), "no echo with the next agent")
        found = done(agent, "GET", "/v1/rules")
        expect_equal([(r["id"], r["text"], r["source"]) for r in found["rules"]],
                     [(r["id"], r["text"], r["source"]) for r in before], "rules")
        expect_equal((found["default"]["in"]["verdict"], found["applied"]), ("drop", True), "default, applied")
    expect_equal(rules(agent)[0]["packets"], 5, "packets counted")
    agent.reload()
    found = done(agent, "GET", "/v1/rules")
    expect_equal([r["text"] for r in found["rules"]], ["drop in tcp to port 23", live["text"]], "rules after a reload")
    expect_equal((found["default"]["in"]["verdict"], found["applied"]), ("accept", False), "default, applied")
    expect(echo.once(), "no echo after the reload")


class Adder(threading.Thread):
    """Adds one rule after the other, until nobody answers any more."""

    def __init__(self, agent, first):
        super().__init__(daemon=True)
        self.agent, self.next, self.answered = agent, first, []
        self.start()

    def run(self):
        while True:
            text = f"drop in tcp to port {self.next}"
            try:
                add(self.agent, text)
            except (OSError, HTTPException):
                return
            self.answered.append(text)
            self.next += 1


@test(seconds=60)
def an_agent_killed_while_it_changes_rules_leaves_whole_ones(lab):
    """an agent that is killed while rules come one after the other leaves a policy that judges all packets; the next agent
    has every rule that was answered for, at most one more, and goes on changing them"""
    host, peer = lab.hosts()
    agent = lab.agent(host)
    agent.wait_watched("w0")
    sentences = [f"drop in udp from 10.77.{n >> 8}.{n & 255} to port {n + 1000}" for n in range(1000)]
    sentences += ["count in udp to port 7", "drop in udp to port 9"]
    apply(agent, *sentences)
    echo, dropped = Echo(lab, host, peer), Echo(lab, host, peer, port=9)
    dropped.server.settimeout(0.1)
    for number in range(3):
        adder = Adder(agent, 2000 + 1000 * number)
        wait_for(lambda adder=adder: adder.answered, 10, "a rule that is added")
        time.sleep(0.005 * number)  # at another point of a change
        agent.stop(signal.SIGKILL)
        adder.join()
        expect(echo.once() and not dropped.once(), "what is in force is no whole policy")
        agent.start()
        found = texts(agent)
        sentences += adder.answered
        more = found[len(sentences):]
        expect_equal(found[:len(sentences)], sentences, "rules that were answered for")
        expect(more in ([], [f"drop in tcp to port {adder.next}"]), f"rules that nobody has added: {more}")
        sentences += more
        expect(echo.once() and not dropped.once(), "the next agent judges otherwise")


@test()
def tenants_change_apart(lab):
    """each tenant has a list of its own, which judges its interfaces' traffic in place of the host's; changing one leaves
    the generation of the others, and of the host, as it was"""
    host, peer = lab.hosts()
    lab.pair(host, "w1", peer, "p1", number=2)
    agent = lab.agent(host, "interfaces: [w0, w1]\n")
    agent.wait_watched("w1")
    apply(agent, "count in udp to port 7", head="tenants:\n  web: {interfaces: [w1], rules: [drop in udp to port 7]}\n"
          "  mail: {interfaces: [w9], rules: [drop in tcp to port 25]}\n")
    first = done(agent, "GET", "/v1/rules", tenant="web")
    mail = done(agent, "GET", "/v1/rules", tenant="mail")
    mine = done(agent, "GET", "/v1/rules")
    expect(Echo(lab, host, peer).once(), "the host's interface is judged by the tenant's rules")
    udp_sender = udp_socket(peer, "10.2.0.2")
    udp_sender.sendto(b"x", ("10.2.0.1", 7))
    udp_sender.close()
    wait_for(lambda: rules(agent, tenant="web")[0]["packets"] == 1, 5, "the tenant's rule to count")
    added = add(agent, "accept in udp to port 53", tenant="web")
    after = done(agent, "GET", "/v1/rules", tenant="web")
    expect_equal([r["id"] for r in after["rules"]], [first["rules"][0]["id"], added["id"]], "rules")
    expect(after["generation"] > first["generation"], "the tenant's generation did not change")
    expect_equal([done(agent, "GET", "/v1/rules", tenant=t)["generation"] if t else
                  done(agent, "GET", "/v1/rules")["generation"] for t in ("mail", "")],
                 [mail["generation"], mine["generation"]], "generations of the others")
    refused(agent, 400, "rules on sockets are the host's", "POST", "/v1/rules/add", text="deny bind", tenant="web")
    refused(agent, 400, "in another list", "POST", "/v1/rules/move", id=added["id"], before=mine["rules"][0]["id"])
    refused(agent, 404, "one of web, mail", "GET", "/v1/rules", tenant="wab")


@test("sanitize")
def refused_changes_leave_everything(lab):
    """syntax errors, bad lines of files, unknown sets, tenants and parameters are refused in one line that says where and
    what would be right; nothing has changed then"""
    host, peer = lab.hosts()
    lab.quiet(host, peer)  # so that the default verdict counts nothing meanwhile
    agent = lab.agent(host)
    add(agent, "drop in tcp to port 80")
    before = done(agent, "GET", "/v1/rules")
    error = refused(agent, 400, "did you mean 'tcp'?", "POST", "/v1/rules/add", text="drop in tpc to port 80")
    expect_equal((error["text"], error["column"]), ("drop in tpc to port 80", 9), "where")
    refused(agent, 400, "nosuch", "POST", "/v1/rules/add", text="drop in from @nosuch")
    refused(agent, 400, "user", "POST", "/v1/rules/add", text="drop out by user no-such-user")
    refused(agent, 400, "parameter 'text' is missing", "POST", "/v1/rules/add")
    refused(agent, 400, "1s to 1h", "POST", "/v1/rules/add", text="drop in", confirm="2h")
    refused(agent, 400, "expected 0 or 1", "POST", "/v1/rules/add", text="drop in", cut="yes")
    refused(agent, 400, "both", "POST", "/v1/rules/move", id=1, before=1, after=1)
    error = refused(agent, 400, "", "POST", "/v1/policy", "rules:\n  - drop in\n  - drop im tcp\n", name="my.yaml")
    expect_equal((os.path.basename(error["file"]), error["line"]), ("my.yaml", 3), f"where: {error}")
    refused(agent, 400, "there is no policy", "POST", "/v1/policy")
    refused(agent, 400, "nosuch", "POST", "/v1/policy", policy("drop in from @nosuch"))
    refused(agent, 400, "", "POST", "/v1/policy", "ruels: []\n")
    refused(agent, 400, "", "POST", "/v1/policy/diff", "rules: [drop everything]\n")
    checked = done(agent, "POST", "/v1/policy", policy("drop in udp"), check=1)
    expect_equal((checked["applied"], checked["added"], checked["removed"]), (False, 1, 1), "check")
    expect_equal(done(agent, "GET", "/v1/rules"), before, "rules")


@test()
def explain_asks_the_program(lab):
    """explain tells the rule that decides, its words that fit, those that were passed and the default verdict, and neither
    counts nor changes anything"""
    host, _ = lab.hosts()
    agent = lab.agent(host)
    agent.wait_watched("w0")
    counted = add(agent, "count in tcp")["id"]
    dropped = add(agent, "drop in tcp from 198.51.100.0/24 to port 80,443")["id"]
    found = done(agent, "GET", "/v1/explain", packet="in tcp from 198.51.100.7 port 4000 to 10.1.0.1 port 80")
    expect_equal((found["verdict"], found["rule"]["id"], found["policy"]), ("drop", dropped, "host"), f"{found}")
    expect_equal(found["why"], ["in", "tcp", "from 198.51.100.0/24", "to port 80,443"], "why")
    expect_equal([r["id"] for r in found["passed"]], [counted], "passed")
    found = done(agent, "GET", "/v1/explain", packet="in udp from 198.51.100.7 port 4000 to 10.1.0.1 port 80")
    expect_equal((found["verdict"], "rule" in found, found["passed"]), ("accept", False, []), f"{found}")
    expect_equal([r["packets"] for r in rules(agent)], [0, 0], "packets counted")
    refused(agent, 400, "weir is not at interface 'w9'", "GET", "/v1/explain",
            packet="in on w9 tcp from 198.51.100.7 to 10.1.0.1 port 80")
    refused(agent, 400, "", "GET", "/v1/explain", packet="in tcp from nowhere")


@test()
def logged_packets_are_told(lab):
    """packets of rules with 'log', and those that a default verdict with log drops, are in the log with rule and reason, and in
    the feed as they come; those above the rate are counted"""
    host, peer = lab.hosts()
    agent = lab.agent(host, "interfaces: [w0]\nlog_packets: 100\n")
    agent.wait_watched("w0")
    logged = add(agent, "drop in udp to port 7 log")
    sender = udp_socket(peer, "10.1.0.2")
    sender.sendto(b"12345", ("10.1.0.1", 7))
    found = wait_for(lambda: done(agent, "GET", "/v1/log")["log"], 5, "a record")[0]
    expect_equal((found["rule"], found["action"], found["direction"], found["interface"], found["src"], found["dport"],
                  found["reason"], found["policy"]),
                 ({"id": logged["id"], "text": logged["text"]}, "drop", "in", "w0", "10.1.0.2", 7, "rule", "host"), "record")
    connection = UnixConnection(agent.socket, 10)
    connection.request("GET", "/v1/log/events?" + urllib.parse.urlencode({"filter": "udp to port 7"}))
    feed = connection.getresponse()
    sender.sendto(b"12345", ("10.1.0.1", 7))
    line = b""
    while not line.strip():
        line = feed.readline()
    expect_equal(json.loads(line)["rule"]["id"], logged["id"], "the feed")
    connection.close()
    apply(agent, "accept in icmp", head="default: {in: drop, log: on}\n")
    sender.sendto(b"12345", ("10.1.0.1", 7))
    found = wait_for(lambda: [r for r in done(agent, "GET", "/v1/log")["log"] if r["reason"] == "default"], 5, "a record")
    expect("rule" not in found[0], f"{found[0]}")
    for _ in range(3000):
        sender.sendto(b"12345", ("10.1.0.1", 7))
    answer = wait_for(lambda: (lambda a: a if a["logged"] + a["unlogged"] >= 3003 else None)(done(agent, "GET", "/v1/log")), 5,
                      "all packets to be accounted for")
    expect(answer["unlogged"] > 1000, f"{answer['logged']} logged, {answer['unlogged']} not")
    sender.close()


@each()
@variants("hook", "xdp", "tc")
def dropped_packets_are_told(lab, hook):
    """of what rules without 'log' drop at {hook} the log has some, and the record of the kernel's drop names the rule; a flood
    is told of no more than log_drops times a second, with log_drops 0 nothing is, and the rule counts each packet"""
    xdp = {"xdp": "native", "tc": "off"}[hook]
    host, peer = lab.hosts()
    agent = lab.agent(host, f"interfaces: [w0]\nxdp: {xdp}\nlog_drops: 5\n")
    agent.wait_watched("w0")
    number = add(agent, "drop in udp to port 9")["id"]
    wait_for(lambda: rules(agent)[0]["hook"] == hook, 10, f"the rule to be at {hook}")
    sender = udp_socket(peer, "10.1.0.2")
    start = time.monotonic()
    sender.sendto(b"12345", ("10.1.0.1", 9))
    told = wait_for(lambda: done(agent, "GET", "/v1/log")["log"], 5, "a record")[0]
    expect_equal((told["rule"]["id"], told["action"], told["hook"], told["direction"], told["src"], told["dport"], told["reason"],
                  told["length"]), (number, "drop", hook, "in", "10.1.0.2", 9, "rule", 47), "record")
    drop = wait_for(lambda: [d for d in done(agent, "GET", "/v1/drops")["recent"] if d.get("dport") == 9], 5, "the kernel's drop")[0]
    expect_equal((drop["rule"], drop["direction"], drop["interface"]), (number, "in", "w0"), f"{drop}")
    for _ in range(2999):
        sender.sendto(b"12345", ("10.1.0.1", 9))
    wait_for(lambda: rules(agent)[0]["packets"] == 3000, 5, "all to be counted")
    most = 16 + 5 * (time.monotonic() - start) * 1.25 + 2
    answer = done(agent, "GET", "/v1/log")
    expect(2 <= len(answer["log"]) <= most, f"{len(answer['log'])} records, at most {most}")
    expect_equal((answer["logged"], answer["unlogged"]), (0, 0), "of rules that log")
    with open(agent.config, "w", encoding="utf-8") as file:
        file.write(f"interfaces: [w0]\nxdp: {xdp}\nlog_drops: 0\n")
    agent.reload()
    before = len(done(agent, "GET", "/v1/log")["log"])
    for _ in range(100):
        sender.sendto(b"12345", ("10.1.0.1", 9))
    wait_for(lambda: rules(agent)[0]["packets"] == 3100, 5, "all to be counted")
    expect_equal(len(done(agent, "GET", "/v1/log")["log"]), before, "records with log_drops 0")
    sender.close()
