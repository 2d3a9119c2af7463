# SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
"""A laboratory for one test: network namespaces, links, an agent, captures, and the proof that nothing is left.

A test gets a Lab, builds what it needs in it, and lets go.  Lab.close() ends the agents the way a person does
(SIGINT, or `weir down` for a datapath that was left), and then looks: no process, no program, no map, no qdisc, no
mount, no file of ours may be there any more.  What is left is cleaned up, and fails the test.
"""

import contextlib
import ctypes
import errno
import fcntl
import http.client
import json
import os
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time
import urllib.parse

LIBC = ctypes.CDLL(None, use_errno=True)
CLONE_NEWNET = 0x40000000
READY = "weir: ready"
FRESH_SECONDS = 0.12  # the agent answers from a table up to 0.1 s old; so long later it knows what was before
PREFIX = "weir-test-"  # of every namespace and temporary directory, so that leftovers can be found


class Skip(Exception):
    """This machine cannot run this test; the reason is the message."""


class Failure(AssertionError):
    """What was expected did not happen."""


def expect(condition, message):
    if not condition:
        raise Failure(message)


def expect_equal(got, wanted, what):
    if got != wanted:
        raise Failure(f"{what}: expected {wanted}, got {got}")


def wait_for(condition, seconds, what, interval=0.02):
    """Waits until condition() is true, and returns what it returned."""
    end = time.monotonic() + seconds
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > end:
            raise Failure(f"waited {seconds} s in vain: {what}")
        time.sleep(interval)


def run(*command, check=True, timeout=30, **options):
    """Runs a command to its end; its output is in the result.  Fails the test if the command fails."""
    done = subprocess.run([str(c) for c in command], check=False, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                          text=True, errors="replace", timeout=timeout, **options)
    if check and done.returncode:
        raise Failure(f"{' '.join(map(str, command))}: exit status {done.returncode}\n{done.stdout}{done.stderr}")
    return done


def need(*tools):
    for tool in tools:
        if not shutil.which(tool):
            raise Skip(f"{tool} is not installed")


def need_kernel(attempt, what):
    """Skips where the kernel refuses what the test is made of (not what it tests)."""
    try:
        return attempt()
    except (Failure, OSError) as error:
        raise Skip(f"this kernel has no {what}") from error


# ------------------------------------------------------------------------------------------------ bpf objects

BPF_PROG_GET_FD_BY_ID, BPF_MAP_GET_FD_BY_ID, BPF_OBJ_GET_INFO_BY_FD = 13, 14, 15
SYS_BPF = 321  # x86-64


def bpf_call(command, *words):
    """bpf(2) with an attribute that begins with these words; what it returned."""
    return LIBC.syscall(SYS_BPF, command, ctypes.create_string_buffer(struct.pack(f"{len(words)}I", *words), 128), 128)


def bpf_object_exists(command, number):
    fd = bpf_call(command, number)
    if fd >= 0:
        os.close(fd)
        return True
    return ctypes.get_errno() != errno.ENOENT


def maps_of_program(number):
    """The numbers of its maps; none if it is gone."""
    fd = bpf_call(BPF_PROG_GET_FD_BY_ID, number)
    if fd < 0:
        return []
    most = 256
    maps = (ctypes.c_uint32 * most)()
    info = ctypes.create_string_buffer(struct.pack("52xIQ", most, ctypes.addressof(maps)), 128)  # struct bpf_prog_info
    where = ctypes.addressof(info)
    failed = bpf_call(BPF_OBJ_GET_INFO_BY_FD, fd, len(info), where & 0xffffffff, where >> 32)
    os.close(fd)
    return [] if failed else list(maps[:struct.unpack_from("I", info, 52)[0]])


# ------------------------------------------------------------------------------------------------ namespaces


