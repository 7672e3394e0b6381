"""Start-up of a job on one host: 16 ranks have their group, the time that took, and no TCP listener anywhere.

The figure printed is from the moment in which the last process enters main until the last tutti_init has
returned, by the monotonic clock that all processes of a host share.  It is reported and not asserted: a
machine that is busy with something else is no bug.  `--limit MS` asserts it, for a quiet machine."""

import argparse
import sys

from job import Fifo, Job, fields, tcp_listeners

RANKS = 16


def joined_after_ms(processes):
    started = max(int(fields(p.expect("^started "))["us"]) for p in processes)
    joined = max(int(fields(p.expect("^joined ", 60))["us"]) for p in processes)
    return (joined - started) / 1000


def expect_no_listener(processes, when):
    for process in processes:
        listeners = tcp_listeners(process.pid)
        if listeners:
            sys.exit(f"failed: {when}, process {process.pid} of a one-host job listens on {listeners}")


def end(processes, fifo):
    fifo.release(len(processes))
    for process in processes:
        if process.finish(60) != 0:
            sys.exit(f"failed: a rank ended with {process.child.returncode}:\n{process.text()}")


def all_at_once(member):
    with Fifo() as fifo, Job(member, RANKS) as job:
        processes = job.ranks("hold", fifo.path)
        elapsed_ms = joined_after_ms(processes)
        expect_no_listener(processes, "with its group complete")
        end(processes, fifo)
    return elapsed_ms


def while_forming(member):
    """Listeners might be closed once the group is complete, so look while one rank is still missing: a member
    that was told so has opened whatever it opens."""
    with Fifo() as fifo, Job(member, RANKS, TUTTI_MISSING_AFTER="100ms") as job:
        processes = [job.rank(rank, "hold", fifo.path) for rank in range(RANKS - 1)]
        for process in processes:
            process.expect("missing")
        expect_no_listener(processes, "while it forms")
        processes.append(job.rank(RANKS - 1, "hold", fifo.path))
        elapsed_ms = joined_after_ms(processes)
        end(processes, fifo)
    return elapsed_ms


def by_tutti_run(tutti, member):
    with Fifo() as fifo, Job(member, RANKS) as job:
        launcher = job.add(tutti, "run", "-n", RANKS, "--", member, "hold", fifo.path)
        ranks = [fields(launcher.expect(rf"^\[{rank}\] joined ", 60)) for rank in range(RANKS)]
        starts = [fields(launcher.expect(rf"^\[{rank}\] started ")) for rank in range(RANKS)]
        elapsed_ms = (max(int(r["us"]) for r in ranks) - max(int(s["us"]) for s in starts)) / 1000
        for pid in [launcher.pid] + [int(s["pid"]) for s in starts]:
            listeners = tcp_listeners(pid)
            if listeners:
                sys.exit(f"failed: process {pid} of a one-host job listens on {listeners}")
        fifo.release(RANKS)
        if launcher.finish(60) != 0:
            sys.exit(f"failed: tutti run ended with {launcher.child.returncode}:\n{launcher.text()}")
    return elapsed_ms


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tutti", required=True)
    parser.add_argument("--member", required=True)
    parser.add_argument("--limit", type=float, metavar="MS", help="fail when any start-up takes longer")
    arguments = parser.parse_args()
    times = {
        "16 processes at once": all_at_once(arguments.member),
        "the 16th process, the others waiting": while_forming(arguments.member),
        "tutti run -n 16": by_tutti_run(arguments.tutti, arguments.member),
    }
    for what, elapsed_ms in times.items():
        print(f"{what}: group complete {elapsed_ms:.1f} ms after the last process was up")
    if arguments.limit is not None and max(times.values()) > arguments.limit:
        sys.exit(f"failed: the limit is {arguments.limit} ms")
    print("no process listens on TCP")


if __name__ == "__main__":
    main()
