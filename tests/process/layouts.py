"""Ranks of several hosts, which TUTTI_HOST makes of one machine: shared memory or Unix sockets within a host, TCP over
loopback between hosts, hierarchical algorithms where the ranks of each host are consecutive.  In deterministic mode the
results have the same bits in every layout and over every transport.  Needs no root; namespaces.py does it with a
network between the hosts."""

import argparse
import os
import unittest

from job import Job, fields, free_port

PROGRAMS = argparse.Namespace()


def run_ranks(program, hosts, *arguments, timeout=150, **environment):
    """One rank for each host named; the lines that they say."""
    with Job(program, len(hosts), f"127.0.0.1:{free_port()}", **environment) as job:
        processes = [job.rank(rank, *arguments, TUTTI_HOST=f"layout-{host}") for rank, host in enumerate(hosts)]
        for process in processes:
            status = process.finish(timeout)
            if status != 0:
                raise AssertionError(f"{program} {' '.join(arguments)} on hosts {hosts}, {environment}: exit status "
                                     f"{status}\n" + "\n".join(other.text() for other in processes))
        return [line.text for process in processes for line in process.lines]


class Layouts(unittest.TestCase):
    def check_collectives(self, hosts, *arguments, within="shm"):
        lines = run_ranks(PROGRAMS.collectives, hosts, "--brief", "--print-links", *arguments,
                          TUTTI_TRANSPORTS=f"{within},tcp")
        links = [fields(line) for line in lines if line.startswith("link ")]
        for link in links:
            same = hosts[int(link["rank"])] == hosts[int(link["peer"])]
            self.assertEqual(link["transport"], within if same else "tcp", link)
        for rank in range(len(hosts)):
            self.assertGreaterEqual(sum(int(link["rank"]) == rank for link in links), 2, "a rank without its ring")

    def test_two_hosts_with_two_ranks_each(self):
        for within, mixed in ("shm", ["--mixed"]), ("uds", []):
            with self.subTest(within=within):
                self.check_collectives("aabb", "--hierarchical", *mixed, within=within)

    def test_each_rank_of_three_hosts_or_of_hosts_of_four_carries_a_part_between_them(self):
        for hosts in "aabbcc", "aaaabbbb":
            with self.subTest(hosts=hosts):
                self.check_collectives(hosts, "--hierarchical", "--mixed")

    def test_symmetric_memory_is_of_use_within_a_host_and_does_no_harm_between_hosts(self):
        self.check_collectives("aabb", "--hierarchical", "--mixed", "--symmetric", "all")

    def test_hosts_with_different_numbers_of_ranks(self):
        self.check_collectives("aaabbc", "--hierarchical")

    def test_ranks_that_alternate_between_hosts(self):
        self.check_collectives("abab")

    def test_every_rank_on_a_host_of_its_own(self):
        self.check_collectives("abc")

    def test_groups_know_who_is_local(self):
        run_ranks(PROGRAMS.groups, "aabb", "--expect-local", "2")
        run_ranks(PROGRAMS.groups, "abc", "--expect-local", "1")

    def test_messages_and_plans_cross_hosts(self):
        run_ranks(PROGRAMS.messages, "aab")
        run_ranks(PROGRAMS.plans, "aabb")


class Deterministic(unittest.TestCase):
    def run_collectives(self, hosts, what, **environment):
        """What the ranks say, and their digest."""
        lines = run_ranks(PROGRAMS.collectives, hosts, what, "--print-digest", TUTTI_DETERMINISTIC=1, **environment)
        digests = {fields(line)["value"] for line in lines if line.startswith("digest ")}
        self.assertEqual(len(digests), 1, f"the ranks of {hosts} differ: {digests}")
        return lines, digests.pop()

    def digest(self, hosts, **environment):
        return self.run_collectives(hosts, "--brief", **environment)[1]

    def striped_digest(self, hosts, channels):
        # The built-in constants, so that a tuning of this machine cannot make one channel look better.
        lines, digest = self.run_collectives(hosts, "--striped", TUTTI_CHANNELS=channels, TUTTI_TUNING="none")
        chosen = [int(fields(line)["channels"]) for line in lines if line.startswith("choice ")]
        self.assertEqual(chosen, [channels] * len(chosen), f"hosts {hosts}")
        self.assertGreaterEqual(len(chosen), len(hosts), "a rank did not say over how many channels it went")
        return digest

    def test_bits_depend_neither_on_layout_nor_on_transport(self):
        seen = {"shm": self.digest("aaaa", TUTTI_TRANSPORTS="shm"),
                "uds": self.digest("aaaa", TUTTI_TRANSPORTS="uds"),
                "tcp": self.digest("aaaa", TUTTI_TRANSPORTS="tcp"),
                "two hosts": self.digest("aabb"),
                "two hosts without shared memory": self.digest("aabb", TUTTI_TRANSPORTS="uds,tcp"),
                "two hosts, alternating": self.digest("abab"),
                "four hosts": self.digest("abcd"),
                "small slices": self.digest("aaaa", TUTTI_SLICE_BYTES="4K", TUTTI_CHECKSUM=1),
                "small slices over sockets": self.digest("aaaa", TUTTI_SLICE_BYTES="4K", TUTTI_CHECKSUM=1,
                                                         TUTTI_TRANSPORTS="uds")}
        self.assertEqual(len(set(seen.values())), 1, seen)

    def test_bits_of_three_ranks_depend_on_neither(self):
        seen = {hosts: self.digest(hosts) for hosts in ("aaa", "aab", "abc")}
        self.assertEqual(len(set(seen.values())), 1, seen)

    def test_bits_do_not_depend_on_the_channels(self):
        if len(os.sched_getaffinity(0)) < 2:
            self.skipTest("a second channel needs a second core, and this machine has one: NOTHING IS TESTED HERE")
        # A host for each rank, so that each takes all cores for its own; of two ranks the order cannot matter.
        for hosts in "ab", "abcd":
            self.assertEqual(self.striped_digest(hosts, 1), self.striped_digest(hosts, 2), f"hosts {hosts}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    for name in "collectives", "groups", "messages", "plans":
        parser.add_argument(f"--{name}", required=True)
    _, rest = parser.parse_known_args(namespace=PROGRAMS)
    unittest.main(argv=["layouts.py", *rest], verbosity=2)