class Namespace:
    """A network namespace.  `with namespace:` makes this thread create its sockets in it."""

    def __init__(self, lab, label):
        self.lab, self.label = lab, label
        self.name = f"{lab.name}-{label}"
        run("ip", "netns", "add", self.name)
        lab.namespaces.append(self)
        self.fd = os.open(f"/run/netns/{self.name}", os.O_RDONLY | os.O_CLOEXEC)
        self.inode = os.fstat(self.fd).st_ino
        # A quiet network: nothing is sent that a test did not send.
        self.sysctl("net.ipv6.conf.all.accept_dad=0", "net.ipv6.conf.default.accept_dad=0",
                    "net.ipv6.conf.default.router_solicitations=0", "net.ipv6.conf.default.addr_gen_mode=1",
                    "net.ipv6.conf.default.accept_ra=0",
                    # SACK blocks would make some headers longer; without, bytes can be calculated
                    "net.ipv4.tcp_sack=0")
        self.ip("link", "set", "lo", "up")

    def __enter__(self):
        self.lab.entered.stack = getattr(self.lab.entered, "stack", [])
        self.lab.entered.stack.append(os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC))
        setns(self.fd)
        return self

    def __exit__(self, *_):
        previous = self.lab.entered.stack.pop()
        setns(previous)
        os.close(previous)

    def command(self, *words):
        return ["ip", "netns", "exec", self.name, *(str(word) for word in words)]

    def run(self, *words, **options):
        return run(*self.command(*words), **options)

    def start(self, *words, **options):
        return self.lab.start(*self.command(*words), **options)

    def ip(self, *words, check=True):
        return run("ip", "-n", self.name, *words, check=check)

    def tc(self, *words, check=True):
        return run("tc", "-n", self.name, *words, check=check)

    def sysctl(self, *settings):
        with self:
            for setting in settings:
                name, _, value = setting.partition("=")
                with open(f"/proc/sys/{name.replace('.', '/')}", "w", encoding="ascii") as file:
                    file.write(value)

    def offload(self, interface, on):
        """GSO, GRO and what belongs to them: all on or all off."""
        word = "on" if on else "off"
        self.run("ethtool", "-K", interface, "tso", word, "gso", word, "gro", word)

    def address_of(self, interface):
        return json.loads(self.ip("-j", "link", "show", "dev", interface).stdout)[0]["address"]

    def counters(self, interface):
        """(in packets, in bytes, out packets, out bytes), as the kernel counted."""
        stats = json.loads(self.ip("-s", "-j", "link", "show", "dev", interface).stdout)[0]["stats64"]
        return (stats["rx"]["packets"], stats["rx"]["bytes"], stats["tx"]["packets"], stats["tx"]["bytes"])

    def snmp(self, protocol):
        """The counters of /proc/net/snmp of one protocol."""
        rows = [line.split() for line in self.run("cat", "/proc/net/snmp").stdout.splitlines()]
        names, values = (row for row in rows if row[0] == f"{protocol}:")
        return dict(zip(names[1:], map(int, values[1:])))

    def qdiscs(self):
        listed = json.loads(self.tc("-j", "qdisc", "show").stdout or "[]")
        return sorted((q.get("dev", ""), q["kind"], q.get("handle", ""), q.get("parent", "")) for q in listed)

    def filters(self, interface, direction):
        return self.tc("filter", "show", "dev", interface, direction).stdout

    def processes(self):
        """Processes that live in this namespace."""
        found = []
        for entry in os.listdir("/proc"):
            if entry.isdigit() and int(entry) != os.getpid():
                with contextlib.suppress(OSError):
                    if os.stat(f"/proc/{entry}/ns/net").st_ino == self.inode:
                        found.append(int(entry))
        return found


def setns(fd):
    if LIBC.setns(fd, CLONE_NEWNET) != 0:
        raise OSError(ctypes.get_errno(), "setns")


def command_of(pid):
    with contextlib.suppress(OSError):
        with open(f"/proc/{pid}/cmdline", "rb") as file:
            return file.read().replace(b"\0", b" ").decode(errors="replace").strip()
    return "?"


def runs(pid, program):
    """Is it this program?  Its arguments do not tell: a test's own helpers have weir in theirs."""
    with contextlib.suppress(OSError):
        return os.readlink(f"/proc/{pid}/exe").removesuffix(" (deleted)") == os.path.realpath(program)
    return False


