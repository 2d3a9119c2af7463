# SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
"""Bad input: each gets one clear line and a non-zero status, and what was running keeps running."""

import contextlib
import json
import os
import random
import signal
import socket
import stat
import time

from lab import Skip, UnixConnection, expect, expect_equal, need, run, udp_send, wait_for
from suite import each, test, variants


def expect_refused(lab, agent, *words, prefix=None):
    """weir run with this agent's configuration says what is wrong, ends, and leaves nothing."""
    agent.prefix = list(prefix or [])
    agent.launch()
    wait_for(lambda: not agent.alive() or "weir: ready" in agent.output(), 15, "weir run to end")
    expect(not agent.alive(), f"weir run accepted it: {agent.errors()}")
    status, said = agent.process.returncode, agent.errors()
    expect(status > 0, f"exit status {status}: {said}")
    lines = said.strip().splitlines()
    # the error's line, and at most the line of the file and the caret below it
    expect(1 <= len(lines) <= 3, f"{len(lines)} lines: {said!r}")
    for word in words:
        expect(word in said, f"'{word}' is not in {said!r}")
    left = lab.find_left()
    expect(not left, "left behind: " + ", ".join(left))
    return said


BAD_CONFIGS = {
    "unknown key": ("interfaes: auto\n", (":1:1:", "interfaes", "interfaces")),
    "unknown nested key": ("flows:\n  cache: {ipv4: 1024, ipv5: 64}\n", (":2:", "ipv5", "ipv")),
    "malformed YAML": ("interfaces: [w0\nflows: {\n", (":",)),
    "not a power of two": ("flows: {cache: {ipv4: 1000}}\n", (":1:", "1000", "power of two")),
    "cache too large": ("flows: {cache: {ipv4: 8388608}}\n", (":1:", "8388608")),
    "table too small": ("flows: {table: 5}\n", (":1:", "1024")),
    "table too large": ("flows:\n  table: 99999999999\n", (":2:",)),
    "ring too small": ("flows: {ring: 1kib}\n", (":1:", "64")),
    "idle too short": ("flows: {idle: 1ms}\n", (":1:", "1s")),
    "a duration without sense": ("flows: {idle: soon}\n", (":1:", "soon")),
    "a list where a word belongs": ("log: [info]\n", (":1:",)),
    "unknown log level": ("log: loud\n", (":1:", "loud")),
    "a mode that is none": ("api: {mode: \"rw\"}\n", (":1:", "rw")),
    "an interface name that cannot be": ("interfaces: [this-name-is-too-long]\n", (":1:", "this-name-is-too-long")),
    "a key twice": ("log: info\nlog: debug\n", (":2:", "log")),
    "metrics nowhere": ("metrics: {listen: nowhere}\n", (":1:", "nowhere")),
    "a group that is none": ("interfaces: [w0]\napi: {group: no-such-group}\n", ("no-such-group",)),
}


@each()
@variants("what", *BAD_CONFIGS)
def configuration_is_refused(lab, what):
    """a configuration with {what} is refused with file, line, what is wrong and what would be right"""
    text, words = BAD_CONFIGS[what]
    host, _ = lab.hosts()
    agent = lab.prepare(host, text)
    if what != "a group that is none":  # only the agent, not the file's reader, knows the groups
        words = (*words, os.path.basename(agent.config))
    expect_refused(lab, agent, *words)
    expect(not os.path.exists(agent.run_dir), "the run directory was made for nothing")


@test()
def configuration_that_cannot_be_read(lab):
    """a configuration file that is not there, is a directory, or is binary is refused by name"""
    host, _ = lab.hosts()
    agent = lab.prepare(host)
    for path in (lab.path("nowhere.yaml"), lab.directory, lab.write("binary.yaml", bytes(range(256)) * 4)):
        agent.config = path
        expect_refused(lab, agent, os.path.basename(path))


@each(vm="root without capabilities")
@variants("who", "root without capabilities", "nobody")
def without_privileges(lab, who):
    """{who} gets told what is missing"""
    host, _ = lab.hosts()
    need("setpriv")
    agent = lab.prepare(host)
    os.mkdir(agent.run_dir)
    os.chmod(agent.run_dir, 0o777)
    if who == "nobody":
        prefix = ["setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups"]
    else:
        prefix = ["setpriv", "--bounding-set", "-all", "--inh-caps", "-all"]
    said = expect_refused(lab, agent, prefix=prefix)
    expect(any(word in said for word in ("root", "CAP_", "privilege")), f"it does not say what is missing: {said!r}")


