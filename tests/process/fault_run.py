"""What faults.py and partitions.py share: one group of `survivor` processes that is hurt, and what is then checked
of every rank.  Every wait has a limit; what passes it is a hang, and fails the case."""

import itertools
import os
import pathlib
import re
import signal
import tempfile
import time

from job import PROGRAMS, Process, fields, free_port

LIMIT_S = 60          # of one case
CLOSED_MS = 1000      # a connection that closes or breaks: until every rank has its error
HEARTBEAT_MS = 50
DEAD_AFTER_MS = 500
SILENT_MS = DEAD_AFTER_MS + 1000  # a process that does not answer: likewise
SHORT_S = 0.2         # that a stopped process may be silent without harm
ROUNDS = 2            # of operations in the group that comes after

numbers = itertools.count()


class Broken(AssertionError):
    """A promise was not kept."""


def now_us():
    return time.monotonic_ns() // 1000


def check(condition, what):
    if not condition:
        raise Broken(what)


class Member:
    """One rank: a process, and the FIFO through which it is told what to do."""

    def __init__(self, run, rank, arguments, environment, wrapper=()):
        self.rank = rank
        self.limit = run.limit
        self.path = pathlib.Path(run.folder.name) / f"commands-{rank}"
        os.mkfifo(self.path)
        # Read and write, so that opening does not wait for the reader.
        self.commands = os.open(self.path, os.O_RDWR | os.O_CLOEXEC)
        self.process = Process(*wrapper, PROGRAMS.survivor, *arguments, self.path, **environment)
        self.hurt_us = None  # when a signal was sent to it

    def tell(self, command):
        os.write(self.commands, command.encode() + b"\n")

    def order(self, command):
        """As tell(), and waits until it is done."""
        before = len(self.events("obeyed"))
        self.tell(command)
        self.wait("obeyed", before + 1)

    def events(self, names):
        """What it has told so far under one of these names (separated by |), in order."""
        wanted = names.split("|")
        told = [line.text for line in list(self.process.lines) if line.stream == "stdout"]
        return [dict(fields(text), event=text.split(" ", 1)[0]) for text in told if text.split(" ", 1)[0] in wanted]

    def has(self, name):
        return bool(self.events(name))

    def wait(self, names, count=1):
        """The event number `count` of these names, which may still have to come."""
        with self.process.changed:
            while True:
                ended = not any(reader.is_alive() for reader in self.process.readers)
                found = self.events(names)
                if len(found) >= count:
                    return found[count - 1]
                left = self.limit - time.monotonic()
                check(not ended, f"rank {self.rank} ended and did not say '{names}' {count} times")
                check(left > 0, f"HANG: rank {self.rank} did not say '{names}' {count} times")
                self.process.changed.wait(min(left, 1))

    def wait_until(self, pattern):
        return self.process.expect(pattern, max(0.1, self.limit - time.monotonic()))

    def signal(self, number):
        self.hurt_us = now_us()
        os.kill(self.process.pid, number)

    def await_stopped(self):
        """Until the process has been stopped, by itself or by us."""
        stat = pathlib.Path(f"/proc/{self.process.pid}/stat")
        while stat.read_text().rsplit(")", 1)[1].split()[0] != "T":
            check(time.monotonic() < self.limit, f"HANG: rank {self.rank} was never stopped")
            check(self.process.child.poll() is None, f"rank {self.rank} ended and was not stopped")
            time.sleep(0.005)

    def status(self):
        left = self.limit - time.monotonic()
        try:
            return self.process.finish(max(0.1, left))
        except AssertionError:
            raise Broken(f"HANG: rank {self.rank} did not end") from None


