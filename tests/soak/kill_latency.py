"""How long a failure takes: in each round one of the ranks of a group in an all_reduce loop
    is killed (the default), is stopped (--stop), or calls something else than the others (--mismatch),
and each survivor tells when its call returned an error and when its group was re-formed.  Printed are the median, the
99th percentile and the worst over all survivors and rounds.  All other settings are the defaults."""

import signal
import time

import fleet
from fleet import percentile

LIMITS_MS = {"kill": (250, 1000), "stop": (6000, 6000), "mismatch": (1000, 1000)}  # 99th percentile, worst
ROUNDS = {"kill": (100, 10), "stop": (5, 1), "mismatch": (100, 10)}  # and with --short
REFORM_MS_MAX = 1000
DELAY_MS_MAX = 100
EVENT_S = 30  # a failure that takes longer counts as a hang


def summary_of(name, values_ms):
    return (f"{name:34} p50 {percentile(values_ms, 50):8.1f}   p99 {percentile(values_ms, 99):8.1f}   "
            f"max {max(values_ms):8.1f} ms   ({len(values_ms)} values)")


class Rounds:
    def __init__(self, group, kind):
        self.group, self.kind = group, kind
        self.error_ms, self.reform_ms, self.whole_ms = [], [], []

    def pause(self):
        """So that the failure meets another moment of the operation each time."""
        time.sleep(self.group.random.uniform(0, DELAY_MS_MAX) / 1000)

    def note(self, since_us, failures, reforms):
        """`since_us`: when it happened; None: when each rank entered the call that failed."""
        for failed, reformed in zip(failures, reforms):
            began_us = since_us if since_us is not None else int(failed["entered_us"])
            self.error_ms.append((int(failed["us"]) - began_us) / 1000)
            self.reform_ms.append((int(reformed["us"]) - int(reformed["began_us"])) / 1000)
            self.whole_ms.append((int(reformed["us"]) - began_us) / 1000)

    def lose(self, number):
        group = self.group
        rank = group.random.randrange(group.size)
        victim = group.ranks[rank]
        since_us = fleet.now_us()
        victim.kill(number)
        self.note(since_us, *group.collect_failure("TUTTI_ERR_PEER_LOST", rank, EVENT_S))
        return victim, rank

    def one(self):
        group = self.group
        if not group.ranks:
            group.assemble()
        self.pause()
        if self.kind == "mismatch":
            group.random.choice(group.ranks).tell("differ")
            self.note(None, *group.collect_failure("TUTTI_ERR_MISMATCH", None, EVENT_S))
            return
        if self.kind == "kill":
            victim, _ = self.lose(signal.SIGKILL)
            victim.finish()
        else:
            self.wake(*self.lose(signal.SIGSTOP))
        group.leave()

    def wake(self, victim, rank):
        """The others went on without it; it learns that, and has no way back."""
        victim.kill(signal.SIGCONT)
        failed, refused = victim.event("failed", EVENT_S), victim.event("refused", EVENT_S)
        if int(failed["rank"]) != rank:
            self.group.problems.append(f"the stopped {victim} was not told that it is the cause: {failed}")
        if refused["status"] != "TUTTI_ERR_REFUSED":
            self.group.problems.append(f"the stopped {victim} was not refused, but: {refused}")


def problems_of(rounds):
    p99_ms_max, worst_ms_max = LIMITS_MS[rounds.kind]
    if percentile(rounds.error_ms, 99) > p99_ms_max:
        yield f"p99 of the errors is {percentile(rounds.error_ms, 99):.1f} ms, and {p99_ms_max} ms are promised"
    if max(rounds.error_ms) > worst_ms_max:
        yield f"the slowest error took {max(rounds.error_ms):.1f} ms, and {worst_ms_max} ms are promised"
    if max(rounds.reform_ms) > REFORM_MS_MAX:
        yield f"the slowest re-form took {max(rounds.reform_ms):.1f} ms, and {REFORM_MS_MAX} ms are promised"


def main():
    arguments = fleet.parser(__doc__, "soaker")
    arguments.add_argument("--ranks", type=int, default=16)
    arguments.add_argument("--rounds", type=int, help="default: 100, and 5 of --stop")
    arguments.add_argument("--transports", default="shm,uds,tcp")
    what = arguments.add_mutually_exclusive_group()
    what.add_argument("--stop", dest="kind", action="store_const", const="stop", help="SIGSTOP instead of SIGKILL")
    what.add_argument("--mismatch", dest="kind", action="store_const", const="mismatch")
    arguments.set_defaults(kind="kill")
    arguments = fleet.parse(arguments)
    if arguments.rounds is None:
        arguments.rounds = ROUNDS[arguments.kind][arguments.short]

    with fleet.Fleet(arguments.tutti, arguments.program, "all_reduce", arguments.ranks, arguments.seed,
                     TUTTI_TRANSPORTS=arguments.transports) as group:
        rounds = Rounds(group, arguments.kind)
        for _ in range(arguments.rounds):
            rounds.one()
        if group.ranks:
            group.leave()
        group.finish()

    began = "entering" if arguments.kind == "mismatch" else f"the {arguments.kind}"
    print(summary_of(f"from {began} to the error", rounds.error_ms))
    print(summary_of("from tutti_reform to its return", rounds.reform_ms))
    print(summary_of(f"from {began} to the new group", rounds.whole_ms))
    problems = group.problems + ([] if arguments.no_limits else list(problems_of(rounds)))
    fleet.verdict(problems, f"{arguments.kind} of 1 of {arguments.ranks} ranks, {arguments.rounds} times: error p99 "
                            f"{percentile(rounds.error_ms, 99):.1f} ms, max {max(rounds.error_ms):.1f} ms; re-form max "
                            f"{max(rounds.reform_ms):.1f} ms")


if __name__ == "__main__":
    main()