# ------------------------------------------------------------------------------------------------ the agent


class UnixConnection(http.client.HTTPConnection):
    """HTTP over a Unix socket."""

    def __init__(self, path, timeout):
        super().__init__("weir", timeout=timeout)
        self.path = path

    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self.path)


class Agent:
    """One `weir run` and its API."""

    def __init__(self, lab, namespace, run_dir, config=None, through="ip", arguments=(), environment=None,
                 prefix=()):
        self.lab, self.namespace, self.run_dir = lab, namespace, run_dir
        self.config = lab.write("weir.yaml", config) if config is not None else None
        self.programs, self.maps = set(), set()
        self.arguments, self.environment, self.prefix = list(arguments), environment, list(prefix)
        self.through = through
        self.process = self.out = self.err = None
        self.starts = 0

    def command(self):
        words = [*self.prefix, self.lab.weir, "run", "--run-dir", self.run_dir, *self.arguments]
        if self.config:
            words += ["--config", self.config]
        if self.through == "nsenter":
            return ["nsenter", f"--net=/run/netns/{self.namespace.name}", *words]
        return self.namespace.command(*words)

    def launch(self):
        """Starts the process, without waiting for it to be ready."""
        self.starts += 1
        base = os.path.join(self.lab.directory, f"agent-{os.path.basename(self.run_dir)}-{self.starts}")
        self.out, self.err = base + ".out", base + ".err"
        with open(self.out, "w", encoding="utf-8") as out, open(self.err, "w", encoding="utf-8") as err:
            self.process = self.lab.start(*self.command(), stdout=out, stderr=err,
                                          env=dict(os.environ, **(self.environment or {})))
        return self

    def start(self, seconds=20):
        self.launch()
        wait_for(lambda: READY in self.output() or self.process.poll() is not None, seconds / min(self.lab.scale, 1),
                 "weir: ready")
        if self.process.poll() is not None:
            raise Failure(f"weir run ended with status {self.process.returncode}:\n{self.errors()}")
        self.note_objects()
        return self

    def note_objects(self):
        """Remembers which kernel objects are this agent's: they must be gone at the end."""
        for interface in self.get("/v1/interfaces")["interfaces"]:
            for hook in interface.get("hooks", []):
                if hook["program"] not in self.programs:
                    self.programs.add(hook["program"])
                    self.maps.update(maps_of_program(hook["program"]))

    def output(self):
        with open(self.out, encoding="utf-8", errors="replace") as file:
            return file.read()

    def errors(self):
        with open(self.err, encoding="utf-8", errors="replace") as file:
            return file.read()

    @property
    def pid(self):
        return self.process.pid

    @property
    def socket(self):
        return os.path.join(self.run_dir, "weir.sock")

    def alive(self):
        return self.process is not None and self.process.poll() is None

    def kill(self, number):
        os.kill(self.pid, number)

    def stop(self, number=signal.SIGINT, seconds=15):
        """Signals the agent and returns its exit status (negative: killed by that signal)."""
        if self.alive():
            self.kill(number)
        try:
            return self.process.wait(seconds / min(self.lab.scale, 1))
        except subprocess.TimeoutExpired:
            raise Failure(f"the agent did not end within {seconds} s of {signal.Signals(number).name}") from None

    # The API.

    def settle(self):
        """Waits until the next answer is sure to know what has happened until now."""
        time.sleep(FRESH_SECONDS)

    def request(self, method, path, body=None, headers=None, timeout=10):
        """(status, body as text, headers)"""
        self.settle()
        connection = UnixConnection(self.socket, timeout / min(self.lab.scale, 1))
        try:
            connection.request(method, path, body=body, headers=headers or {})
            answer = connection.getresponse()
            return answer.status, answer.read().decode(), dict(answer.getheaders())
        finally:
            connection.close()

    def get(self, path, **parameters):
        if parameters:
            path += "?" + urllib.parse.urlencode(parameters, quote_via=urllib.parse.quote)
        status, body, _ = self.request("GET", path)
        expect(status == 200, f"GET {path}: status {status}: {body}")
        return json.loads(body)

    def flows(self, filter="", **parameters):  # pylint: disable=redefined-builtin # the API's word
        parameters = dict(parameters, filter=filter) if filter else parameters
        return self.get("/v1/flows", **parameters)["flows"]

    def interface(self, name):
        return next((i for i in self.get("/v1/interfaces")["interfaces"] if i["name"] == name), None)

    def wait_watched(self, name, seconds=10):
        found = wait_for(lambda: (self.interface(name) or {}).get("state") == "watched", seconds,
                         f"{name} to be watched")
        self.note_objects()
        return found

    def losses(self):
        """The losses, after having proved that they add up."""
        losses = self.get("/v1/status")["losses"]
        check_losses(losses)
        return losses

    def weir(self, *words, **options):
        """A client command, in the agent's namespace, on its run directory."""
        self.settle()
        return self.namespace.run(self.lab.weir, *words, "--run-dir", self.run_dir, **options)

    def reload(self):
        """Sends SIGHUP and waits until it was answered in the log."""
        before = len(self.errors())
        self.kill(signal.SIGHUP)
        wait_for(lambda: len(self.errors()) > before, 5, "a line in the log after SIGHUP")
        return self.errors()[before:]


