"""Nobody is taken for dead who lives: ranks that call an all_reduce now and then, and idle in between, on a machine
that is overloaded by processes that only spin.  Heartbeats are the defaults.  Nobody may fail."""

import math
import time

import fleet

LOOK_EVERY_S = 20  # longer than any pause between two operations


def look(group, reports):
    """Everybody works in the group of the beginning, and has done something since the last look."""
    for member in group.ranks:
        before, now = reports.get(member), group.report(member)
        reports[member] = now
        if before and now["operations"] == before["operations"]:
            group.problems.append(f"{member} has completed nothing in {LOOK_EVERY_S} s: {now}")
    group.expect_peace()


def main():
    arguments = fleet.parser(__doc__, "soaker")
    arguments.add_argument("--ranks", type=int, default=16)
    arguments.add_argument("--load", type=int, default=32, help="processes that spin")
    arguments.add_argument("--minutes", type=float, default=15)
    arguments = fleet.parse(arguments, minutes=0.3)

    load, reports = [], {}
    with fleet.Fleet(arguments.tutti, arguments.program, "sparse", arguments.ranks, arguments.seed) as group:
        try:
            group.assemble()
            look(group, reports)
            load = [fleet.Child(arguments.program, "spin") for _ in range(arguments.load)]
            for _ in range(max(1, math.ceil(arguments.minutes * 60 / LOOK_EVERY_S))):
                time.sleep(LOOK_EVERY_S)
                look(group, reports)
            spinning = sum(child.process.poll() is None for child in load)
            with open("/proc/loadavg") as file:
                measured = file.read().split()[0]
        finally:
            for child in load:
                child.destroy()
        group.leave()
        group.finish()
    if spinning != arguments.load:
        group.problems.append(f"{spinning} of {arguments.load} spinning processes were there at the end")
    operations = min(report["operations"] for report in reports.values())
    fleet.verdict(group.problems, f"{arguments.minutes:g} min, {arguments.ranks} ranks beside {arguments.load} "
                                  f"spinning processes (load {measured}): {operations} operations")


if __name__ == "__main__":
    main()
