"""Faults on real processes: {connecting, in_all_reduce, idle, re_forming, finalizing} x {killed, stopped for a short
and for a long time, reset, half-closed, out of descriptors, damaged header, damaged payload, truncated frame, stale
generation, out of memory} x transport x {first, middle, last rank, rendezvous}.

In each case five ranks compute.  Every survivor must name the rank that was hurt (where that was the rendezvous,
nobody may fail), within the bounds at the top of fault_run.py, re-form to the right group in the old order with one
agreed cause, and compute on: each element of each result is checked, and that nothing wrote to the buffers of calls
that had failed.  Nothing may hang.  What a combination does is a plan of fault_plans.py; a combination that means
nothing has the reason in its place.

    faults.py --all               the whole table
    faults.py --sample N --seed S N cases of it, drawn by the seed, which is printed
    faults.py --only PATTERN      the cases whose names match; --list shows the names

Where the ranks share memory, operations need no links: faults of frames, and of links beyond the ring, are then those
of operations that are made to use links.  To add a transport, add a line to TRANSPORTS."""

import argparse
import concurrent.futures
import os
import random
import re
import sys
import time
import traceback
from collections import namedtuple
from functools import partial

import fault_plans as plans
from fault_run import Run
from job import PROGRAMS

TRANSPORTS = {
    "shm": {"environment": {"TUTTI_TRANSPORTS": "shm"}, "meets_by_tcp": False, "shares_memory": True},
    "uds": {"environment": {"TUTTI_TRANSPORTS": "uds"}, "meets_by_tcp": False, "shares_memory": False},
    "tcp": {"environment": {"TUTTI_TRANSPORTS": "tcp"}, "meets_by_tcp": True, "shares_memory": False},
}
RANKS = {"first": 0, "middle": 2, "last": 4}
FAULTS = ("kill", "stop_short", "stop_long", "reset", "half_close", "descriptors", "corrupt_header",
          "corrupt_payload", "truncated", "stale", "no_memory")
AT_ONCE = 2  # cases

NO_FRAME = "no data frame is sent then (damaged control frames and hellos: tests/unit/test_connection.c, test_hello.c)"
NO_PAYLOAD = "the barrier of finalize has no payload"
NO_CALL = "memory is taken for calls only"
NO_DATA = "the rendezvous carries no data frames and makes no calls"
OF_A_LINK = "a link that breaks as soon as it is open breaks like any other"
NOT_ASKED = "links beyond the ring are opened without the rendezvous"
NOT_NEEDED = "a running group needs no descriptor of the rendezvous"


def at_points(plan, fault, *points):
    return {point: partial(plan, fault=fault, point=point) for point in points}


def in_ways(fault, mode, *ways):
    return {way: partial(plans.in_group, fault=fault, mode=mode, way=way) for way in ways}


def connecting(fault):
    if fault in ("kill", "stop_short", "stop_long"):
        return at_points(plans.forming, fault, "join_sent", "welcome_received", "hello_sent", "ring_open", "arena")
    if fault in ("reset", "half_close"):
        return {"rendezvous_connection": partial(plans.late_rank, harm=fault)}
    if fault == "descriptors":
        return {"accept": plans.no_descriptor_to_accept, "limit": plans.no_descriptors_at_all}
    return NO_CALL if fault == "no_memory" else NO_FRAME


def in_all_reduce(fault):
    if fault == "kill":
        return in_ways(fault, "loop", "signal", "frame_sent@60", "operation_done@9")
    if fault == "stop_short":
        return in_ways(fault, "loop", "signal", "frame_sent@60")
    if fault == "stop_long":
        return in_ways(fault, "loop", "signal", "frame_sent@60", "signal_default_times")
    if fault in ("reset", "half_close"):
        return in_ways(fault, "loop", "connections", "frame_sent@60")
    if fault == "descriptors":
        return {"limit": partial(plans.full_descriptors, mode="loop")}
    return in_ways(fault, "loop", "request_made@2" if fault == "no_memory" else "frame_sent@60")


