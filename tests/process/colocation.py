"""The ranks of one host agree on shared memory when a group is made: all of a host have it or none has, and those that
have not say why in one line and go on over Unix sockets.  What they say is read from their log; that they really share
memory, from the maps of the processes."""

import argparse
import os
import re
import signal
import unittest

import namespaces
from job import PROGRAMS, Fifo, Job, fields, free_port

PAGE_BYTES, SLOT_BYTES = 4096, 512 * 1024
SHARES = " ranks of this host share "
FALLS_BACK = "warning: no shared memory among the ranks of this host: "


def arena_bytes(ranks):
    """The formula of src/local/arena.h."""
    return PAGE_BYTES + ranks * (PAGE_BYTES + SLOT_BYTES)


def mappings(pid):
    """Lengths of the mappings of our memfds."""
    lengths = []
    with open(f"/proc/{pid}/maps", encoding="utf-8") as maps:
        for line in maps:
            if "/memfd:tutti" in line:
                begin, end = (int(address, 16) for address in line.split()[0].split("-"))
                lengths.append(end - begin)
    return lengths


class ColocationTest(unittest.TestCase):
    def job(self, size, program=None, rendezvous=None, **environment):
        job = Job(program or PROGRAMS.member, size, rendezvous, TUTTI_LOG="info", **environment)
        self.addCleanup(job.__exit__)
        return job

    def ranks(self, size, *arguments, only=None, rendezvous=None, **environment):
        """`only`: more of the environment, by rank."""
        job = self.job(size, rendezvous=rendezvous, **environment)
        return [job.rank(rank, *arguments, **(only or {}).get(rank, {})) for rank in range(size)]

    def assert_ends_well(self, processes):
        for process in processes:
            self.assertEqual(process.finish(60), 0, "\n".join(other.text() for other in processes))

    def assert_shares(self, process, ranks, times=1):
        said = [line.text for line in process.lines if SHARES in line.text]
        expected = f"info: {ranks}{SHARES}{arena_bytes(ranks) // 1024} KiB of memory"
        self.assertEqual(sum(text.endswith(expected) for text in said), times, process.text())

    def assert_does_not_share(self, process, pattern=None):
        """`pattern`: of the reason that it gives in one line; None: it gives none."""
        said = [line.text for line in process.lines if FALLS_BACK in line.text]
        self.assertIsNone(process.find(SHARES), process.text())
        self.assertEqual(len(said), 0 if pattern is None else 1, process.text())
        if said:
            self.assertRegex(said[0].split(FALLS_BACK)[1], pattern)

    def assert_lost(self, process, rank):
        """It ends with an error that names that rank."""
        self.assertEqual(process.finish(60), 3, process.text())
        found = fields(process.expect("^failed "))
        self.assertEqual((found["status"], found["rank"]), ("TUTTI_ERR_PEER_LOST", str(rank)), process.text())