@test()
def full_disk_under_the_run_directory(lab):
    """a full disk under the run directory is told in one line; nothing is left"""
    host, _ = lab.hosts()
    full = lab.path("full")
    os.mkdir(full)
    run("mount", "-t", "tmpfs", "-o", "size=4k,nr_inodes=2", "none", full)
    lab.on_close(lambda: run("umount", "-l", full, check=False))
    with open(os.path.join(full, "filler"), "wb") as file:
        file.write(bytes(4096))
    agent = lab.prepare(host, run_dir="full/run")
    said = expect_refused_on_mount(lab, agent)
    expect("full" in said and "No space left" in said, f"it said {said!r}")


def expect_refused_on_mount(lab, agent):
    """As expect_refused, where the lab itself mounted something."""
    agent.launch()
    wait_for(lambda: not agent.alive() or "weir: ready" in agent.output(), 15, "weir run to end")
    expect(not agent.alive() and agent.process.returncode > 0, f"weir run accepted it: {agent.errors()}")
    expect_equal(len(agent.errors().strip().splitlines()), 1, f"lines on standard error ({agent.errors()!r})")
    expect(not os.path.exists(agent.run_dir) or not os.listdir(agent.run_dir), "files are left")
    run("umount", "-l", os.path.dirname(agent.run_dir))
    return agent.errors()


@test()
def disk_that_fills_up_later(lab):
    """with a run directory on a disk with room for its few files only, weir starts, works and adopts"""
    host, peer = lab.hosts()
    small = lab.path("small")
    os.mkdir(small)
    run("mount", "-t", "tmpfs", "-o", "size=64k", "none", small)
    lab.on_close(lambda: run("umount", "-l", small, check=False))
    agent = lab.agent(host, run_dir="small/run")
    try:
        with open(os.path.join(small, "filler"), "wb", buffering=0) as file:
            while True:
                file.write(bytes(4096))
    except OSError:
        pass
    udp_send(host, peer, "10.1.0.1", "10.1.0.2", 53, 3, 100)
    expect_equal([f["packets"] for f in agent.flows("out udp")], [3], "packets on a full disk")
    agent.stop(signal.SIGKILL)
    agent.start()
    expect_equal([f["packets"] for f in agent.flows("out udp")], [3], "packets after adoption on a full disk")
    expect_equal(agent.stop(signal.SIGINT), 0, "exit status")
    expect_equal(os.listdir(small), ["filler"], "files")
    run("umount", "-l", small)


@test()
def stale_socket_is_replaced(lab):
    """the socket and lock of an agent that died are no obstacle"""
    host, _ = lab.hosts()
    agent = lab.prepare(host)
    os.mkdir(agent.run_dir)
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as stale:
        stale.bind(agent.socket)
    with open(os.path.join(agent.run_dir, "lock"), "w", encoding="ascii"):
        pass
    agent.start()
    agent.losses()


@test()
def file_in_the_way_of_the_socket(lab):
    """a plain file where the socket belongs is not removed but named"""
    host, _ = lab.hosts()
    agent = lab.prepare(host)
    os.mkdir(agent.run_dir)
    with open(agent.socket, "w", encoding="ascii") as file:
        file.write("mine")
    agent.launch()
    expect(agent.process.wait(15) > 0, "weir run ended with status 0")
    expect(agent.socket in agent.errors(), f"it said {agent.errors()!r}")
    with open(agent.socket, encoding="ascii") as file:
        expect_equal(file.read(), "mine", "the file's content")
    os.unlink(agent.socket)


@test()
def unknown_arguments_are_refused(lab):
    """unknown options, commands and words get one line, status not zero, and the nearest known one"""
    host, _ = lab.hosts()
    agent = lab.agent(host)
    for words, hint in ((["flwos"], "flows"), (["run", "--confg", "x"], "--config"), (["flows", "tpc"], "tcp"),
                        (["flows", "--sort", "bites"], "bytes"), (["hosts", "from", "10.0.0.0/33"], "10.0.0.0/33"),
                        (["flows", "-n", "many"], "many"), (["check"], "one file")):
        done = host.run(lab.weir, *words, *([] if words[0] in ("flwos", "run", "check") else
                                            ["--run-dir", agent.run_dir]), check=False)
        expect(done.returncode > 0, f"weir {' '.join(words)}: exit status {done.returncode}")
        expect(hint in done.stderr, f"weir {' '.join(words)}: '{hint}' is not in {done.stderr!r}")
        expect(len(done.stderr.strip().splitlines()) <= 3, f"weir {' '.join(words)} said {done.stderr!r}")
        expect(not done.stdout, f"weir {' '.join(words)} wrote to standard output: {done.stdout!r}")


