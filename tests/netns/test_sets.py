# SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
"""Sets: what is put into them, what ends, what the next agent finds."""

import ipaddress
import json
import random
import signal
import urllib.parse

from lab import expect, expect_equal, wait_for
from suite import test


def change(agent, what, body="", status=200, timeout=30, **parameters):
    """The last object of the answer; lines of progress come before it."""
    path = f"/v1/sets/{what}?" + urllib.parse.urlencode(parameters)
    got, text, _ = agent.request("POST", path, body=body, timeout=timeout)
    expect_equal(got, status, f"status of {path}: {text}")
    return [json.loads(line) for line in text.splitlines() if line.strip()][-1]


def sets(agent):
    return {entry["name"]: entry for entry in agent.get("/v1/sets")["sets"]}


def entries(agent, name):
    return [entry["entry"] for entry in agent.get("/v1/sets/show", name=name)["entries"]]


@test("sanitize")
def sets_hold_what_is_put_in(lab):
    """A set holds prefixes of both families or ports, each once, until they are removed; a range becomes prefixes; the
    other kind, a bad line, a set that is not there are refused and change nothing"""
    inside, _ = lab.hosts()
    agent = lab.agent(inside)
    answer = change(agent, "add", "10.1.0.0/16 # the lab\n\n2001:db8::/32\n10.1.0.0/16\n192.0.2.9-192.0.2.12\n", name="hosts")
    expect_equal((answer["entries"], answer["added"]), (5, 5), "entries")
    expect_equal(entries(agent, "hosts"), ["10.1.0.0/16", "192.0.2.9", "192.0.2.10/31", "192.0.2.12", "2001:db8::/32"],
                 "the set")
    change(agent, "add", "8000-8080\n22\n", name="ports")
    expect_equal(entries(agent, "ports"), ["22", "8000-8080"], "the set of ports")
    expect_equal({name: entry["kind"] for name, entry in sets(agent).items()}, {"hosts": "addresses", "ports": "ports"},
                 "kinds")

    error = change(agent, "add", "80\n", status=400, name="hosts")["error"]
    expect("holds addresses" in error["what"], error)
    error = change(agent, "add", "10.9.0.0/16\n10.0.0.1/33\n", status=400, name="hosts")["error"]
    expect_equal((error["line"], error["column"]), (2, 10), "place of the bad line")
    error = change(agent, "remove", "10.0.0.1\n", status=404, name="host")["error"]
    expect_equal(error["want"], "did you mean 'hosts'?", "what is suggested")
    error = change(agent, "add", "10.0.0.1\n", status=400, name="9lives")["error"]
    expect(error["what"], "no message about a bad name")
    expect_equal(len(entries(agent, "hosts")), 5, "entries after what was refused")
    expect_equal(change(agent, "add", "10.0.0.1/33\n10.9.0.0/16\n", name="hosts", skip_bad=1)["bad"], 1, "bad lines")

    expect_equal(change(agent, "remove", "192.0.2.9\n192.0.2.99\n", name="hosts")["removed"], 1, "removed")
    change(agent, "flush", name="ports")
    expect_equal(sets(agent)["ports"]["kind"], "empty", "kind of a set that was flushed")
    change(agent, "destroy", name="ports")
    expect_equal(list(sets(agent)), ["hosts"], "sets")


@test()
def entries_of_sets_end(lab):
    """An entry that was put in for some time is gone after it, and one that was given a new time stays"""
    inside, _ = lab.hosts()
    agent = lab.agent(inside)
    added = change(agent, "add", "10.0.0.1\n10.0.0.2\n10.0.0.3\n", name="short", **{"for": "2s"})["added"]
    expect_equal(added, 3, "entries at first")
    change(agent, "add", "10.0.0.2\n", name="short", **{"for": "1h"})
    change(agent, "add", "10.0.0.3\n", name="short")
    wait_for(lambda: entries(agent, "short") == ["10.0.0.2", "10.0.0.3"], 10, "the first entry to end")
    expect_equal(sets(agent)["short"]["expiring"], 1, "entries that will end")
    left = agent.get("/v1/sets/show", name="short")["entries"][0]["left"]
    expect(3500 < left <= 3600, f"{left} seconds left of an hour")


def random_list(count):
    numbers = random.Random(7)
    return sorted({f"{ipaddress.ip_address(numbers.getrandbits(32))}" for _ in range(count)})


@test(seconds=60)
def sets_outlive_the_agent(lab):
    """A list of 50,000 addresses is loaded in place of what was there, with progress; after kill -9 the next agent has
    it, with the time that was left to its entries"""
    inside, _ = lab.hosts()
    agent = lab.agent(inside)
    change(agent, "add", "10.0.0.1\n", name="list")
    change(agent, "add", "10.0.0.7\n", name="other", **{"for": "1h"})
    wanted = random_list(int(50000 * max(lab.scale, 0.2)))
    answer = change(agent, "load", "\n".join(wanted), name="list")
    expect_equal((answer["entries"], answer["before"]), (len(wanted), 1), "entries after and before")
    bad = change(agent, "load", "10.0.0.1\n" * 2000 + "10.0.0.x\n", name="list")["error"]
    expect_equal(bad["line"], 2001, "line of the error")
    expect_equal(sets(agent)["list"]["entries"], len(wanted), "entries after a load that was refused")
    agent.kill(signal.SIGKILL)
    agent.start()
    expect_equal(sorted(entries(agent, "list")), wanted, "the list")
    expect(agent.get("/v1/sets/show", name="other")["entries"][0]["left"] > 3400, "an entry lost its time")
    change(agent, "load", "10.0.0.1\n", name="list")
    expect_equal(entries(agent, "list"), ["10.0.0.1"], "a shorter list")
