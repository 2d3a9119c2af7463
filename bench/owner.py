#!/usr/bin/python3
# SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
"""What knowing owners, sockets, drops and names costs: bench/owner.py BUILD_DIR [ROUNDS [PAIRS]]

One process on one CPU (bench/load.c) has both ends of connections that come and go, of datagrams with a call each, of a
TCP stream whose every packet passes the hook where it comes in (MTU 1500, no offloads; how many packets are one where
they leave is up to TCP and chance), and of requests and answers on one connection; all in one namespace, over loopback.
It is the same process all the time, and stands still while anything else changes.

In rounds (ROUNDS, 15; every other one the other way round) there is no weir at all; weir with all of that switched off
(it counts flows, as it always does); weir with all of it on.  Then, with weir switched off, programs come and go at the
tracepoints and cgroup hooks of sockets (bench/owner.c), in ROUNDS x 3 turns: none; programs that do nothing (the kernel
takes its time to call one, whatever it does); weir's.  That is most of what there is between on and off; the rest is in
the programs at the interface, and the agent's.  Turns of a quarter of a second leave less to chance than agents that
have to end and start.  Printed: medians; and of the differences of each round or turn the median, and between which two
it is with 95 %.  One end is half of both: a host pays that for a connection with another host.

Then wrk asks nginx for a small file, each on a CPU of its own: PAIRS (36) times with weir off and on, a second each, in
turns off, on, on, off.  Both go on for the two halves of a pair, with the same connections (wrk stands still while agents
end and start): where in memory a new process comes to lie is some percent more or less.  Printed: of the quotients of the
pairs the median, and between which two it is with 95 %: of the requests a second, and of the CPU time that nginx alone, and
both, take for a request; then what the agent takes.  The server has no idle time, so a share more of that is a share less
of requests; what others on the machine do in between is not in it.  Last the same in PAIRS x 3 turns, while programs come
and go at the hooks of sockets as above.
"""

import http.client
import json
import math
import os
import re
import shutil
import signal
import statistics
import subprocess
import sys
import time

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
sys.path.insert(0, os.path.join(ROOT, "tests/netns"))

from lab import Lab, wait_for  # pylint: disable=wrong-import-position,import-error

LOADS = {"connections": 2_000, "datagrams": 16_000, "stream": 40_000, "requests": 6_000}
BURSTS = 3  # of each load for a round, in turns
HOOKS = ("none", "empty", "weir")
TURNS = 3  # for a round
WRK_SECONDS = 1  # short: the more pairs, the closer together the bounds, and the less changes within a pair
TURN_SECONDS = 0.15
SETTLE_SECONDS = 1  # the first drop has the agent read the kernel's symbols, once: 0.1 s of a CPU
OFF = """interfaces: [lo]
owners: {enabled: off}
sockets: {enabled: off}
drops: {enabled: off}
names: off
"""
ON = "interfaces: [lo]\n"
CONFIGS = {"no weir": None, "off": OFF, "on": ON}
NGINX = """daemon off; worker_processes 1; worker_cpu_affinity 01; pid {dir}/nginx.pid; error_log {dir}/error.log;
events {{ worker_connections 512; }}
http {{ access_log off; keepalive_requests 100000000; client_body_temp_path {dir}/b; proxy_temp_path {dir}/p; fastcgi_temp_path {dir}/f;
  uwsgi_temp_path {dir}/u; scgi_temp_path {dir}/s;
  server {{ listen 127.0.0.1:8080; location / {{ return 200 "{text}"; }} location /status {{ stub_status; }} }} }}
"""
# title, load, parts that the figure is divided by
ROWS = (("connection, both ends", "connections", 1), ("connection, one end", "connections", 2),
        ("datagram, sent and received", "datagrams", 1), ("datagram, one end", "datagrams", 2),
        ("packet of a TCP stream", "stream", 1), ("request and answer", "requests", 1))


def answer(process, line):
    """What one of the bench's own programs says to a line."""
    process.stdin.write(f"{line}\n")
    said = process.stdout.readline()
    if not said:
        raise SystemExit(f"bench/owner: no answer to {line!r}")
    return said


def burst(load):
    return {name: float(answer(load, f"{name} {count}")) for name, count in LOADS.items()}


def bursts(load):
    """What it all takes now: of a few bursts, the median."""
    found = [burst(load) for _ in range(BURSTS)]
    return {name: statistics.median(one[name] for one in found) for name in LOADS}


