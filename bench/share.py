#!/usr/bin/python3
# SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
"""What classes below one link owe each other: bench/share.py BUILD_DIR [OPTION VALUES]...

    --engine    auto,htb        that hold the link          auto,htb
    --rate      100             of the link, Mbit/s         100
    --rtt       0,2,20          ms, besides the path's own  0,20
    --flows     100             that take what they can     100
    --control   cubic,bbr       congestion control          cubic
    --rounds    7                                           7

Below the link there is a class with a guarantee of two fifths of it, one of a higher priority, and what is in no class:
--flows TCP streams that do not end.  A probe in the higher class asks for 200 bytes every 10 ms, first alone, then beside
them.  Then, --rounds times, a stream with the guarantee comes for three seconds and goes.  Printed are

    added       what the streams add to the probe's round trip, ms: to the median and to the 99th percentile
    guarantee   what the guaranteed stream has of it from its second second on: the median round, and the worst
    returned    ms from its first packet until it has 95 % of it, for 50 ms at least: the median round, and the worst
    borrowed    ms from its last packet until the others have 95 % of the link, for 50 ms at least: the same

all of it as the stage between the two hosts sees it (bench/shape.c): headers included, and what TCP takes to begin is in
it.  More rates than the machine can move say nothing: 1000 Mbit/s with 100 streams is too much for two cores.
"""

import itertools
import os
import statistics
import subprocess
import sys
import time

from shape import FAR, Course, Lab, options_given, wait_for

OPTIONS = {"--engine": "auto,htb", "--rate": "100", "--rtt": "0,20", "--flows": "100", "--control": "cubic", "--rounds": "7"}
PORTS = {"others": 5001, "probe": 5002, "guaranteed": 5003}
WINDOW = 0.05
STAYS = 3
OWN, OTHERS = 1, 2  # columns: bytes so far, behind the time
PAUSE = 1.5


def ask(course, seconds):
    """Milliseconds: median, 99th percentile."""
    asks = course.start(course.near, "ask", FAR, PORTS["probe"], seconds, 10, 200, stdout=subprocess.PIPE, text=True)
    return [float(word) / 1e3 for word in asks.communicate()[0].split()[1:3]]


def bytes_at(counts, column, moment):
    """What had passed at a time: between two lines, its part."""
    before = [line for line in counts if line[0] <= moment] or counts[:1]
    after = next((line for line in counts if line[0] > moment), before[-1])
    first, last = before[-1], after
    part = (moment - first[0]) / (last[0] - first[0]) if last[0] > first[0] else 0
    return first[column] + part * (last[column] - first[column])


def rate(counts, column, begin, end):
    """Mbit/s."""
    return (bytes_at(counts, column, end) - bytes_at(counts, column, begin)) * 8e-6 / (end - begin)


def until(counts, column, begin, least):
    """Seconds from a time until the rate is there, for a window at least; None: never."""
    moment = begin
    while moment + WINDOW <= counts[-1][0]:
        if rate(counts, column, moment, moment + WINDOW) >= least:
            return moment - begin
        moment += 0.005
    return None


def rounds_of(counts, starts, link):
    """Of each round: part of the guarantee, seconds until it is there, seconds until the others have the link."""
    guarantee, found = 0.4 * link, []
    for start in starts:
        there = [line for line in counts if start <= line[0] <= start + STAYS + PAUSE]
        moved = [b[0] for a, b in zip(there, there[1:]) if b[OWN] > a[OWN]]
        found.append((rate(there, OWN, moved[0] + 1, moved[-1] - 0.1) / guarantee, until(there, OWN, moved[0], 0.95 * guarantee),
                      until(there, OTHERS, moved[-1], 0.95 * link)))
    return found


def cell(course, engine, link, rtt, flows, control, count):
    course.post("/v1/rules/flush")
    course.post("/v1/rules/add", text=f"limit out on w0 to {link}mbit" + ("" if engine == "auto" else f" engine {engine}"))
    course.post("/v1/rules/add", text=f"guarantee out tcp to port {PORTS['guaranteed']} {0.4 * link:g}mbit")
    course.post("/v1/rules/add", text=f"guarantee out tcp to port {PORTS['probe']} 1mbit priority high")
    said, starts = course.lab.path("share.log"), []
    with open(said, "w", encoding="ascii") as log:
        servers = [course.start(course.stage, "stage", "n0", "f0", rtt / 2, 10, PORTS["guaranteed"], stdout=log)]
        servers += [course.start(course.far, "receive", PORTS[name]) for name in ("others", "guaranteed")]
        servers.append(course.start(course.far, "answer", PORTS["probe"]))
        wait_for(lambda: os.path.getsize(said), 5, "the stage counts")
        idle = ask(course, 2)
        seconds = 3 + 5 + count * (STAYS + PAUSE) + 1
        others = course.start(course.near, "send", FAR, PORTS["others"], flows, control, seconds)
        time.sleep(3)
        loaded = ask(course, 5)
        for _ in range(count):
            starts.append(time.monotonic())
            course.start(course.near, "send", FAR, PORTS["guaranteed"], 1, control, STAYS).wait()
            time.sleep(PAUSE)
        held = course.engine()
        others.wait()
        for server in servers:
            server.terminate()
            server.wait()
    with open(said, encoding="ascii") as log:
        lines = [tuple(map(float, line.split())) for line in log if len(line.split()) == 5]
    counts = [(moment, own, near - own) for moment, near, _, _, own in lines]
    return held, [b - a for a, b in zip(idle, loaded)], rounds_of(counts, starts, link), lines[-1][3]


def both(values, scale, digits, worst=max):
    there = [value for value in values if value is not None]
    if len(there) < len(values):
        return f"{'never in ' + str(len(values) - len(there)):>16}"
    return f"{statistics.median(there) * scale:>8.{digits}f}{worst(there) * scale:>8.{digits}f}"


def main():
    given = options_given(OPTIONS, __doc__)
    lists = [given[name].split(",") for name in list(OPTIONS)[:5]]
    print(f"{'engine':<8}{'held by':<9}{'Mbit/s':>7}{'RTT ms':>7}{'flows':>6} {'control':<8}{'added p50':>10}{'p99':>8}"
          f"   {'guarantee':>10}{'least':>8}{'returned':>10}{'most':>6}{'borrowed':>10}{'most':>6}")
    lab = Lab(os.path.abspath(sys.argv[1]))
    try:
        course = Course(lab)
        for engine, link, rtt, flows, control in itertools.product(*lists):
            held, added, found, lost = cell(course, engine, int(link), float(rtt), int(flows), control, int(given["--rounds"]))
            parts, returned, borrowed = zip(*found)
            print(f"{engine:<8}{held:<9}{link:>7}{rtt:>7}{flows:>6} {control:<8}{added[0]:>10.2f}{added[1]:>8.2f}  "
                  f"  {both(parts, 1, 3, min)}{both(returned, 1e3, 0)}{both(borrowed, 1e3, 0)}"
                  + (f"   (the stage lost {lost:.0f} frames)" if lost else ""), flush=True)
    finally:
        lab.close()


if __name__ == "__main__":
    main()
