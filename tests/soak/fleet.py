"""Ranks that outlive their groups, and a rendezvous that outlives them all: what the long runs are made of.

What a rank says is queued by kind.  Every wait has a limit: one that hangs ends the run, and then it is shown where
everybody is.  What is untrue but lets the run go on is collected in `problems`."""

import argparse
import collections
import itertools
import os
import pathlib
import random
import re
import signal
import subprocess
import sys
import threading
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "process"))
from job import clean_environment, fields  # noqa: E402

KINDS = {"joined", "looping", "failed", "reformed", "refused", "left", "report", "warm", "cycle", "end"}
LOG_LINES_MAX = 100
GROWTH_KIB_MAX = 1024
# Without its caches the C library gives back what is free, so that what a process holds can be compared to the page.
EXACT_MALLOC = "glibc.malloc.tcache_count=0:glibc.malloc.arena_max=1"
ANSWER_S, JOIN_S, REFORM_S, LEAVE_S = 60, 90, 60, 90  # limits beyond which a rank hangs, not what is promised


class Derailed(Exception):
    """A process hangs, or does something else than it should: the run cannot go on."""


def now_us():
    return time.monotonic_ns() // 1000


def numbers(event):
    return {name: int(value) for name, value in event.items()}


def percentile(values, share):
    """The smallest value that at least this share of all does not exceed."""
    ordered = sorted(values)
    return ordered[max(0, -(-len(ordered) * share // 100) - 1)]


class Child:
    """A process that tells in lines what happens to it.  It ends with this one, however this one ends."""

    def __init__(self, *command, **environment):
        self.command = [str(part) for part in command]
        self.events = collections.defaultdict(collections.deque)
        self.log = collections.deque(maxlen=LOG_LINES_MAX)
        self.problems = []
        self.changed = threading.Condition()
        self.ended = False
        self.process = subprocess.Popen(["setpriv", "--pdeathsig", "KILL", *self.command], text=True,
                                        errors="replace", env=clean_environment(**environment),
                                        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        self.reader = threading.Thread(target=self._read, daemon=True)
        self.reader.start()

    def _read(self):
        for line in self.process.stdout:
            line = line.rstrip("\n")
            kind = line.split(" ", 1)[0]
            with self.changed:
                if kind in KINDS:
                    self.events[kind].append(fields(line))
                elif kind == "problem":
                    self.problems.append(fields(line).get("message", line))
                if kind != "report":
                    self.log.append(line)
                self.changed.notify_all()
        with self.changed:
            self.ended = True
            self.changed.notify_all()

    def tell(self, command):
        try:
            self.process.stdin.write(command + "\n")
            self.process.stdin.flush()
        except BrokenPipeError:
            raise Derailed(f"{self} has ended, and cannot be told to {command}") from None

    def event(self, kind, timeout_s):
        deadline = time.monotonic() + timeout_s
        with self.changed:
            while not self.events[kind]:
                if self.events["refused"]:
                    raise Derailed(f"{self} has no group: {self.events['refused'][0].get('message')}")
                left = deadline - time.monotonic()
                if self.ended or left <= 0:
                    why = "its end" if self.ended else f"{timeout_s} s"
                    raise Derailed(f"{self} has not said '{kind}' before {why}")
                self.changed.wait(left)
            return self.events[kind].popleft()

    def expect_line(self, pattern, timeout_s):
        """The first line that matches, of those that are no events."""
        def found():
            return next((line for line in self.log if re.search(pattern, line)), None)
        with self.changed:
            if not self.changed.wait_for(found, timeout_s):
                raise Derailed(f"{self} has not said {pattern!r} within {timeout_s} s")
            return found()

    def kill(self, number=signal.SIGKILL):
        self.process.send_signal(number)

    def finish(self, timeout_s=20):
        """The exit status; without standard input the process should end."""
        try:
            self.process.stdin.close()
        except BrokenPipeError:
            pass
        try:
            status = self.process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            raise Derailed(f"{self} has not ended within {timeout_s} s") from None
        self.reader.join(timeout_s)
        return status

    def destroy(self):
        self.process.kill()
        self.process.wait()
        self.reader.join(10)

    def where(self):
        """What it is doing, for a person who must find out why it hangs."""
        pid = self.process.pid
        text = "\n".join(list(self.log)[-15:])
        if self.process.poll() is not None:
            return f"{self}: ended with status {self.process.returncode}\n{text}"
        try:
            stacks = subprocess.run(["gdb", "-p", str(pid), "-batch", "-ex", "thread apply all bt"], text=True,
                                    capture_output=True, timeout=60, stdin=subprocess.DEVNULL).stdout
        except (OSError, subprocess.TimeoutExpired) as error:
            stacks = f"its stacks are not known: {error}"
        return f"{self}:\n{stacks}\n{text}"

    def __str__(self):
        return f"{pathlib.Path(self.command[0]).name} (pid {self.process.pid})"


def descriptors(pid):
    return len(os.listdir(f"/proc/{pid}/fd"))


def rss_kib(pid):
    return int(re.search(r"VmRSS:\s*(\d+)", pathlib.Path(f"/proc/{pid}/status").read_text())[1])


class Service(Child):
    """`tutti rendezvous`, on a port of its own choice."""

    def __init__(self, tutti):
        super().__init__(tutti, "rendezvous", "--listen", "127.0.0.1:0")
        self.address = self.expect_line("listening on ", 20).split()[-1]


class Crew:
    """Processes that end, at the latest, with the `with` block; when the run is derailed it is shown where they are."""

    def __init__(self, tutti):
        self.children, self.problems = [], []
        self.service = Service(tutti)

    def __enter__(self):
        return self

    def __exit__(self, kind, value, _):
        everybody = [*self.children, self.service]
        if kind is Derailed:
            for child in everybody:
                print(child.where())
            self.problems.append(str(value))
        for child in everybody:
            child.destroy()
            self.problems += child.problems
        if kind is Derailed:
            verdict(self.problems, "the run was derailed")

    def start(self, *command, **environment):
        child = Child(*command, TUTTI_RENDEZVOUS=self.service.address, **environment)
        self.children.append(child)
        return child

    def living(self):
        return [child for child in self.children if child.process.poll() is None]

    def finish(self):
        """Those that live end: with status 0, or they have something to complain about."""
        for child in self.living():
            status = child.finish()
            if status != 0:
                self.problems.append(f"{child} ended with status {status}")


class Fleet(Crew):
    """`size` soakers; `ranks` are those of the group under way, in the order of its ranks."""

    def __init__(self, tutti, soaker, work, size, seed, **environment):
        super().__init__(tutti)
        self.soaker, self.work, self.size = soaker, work, size
        self.environment = environment
        self.random = random.Random(seed)
        self.ranks = []
        self.jobs = itertools.count(1)

    def assemble(self):
        """A new job: the living and as many fresh ones as are missing, in an order drawn anew."""
        self.ranks = self.living()
        self.ranks += [self.start(self.soaker, self.work, **self.environment)
                       for _ in range(self.size - len(self.ranks))]
        self.random.shuffle(self.ranks)
        job = f"soak-{next(self.jobs)}"
        for rank, member in enumerate(self.ranks):
            member.tell(f"join {job} {rank} {self.size}")
        for rank, member in enumerate(self.ranks):
            joined = member.event("joined", JOIN_S)
            if (int(joined["rank"]), int(joined["size"])) != (rank, self.size):
                self.problems.append(f"{member} asked for rank {rank} of {self.size} and got {joined}")
        self.await_looping()

    def await_looping(self):
        for member in self.ranks:
            member.event("looping", JOIN_S)

    def expect_peace(self):
        for member in self.ranks:
            if member.events["failed"]:
                raise Derailed(f"{member} has failed, and nobody was harmed: {member.events['failed'][0]['message']}")

    def collect_failure(self, status, lost_rank, timeout_s):
        """Of each survivor in the order of the old ranks: how it failed and re-formed.  `ranks` are the new ones then.
        `lost_rank` is None when nobody is lost."""
        old = self.ranks
        survivors = [member for rank, member in enumerate(old) if rank != lost_rank]
        failures = [(member, member.event("failed", timeout_s)) for member in survivors]
        reforms = [member.event("reformed", REFORM_S) for member in survivors]
        self.ranks = survivors
        for member, failed in failures:
            if failed["status"] != status:
                self.problems.append(f"{member} failed with {failed['status']}, not {status}: {failed['message']}")
            elif lost_rank is not None and int(failed["rank"]) != lost_rank:
                self.problems.append(f"{member} named rank {failed['rank']}, not {lost_rank}: {failed['message']}")
        for rank, (member, reformed) in enumerate(zip(survivors, reforms)):
            self._check_reform(member, reformed, rank, old.index(member), status, lost_rank)
        for what in "generation", "cause", "cause_rank":
            if len({reformed[what] for reformed in reforms}) != 1:
                self.problems.append(f"the survivors do not agree on the {what}: {reforms}")
        self.await_looping()
        self.expect_peace()
        return [failed for _, failed in failures], reforms

    def _check_reform(self, member, reformed, rank, old_rank, status, lost_rank):
        wanted = {"rank": str(rank), "size": str(len(self.ranks)), "previous_rank": str(old_rank), "cause": status}
        lost = ""
        if lost_rank is not None:
            wanted["cause_rank"] = str(lost_rank)
            lost = f"rank {lost_rank}"
        got = {name: reformed[name] for name in wanted}
        if got != wanted:
            self.problems.append(f"{member} re-formed to {got}, not {wanted}")
        if reformed.get("message", "") != lost:
            self.problems.append(f"{member} was told that '{reformed.get('message')}' was lost, and '{lost}' was")

    def leave(self):
        """A normal end; everybody is idle then."""
        self.expect_peace()
        for member in self.ranks:
            member.tell("leave")
        for member in self.ranks:
            member.event("left", LEAVE_S)
        self.ranks = []

    def report(self, member):
        member.tell("report")
        return numbers(member.event("report", ANSWER_S))


def compare_holdings(who, before, now, limits):
    """What is untrue, and by how many KiB it has grown: resident or mapped, whichever is more."""
    exact = ("descriptors", "threads", "mappings") if limits else ("descriptors", "threads")
    problems = [f"{who} holds {now[what]} {what}, and held {before[what]} after the warm-up"
                for what in exact if now[what] != before[what]]
    growth_kib = max(now[what] - before[what] for what in ("rss_kib", "mapped_kib"))
    if limits and growth_kib >= GROWTH_KIB_MAX:
        problems.append(f"{who} has grown by {growth_kib} KiB, and {GROWTH_KIB_MAX} KiB are the limit")
    return problems, growth_kib


def parser(description, program):
    found = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    found.add_argument("--tutti", required=True, help="path of the command")
    found.add_argument("--program", required=True, help=f"path of {program}")
    found.add_argument("--seed", type=int, default=None, help="of all that is drawn (default: from the clock)")
    found.add_argument("--short", action="store_true", help="seconds instead of minutes")
    found.add_argument("--no-limits", action="store_true",
                       help="times, memory and mappings are only reported: for builds with sanitizers")
    return found


def parse(arguments, **short):
    """`short`: the defaults with --short."""
    if arguments.parse_known_args()[0].short:
        arguments.set_defaults(**short)
    parsed = arguments.parse_args()
    if parsed.seed is None:
        parsed.seed = time.time_ns() % 1000000
    print(f"seed {parsed.seed}", flush=True)
    return parsed


def verdict(problems, summary):
    """The last line of a run and its exit status."""
    for problem in problems[:40]:
        print(f"PROBLEM: {problem}")
    if problems:
        print(f"FAILED, {len(problems)} problem(s): {summary}")
        sys.exit(1)
    print(f"passed: {summary}")