def check_losses(losses):
    expect(losses["seen"] == losses["cached"] + losses["emitted"] + losses["lost"],
           f"seen is not cached + emitted + lost: {losses}")


# ------------------------------------------------------------------------------------------------ captures


class Capture:
    """tcpdump on an interface, writing a file."""

    def __init__(self, lab, namespace, interface, snap=0, expression=(), name="", buffer=65536):
        need("tcpdump")
        self.path = lab.path(f"{namespace.label}-{interface}{name}.pcap")
        self.err = self.path + ".err"
        with open(self.err, "w", encoding="utf-8") as err:
            self.process = namespace.start("tcpdump", "-Z", "root", "-i", interface, "-s", snap, "-U", "-n",
                                           "-B", buffer, "--immediate-mode", "-w", self.path, *expression,
                                           stderr=err)
        wait_for(lambda: "listening on" in self.messages() or self.process.poll() is not None, 10, "tcpdump")
        expect(self.process.poll() is None, f"tcpdump: {self.messages()}")

    def messages(self):
        with open(self.err, encoding="utf-8", errors="replace") as file:
            return file.read()

    def stop(self):
        """Ends the capture once all has been written, and returns the file's name."""
        size = -1
        while os.path.getsize(self.path) != size:
            size = os.path.getsize(self.path)
            time.sleep(0.15)
        return self.end()

    def end(self):
        """Ends the capture at once, and returns the file's name."""
        self.process.send_signal(signal.SIGINT)
        self.process.wait(10)
        expect("\n0 packets dropped by kernel" in self.messages(),
               f"tcpdump itself lost packets: {self.messages()}")
        return self.path


# ------------------------------------------------------------------------------------------------ the lab


def ends_with_cleaning():
    """Lets who is ended by SIGTERM, a bench by timeout(1), close its labs: what they left would go on to cost others."""
    owner = os.getpid()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143) if os.getpid() == owner else os._exit(143))


