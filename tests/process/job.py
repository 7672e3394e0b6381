"""Jobs of real processes for the tests in this folder: start them, read what they say, never wait for ever."""

import argparse
import collections
import os
import pathlib
import re
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import unittest

LAUNCHER_VARIABLES = re.compile(
    r"^(TUTTI_|OMPI_|PMI_|PMIX_|SLURM_|TORCHELASTIC_|MASTER_(ADDR|PORT)$|((LOCAL|GROUP)_)?(RANK|WORLD_SIZE)$)")

PROGRAMS = argparse.Namespace()  # tutti and member: paths of the programs under test, once run_tests() is called

Line = collections.namedtuple("Line", "stream text")


def clean_environment(**more):
    """The environment without anything that says which group this is."""
    kept = {name: value for name, value in os.environ.items() if not LAUNCHER_VARIABLES.match(name)}
    kept.update({name: str(value) for name, value in more.items()})
    return kept


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def fields(line):
    """'joined rank=1 size=2' as a dictionary; 'message' takes the rest of the line."""
    head, _, message = line.partition(" message=")
    found = dict(re.findall(r"(\w+)=(\S*)", head))
    if message:
        found["message"] = message
    return found


class Process:
    """A child whose output is read line by line while it runs."""

    def __init__(self, *command, **environment):
        self.command = [str(part) for part in command]
        self.lines = []
        self.changed = threading.Condition()
        self.child = subprocess.Popen(self.command, env=clean_environment(**environment), text=True,
                                      errors="replace", stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                                      stderr=subprocess.PIPE, start_new_session=True)
        self.readers = [threading.Thread(target=self._read, args=(name, getattr(self.child, name)), daemon=True)
                        for name in ("stdout", "stderr")]
        for reader in self.readers:
            reader.start()

    def _read(self, name, stream):
        with stream:
            for text in stream:
                with self.changed:
                    self.lines.append(Line(name, text.rstrip("\n")))
                    self.changed.notify_all()
        with self.changed:
            self.changed.notify_all()

    def text(self):
        with self.changed:
            return "\n".join(line.text for line in self.lines)

    def find(self, pattern):
        for line in list(self.lines):
            if re.search(pattern, line.text):
                return line.text
        return None

    def expect(self, pattern, timeout=20):
        """The first line that matches, which may still have to come."""
        deadline = time.monotonic() + timeout
        with self.changed:
            while True:
                ended = not any(reader.is_alive() for reader in self.readers)
                found = self.find(pattern)
                if found is not None:
                    return found
                left = deadline - time.monotonic()
                if left <= 0 or ended:
                    why = "it ended" if ended else f"{timeout} s passed"
                    raise AssertionError(f"no line matches {pattern!r} ({why}) in the output of "
                                         f"{' '.join(self.command)}:\n" +
                                         "\n".join(line.text for line in self.lines))
                self.changed.wait(min(left, 1))

    def finish(self, timeout=20):
        """The exit status, after all output has been read."""
        try:
            status = self.child.wait(timeout)
        except subprocess.TimeoutExpired:
            self.kill()
            raise AssertionError(f"{' '.join(self.command)} did not end within {timeout} s:\n{self.text()}")
        for reader in self.readers:
            reader.join(timeout)
        return status

    def kill(self):
        """The process and whatever it started and left in its session."""
        try:
            os.killpg(self.child.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        self.child.wait()
        for reader in self.readers:
            reader.join(10)

    @property
    def pid(self):
        return self.child.pid


class Job:
    """Processes that end, at the latest, with the `with` block."""

    count = 0

    def __init__(self, member, size, rendezvous=None, **environment):
        Job.count += 1
        self.member = member
        self.size = size
        self.rendezvous = rendezvous or f"unix:@tutti-test-{os.getpid()}-{Job.count}"
        self.environment = environment
        self.processes = []

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for process in self.processes:
            process.kill()

    def add(self, *command, **environment):
        process = Process(*command, **environment)
        self.processes.append(process)
        return process

    def rank(self, rank, *arguments, size=None, **environment):
        """Starts one rank as a process of its own."""
        variables = dict(TUTTI_RANK=rank, TUTTI_SIZE=size or self.size, TUTTI_RENDEZVOUS=self.rendezvous,
                         TUTTI_JOIN_TIMEOUT="20s")
        variables.update(self.environment)
        variables.update(environment)
        return self.add(self.member, *arguments, **variables)

    def ranks(self, *arguments, **environment):
        return [self.rank(r, *arguments, **environment) for r in range(self.size)]


class Fifo:
    """What `member hold` waits for: each byte lets one reader go, whether it came before or comes after."""

    def __enter__(self):
        self.folder = tempfile.TemporaryDirectory(prefix="tutti-test-")
        self.path = pathlib.Path(self.folder.name) / "fifo"
        os.mkfifo(self.path)
        # Read and write, so that opening does not wait for readers and readers do not wait for us.
        self.fd = os.open(self.path, os.O_RDWR)
        return self

    def release(self, readers):
        os.write(self.fd, b"x" * readers)

    def __exit__(self, *_):
        os.close(self.fd)
        self.folder.cleanup()


def socket_inodes(pid):
    inodes = set()
    for entry in pathlib.Path(f"/proc/{pid}/fd").iterdir():
        try:
            target = os.readlink(entry)
        except FileNotFoundError:
            continue
        if target.startswith("socket:["):
            inodes.add(int(target[8:-1]))
    return inodes


def tcp_listeners(pid):
    """'local-address' in the kernel's hexadecimal of each TCP socket that the process listens on."""
    inodes, found = socket_inodes(pid), []
    for table in "tcp", "tcp6":
        path = pathlib.Path(f"/proc/{pid}/net/{table}")
        for line in path.read_text().splitlines()[1:] if path.exists() else ():
            columns = line.split()
            if columns[3] == "0A" and int(columns[9]) in inodes:
                found.append(f"{table} {columns[1]}")
    return found


def unix_listeners(pid):
    """Names ('@...' for abstract ones) of the Unix sockets that the process listens on."""
    inodes, found = socket_inodes(pid), []
    for line in pathlib.Path(f"/proc/{pid}/net/unix").read_text().splitlines()[1:]:
        columns = line.split(maxsplit=7)
        accepts = int(columns[3], 16) & 0x10000
        if accepts and int(columns[6]) in inodes and len(columns) == 8:
            found.append(columns[7])
    return found


def run_tests(description):
    """The main program of a file of unittest cases: takes the paths of the programs, passes on the rest."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--tutti", required=True)
    parser.add_argument("--member", required=True)
    _, rest = parser.parse_known_args(namespace=PROGRAMS)
    unittest.main(argv=sys.argv[:1] + rest, verbosity=2)