@test()
def client_without_agent(lab):
    """a client command without an agent names the socket it tried, in one line"""
    host, _ = lab.hosts()
    agent = lab.prepare(host)
    for words in (["flows"], ["status", "--json"], ["top", "--once"], ["metrics"]):
        done = agent.weir(*words, check=False)
        expect(done.returncode > 0, f"weir {' '.join(words)}: exit status {done.returncode}")
        expect_equal(len(done.stderr.strip().splitlines()), 1, f"lines of weir {' '.join(words)} ({done.stderr!r})")
        expect(agent.run_dir in done.stderr, f"the run directory is not named: {done.stderr!r}")


@test()
def dead_socket_is_named(lab):
    """a client command on the socket of a killed agent says that nobody answers"""
    host, _ = lab.hosts()
    agent = lab.agent(host)
    agent.stop(signal.SIGKILL)
    done = agent.weir("status", check=False)
    expect(done.returncode > 0, "exit status 0")
    expect_equal(len(done.stderr.strip().splitlines()), 1, f"lines ({done.stderr!r})")


# ------------------------------------------------------------------------------------------------ clients


def still_answers(agent, seconds=5):
    began = time.monotonic()
    agent.get("/v1/status")
    took = time.monotonic() - began
    expect(took < seconds, f"an answer took {took:.1f} s")


def connect(agent):
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    sock.settimeout(5)
    sock.connect(agent.socket)
    return sock


@test("sanitize")
def garbage_from_a_client(lab):
    """clients that send garbage get an error or are cut off; the agent answers others as ever"""
    host, _ = lab.hosts()
    agent = lab.agent(host)
    generator = random.Random(1)
    pieces = [b"", b"\0" * 100, b"GET", b"GET \r\n\r\n", b"GET / HTTP/9.9\r\n\r\n", b"\r\n" * 1000,
              b"GET /v1/flows?filter=%zz HTTP/1.1\r\n\r\n", b"GET /v1/flows?=&&&== HTTP/1.1\r\nHost: x\r\n\r\n",
              b"POST /v1/reload HTTP/1.1\r\nContent-Length: -5\r\n\r\n",
              b"POST /v1/reload HTTP/1.1\r\nContent-Length: 99999999999999999999\r\n\r\n",
              b"GET /v1/status HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
              b"GET /../../etc/passwd HTTP/1.1\r\nHost: weir\r\n\r\n",
              b"GET http://[::1/v1/status HTTP/1.1\r\n\r\n", b"DELETE /v1/flows HTTP/1.1\r\nHost: weir\r\n\r\n"]
    pieces += [generator.randbytes(generator.randrange(1, 5000)) for _ in range(60)]
    for piece in pieces:
        with connect(agent) as sock:
            try:
                sock.sendall(piece)
                sock.shutdown(socket.SHUT_WR)
                while sock.recv(65536):
                    pass
            except (BrokenPipeError, ConnectionResetError):
                pass
    still_answers(agent)
    expect(agent.alive(), "the agent has died")


@test("sanitize")
def clients_that_go_away(lab):
    """clients that go away in mid-request or in mid-answer leave nothing behind"""
    host, peer = lab.hosts()
    agent = lab.agent(host)
    peer.run(lab.tool("blast"), "p0", 4, 20000, 1000, 20000, 0)  # an answer of megabytes
    files = len(os.listdir(f"/proc/{agent.pid}/fd"))
    for number in range(100):
        sock = connect(agent)
        if number % 2:
            sock.sendall(b"GET /v1/flows HTTP/1.1\r\nHost: weir\r\n\r\n")
            if number % 4 == 1:
                sock.recv(1000)
        else:
            sock.sendall(b"GET /v1/sta")
        sock.close()
    still_answers(agent)
    wait_for(lambda: len(os.listdir(f"/proc/{agent.pid}/fd")) <= files + 1, 5, "descriptors to be closed")