def turns(figure, hooks, count):
    """Figures while programs come and go, none of them first in every third turn."""
    def with_programs(which):
        answer(hooks, which)
        return figure()

    return [{which: with_programs(which) for which in HOOKS[turn % 3:] + HOOKS[:turn % 3]} for turn in range(count)]


def on_cpu_ns(pid):
    """What all threads of a process have run, those that have ended, too."""
    return time.clock_gettime_ns(~pid << 3 | 2)  # as clock_getcpuclockid() makes it


def answered(host):
    """Requests that nginx has answered."""
    with host:
        connection = http.client.HTTPConnection("127.0.0.1", 8080, timeout=10)
        connection.request("GET", "/status")
        said = connection.getresponse().read().decode()
        connection.close()
    return int(re.search(r"requests\s+\d+ \d+ (\d+)", said).group(1))


def requests(host, worker, wrk, agent, seconds):
    """What a request costs: the worker of nginx, both, the agent, and (the reciprocal of how many there are) seconds."""
    def now():
        return answered(host), time.monotonic(), on_cpu_ns(worker), on_cpu_ns(wrk), on_cpu_ns(agent)

    before = now()
    time.sleep(seconds)
    count, took, nginx_ns, wrk_ns, agent_ns = (after - b for after, b in zip(now(), before))
    return {"nginx": nginx_ns / count, "both": (nginx_ns + wrk_ns) / count, "agent": agent_ns / count,
            "seconds": took / count}


def settled_requests(host, worker, wrk, agent):
    """The same of a wrk that stands still while agents end and start."""
    os.kill(wrk, signal.SIGCONT)
    answered(host)  # the end of that connection is a drop
    time.sleep(SETTLE_SECONDS)
    found = requests(host, worker, wrk, agent, WRK_SECONDS)
    os.kill(wrk, signal.SIGSTOP)
    return found


def start_wrk(lab, host):
    return lab.start(*host.command("taskset", "-c", "1", "wrk", "-t1", "-c32", "-d600s", "http://127.0.0.1:8080/"),
                     stdout=subprocess.DEVNULL)


def pair(lab, host, worker, order):
    """Figures of these configurations, one after the other, of the same wrk."""
    wrk = start_wrk(lab, host)
    found = {config: measure(lab, host, config, lambda agent: settled_requests(host, worker, wrk.pid, agent.pid))
             for config in order}
    wrk.kill()
    wrk.wait()
    return found


def http_turns(lab, host, worker, hooks, count):
    """Of a wrk that goes on."""
    def with_wrk(agent):
        wrk = start_wrk(lab, host)
        time.sleep(SETTLE_SECONDS)
        found = turns(lambda: requests(host, worker, wrk.pid, agent.pid, TURN_SECONDS), hooks, count)
        wrk.kill()
        wrk.wait()
        return found

    return measure(lab, host, "off", with_wrk)


def serve(lab, host):
    """Starts nginx; the pid of its worker."""
    directory = lab.path("nginx")
    os.makedirs(directory, exist_ok=True)
    os.chmod(directory, 0o777)
    with open(f"{directory}/nginx.conf", "w", encoding="ascii") as file:
        file.write(NGINX.format(dir=directory, text="x" * 1024))
    lab.start(*host.command("nginx", "-p", directory, "-c", f"{directory}/nginx.conf"))
    wait_for(lambda: subprocess.run(host.command("curl", "-so/dev/null", "http://127.0.0.1:8080/"), check=False)
             .returncode == 0, 10, "nginx answers")
    with open(f"{directory}/nginx.pid", encoding="ascii") as file:
        master = file.read().strip()
    with open(f"/proc/{master}/task/{master}/children", encoding="ascii") as file:
        return int(file.read())


def measure(lab, host, config, figure):
    """Figures with this configuration."""
    agent = lab.agent(host, CONFIGS[config]) if CONFIGS[config] else None
    if agent:
        agent.wait_watched("lo")
    found = figure(agent)
    if agent:
        agent.stop()
    time.sleep(0.2)
    return found


def bounded(values):
    """The median, and between which two it is with 95 %: ranks, by the sign test."""
    values = sorted(values)
    low = max(0, math.floor(len(values) / 2 - 0.98 * math.sqrt(len(values))) - 1)
    return statistics.median(values), values[low], values[-1 - low]


def differences(rounds, load, left, right, parts):
    """Of right - left, round by round."""
    return bounded((r[right][load] - r[left][load]) / parts for r in rounds)


