# SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
"""The audit trail: who connected where, who listened, who changed the policy, and that it outlives the agent."""

import os
import signal
import socket

from lab import expect, expect_equal, udp_socket, wait_for
from suite import test
from test_sockets import LINGER_RESET, client, connection, listener, one


def trail(agent, **parameters):
    return agent.get("/v1/audit", **parameters)["audit"]


def short(entry):
    return (entry["kind"], entry["proto"], entry.get("lport") if entry["kind"] != "connect" else entry["rport"],
            entry.get("error"), entry["owner"].get("pid"))


@test("vm-6.1")
def the_trail_says_who_did_what(lab):
    """connects, failed ones too, accepts, listeners and bound UDP sockets are in the trail with process and user"""
    host, peer = lab.hosts()
    agent = lab.agent(host)
    near, far, listening = connection(host, "fd00:1::1", 8080, peer)
    with client(host, "10.1.0.2") as refused:
        refused.connect_ex(("10.1.0.2", 80))
    with listener(peer, "10.1.0.2", 9090), client(host, "10.1.0.2") as out, udp_socket(host, "10.1.0.1", 5000):
        out.connect(("10.1.0.2", 9090))
        near.send(b"x")
        me = os.getpid()
        entries = wait_for(lambda: len(found := trail(agent)) >= 5 and found, 5, "five entries")
        expect_equal({short(e) for e in entries},
                     {("listen", "tcp", 8080, None, me), ("accept", "tcp", 8080, None, me),
                      ("connect", "tcp", 80, "refused", me), ("connect", "tcp", 9090, None, me),
                      ("bind", "udp", 5000, None, me)}, "the trail")
        expect_equal({e["owner"]["user"] for e in entries}, {"root"}, "users")
        expect_equal([short(e)[2] for e in trail(agent, filter="out tcp by user root to port 80-9090")], [80, 9090], "MATCH")
        expect_equal(len(trail(agent, limit=2)), 2, "limit")
        expect_equal(trail(agent, filter="by pid 1"), [], "somebody else")
    for sock in (near, far, listening):
        sock.close()


@test()
def changes_name_their_author(lab):
    """a reload is in the trail with the process and user that asked for it; whoever follows hears of it at once"""
    host, _ = lab.hosts()
    agent = lab.agent(host)
    path = lab.path("followed")
    with open(path, "w", encoding="utf-8") as out:
        follower = host.start(lab.weir, "audit", "--follow", "--run-dir", agent.run_dir, stdout=out)

    def followed():
        with open(path, encoding="utf-8") as file:
            return file.read()

    wait_for(lambda: agent.weir("reload").returncode == 0 and "reload of" in followed(), 10, "the follower to hear")
    follower.send_signal(signal.SIGINT)
    expect_equal(follower.wait(5), 0, "exit status")
    agent.reload()  # by SIGHUP
    entries = [e for e in trail(agent) if e["kind"] == "change"]
    expect("owner" not in entries[-1] and "SIGHUP" in entries[-1]["what"], f"the signal: {entries[-1]}")
    expect_equal((entries[0]["owner"]["command"], entries[0]["owner"]["uid"], entries[0]["owner"]["user"]),
                 ("weir", 0, "root"), "the author")
    expect(agent.config in entries[0]["what"], f"what: {entries[0]}")
    text = agent.weir("audit").stdout
    expect(text.splitlines()[0].split()[:3] == ["TIME", "KIND", "OWNER"] and "reload of" in text, text)
    expect_equal(agent.weir("audit", "tcp").stdout, "nothing in the trail\n", "changes are no packets")


@test()
def the_trail_outlives_the_agent(lab):
    """the trail is bounded, does not let connections push out changes, and outlives kill -9 of the agent"""
    host, peer = lab.hosts()
    agent = lab.agent(host, "interfaces: [w0]\naudit: {entries: 1024}\n")
    agent.weir("reload")
    count = 1100

    with listener(host, "10.1.0.1", 8080) as listening:
        for _ in range(count):
            far = client(peer, "10.1.0.1")
            far.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, LINGER_RESET)
            far.connect(("10.1.0.1", 8080))
            near, _ = listening.accept()
            far.close()
            near.close()
        answer = agent.get("/v1/audit", limit=5000)
        kinds = [e["kind"] for e in answer["audit"]]
        expect_equal((kinds.count("accept"), kinds.count("change"), kinds[0]), (1024, 1, "change"), "the trail")
        expect_equal((answer["lost"], answer["forgotten"]), (0, count + 1 - 1024), "what is missing")
        agent.stop(signal.SIGKILL)
        with client(peer, "10.1.0.1") as far:
            far.connect(("10.1.0.1", 8080))
            listening.accept()[0].close()
            port = far.getsockname()[1]
        agent.start()
        after = wait_for(lambda: (found := agent.get("/v1/audit", limit=5000)["audit"])[-1].get("rport") == port and found,
                         5, "the connection from meanwhile")
    expect_equal(after[:-1], answer["audit"][:1] + answer["audit"][2:], "the trail from before")
    expect_equal(one([e for e in after if e["kind"] == "change"], "changes")["owner"]["command"], "weir", "its author")


@test()
def the_trail_can_be_off(lab):
    """with audit.entries: 0 there is no trail, and who asks for it is told why"""
    host, _ = lab.hosts()
    agent = lab.agent(host, "interfaces: [w0]\naudit: {entries: 0}\n")
    status, body, _ = agent.request("GET", "/v1/audit")
    expect(status == 400 and "audit.entries above 0" in body, f"{status} {body}")
    agent.weir("reload")
    done = agent.weir("audit", check=False)
    expect_equal((done.returncode, "there is no audit trail" in done.stderr), (1, True), "weir audit")