@test("sanitize")
def slow_clients_block_nobody(lab):
    """clients that are slow to ask or slow to read hold up nobody else"""
    host, peer = lab.hosts()
    agent = lab.agent(host)
    peer.run(lab.tool("blast"), "p0", 4, 20000, 1000, 20000, 0)
    slow = []
    for number in range(100):
        sock = connect(agent)
        sock.sendall(b"GET /v1/flows HTTP/1.1\r\nHost: weir\r\n\r\n" if number % 2 else b"GET /v1/flo")
        slow.append(sock)
    for _ in range(3):
        still_answers(agent)
    # one that is slow but not dead gets its whole answer
    slow[1].settimeout(10)
    data = b""
    while not data.endswith(b"0\r\n\r\n"):
        piece = slow[1].recv(1 << 20)
        expect(piece, "the answer to a slow client ended early")
        data += piece
    for sock in slow:
        sock.close()


def answer_to(agent, head, filler=b"", times=0, connection=None):
    """The first bytes of the answer to a request that may be refused before it was sent whole; on a connection that is
    used again the whole answer, if it is a good one."""
    with contextlib.nullcontext(connection) if connection else connect(agent) as sock:
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            sock.sendall(head)
            for _ in range(times):
                sock.sendall(filler * 65536)
        answer = b""
        with contextlib.suppress(ConnectionResetError):
            answer = sock.recv(4096)
            while connection and b" 200 OK" in answer and not answer.endswith((b"}\n", b"\r\n0\r\n\r\n")):
                answer += sock.recv(4096)
        return answer


@test("sanitize")
def huge_requests_are_refused(lab):
    """a request line, header or body without end is refused and costs no memory"""
    host, _ = lab.hosts()
    agent = lab.agent(host)
    chunks = b"Transfer-Encoding: chunked\r\n\r\n" + b"10000\r\n" + b"e" * 65536 + b"\r\n1\r\ne\r\n"
    for head, filler, times in ((b"GET /v1/flows?filter=", b"a", 200), (b"GET /v1/status HTTP/1.1\r\nX: ", b"b", 200),
                                (b"POST /v1/reload HTTP/1.1\r\nContent-Length: 50000000\r\n\r\n", b"c", 200),
                                (b"POST /v1/reload HTTP/1.1\r\nContent-Length: 131072\r\n\r\n", b"d", 2),
                                (b"POST /v1/reload HTTP/1.1\r\n" + chunks, b"", 0),
                                (b"POST /v1/policy/save HTTP/1.1\r\nContent-Length: 65537\r\n\r\n", b"f", 1),
                                (b"GET /v1/policy HTTP/1.1\r\nContent-Length: 65537\r\n\r\n", b"g", 1),
                                (b"POST /v1/policy HTTP/1.1\r\nContent-Length: 67108865\r\n\r\n", b"h", 200)):
        answer = answer_to(agent, head, filler, times)
        expect(answer.split()[1:2] in ([b"400"], [b"413"], [b"414"]), f"answer to {head[:80]!r}…: {answer[:80]!r}")
        expect(b"Length" not in head and not head.startswith(b"POST") or answer.split()[1] == b"413",
               f"answer to a body: {answer[:80]!r}")
    with open(f"/proc/{agent.pid}/status", encoding="ascii") as file:
        resident = next(int(line.split()[1]) for line in file if line.startswith("VmHWM"))
    expect(resident < 200_000, f"the agent needed {resident} kB")
    still_answers(agent)


@test("sanitize")
def lists_may_be_long(lab):
    """64 KiB are enough for a request, 64 MiB for one with lists; each request has its own, also behind another on its
    connection, and also if its first line comes in pieces; somebody who may not change anything gets 64 KiB"""
    host, _ = lab.hosts()
    agent = lab.agent(host, "interfaces: [w0]\napi: {mode: \"0666\"}\n")

    def post(path, size):
        return f"POST {path} HTTP/1.1\r\nHost: weir\r\nContent-Length: {size}\r\n\r\n".encode()

    def status(head, filler=b"\n", times=0, connection=None):
        return int(answer_to(agent, head, filler, times, connection).split()[1])

    expect_equal(status(post("/v1/reload", 65536), b" ", 1), 200, "a body of 64 KiB")
    expect_equal(status(post("/v1/reload", 65537), b" ", 2), 413, "a byte more")
    for path in ("/v1/sets/load?name=long", "/v1/sets/add?name=long", "/v1/sets/remove?name=long", "/v1/policy",
                 "/v1/policy/diff"):
        expect(status(post(path, 2 << 16), b"#" * 99 + b"\n", 1) != 413, f"128 KiB for {path}")
    with connect(agent) as sock:
        expect_equal(status(post("/v1/reload", 0), connection=sock), 200, "the first request of a connection")
        for piece in (b"PO", b"ST /v1/sets/lo", b"ad?name=long HT", b"TP/1.1\r", b"\nContent-Le"):
            sock.sendall(piece)
            agent.settle()
        rest = f"ngth: {2 << 16}\r\n\r\n".encode()
        expect_equal(status(rest, b"\n", 2, connection=sock), 200, "a list behind it")
        expect_equal(status(post("/v1/reload", 65537), b" ", 2, connection=sock), 413, "no list behind a list")
    with connect(agent) as sock:
        both = post("/v1/reload", 0) + post("/v1/sets/load?name=long", 2 << 16)
        sock.sendall(both + b"\n" * (2 << 16))
        said = b""
        while said.count(b"HTTP/1.1 200") < 2:
            piece = sock.recv(65536)
            expect(piece, f"two requests at once: {said!r}")
            said += piece
    done = host.run("setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups", "curl", "-s", "-o",
                    "/dev/null", "-w", "%{http_code}", "--unix-socket", agent.socket, "--data-binary", "@-",
                    "http://weir/v1/policy", input=" " * 65537, check=False)
    expect_equal(done.stdout, "413", "a list of nobody's")


