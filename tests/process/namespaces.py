"""Two hosts on one machine: two network namespaces joined by a veth pair, each with a TUTTI_HOST of its own.

Ranks of one namespace must talk in shared memory (with IPv4) or over Unix sockets (with IPv6) and those of different
ones over TCP through the veth; the kernel's own counters of the interface must agree about the bytes.  Needs root; without
it the test is skipped, loudly, with status 77."""

import argparse
import json
import os
import re
import shutil
import subprocess
import sys

from job import Job, fields

SKIPPED = 77
HOSTS = f"tutti-a-{os.getpid()}", f"tutti-b-{os.getpid()}"
WITHIN = {"IPv4": "shm", "IPv6": "uds"}
ADDRESSES = {"IPv4": ("10.77.0.1", "10.77.0.2"), "IPv6": ("fd77::1", "fd77::2")}
PORT = 4711  # any port is free in a new namespace


class CommandFailed(Exception):
    pass


def ip(*arguments):
    result = subprocess.run(["ip", *arguments], text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                            timeout=30)
    if result.returncode != 0:
        raise CommandFailed(f"`ip {' '.join(arguments)}` failed with exit status {result.returncode}: "
                            f"{result.stderr.strip() or 'it said nothing'}")
    return result.stdout


def skip(why):
    print("=" * 78)
    print(f"SKIPPED: tests/process/namespaces.py: {why}")
    print("         TCP between hosts is NOT tested by this run.")
    print("=" * 78)
    sys.exit(SKIPPED)


def probe():
    """Makes the namespaces and the pair, and enters them as the test will; a machine may forbid each of these
    steps (containers often allow a namespace and not to enter it), and only then is there nothing to test."""
    if os.geteuid() != 0:
        skip("it needs root to make network namespaces")
    if shutil.which("ip") is None:
        skip("it needs the command ip (Debian: iproute2)")
    try:
        for host in HOSTS:
            ip("netns", "add", host)
            ip("-n", host, "link", "set", "lo", "up")
            ip("netns", "exec", host, "true")
        ip("link", "add", "tutti0", "netns", HOSTS[0], "type", "veth", "peer", "name", "tutti0", "netns", HOSTS[1])
    except CommandFailed as error:
        skip(f"this machine does not allow it: {error}")


def set_up():
    """Whatever fails from here on is a failure."""
    for index, host in enumerate(HOSTS):
        ip("-n", host, "link", "set", "tutti0", "up")
        ip("-n", host, "address", "add", f"{ADDRESSES['IPv4'][index]}/24", "dev", "tutti0")
        # nodad: the address is usable at once, not after a second of looking for duplicates.
        ip("-n", host, "address", "add", f"{ADDRESSES['IPv6'][index]}/64", "dev", "tutti0", "nodad")


def tear_down():
    for host in HOSTS:
        if not os.path.exists(f"/run/netns/{host}"):
            continue
        try:
            ip("netns", "delete", host)  # takes the veth pair with it
        except (CommandFailed, subprocess.TimeoutExpired) as error:
            print(f"left behind: {error}", file=sys.stderr)


def received_bytes(host):
    link, = json.loads(ip("-n", host, "-s", "-j", "link", "show", "tutti0"))
    return link["stats64"]["rx"]["bytes"]


def start(job, command, rank, per_host, within):
    host = rank // per_host
    variables = dict(TUTTI_RANK=rank, TUTTI_SIZE=job.size, TUTTI_RENDEZVOUS=job.rendezvous,
                     TUTTI_HOST=("host-a", "host-b")[host], TUTTI_JOIN_TIMEOUT="30s",
                     TUTTI_TRANSPORTS=f"{within},tcp")
    return job.add("ip", "netns", "exec", HOSTS[host], *command, **variables)


def check(condition, what, processes):
    if not condition:
        output = "\n".join(process.text() for process in processes)
        raise AssertionError(f"{what}\n{output}")


def run_ranks(command, per_host, family):
    """2 * per_host ranks, half of them in each namespace."""
    address = ADDRESSES[family][0]
    rendezvous = f"[{address}]:{PORT}" if family == "IPv6" else f"{address}:{PORT}"
    size = 2 * per_host
    with Job(command[0], size, rendezvous) as job:
        processes = [start(job, command, rank, per_host, WITHIN[family]) for rank in range(size)]
        for process in processes:
            check(process.finish(250) == 0, f"{family}, {size} ranks: a rank failed", processes)
    return processes


def run_collectives(program, per_host, family):
    before = [received_bytes(host) for host in HOSTS]
    command = [program, "--brief", "--print-links"] + (["--hierarchical"] if per_host > 1 else [])
    if per_host > 1 and WITHIN[family] == "shm":
        command.append("--mixed")
    processes = run_ranks(command, per_host, family)
    links = [fields(line.text) for process in processes for line in process.lines if line.text.startswith("link ")]
    passed = [received_bytes(host) - earlier for host, earlier in zip(HOSTS, before)]

    sent = [0, 0]  # through the veth, by host
    for link in links:
        rank, peer = int(link["rank"]), int(link["peer"])
        expected = WITHIN[family] if rank // per_host == peer // per_host else "tcp"
        check(link["transport"] == expected, f"rank {rank} reaches rank {peer} by {link['transport']}, "
              f"not by {expected}", processes)
        if expected == "tcp":
            sent[rank // per_host] += int(link["sent"])
    for rank in range(2 * per_host):
        check(sum(int(link["rank"]) == rank for link in links) >= 2, "each rank has the links of its ring", processes)
    for host in 0, 1:
        check(sent[host] > 1000000, "hardly any data was sent between the namespaces", processes)
        check(passed[1 - host] >= sent[host], f"{sent[host]} bytes were sent by TCP, but only "
              f"{passed[1 - host]} came through the veth", processes)
        # Headers of IP and TCP, acknowledgements and control connections: far below as much again.
        check(passed[1 - host] < 2 * sent[host] + 1000000, f"{passed[1 - host]} bytes came through the veth, "
              f"though only {sent[host]} should have", processes)
    checked = re.search(r"\d+ calls checked", "\n".join(process.text() for process in processes))
    print(f"{family}, {per_host} + {per_host} ranks: {checked.group(0)}, {sum(sent)} bytes by TCP through the "
          f"veth, the rest over {WITHIN[family]}", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    for name in "collectives", "groups", "messages":
        parser.add_argument(f"--{name}", required=True)
    arguments = parser.parse_args()
    try:
        probe()
        set_up()
        for family in ADDRESSES:
            for per_host in 1, 2:
                run_collectives(arguments.collectives, per_host, family)
        run_ranks([arguments.groups, "--expect-local", "2"], 2, "IPv4")
        run_ranks([arguments.messages], 2, "IPv4")
    except CommandFailed as error:
        sys.exit(f"failed: {error}")
    finally:
        tear_down()


if __name__ == "__main__":
    main()
