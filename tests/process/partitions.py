"""Partitions between hosts: two network namespaces joined by a veth pair, half of the ranks in each, and the
rendezvous in the first.  The pair is taken down, or made to lose everything one way.  Every rank must notice within
dead_after + 1 s; those beside the rendezvous re-form; those cut off are told that it cannot be reached and, once the
partition has healed, that the group went on without them.  Needs root; without it the test is skipped, loudly, with
status 77."""

import argparse
import sys
import traceback

import namespaces
from fault_run import DEAD_AFTER_MS, HEARTBEAT_MS, Run, check, now_us
from job import PROGRAMS, Process

PER_HOST = 2
REFORM_MS = 4000
NOBODY = "02:00:00:00:00:01"  # a hardware address that nobody has
DEVICE = "tutti0"
NEAR, FAR = 0, 1  # the host of the rendezvous, and the other


class Partitioned(Run):
    """A run whose ranks are spread over the two namespaces."""

    def __init__(self, within):
        environment = {"TUTTI_TRANSPORTS": f"{within},tcp"}
        super().__init__({"environment": environment, "meets_by_tcp": True}, size=2 * PER_HOST)

    def serve(self):
        address = f"{namespaces.ADDRESSES['IPv4'][NEAR]}:{namespaces.PORT}"
        service = Process("ip", "netns", "exec", namespaces.HOSTS[NEAR], PROGRAMS.tutti, "rendezvous", "--listen",
                          address)
        self.services.append(service)
        self.address = service.expect(r"listening on ").split()[-1]

    def start_everywhere(self, mode, **environment):
        for rank in range(self.size):
            host = rank // PER_HOST
            self.start(rank, mode, "--reform-timeout", REFORM_MS, TUTTI_HOST=f"host-{host}",
                       wrapper=("ip", "netns", "exec", namespaces.HOSTS[host]), **environment)
        for member in self.members:
            member.wait("looping" if mode == "loop" else "idle")

    def on(self, host):
        return self.members[host * PER_HOST:(host + 1) * PER_HOST]


class LinkDown:
    """The interface of one host goes down; the other sees no carrier."""

    def __init__(self, host):
        self.host = namespaces.HOSTS[host]

    def begin(self):
        namespaces.ip("-n", self.host, "link", "set", DEVICE, "down")

    def heal(self):
        namespaces.ip("-n", self.host, "link", "set", DEVICE, "up")


class OneWay:
    """What one host sends is lost, and nothing tells it: it goes to a hardware address that nobody has."""

    def __init__(self, sender):
        self.neighbour = ("-n", namespaces.HOSTS[sender], "neighbour")
        self.address = namespaces.ADDRESSES["IPv4"][1 - sender]

    def begin(self):
        namespaces.ip(*self.neighbour, "replace", self.address, "lladdr", NOBODY, "dev", DEVICE, "nud", "permanent")

    def heal(self):
        namespaces.ip(*self.neighbour, "flush", "dev", DEVICE, "nud", "permanent")


def ranks(members):
    return {member.rank for member in members}


def partition(run, mode, fault, both_ways, heartbeat_ms=HEARTBEAT_MS, dead_after_ms=DEAD_AFTER_MS):
    run.start_everywhere(mode, TUTTI_HEARTBEAT=f"{heartbeat_ms}ms", TUTTI_DEAD_AFTER=f"{dead_after_ms}ms")
    near, far = run.on(NEAR), run.on(FAR)
    since_us = now_us()
    fault.begin()
    limit_ms = dead_after_ms + 1000
    # One way, those who still hear may first be told of themselves.
    all_ranks = ranks(run.members)
    run.expect_failures(near, ranks(far) if both_ways else all_ranks, ["PEER_LOST"], limit_ms, since_us)
    run.expect_failures(far, ranks(near) if both_ways else all_ranks, ["PEER_LOST"], limit_ms, since_us)
    run.expect_reformed(near)
    run.expect_done(near)
    for member in far:
        failure = member.wait("reform_failed")
        check(failure["status"] == "TUTTI_ERR_UNREACHABLE", f"rank {member.rank}: {failure}")
        check(run.address in failure["message"] and "rendezvous" in failure["message"], f"{failure}")
        check(int(failure["ms"]) <= REFORM_MS + 3000, f"it took too long: {failure}")
    fault.heal()
    for member in far:
        member.tell("go")
        failure = member.wait("reform_failed|reformed", 2)
        check(failure["event"] == "reform_failed" and failure["status"] == "TUTTI_ERR_REFUSED",
              f"rank {member.rank} was left behind, but: {failure}")
        member.tell("end")
        check(member.status() == 3, f"rank {member.rank} should have ended with 3")


def cases():
    """By name: what the ranks do, what happens, whether nothing arrives in either direction, and settings."""
    slow = {"heartbeat_ms": 1000, "dead_after_ms": 5000}  # the defaults
    return {
        "the far host's link goes down during operations": ("loop", LinkDown(FAR), True, {}),
        "the near host's link goes down during operations": ("loop", LinkDown(NEAR), True, {}),
        "the far host's link goes down while all are idle": ("idle", LinkDown(FAR), True, {}),
        "likewise, with default heartbeats": ("loop", LinkDown(FAR), True, slow),
        "what the far host sends is lost": ("loop", OneWay(FAR), False, {}),
        "what the near host sends is lost": ("loop", OneWay(NEAR), False, {}),
        "what the far host sends is lost while all are idle": ("idle", OneWay(FAR), False, {}),
    }


def run_cases():
    failed = 0
    # Each within hosts that share memory; those that differ most also within hosts that do not.
    chosen = [(name, "shm", case) for name, case in cases().items()]
    chosen += [(name, "uds", case) for name, case in list(cases().items())[::2]]
    for name, within, (mode, fault, both_ways, settings) in chosen:
        with Partitioned(within) as run:
            try:
                partition(run, mode, fault, both_ways, **settings)
                print(f"passed: {name} ({within}): slowest error {run.error_ms} ms, re-formed in {run.reform_ms} ms", flush=True)
            except Exception:
                failed += 1
                print(f"FAILED: {name} ({within})\n{traceback.format_exc()}\n{run.text()}", flush=True)
                fault.heal()
    return failed


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tutti", required=True, help="the program")
    parser.add_argument("--survivor", required=True, help="the program")
    parser.parse_args(namespace=PROGRAMS)
    try:
        try:
            namespaces.probe()
        except SystemExit:
            print("         Neither are partitions between hosts.")
            raise
        namespaces.set_up()
        failed = run_cases()
    finally:
        namespaces.tear_down()
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