class Lab:
    """All that one test makes, and the end of it."""

    counter = 0

    def __init__(self, build, scale=1.0):
        Lab.counter += 1
        self.name = f"{PREFIX}{os.getpid()}-{Lab.counter}"
        self.build = build
        self.scale = scale  # below 1 on slow (emulated) machines: fewer packets prove the same
        self.weir = os.path.join(build, "src/cli/weir")
        self.directory = tempfile.mkdtemp(prefix=self.name + "-")
        os.chmod(self.directory, 0o755)
        self.entered = threading.local()
        self.namespaces, self.processes, self.agents = [], [], []
        self.qdiscs = {}
        self.cleanups = []
        if signal.getsignal(signal.SIGTERM) is signal.SIG_DFL:
            ends_with_cleaning()

    # Building.

    def namespace(self, label):
        return Namespace(self, label)

    def pair(self, a, name_a, b, name_b, number=1, mtu=1500):
        """A veth pair with addresses 10.N.0.1/2 and fd00:N::1/2, neighbours known, nothing to be resolved."""
        a.ip("link", "add", name_a, "mtu", mtu, "address", f"02:00:00:00:{number:02x}:01", "type", "veth",
             "peer", "name", name_b, "mtu", mtu, "address", f"02:00:00:00:{number:02x}:02", "netns", b.name)
        for namespace, name, own, other in ((b, name_b, 2, 1), (a, name_a, 1, 2)):
            self.address(namespace, name, number, own, other, f"02:00:00:00:{number:02x}:{other:02x}")

    def address(self, namespace, name, number, own, other, other_mac):
        """Sets an interface up with the addresses of network `number`."""
        lines = [f"link set {name} up", f"addr add 10.{number}.0.{own}/24 dev {name}",
                 f"addr add fd00:{number}::{own}/64 dev {name} nodad"]
        if other_mac:
            lines += [f"neigh replace {address} lladdr {other_mac} nud permanent dev {name}"
                      for address in (f"10.{number}.0.{other}", f"fd00:{number}::{other}")]
        run("ip", "-n", namespace.name, "-batch", "-", input="\n".join(lines) + "\n")

    def hosts(self, mtu=1500):
        """The usual set-up: `host`, where weir will run, with w0; `peer` with p0."""
        host, peer = self.namespace("host"), self.namespace("peer")
        self.pair(host, "w0", peer, "p0", mtu=mtu)
        return host, peer

    def quiet(self, *namespaces):
        """Silences IPv6 on all interfaces: nothing at all is sent any more that a test does not send."""
        for namespace in namespaces:
            namespace.sysctl("net.ipv6.conf.all.disable_ipv6=1")
        time.sleep(0.3)  # the last words of IPv6

    def agent(self, namespace, config=None, run_dir="run", **options):
        """A running agent; one on w0 only unless the configuration says otherwise."""
        return self.prepare(namespace, config, run_dir, **options).start()

    def prepare(self, namespace, config=None, run_dir="run", **options):
        if namespace not in self.qdiscs:
            self.qdiscs[namespace] = namespace.qdiscs()
        if config is None:
            config = "interfaces: [w0]\n"
        agent = Agent(self, namespace, self.path(run_dir), config, **options)
        self.agents.append(agent)
        return agent

    def capture(self, namespace, interface, **options):
        return Capture(self, namespace, interface, **options)

    def start(self, *command, **options):
        """A process in the background; it ends with the lab at the latest."""
        options.setdefault("stdin", subprocess.DEVNULL)
        options.setdefault("stdout", subprocess.DEVNULL)
        options.setdefault("stderr", subprocess.DEVNULL)
        process = subprocess.Popen([str(c) for c in command], **options)
        self.processes.append(process)
        return process

    def path(self, name):
        return os.path.join(self.directory, name)

    def write(self, name, content):
        """A file in the lab's directory; a name that exists already gets a number."""
        path, number = self.path(name), 1
        while os.path.exists(path):
            number += 1
            path = self.path(f"{number}-{name}")
        with open(path, "wb" if isinstance(content, bytes) else "w",
                  **({} if isinstance(content, bytes) else {"encoding": "utf-8"})) as file:
            file.write(content)
        return path

    def tool(self, name):
        path = os.path.join(self.build, "tests/netns", name)
        expect(os.path.exists(path), f"{path} was not built")
        return path

    def on_close(self, function):
        self.cleanups.append(function)

    # Ending.

    def finish(self):
        """Ends the agents as a person does and returns what is left that should not be."""
        left = []
        for agent in self.agents:
            if agent.alive():
                with contextlib.suppress(Exception):
                    # The latest set of programs, for the search below; a test may have stopped the agent's loop.
                    agent.note_objects()
                try:
                    agent.kill(signal.SIGCONT)
                    status = agent.stop(signal.SIGINT)
                    if status != 0:
                        left.append(f"SIGINT: the agent ended with status {status}: {agent.errors()[-800:]}")
                except Failure as failure:
                    left.append(str(failure))
        for agent in self.agents:
            if agent.alive() or not os.path.isdir(agent.run_dir):
                continue
            if os.listdir(agent.run_dir) or self.mounts():
                done = agent.weir("down", check=False)
                if done.returncode:
                    left.append(f"weir down: status {done.returncode}: {done.stdout}{done.stderr}")
        left += self.find_left()
        return left

    def find_left(self):
        """What of the agents' is still there."""
        left = []
        for agent in self.agents:
            for kind, command, numbers in (("program", BPF_PROG_GET_FD_BY_ID, agent.programs),
                                           ("map", BPF_MAP_GET_FD_BY_ID, agent.maps)):
                # The kernel frees them some grace periods later; a prog array's clearing is work that it puts off,
                # which took up to 20 s where two emulated machines share two CPUs.
                end = time.monotonic() + (3 if self.scale >= 1 else 60)
                for number in sorted(numbers):
                    while bpf_object_exists(command, number) and time.monotonic() < end:
                        time.sleep(0.02)
                    if bpf_object_exists(command, number):
                        left.append(f"{kind} {number}")
            if os.path.isdir(agent.run_dir):
                left += [f"file {os.path.join(agent.run_dir, name)}" for name in os.listdir(agent.run_dir)]
        for namespace, before in self.qdiscs.items():
            after = [entry for entry in namespace.qdiscs() if entry not in before and "clsact" in entry]
            left += [f"qdisc {' '.join(entry)}" for entry in after]
        left += [f"mount {point}" for point in self.mounts()]
        return sorted(set(left))

    def mounts(self):
        with open("/proc/self/mountinfo", encoding="utf-8") as file:
            points = [line.split()[4] for line in file]
        usual = "/sys/fs/bpf/weir"
        names = [os.path.join(usual, n) for n in os.listdir(usual)] if os.path.isdir(usual) else []
        escaped = self.name.replace("-", "%2d")
        return [p for p in points if p.startswith(self.directory)] + [n for n in names if escaped in n]

    def close(self, check=True):
        """Ends everything.  Returns what the agents left behind, as sentences."""
        left = []
        try:
            left = self.finish() if check else []
        except Exception as error:  # pylint: disable=broad-except # cleaning up goes on whatever happens
            left = [f"while ending the agents: {error}"]
        for function in reversed(self.cleanups):
            with contextlib.suppress(Exception):
                function()
        for process in self.processes:
            if process.poll() is None:
                with contextlib.suppress(ProcessLookupError):
                    process.kill()
                process.wait()
        agents = {agent.pid for agent in self.agents if agent.process}
        for namespace in self.namespaces:
            for pid in namespace.processes():
                if check and pid not in agents and runs(pid, self.weir):
                    left.append(f"process {pid}: {command_of(pid)}")
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            os.close(namespace.fd)
            run("ip", "netns", "del", namespace.name, check=False)
        remove_directory(self.directory)
        return left