@test()
def a_filter_that_is_wrong(lab):
    """a filter that cannot be read is an error with the column where reading stopped"""
    host, _ = lab.hosts()
    agent = lab.agent(host)
    for text, column in (("tcp to port htps", 13), ("tpc", 1), ("from 10.0.0.1/8", 6), ("in out", 4),
                         ("to port 70000", 9), ("from", None), ("flags syn,fyn", None), ("port 5-1", None)):
        status, body, _ = agent.request("GET", "/v1/flows?filter=" + text.replace(" ", "%20"))
        expect_equal(status, 400, f"status for '{text}'")
        error = json.loads(body)["error"]
        expect(error["what"] and error["text"] == text, f"error for '{text}': {error}")
        if column:
            expect_equal(error["column"], column, f"column for '{text}'")
        else:
            expect(1 <= error["column"] <= len(text) + 1, f"column for '{text}': {error}")
    expect_equal(error_want(agent, "tcp to port htps"), True, "htps has a hint")


def error_want(agent, text):
    body = agent.request("GET", "/v1/flows?filter=" + text.replace(" ", "%20"))[1]
    return bool(json.loads(body)["error"].get("want"))


# ------------------------------------------------------------------------------------------------ reloading


@test("sanitize")
def reload_takes_what_is_new(lab):
    """after SIGHUP and after POST /v1/reload the new configuration holds; the flows stay"""
    host, peer = lab.hosts()
    lab.pair(host, "w1", peer, "p1", number=2)
    agent = lab.agent(host, "interfaces: [w0]\n")
    udp_send(host, peer, "10.1.0.1", "10.1.0.2", 53, 3, 100)

    def configure(text):
        with open(agent.config, "w", encoding="ascii") as file:
            file.write(text)

    configure("interfaces: [w0, w1]\n")
    agent.reload()
    agent.wait_watched("w1")
    udp_send(host, peer, "10.2.0.1", "10.2.0.2", 53, 4, 100)
    expect_equal({f["interface"]: f["packets"] for f in agent.flows("out udp")}, {"w0": 3, "w1": 4}, "packets")
    configure("interfaces: [w1]\napi: {mode: \"0600\"}\n")
    status, body, _ = agent.request("POST", "/v1/reload")
    expect_equal((status, json.loads(body)), (200, {"reloaded": True}), "the answer")
    expect(agent.interface("w0") is None, "w0 is still listed")
    expect_equal(stat.S_IMODE(os.stat(agent.socket).st_mode), 0o600, "mode of the socket")
    udp_send(host, peer, "10.1.0.1", "10.1.0.2", 54, 9, 100)
    expect_equal(agent.flows("out udp to port 54"), [], "flows on an interface that is no longer watched")


