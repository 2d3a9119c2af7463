# SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
"""A program on a pseudo-terminal, and the screen that it draws: as much of a VT100 as ncurses makes use of."""

import fcntl
import os
import pty
import re
import select
import signal
import struct
import termios
import time

SEQUENCE = re.compile(r"\x1b(?:\[([?>!]?)([0-9;]*)([@-~])|[()][0-9A-B]|([78=>DEHMNOc]))")


class Screen:
    """What is to be seen, from what was written."""

    def __init__(self, columns, lines):
        self.resize(columns, lines)
        self.rest = ""
        self.colours = False  # was any colour set?

    def resize(self, columns, lines):
        self.columns, self.lines = columns, lines
        self.cells = [[" "] * columns for _ in range(lines)]
        self.x = self.y = 0
        self.top, self.bottom = 0, lines - 1

    def text(self):
        return "\n".join("".join(line).rstrip() for line in self.cells)

    def feed(self, data):
        data = self.rest + data
        self.rest = ""
        i = 0
        while i < len(data):
            if data[i] == "\x1b":
                match = SEQUENCE.match(data, i)
                if not match:
                    if len(data) - i < 32:
                        self.rest = data[i:]
                        return
                    raise AssertionError(f"unknown escape sequence {data[i:i + 16]!r}")
                self.sequence(match)
                i = match.end()
            else:
                self.character(data[i])
                i += 1

    def character(self, c):
        if c == "\r":
            self.x = 0
        elif c == "\n":
            self.line_feed()
        elif c == "\b":
            self.x = max(0, self.x - 1)
        elif c == "\t":
            self.x = min(self.columns - 1, self.x // 8 * 8 + 8)
        elif c >= " ":
            if self.x == self.columns:
                self.x = 0
                self.line_feed()
            self.cells[self.y][self.x] = c
            self.x += 1

    def line_feed(self):
        if self.y == self.bottom:
            self.scroll(1)
        elif self.y < self.lines - 1:
            self.y += 1

    def scroll(self, count):
        for _ in range(abs(count)):
            if count > 0:
                del self.cells[self.top]
                self.cells.insert(self.bottom, [" "] * self.columns)
            else:
                del self.cells[self.bottom]
                self.cells.insert(self.top, [" "] * self.columns)

    def sequence(self, match):
        private, numbers, final, short = match.groups()
        if short == "M":
            if self.y == self.top:
                self.scroll(-1)
            else:
                self.y = max(0, self.y - 1)
        if short == "D":
            self.line_feed()
        if not final or private:
            return
        values = [int(n) if n else 0 for n in numbers.split(";")]
        first = values[0] or 1
        if final == "H":
            self.y = min(first, self.lines) - 1
            self.x = min((values[1] if len(values) > 1 else 1) or 1, self.columns) - 1
        elif final in "ABCD":
            self.x = min(max(self.x + {"C": first, "D": -first}.get(final, 0), 0), self.columns - 1)
            self.y = min(max(self.y + {"B": first, "A": -first}.get(final, 0), 0), self.lines - 1)
        elif final == "G":
            self.x = min(first, self.columns) - 1
        elif final == "d":
            self.y = min(first, self.lines) - 1
        elif final == "J":
            self.erase(values[0], self.y * self.columns + self.x, self.lines * self.columns)
        elif final == "K":
            self.erase(values[0], self.y * self.columns + self.x, (self.y + 1) * self.columns, self.y * self.columns)
        elif final == "X":
            self.erase(0, self.y * self.columns + self.x, self.y * self.columns + min(self.x + first, self.columns))
        elif final == "P":
            line = self.cells[self.y]
            line[self.x:] = line[self.x + first:] + [" "] * min(first, self.columns - self.x)
        elif final == "@":
            line = self.cells[self.y]
            line[self.x:] = ([" "] * first + line[self.x:])[:self.columns - self.x]
        elif final in "LM":
            if self.top <= self.y <= self.bottom:
                old, self.top = self.top, self.y
                self.scroll(first if final == "M" else -first)
                self.top = old
        elif final == "r":
            self.top = first - 1
            self.bottom = (values[1] if len(values) > 1 and values[1] else self.lines) - 1
            self.x = self.y = 0
        elif final == "b":
            for _ in range(first):
                self.character(self.cells[self.y][self.x - 1])
        elif final == "m":
            self.colours |= any(30 <= n <= 37 or 40 <= n <= 47 or n in (38, 48) for n in values)
        elif final not in "hlcnqt":
            raise AssertionError(f"unknown escape sequence {match.group()!r}")

    def erase(self, which, here, end, start=0):
        first, last = {0: (here, end), 1: (start, here + 1), 2: (start, end)}[which]
        for i in range(first, last):
            self.cells[i // self.columns][i % self.columns] = " "


class Terminal:
    """A running program and its screen."""

    def __init__(self, command, environment, columns=80, lines=24, term="vt100"):
        self.screen = Screen(columns, lines)
        self.raw = b""
        self.status = None
        self.process, self.fd = pty.fork()
        if self.process == 0:
            try:
                fcntl.ioctl(0, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))
                os.execvpe(command[0], command, {**environment, "TERM": term, "LC_ALL": "C.UTF-8"})
            finally:
                os._exit(127)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.status is None:
            os.kill(self.process, signal.SIGKILL)
            self.wait()
        os.close(self.fd)

    def resize(self, columns, lines):
        self.screen.resize(columns, lines)
        fcntl.ioctl(self.fd, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))

    def press(self, keys):
        os.write(self.fd, keys.encode())

    def read(self, seconds):
        """Whatever comes within that time; False when the program has closed its terminal."""
        if not select.select([self.fd], [], [], seconds)[0]:
            return True
        try:
            data = os.read(self.fd, 65536)
        except OSError:
            return False
        self.raw += data
        self.screen.feed(data.decode(errors="replace"))
        return bool(data)

    def until(self, *sees, seconds=10):
        """Reads until the screen shows all of these texts (or a function of its text is true of it); fails when it
        never does.  A picture arrives in pieces: what is to be seen together has to be waited for together."""
        end = time.monotonic() + seconds

        def missing():
            text = self.screen.text()
            return [s for s in sees if not (s(text) if callable(s) else s in text)]

        while missing():
            left = end - time.monotonic()
            if (left <= 0 or not self.read(left)) and missing():
                raise AssertionError(f"the screen never showed {missing()}:\n{self.screen.text()}")
        return self.screen.text()

    def wait(self, seconds=10):
        """The exit status, or minus the signal."""
        end = time.monotonic() + seconds
        while self.status is None:
            if time.monotonic() > end:
                raise AssertionError(f"still running:\n{self.screen.text()}")
            self.read(0.02)
            pid, status = os.waitpid(self.process, os.WNOHANG)
            if pid:
                self.status = os.waitstatus_to_exitcode(status)
        while self.read(0.05) and select.select([self.fd], [], [], 0)[0]:
            pass
        return self.status
