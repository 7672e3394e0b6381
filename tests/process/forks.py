"""Children of fork() and the group of their parent: a child that lives on does not keep the links of a dead parent
alive, has none of its sockets, cannot use its communicators, and does not disturb it by whatever it does."""

import argparse
import os
import signal
import sys
import time
import unittest

from job import PROGRAMS, Job, fields, socket_inodes

RANKS = 4
CLOSED_MS = 1000  # from the death of the parent until every other rank has its error


class ForkTest(unittest.TestCase):
    def job(self, **environment):
        job = Job(PROGRAMS.forker, RANKS, **environment)
        self.addCleanup(job.__exit__)
        return job

    def assert_not_wrong(self, process):
        self.assertIsNone(process.find("^wrong"), process.text())


class Parents(ForkTest):
    def test_children_that_come_and_go_do_not_disturb_their_parent(self):
        for transport in "shm", "uds", "tcp":
            with self.subTest(transport=transport):
                for process in self.job(TUTTI_TRANSPORTS=transport).ranks("churn"):
                    self.assertEqual(process.finish(60), 0, process.text())
                    process.expect("^done$")
                    self.assert_not_wrong(process)


class Children(ForkTest):
    """A data loader that outlives its parent."""

    def parent_dies(self, rank, **environment):
        members = self.job(**environment).ranks("outlive", rank)
        for member in members:
            member.expect("^looping$")
        parent = members.pop(rank)
        child = int(fields(parent.expect("^child "))["pid"])
        shared = socket_inodes(parent.pid) & socket_inodes(child)
        self.assertEqual(shared, set(), "sockets of the parent that its child has open")
        self.assertEqual(socket_inodes(child), set(), "the child has opened no socket of its own")
        died_ns = time.monotonic_ns()
        os.kill(parent.pid, signal.SIGKILL)
        for member in members:
            self.assertEqual(member.finish(), 3, member.text())
            failure = fields(member.expect("^failed "))
            self.assertEqual(failure["status"], "TUTTI_ERR_PEER_LOST", member.text())
            self.assertEqual(int(failure["rank"]), rank, member.text())
            self.assertLess(int(failure["us"]) / 1000 - died_ns / 1e6, CLOSED_MS, member.text())
        os.kill(child, 0)  # it has lived on all the time

    def test_a_parent_that_dies_is_named_at_once_though_its_child_lives_on(self):
        for transport in "shm", "uds", "tcp":
            for rank in 0, 2, RANKS - 1:
                with self.subTest(transport=transport, rank=rank):
                    self.parent_dies(rank, TUTTI_TRANSPORTS=transport)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--forker", required=True, help="the program")
    _, rest = parser.parse_known_args(namespace=PROGRAMS)
    unittest.main(argv=sys.argv[:1] + rest, verbosity=2)
