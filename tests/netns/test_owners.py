# SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
"""Who: processes and their traffic."""
import json,sys
from lab import expect, expect_equal, tcp_transfer
from suite import test


@test("vm")
def flows_have_owners(lab):
    """each flow says which process has it"""
    host, peer = lab.hosts()
    agent = lab.agent(host)
    tcp_transfer(host, peer, "10.1.0.2", 8080, 1000, 1000)
    host.run("ping", "-c", 2, "-i", 0.2, "10.1.0.2")
    peer.run("ping", "-c", 2, "-i", 0.2, "10.1.0.1")
    for p in "/v1/processes", "/v1/owners?by=user", "/v1/owners?by=exe", "/v1/hosts":
        print(p, json.dumps(agent.get(p),indent=1), file=sys.stderr)
    assert 0
