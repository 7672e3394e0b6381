"""A job over TCP with IPv6 alone, on the loopback address ::1: no root needed.  Rendezvous, data and control
connections.  Where the host has no ::1 the test is skipped, loudly, with status 77."""

import argparse
import re
import socket
import sys

from job import Job, tcp_listeners

SKIPPED = 77
SIZE = 3


def free_port():
    try:
        with socket.socket(socket.AF_INET6) as probe:
            probe.bind(("::1", 0))
            return probe.getsockname()[1]
    except OSError as error:
        print("=" * 78)
        print(f"SKIPPED: tests/process/ipv6.py: this host has no ::1 ({error})")
        print("         IPv6 is NOT tested by this run.")
        print("=" * 78)
        sys.exit(SKIPPED)


def check_listeners(processes, found):
    """Before they end: whatever listens does so on ::1."""
    for process in processes:
        for listener in tcp_listeners(process.pid):
            found.append(listener)
            # The kernel prints four words in the byte order of the host.
            loopback = "00000000" * 3 + (1).to_bytes(4, "big")[::1 if sys.byteorder == "big" else -1].hex().upper()
            if not listener.startswith(f"tcp6 {loopback}:"):
                sys.exit(f"failed: process {process.pid} listens on {listener}")


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--collectives", required=True)
    arguments = parser.parse_args()
    rendezvous = f"[::1]:{free_port()}"
    with Job(arguments.collectives, SIZE, rendezvous, TUTTI_TRANSPORTS="tcp", TUTTI_INTERFACE="::1/128",
             TUTTI_MISSING_AFTER="100ms") as job:
        early = [job.rank(rank, "--expect-transport", "tcp") for rank in range(SIZE - 1)]
        for process in early:
            process.expect("still waiting")
        listeners = []
        check_listeners(early, listeners)
        if len(listeners) < SIZE:
            sys.exit(f"failed: the rendezvous and {SIZE - 1} members should listen, but only {listeners} do")
        processes = early + [job.rank(SIZE - 1, "--expect-transport", "tcp")]
        for process in processes:
            if process.finish(200) != 0:
                sys.exit(f"failed: a rank ended with {process.child.returncode}:\n{process.text()}")
        checked = re.search(r"\d+ calls checked", processes[0].text())
    print(f"{SIZE} ranks on ::1: {checked.group(0)}, by TCP over IPv6")


if __name__ == "__main__":
    main()