class Run:
    """A `with` block in which one group lives; nothing of it is left behind."""

    def __init__(self, transport, size=5, embedded=False):
        self.transport = transport
        self.size = size
        self.limit = time.monotonic() + LIMIT_S
        self.folder = tempfile.TemporaryDirectory(prefix="tutti-faults-")
        self.members = []
        self.services = []
        self.error_ms = self.reform_ms = None  # the slowest
        self.address = f"unix:@tutti-faults-{os.getpid()}-{next(numbers)}"
        if not embedded:
            self.serve()
        elif transport["meets_by_tcp"]:
            self.address = f"127.0.0.1:{free_port()}"

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for process in [member.process for member in self.members] + self.services:
            process.kill()
        for member in self.members:
            os.close(member.commands)
        self.folder.cleanup()

    # ---- What there is -------------------------------------------------------------------------

    def serve(self):
        """Starts `tutti rendezvous`; the second time, at the address of the first."""
        listen = self.address
        if not self.services and self.transport["meets_by_tcp"]:
            listen = "127.0.0.1:0"
        service = Process(PROGRAMS.tutti, "rendezvous", "--listen", listen)
        self.services.append(service)
        self.address = service.expect(r"listening on ").split()[-1]

    @property
    def service(self):
        return self.services[-1]

    def start(self, rank, mode, *options, wrapper=(), **environment):
        variables = dict(TUTTI_RANK=rank, TUTTI_SIZE=self.size, TUTTI_RENDEZVOUS=self.address,
                         TUTTI_JOIN_TIMEOUT="15s", TUTTI_MISSING_AFTER="200ms", TUTTI_SLICE_BYTES="16K",
                         TUTTI_HEARTBEAT=f"{HEARTBEAT_MS}ms", TUTTI_DEAD_AFTER=f"{DEAD_AFTER_MS}ms",
                         TUTTI_CALL_TIMEOUT="30s")
        variables.update(self.transport["environment"])
        variables.update(environment)
        member = Member(self, rank, [*options, mode, ROUNDS], variables, wrapper)
        self.members.append(member)
        return member

    def start_all(self, mode, changes=None, *options, **environment):
        """All ranks, in order; `changes`: by rank, options and variables that it alone has."""
        for rank in range(self.size):
            own_options, own_environment = (changes or {}).get(rank, ((), {}))
            self.start(rank, mode, *options, *own_options, **{**environment, **own_environment})
        return self.members

    def others(self, *members):
        return [member for member in self.members if member not in members]

    def text(self):
        said = [f"rank {member.rank}, pid {member.process.pid}:\n{member.process.text()}" for member in self.members]
        said += [f"rendezvous, pid {service.pid}:\n{service.text()}" for service in self.services]
        return "\n".join(said)

    # ---- What must come true -------------------------------------------------------------------

    def expect_results(self, members):
        """Right results to the end, and nobody has failed."""
        for member in members:
            check(member.status() == 0 and member.has("done"), f"rank {member.rank} did not end well")
            check(not member.has("failed"), f"rank {member.rank} failed, and nothing should have")

    def expect_failures(self, members, named, statuses, limit_ms, since_us=None, count=1):
        """Each has failed, within `limit_ms` of the fault, and names one of the ranks (their sentence may, where
        the group never came about).  Without `since_us` the failed call's own duration counts, which began before
        the fault."""
        for member in members:
            failure = member.wait("failed", count)
            text = f"rank {member.rank} said: {failure}"
            check(failure["status"][len("TUTTI_ERR_"):] in statuses, f"another status than {statuses}; {text}")
            words = "|".join(rf"rank {rank}\b" for rank in named)
            by_words = int(failure["rank"]) == -1 and re.search(words, failure["message"])
            check(int(failure["rank"]) in named or by_words, f"it does not name one of {sorted(named)}; {text}")
            ms = int(failure["ms"]) if since_us is None else (int(failure["us"]) - since_us) // 1000
            self.error_ms = max(self.error_ms or 0, ms)
            check(ms <= limit_ms, f"it took {ms} ms, and {limit_ms} is the limit; {text}")

    def expect_reformed(self, members, at_most=(), causes=None):
        """`members`, and none but those and some of `at_most`, are a new group that agrees on everything."""
        reports = {}
        for member in members:
            report = member.wait("reformed|reform_failed")
            check(report["event"] == "reformed", f"rank {member.rank} did not re-form: {report}")
            reports[member.rank] = report
        for member in at_most:
            report = member.wait("reformed|reform_failed")
            if report["event"] == "reformed":
                reports[member.rank] = report
            else:
                check(report["status"] == "TUTTI_ERR_REFUSED", f"rank {member.rank} was left behind, but: {report}")
        self.expect_agreement(reports)
        check(causes is None or int(reports[members[0].rank]["cause_rank"]) in causes,
              f"the cause should be in {causes}: {reports}")
        self.reform_ms = max([self.reform_ms or 0] + [int(report["ms"]) for report in reports.values()])

    def expect_agreement(self, reports):
        """`reports`: what each member of the new group, by its first rank, was told about it."""
        ranks = sorted(reports)
        order = [int(reports[rank]["rank"]) for rank in ranks]
        check(order == list(range(len(ranks))), f"the order was not kept: {ranks} became {order}")
        for rank, report in reports.items():
            check(int(report["size"]) == len(ranks), f"the new group should be {ranks}; rank {rank} said: {report}")
        for what in "generation", "everywhere", "anywhere", "lost", "cause_status", "cause_rank", "message":
            said = {rank: report[what] for rank, report in reports.items()}
            check(len(set(said.values())) == 1, f"they do not agree on '{what}': {said}")
        report = reports[ranks[0]]
        said = int(report["everywhere"]), int(report["anywhere"])
        if report["generation"] == "2":
            check(all(int(reports[rank]["previous_rank"]) == rank for rank in ranks), f"previous ranks: {reports}")
            counted = [int(member.events("failed")[0]["completed"]) for member in self.members if member.rank in ranks]
            check(said == (min(counted), max(counted)), f"completed were {counted}, but they say {said}")
        check(said[0] <= said[1], f"everywhere and anywhere are {said}")

    def expect_last_reform(self, members):
        """Whatever happened on the way: to the end, with right results, in a new group of exactly these."""
        self.expect_done(members)
        check(all(member.has("reformed") for member in members), "not all re-formed their group")
        self.expect_agreement({member.rank: member.events("reformed")[-1] for member in members})

    def expect_done(self, members):
        """To the end, with right results, whatever had happened before."""
        for member in members:
            check(member.status() == 0 and member.has("done"), f"rank {member.rank} did not end well")

    def expect_refused(self, member):
        """A rank that was left behind: it learns that it was given up, and cannot come back."""
        failure = member.wait("failed")
        check(int(failure["rank"]) == member.rank, f"it should name itself: {failure}")
        refusal = member.wait("reform_failed|reformed")
        check(refusal["event"] == "reform_failed" and refusal["status"] == "TUTTI_ERR_REFUSED",
              f"rank {member.rank} came back from the dead: {refusal}")
        member.tell("end")
        check(member.status() == 3, f"rank {member.rank} should have ended with 3")

    def expect_killed(self, member):
        check(member.status() == -signal.SIGKILL, f"rank {member.rank} should have been killed")