def show(rounds, quick):
    print(f"medians of {len(rounds)} rounds and {len(quick)} turns, ns of CPU; loopback, one process on one CPU has both ends\n")
    print(f"{'':<28}" + "".join(f"{config:>9}" for config in CONFIGS)
          + f"   {'on - off (95 %)':<26}{'empty hooks (95 %)':<26}{'weir at the hooks (95 %)'}")
    for title, load, parts in ROWS:
        medians = [statistics.median(r[config][load] for r in rounds) / parts for config in CONFIGS]
        costs = (differences(rounds, load, "off", "on", parts), differences(quick, load, "none", "empty", parts),
                 differences(quick, load, "none", "weir", parts))
        print(f"{title:<28}" + "".join(f"{m:>9.0f}" for m in medians) + "   "
              + "".join(f"{cost:.1f} ({low:.1f} to {high:.1f})".ljust(26) for cost, low, high in costs).rstrip())


def show_http(pairs, left, right, what):
    print(f"\nnginx and wrk, {what + ':':<38}{left:>16}{right:>9}   {right} against {left} (95 %)")
    for title, figure in (("requests a second", "seconds"), ("CPU ns a request, nginx", "nginx"),
                          ("CPU ns a request, both", "both")):
        count = figure == "seconds"
        values = {config: statistics.median(p[config][figure] for p in pairs) for config in (left, right)}
        share, low, high = bounded(100 * ((p[left][figure] / p[right][figure] if count else p[right][figure] / p[left][figure])
                                          - 1) for p in pairs)
        print(f"{title:<52}" + "".join(f"{1 / v if count else v:>9.0f}" for v in values.values())
              + f"   {share:+.2f} % ({low:+.2f} to {high:+.2f})")


def others():
    """Tracing programs that are attached before the bench begins: what a tracepoint costs alone is paid with them."""
    return sum(p["type"] == "tracing" for p in json.loads(subprocess.check_output(["bpftool", "-j", "prog", "list"])))


def main():
    if len(sys.argv) < 2:
        sys.exit(f"usage: {sys.argv[0]} BUILD_DIR [ROUNDS [PAIRS]]")
    words = sys.argv[2:4]
    build, count = os.path.abspath(sys.argv[1]), int(words[0]) if words else 15
    pair_count = int(words[1]) if len(words) > 1 else 36
    if count == 1 or pair_count == 1:
        sys.exit("bench/owner: at least 2 rounds, and 2 pairs, or 0 to leave them out")
    there, lab = others(), Lab(build)
    try:
        host = lab.namespace("bench")
        host.ip("link", "set", "lo", "mtu", "1500")
        host.offload("lo", False)
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "bufsize": 1, "text": True}
        hooks = lab.start(*host.command(f"{build}/bench/bench-hooks"), stderr=None, **pipes)
        if count:
            load = lab.start(*host.command(f"{build}/bench/bench-load"), **pipes)
            show([{config: measure(lab, host, config, lambda _: bursts(load))
                   for config in (CONFIGS if turn % 2 else reversed(CONFIGS))} for turn in range(count)],
                 measure(lab, host, "off", lambda _: turns(lambda: burst(load), hooks, TURNS * count)))
            answer(hooks, "none")
            load.stdin.close()
            load.wait()
        if pair_count and not (shutil.which("nginx") and shutil.which("wrk")):
            print("\nnginx and wrk are not installed (tools/deps bench): the HTTP part was not run")
        elif pair_count:
            worker = serve(lab, host)
            pairs = [pair(lab, host, worker, ("off", "on") if turn % 2 else ("on", "off")) for turn in range(pair_count)]
            show_http(pairs, "off", "on", f"{pair_count} pairs of {WRK_SECONDS} s")
            agents = (statistics.median(p[config]["agent"] for p in pairs) for config in ("off", "on"))
            print(f"{'CPU ns a request, the agent':<52}" + "".join(f"{ns:>9.0f}" for ns in agents))
            quick = http_turns(lab, host, worker, hooks, TURNS * pair_count)
            show_http(quick, "none", "empty", f"{len(quick)} turns of {TURN_SECONDS} s")
            show_http(quick, "none", "weir", f"{len(quick)} turns of {TURN_SECONDS} s")
        hooks.stdin.close()
        hooks.wait()
    finally:
        lab.close()
    if there:
        print(f"\n{there} tracing programs of others were attached all the time: the cost of tracepoints is partly theirs")


if __name__ == "__main__":
    main()