class Agreement(ColocationTest):
    def test_all_ranks_of_a_host_map_the_same_memory(self):
        for size in 2, 3, 4, 8:
            with self.subTest(size=size), Fifo() as fifo:
                processes = self.ranks(size, "hold", fifo.path)
                for process in processes:
                    process.expect("^joined ")
                    self.assertIn(arena_bytes(size), mappings(process.pid), process.text())
                fifo.release(size)
                self.assert_ends_well(processes)
                for process in processes:
                    self.assert_shares(process, size)

    def test_each_host_has_memory_of_its_own(self):
        for hosts in "aabb", "abab", "aab", "ab":
            with self.subTest(hosts=hosts):
                only = {rank: {"TUTTI_HOST": f"layout-{host}"} for rank, host in enumerate(hosts)}
                processes = self.ranks(len(hosts), only=only, rendezvous=f"127.0.0.1:{free_port()}")
                self.assert_ends_well(processes)
                for process, host in zip(processes, hosts):
                    if hosts.count(host) > 1:
                        self.assert_shares(process, hosts.count(host))
                    else:
                        self.assert_does_not_share(process)

    def run_hosts(self, hosts, without=None):
        """The processes; `without`: the rank for which there is no memory to share."""
        only = {rank: {"TUTTI_HOST": f"layout-{host}"} for rank, host in enumerate(hosts)}
        if without is not None:
            only[without]["TUTTI_FAILPOINTS"] = "arena=no_memory"
        processes = self.ranks(len(hosts), "once", only=only, rendezvous=f"127.0.0.1:{free_port()}")
        self.assert_ends_well(processes)
        return processes

    def test_hosts_agree_whether_all_of_them_have_memory(self):
        for process in self.run_hosts("aabb"):
            self.assertIsNotNone(process.find("info: 2 hosts of 2 ranks share memory within each$"), process.text())
        for hosts in "abab", "aab", "aaab":
            for process in self.run_hosts(hosts):
                self.assertIsNone(process.find("share memory within each|on the host of"), process.text())

    def test_a_host_without_memory_keeps_the_others_from_mixing_it_with_links(self):
        if not PROGRAMS.failpoints:
            self.skipTest("a build without failpoints")
        for without in 0, 1, 3:
            with self.subTest(rank=without):
                first = without // 2 * 2
                for rank, process in enumerate(self.run_hosts("aabb", without)):
                    said = process.find(f"info: links carry everything .*on the host of rank {first} .*none share memory")
                    self.assertIsNotNone(said, process.text())
                    if rank // 2 != without // 2:
                        self.assert_shares(process, 2)

    def test_groups_made_of_a_group_have_memory_of_their_own(self):
        with Fifo() as fifo:
            job = self.job(4)
            processes = [job.rank(rank, "hold_child", fifo.path) for rank in range(4)]
            for process in processes:
                process.expect("^child ")
                lengths = mappings(process.pid)
                self.assertIn(arena_bytes(4), lengths)
                self.assertIn(arena_bytes(2), lengths)
            fifo.release(4)
            self.assert_ends_well(processes)
            for process in processes:
                self.assert_shares(process, 4)
                self.assert_shares(process, 2)

    def test_a_child_of_fork_does_not_keep_the_memory(self):
        # Beside the parents' there is a process with the same command that maps none of it.
        job = self.job(2, program=PROGRAMS.forker)
        processes = [job.rank(rank, "outlive", rank) for rank in range(2)]
        for process in processes:
            child = int(fields(process.expect("^child "))["pid"])
            self.assertIn(arena_bytes(2), mappings(process.pid), process.text())
            self.assertNotIn(arena_bytes(2), mappings(child), process.text())
            os.kill(child, signal.SIGKILL)


class Fallback(ColocationTest):
    def test_one_rank_that_may_not_share_memory_keeps_its_host_from_it(self):
        for other in 0, 1, 2:
            with self.subTest(rank=other):
                processes = self.ranks(3, "links", only={other: {"TUTTI_TRANSPORTS": "uds,tcp"}})
                self.assert_ends_well(processes)
                for rank, process in enumerate(processes):
                    self.assert_does_not_share(process, None if rank == other else
                                               f"^rank {other} .*does not have it in TUTTI_TRANSPORTS$")

    def test_a_rank_without_a_unix_socket_keeps_its_host_from_it(self):
        processes = self.ranks(2, "links", only={1: {"TUTTI_TRANSPORTS": "tcp"}}, TUTTI_TRANSPORTS="shm,uds,tcp",
                               rendezvous=f"127.0.0.1:{free_port()}")
        self.assert_ends_well(processes)
        self.assert_does_not_share(processes[0], "^rank 1 .*TUTTI_TRANSPORTS$")
        self.assert_does_not_share(processes[1])

    def test_nobody_says_a_word_where_nobody_wants_shared_memory(self):
        processes = self.ranks(2, TUTTI_TRANSPORTS="uds,tcp")
        self.assert_ends_well(processes)
        for process in processes:
            self.assert_does_not_share(process)

    def test_memory_that_one_rank_cannot_have_nobody_has(self):
        if not PROGRAMS.failpoints:
            self.skipTest("a build without failpoints")
        for guilty in 0, 1, 3:
            with self.subTest(rank=guilty):
                processes = self.ranks(4, "once", only={guilty: {"TUTTI_FAILPOINTS": "arena=no_memory"}})
                self.assert_ends_well(processes)
                for process in processes:
                    self.assert_does_not_share(process, f"^rank {guilty} .*no memory")

    def test_a_group_goes_without_and_a_later_one_has_it(self):
        if not PROGRAMS.failpoints:
            self.skipTest("a build without failpoints")
        with Fifo() as fifo:
            job = self.job(4)
            processes = [job.rank(rank, "hold_child", fifo.path,
                                  **({"TUTTI_FAILPOINTS": "arena=no_memory"} if rank == 1 else {}))
                         for rank in range(4)]
            fifo.release(4)
            self.assert_ends_well(processes)
            for process in processes:
                self.assertEqual(len([line for line in process.lines if FALLS_BACK in line.text]), 1, process.text())
                self.assert_shares(process, 2)