def opening(fault):
    """The first call needs links beyond the ring."""
    if fault in ("kill", "stop_short", "stop_long"):
        return {way: partial(plans.in_group, fault=fault, mode="loop", way=way, beyond_the_ring=True)
                for way in ("hello_sent@3", "accept@3")}
    if fault == "descriptors":
        return {way: partial(plans.no_descriptor_beyond_the_ring, way=way) for way in ("dial", "accept")}
    return OF_A_LINK


def idle(fault):
    if fault in ("kill", "stop_short", "stop_long"):
        return in_ways(fault, "idle", "signal")
    if fault in ("reset", "half_close"):
        return in_ways(fault, "idle", "connections")
    if fault == "descriptors":
        return {"limit": partial(plans.full_descriptors, mode="idle")}
    return NO_CALL if fault == "no_memory" else NO_FRAME


def re_forming(fault):
    if fault == "kill":  # each wiring sends two hellos
        return {point: partial(plans.dying_twice, point=point) for point in
                ("abort_sent", "reform_sent", "welcome_received@2", "hello_sent@3", "hello_sent@4", "ring_open@2",
                 "arena@2")}
    if fault in ("stop_short", "stop_long"):
        return at_points(plans.stopped_while_reforming, fault, "reform_sent", "welcome_received@2", "hello_sent@3",
                         "ring_open@2", "arena@2")
    if fault in ("reset", "half_close"):
        return {"rendezvous_connection": partial(plans.rejoining, harm=fault)}
    if fault == "descriptors":
        return {"limit": plans.no_descriptor_to_reform}
    return NO_CALL if fault == "no_memory" else NO_FRAME


def finalizing(fault):
    if fault in ("kill", "stop_short", "stop_long"):
        return {**in_ways(fault, "finalize", "signal", "frame_sent@1"),
                **at_points(plans.leaving, fault, "barrier_done", "goodbye_sent")}
    if fault in ("reset", "half_close"):
        return in_ways(fault, "finalize", "connections", "frame_sent@1")
    if fault == "descriptors":
        return {"limit": partial(plans.full_descriptors, mode="finalize")}
    if fault == "corrupt_payload":
        return NO_PAYLOAD
    return in_ways(fault, "finalize", "request_made@1" if fault == "no_memory" else "frame_sent@1")


PHASES = {"connecting": connecting, "opening": opening, "in_all_reduce": in_all_reduce, "idle": idle,
          "re_forming": re_forming, "finalizing": finalizing}
MODES = {"in_all_reduce": "loop", "idle": "idle", "finalizing": "finalize"}


def of_rendezvous(phase, fault):
    if fault in ("corrupt_header", "corrupt_payload", "truncated", "stale", "no_memory"):
        return NO_DATA
    if phase == "opening":
        return NOT_ASKED
    if phase == "connecting":
        return {"service": partial(plans.rendezvous_while_forming, fault=fault)}
    if phase == "re_forming":
        return {"service": partial(plans.rendezvous_while_reforming, fault=fault)}
    if fault == "descriptors":
        return NOT_NEEDED
    ways = {"service": partial(plans.rendezvous_of_a_running_group, fault=fault, mode=MODES[phase])}
    if fault == "kill" and phase != "finalizing":
        ways["service_and_a_rank"] = partial(plans.rendezvous_lost_before_a_death, mode=MODES[phase])
    return ways


def of_embedded(phase, fault):
    """Rank 0 serves the rendezvous: the same as any other rank, but for what follows when it is lost."""
    if phase not in MODES or fault not in ("kill", "stop_long") or (phase, fault) == ("finalizing", "stop_long"):
        return "as with a rendezvous of its own, but where rank 0 is lost"
    if fault == "stop_long":
        return {"rank_0": partial(plans.embedded_stops, mode=MODES[phase])}
    ways = {"rank_0": partial(plans.embedded_dies, mode=MODES[phase]),
            "rank_0_at_path": partial(plans.embedded_dies, mode=MODES[phase], at_path=True)}
    if phase != "finalizing":
        ways["another"] = partial(plans.embedded_lives, mode=MODES[phase])
    return ways


Case = namedtuple("Case", "name transport victim embedded plan")


