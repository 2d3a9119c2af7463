#!/usr/bin/python3
# SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
"""What the agent costs at 100,000 live flows: bench/agent.py BUILD_DIR [SECONDS]

A generator in one namespace keeps 100,000 UDP flows alive over a veth pair, 50,000 packets a second; weir watches the
other end.  Measured over SECONDS (20) of steady state: the agent's CPU time as a share of one core, its resident memory,
and the kernel memory of its maps.  Once with nobody asking, once with a client that asks every second for what
`weir top` shows; with a flow cache that holds all flows, and with the default one, which has to push most of them
out into the ring all the time.
"""

import os
import sys
import time

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
sys.path.insert(0, os.path.join(ROOT, "tests/netns"))

from lab import Lab, wait_for  # pylint: disable=wrong-import-position,import-error

FLOWS = 100_000
RATE = 50_000


def cpu_seconds(pid):
    with open(f"/proc/{pid}/stat", encoding="ascii", errors="replace") as file:
        fields = file.read().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def resident(pid):
    with open(f"/proc/{pid}/statm", encoding="ascii") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGESIZE")


def share(agent, seconds, ask):
    """CPU share over some seconds, with or without a client."""
    began, cpu = time.monotonic(), cpu_seconds(agent.pid)
    while time.monotonic() - began < seconds:
        if ask:
            agent.get("/v1/flows", limit=50, sort="rate")
        time.sleep(1)
    return (cpu_seconds(agent.pid) - cpu) / (time.monotonic() - began)


def measure(build, name, lines, seconds):
    lab = Lab(build)
    try:
        host, peer = lab.hosts()
        config = f"interfaces: [w0]\nflows:\n  cache: {{ipv4: {lines}, ipv6: 1024}}\n"
        agent = lab.agent(host, config)
        agent.wait_watched("w0")
        duration = 2 * seconds + 30
        lab.start(*peer.command(lab.tool("blast"), "p0", 4, FLOWS, 1000, RATE * duration, RATE))
        wait_for(lambda: agent.get("/v1/status")["table"]["flows"] >= FLOWS, 20, "100,000 flows in the table", 0.5)
        time.sleep(12)  # what asking has set off is over
        before = agent.get("/v1/status")["losses"]
        time.sleep(11)
        alone = share(agent, seconds, False)
        asked = share(agent, seconds, True)
        status = agent.get("/v1/status")
        records = (status["losses"]["emitted"] - before["emitted"]) / (2 * seconds + 11)
        memory = status["memory"]
        kernel = memory["cache_bytes"] + memory["ring_bytes"]
        print(f"{name:<32} {100 * alone:6.2f} %  {100 * asked:6.2f} %  {resident(agent.pid) / 2**20:8.1f} MiB"
              f"  {kernel / 2**20:8.1f} MiB  {status['table']['flows']:>8}  {records:>9.0f}/s"
              f"  {status['losses']['lost']:>6}")
    finally:
        lab.close()


def main():
    if len(sys.argv) < 2:
        sys.exit(f"usage: {sys.argv[0]} BUILD_DIR [SECONDS]")
    seconds = int(sys.argv[2]) if len(sys.argv) > 2 else 20
    print(f"the agent at {FLOWS:,} live flows, {RATE:,} packets a second, {seconds} s each; CPU of one core\n"
          "resident: the agent's memory, its table included; kernel: flow cache and rings\n")
    print(f"{'':<32} {'nobody':>8}  {'asked':>8}  {'':>12}  {'':>12}  {'':>8}  {'':>11}")
    print(f"{'flow cache per CPU':<32} {'asks':>8}  {'each s':>8}  {'resident':>12}  {'kernel':>12}  {'flows':>8}"
          f"  {'records':>11}  {'lost':>6}")
    measure(os.path.abspath(sys.argv[1]), "131,072 lines: holds all", 131072, seconds)
    measure(os.path.abspath(sys.argv[1]), "32,768 lines: the default", 32768, seconds)


if __name__ == "__main__":
    main()