def remove_directory(path):
    """Takes a lab's directory away with all that is mounted in it."""
    with open("/proc/self/mountinfo", encoding="utf-8") as file:
        points = [line.split()[4] for line in file if line.split()[4].startswith(path)]
    for point in reversed(points):
        run("umount", "-l", point, check=False)
    shutil.rmtree(path, ignore_errors=True)


def sweep(owner):
    """Removes what the process `owner` and its labs left, for when it was killed."""
    for entry in os.listdir("/run/netns") if os.path.isdir("/run/netns") else []:
        if entry.startswith(f"{PREFIX}{owner}-"):
            for pid in run("ip", "netns", "pids", entry, check=False).stdout.split():
                with contextlib.suppress(ProcessLookupError):
                    os.kill(int(pid), signal.SIGKILL)
            run("ip", "netns", "del", entry, check=False)
    for entry in os.listdir(tempfile.gettempdir()):
        if entry.startswith(f"{PREFIX}{owner}-"):
            remove_directory(os.path.join(tempfile.gettempdir(), entry))
    pins = "/sys/fs/bpf/weir"
    for entry in os.listdir(pins) if os.path.isdir(pins) else []:
        if f"{PREFIX}{owner}-".replace("-", "%2d") in entry:
            shutil.rmtree(os.path.join(pins, entry), ignore_errors=True)