@test("sanitize")
def reload_of_a_broken_file_changes_nothing(lab):
    """a broken file is told with its line, on SIGHUP in the log and on POST in the answer; the old one holds"""
    host, peer = lab.hosts()
    agent = lab.agent(host, "interfaces: [w0]\n")
    with open(agent.config, "w", encoding="ascii") as file:
        file.write("interfaces: [w0]\nflows: {tabel: 5000}\n")
    said = agent.reload()
    wait_for(lambda: "tabel" in agent.errors(), 3, "the key in the log")
    said = agent.errors()
    expect(f"{os.path.basename(agent.config)}:2:" in said and "table" in said, f"it said {said!r}")
    status, body, _ = agent.request("POST", "/v1/reload")
    expect_equal(status, 400, "status of POST /v1/reload")
    expect("tabel" in json.loads(body)["error"]["what"], body)
    os.unlink(agent.config)
    expect_equal(agent.request("POST", "/v1/reload")[0], 400, "status without a file")
    udp_send(host, peer, "10.1.0.1", "10.1.0.2", 53, 3, 100)
    expect_equal([f["packets"] for f in agent.flows("out udp")], [3], "packets afterwards")


@test()
def check_says_where_and_what(lab):
    """weir check prints file:line:col, what is wrong, what would be right, the line and a caret"""
    bad = lab.write("bad.yaml", "interfaces: auto\nflows:\n  tabel: 5000\n")
    good = lab.write("good.yaml", "interfaces: auto\nflows: {table: 5000}\n")
    expect_equal(run(lab.weir, "check", good).returncode, 0, "status for a good file")
    done = run(lab.weir, "check", bad, check=False)
    expect(done.returncode > 0, "status for a bad file")
    lines = done.stderr.splitlines()
    expect(lines[0].startswith(f"{bad}:3:3: ") and "tabel" in lines[0] and "; " in lines[0] and "table" in lines[0],
           f"first line: {lines[0]!r}")
    expect_equal([line.strip() for line in lines[1:]], ["tabel: 5000", "^"], "the line and the caret")
    expect_equal(lines[2].index("^"), lines[1].index("tabel"), "the caret's column")


@test()
def odd_run_directories(lab):
    """a run directory that is a file, has no parent, or a name too long for a socket is refused by name"""
    host, _ = lab.hosts()
    for name in ("file", "no/parent/there", "x" * 100):
        agent = lab.prepare(host, run_dir=name)
        if name == "file":
            lab.write("file", "")
        agent.launch()
        expect(agent.process.wait(15) > 0, f"{name}: weir run ended with status 0")
        expect(name[:40] in agent.errors(), f"{name}: it said {agent.errors()!r}")
        expect(len(agent.errors().strip().splitlines()) == 1, f"{name}: it said {agent.errors()!r}")
        lab.agents.remove(agent)


@test()
def metrics_port_in_use(lab):
    """a metrics address that is taken is told, and a reload to it changes nothing"""
    host, _ = lab.hosts()
    with host, socket.socket() as taken:
        taken.bind(("127.0.0.1", 9100))
        taken.listen()
        agent = lab.prepare(host, "interfaces: [w0]\nmetrics: {listen: 9100}\n")
        expect_refused(lab, agent, "9100")
        with open(agent.config, "w", encoding="ascii") as file:
            file.write("interfaces: [w0]\n")
        agent.start()
        with open(agent.config, "w", encoding="ascii") as file:
            file.write("interfaces: [w0]\nmetrics: {listen: 9100}\n")
        expect_equal(agent.request("POST", "/v1/reload")[0], 400, "status of POST /v1/reload")
    still_answers(agent)


@test()
def requests_on_one_connection(lab):
    """several requests on one connection, with a pause between, are answered one after the other"""
    host, _ = lab.hosts()
    agent = lab.agent(host)
    connection = UnixConnection(agent.socket, 5)
    try:
        for path in ("/v1/status", "/v1/flows", "/v1/nothing", "/metrics", "/v1/status"):
            connection.request("GET", path)
            answer = connection.getresponse()
            answer.read()
            expect_equal(answer.status, 404 if path.endswith("nothing") else 200, f"status of {path}")
    finally:
        connection.close()


@test()
def unshared_namespace_without_bpffs(lab):
    """an agent in a mount namespace of its own, without bpffs, keeps its pins where the next agent finds them"""
    host, peer = lab.hosts()
    need("unshare")
    agent = lab.agent(host, prefix=["unshare", "--mount", "--propagation", "private"])
    udp_send(host, peer, "10.1.0.1", "10.1.0.2", 53, 3, 100, own_port=4000)
    agent.stop(signal.SIGKILL)
    udp_send(host, peer, "10.1.0.1", "10.1.0.2", 53, 4, 100, own_port=4000)
    agent.prefix = []
    try:
        agent.start()
    except OSError as error:
        raise Skip(str(error)) from error
    expect_equal([f["packets"] for f in agent.flows("out udp from port 4000")], [7], "packets")