class Failure(ColocationTest):
    def setUp(self):
        if not PROGRAMS.failpoints:
            self.skipTest("a build without failpoints")

    def test_a_rank_that_dies_meanwhile_is_named_by_all_others(self):
        for victim in 0, 1, 3:
            with self.subTest(rank=victim):
                processes = self.ranks(4, "once", only={victim: {"TUTTI_FAILPOINTS": "arena=die"}})
                for rank, process in enumerate(processes):
                    if rank != victim:
                        self.assert_lost(process, victim)

    def test_a_rank_that_stops_meanwhile_is_named_by_all_others(self):
        for victim in 0, 2:
            with self.subTest(rank=victim):
                processes = self.ranks(3, "once", only={victim: {"TUTTI_FAILPOINTS": "arena=stop"}},
                                       TUTTI_DEAD_AFTER="1s", TUTTI_HEARTBEAT="100ms")
                for rank, process in enumerate(processes):
                    if rank != victim:
                        self.assert_lost(process, victim)

    def test_a_rank_that_stops_for_a_moment_does_no_harm(self):
        for victim in 0, 2:
            with self.subTest(rank=victim):
                processes = self.ranks(3, "once", only={victim: {"TUTTI_FAILPOINTS": "arena=stop"}})
                for process in processes:
                    process.expect("^started ")
                self.await_stop(processes[victim])
                os.kill(processes[victim].pid, signal.SIGCONT)
                self.assert_ends_well(processes)
                for process in processes:
                    self.assert_shares(process, 3)

    def await_stop(self, process):
        """Until the process is stopped."""
        found = os.waitid(os.P_PID, process.pid, os.WSTOPPED | os.WNOWAIT)
        self.assertEqual(found.si_code, os.CLD_STOPPED)

    def test_a_rank_that_dies_while_a_child_is_made_is_named_by_all_others(self):
        with Fifo() as fifo:
            job = self.job(4)
            processes = [job.rank(rank, "hold_child", fifo.path,
                                  **({"TUTTI_FAILPOINTS": "arena=die@2"} if rank == 2 else {})) for rank in range(4)]
            fifo.release(4)
            for rank, process in enumerate(processes):
                if rank != 2:
                    self.assert_lost(process, 2)


class Unreachable(ColocationTest):
    """Containers of one machine have its boot id, but Unix sockets of their own."""

    @classmethod
    def setUpClass(cls):
        try:
            namespaces.probe()
        except SystemExit:
            raise unittest.SkipTest("no network namespaces here: THE FALL BACK TO TCP IS NOT TESTED") from None
        cls.addClassCleanup(namespaces.tear_down)
        namespaces.set_up()

    def test_a_host_whose_unix_sockets_do_not_reach_all_its_ranks_goes_without(self):
        # The leader can only be told over TCP, and tells over it.
        for where in (0, 0, 1), (0, 1, 1), (1, 0, 0):
            with self.subTest(where=where):
                address = namespaces.ADDRESSES["IPv4"][where[0]]
                job = self.job(3, rendezvous=f"{address}:{namespaces.PORT}")
                processes = []
                for rank, namespace in enumerate(where):
                    processes.append(job.add("ip", "netns", "exec", namespaces.HOSTS[namespace], PROGRAMS.member,
                                             "links", TUTTI_RANK=rank, TUTTI_SIZE=3, TUTTI_JOIN_TIMEOUT="20s",
                                             TUTTI_RENDEZVOUS=job.rendezvous, TUTTI_LOG="info", TUTTI_HOST="one"))
                self.assert_ends_well(processes)
                for process in processes:
                    self.assert_does_not_share(process, r"^rank \d .*its Unix socket could not be used")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--member", required=True)
    parser.add_argument("--forker", required=True)
    parser.add_argument("--failpoints", action="store_true", help="the library has them")
    _, rest = parser.parse_known_args(namespace=PROGRAMS)
    unittest.main(argv=["colocation.py", *rest], verbosity=2)