# ------------------------------------------------------------------------------------------------ traffic


TCP_INFO_COUNTERS = {"bytes_acked": (120, "Q"), "segs_out": (136, "I"), "segs_in": (140, "I"),
                     "data_segs_out": (156, "I"), "bytes_sent": (200, "Q"), "bytes_retrans": (208, "Q")}


def tcp_info(sock):
    """What the kernel knows about a TCP connection: segments and bytes, by the names of struct tcp_info."""
    raw = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 240)
    return {name: struct.unpack_from("=" + kind, raw, offset)[0]
            for name, (offset, kind) in TCP_INFO_COUNTERS.items()}


def address_family(address):
    return socket.AF_INET6 if ":" in address else socket.AF_INET


def tcp_transfer(client, server, address, port, up, down=0):
    """One TCP connection from namespace to namespace with so many bytes each way.  The client closes first.

    Returns (tcp_info of the client's end, of the server's end, the client's port)."""
    family = address_family(address)
    with server:
        listener = socket.socket(family, socket.SOCK_STREAM)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((address, port))
        listener.listen(1)
    result, errors = {}, []

    def serve():
        try:
            connection, _ = listener.accept()
            connection.settimeout(30)
            with connection:
                left = up
                while left:
                    data = connection.recv(1 << 18)
                    expect(data, "the connection ended early")
                    left -= len(data)
                connection.sendall(bytes(down))
                connection.recv(1)  # the client's FIN
                connection.shutdown(socket.SHUT_WR)
                # until the client's last ACK is in
                wait_for(lambda: connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)[0] == 7, 5,
                         "the end of the connection")
                result["server"] = tcp_info(connection)
        except (OSError, Failure) as error:
            errors.append(error)

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    with client:
        connection = socket.socket(family, socket.SOCK_STREAM)
    with connection, listener:
        connection.settimeout(30)
        connection.connect((address, port))
        own_port = connection.getsockname()[1]
        block = bytes(1 << 16)
        left = up
        while left:
            left -= connection.send(block[:left])
        left = down
        while left:
            data = connection.recv(1 << 18)
            expect(data, "the connection ended early")
            left -= len(data)
        connection.shutdown(socket.SHUT_WR)
        expect(connection.recv(1) == b"", "more bytes than agreed")
        thread.join(35)
        if errors:
            raise errors[0]
        return tcp_info(connection), result["server"], own_port


def udp_socket(namespace, address=None, port=0, family=None):
    with namespace:
        sock = socket.socket(family or address_family(address), socket.SOCK_DGRAM)
    if address:
        sock.bind((address, port))
    sock.settimeout(5)
    return sock


def udp_send(client, server, source, destination, port, count, size, own_port=0):
    """Sends datagrams, and takes them; returns the client's port."""
    with udp_socket(server, destination, port) as receiver, udp_socket(client, source, own_port) as sender:
        receiver.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 22)
        for number in range(count):
            sender.sendto(bytes(size), (destination, port))
            if number % 64 == 63 or number == count - 1:
                for _ in range(number % 64 + 1):
                    receiver.recv(65536)
        return sender.getsockname()[1]


def send_frames(namespace, interface, frames):
    """Puts raw frames on the wire, just as they are."""
    with namespace, socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as sock:
        sock.bind((interface, 0))
        for frame in frames:
            sock.send(frame)


TUNSETIFF, IFF_TUN, IFF_NO_PI = 0x400454CA, 0x0001, 0x1000


def open_tun(namespace, name):
    """A tun interface (no link header); what is written to the descriptor comes in through it."""
    with namespace:
        fd = os.open("/dev/net/tun", os.O_RDWR | os.O_CLOEXEC)
        fcntl.ioctl(fd, TUNSETIFF, struct.pack("16sH22x", name.encode(), IFF_TUN | IFF_NO_PI))
    return fd