def table():
    """(cases, {reason: how many combinations it leaves out})."""
    cases, left_out = [], {}
    for transport in TRANSPORTS:
        for phase in PHASES:
            for fault in FAULTS:
                for victim in [*RANKS, "rendezvous", "embedded"]:
                    ways = {"rendezvous": of_rendezvous, "embedded": of_embedded}.get(
                        victim, lambda phase, fault: PHASES[phase](fault))(phase, fault)
                    if isinstance(ways, str):
                        left_out[ways] = left_out.get(ways, 0) + 1
                        continue
                    cases += [Case(f"{phase}/{fault}/{way}/{transport}/{victim}", transport, RANKS.get(victim),
                                   victim == "embedded", plan) for way, plan in ways.items()
                              if TRANSPORTS[transport]["shares_memory"] or not way.startswith("arena")]
    return cases, left_out


Result = namedtuple("Result", "case error output error_ms reform_ms seconds")


def run_case(case):
    begin = time.monotonic()
    with Run(TRANSPORTS[case.transport], embedded=case.embedded) as run:
        error = None
        try:
            case.plan(run, case.victim)
            wrong = [member.rank for member in run.members if member.has("wrong")]
            if wrong:
                error = f"ranks {wrong} said that a promise was broken"
        except Exception as failure:  # whatever it is, the other cases go on
            error = str(failure) if isinstance(failure, AssertionError) else traceback.format_exc()
        return Result(case, error, run.text(), run.error_ms, run.reform_ms, time.monotonic() - begin)


def print_result(result):
    def shown(ms):
        return "-" if ms is None else ms
    print(f"{result.case.name:66} {'FAILED' if result.error else 'passed':7} {shown(result.error_ms):>6} "
          f"{shown(result.reform_ms):>7} {result.seconds:6.1f}", flush=True)


def choose(arguments, cases):
    if arguments.only:
        return [case for case in cases if re.search(arguments.only, case.name)]
    if arguments.all:
        return cases
    print(f"seed {arguments.seed} (again: --sample {arguments.sample} --seed {arguments.seed})")
    return random.Random(arguments.seed).sample(cases, min(arguments.sample, len(cases)))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tutti", required=True, help="the program")
    parser.add_argument("--survivor", required=True, help="the program")
    parser.add_argument("--all", action="store_true")
    parser.add_argument("--sample", type=int, default=40, metavar="N")
    parser.add_argument("--seed", type=int, metavar="S",
                        default=int(os.environ.get("TUTTI_TEST_SEED") or random.SystemRandom().randrange(10 ** 6)))
    parser.add_argument("--only", metavar="PATTERN")
    parser.add_argument("--list", action="store_true")
    parser.add_argument("--show", action="store_true", help="what the processes of all cases said")
    arguments = parser.parse_args()
    PROGRAMS.tutti, PROGRAMS.survivor = arguments.tutti, arguments.survivor
    cases, left_out = table()
    chosen = choose(arguments, cases)
    if arguments.list:
        print(*[case.name for case in chosen], sep="\n")
        return
    if not chosen:
        sys.exit("no case was chosen")
    begin = time.monotonic()
    print(f"{'case':66} {'outcome':7} {'error':>6} {'re-form':>7} {'':>6}\n{'':66} {'':7} {'ms':>6} {'ms':>7} {'s':>6}")
    results = []
    with concurrent.futures.ThreadPoolExecutor(AT_ONCE) as pool:
        for result in pool.map(run_case, chosen):
            print_result(result)
            results.append(result)
    failed = [result for result in results if result.error]
    for result in results if arguments.show else failed:
        print(f"\n=== {result.case.name}: {result.error}\n{result.output}")
    for reason, count in left_out.items():
        print(f"left out: {count} combinations: {reason}")
    slowest = max((result.error_ms or 0 for result in results), default=0)
    print(f"{len(results) - len(failed)} of {len(results)} cases passed in {time.monotonic() - begin:.0f} s; "
          f"slowest error {slowest} ms; {sum('HANG' in result.error for result in failed)} hangs")
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
