"""The inference example as a test: right answers, a clean end, and who is to blame when a rank dies.

    python3 check.py --binaries build/dev/bin [--mpi]"""

import argparse
import os
import pathlib
import signal
import subprocess
import sys
import unittest

import servers

REQUESTS = 300
ARGUMENTS = None


def served(ranks, *options):
    binaries = ARGUMENTS.binaries
    return servers.served(binaries / "inference_tutti", [binaries / "tutti", "run", "-n", ranks, "--"], *options)


class Inference(unittest.TestCase):
    def check_answers(self, context, connections):
        with context as server:
            servers.load(ARGUMENTS.binaries / "inference_load", server, REQUESTS, connections)
            self.assertEqual(server.stop(), 0, server.output())
            self.assertFalse(server.socket.exists())

    def test_every_answer_is_that_of_a_single_process(self):
        for ranks, connections, patience_ms in (1, 1, 0), (2, 4, 0), (3, 9, 1), (4, 2, 0), (3, 2, -1):
            with self.subTest(ranks=ranks, connections=connections, patience_ms=patience_ms):
                self.check_answers(served(ranks, "--patience", patience_ms), connections)

    def test_a_rank_may_hold_no_hidden_unit(self):
        self.check_answers(served(4, "--width", 5, "--hidden", 3), 2)

    def test_the_same_server_answers_over_mpi(self):
        if not ARGUMENTS.mpi:
            self.skipTest("inference_mpi was not built")
        launcher = [*servers.MPI, "--mca", "btl", "self,vader", "-n", 3]
        for patience_ms in 0, -1:
            with self.subTest(patience_ms=patience_ms):
                self.check_answers(servers.served(ARGUMENTS.binaries / "inference_mpi", launcher, "--patience",
                                                  patience_ms), 4)

    def test_clients_are_told_which_rank_died(self):
        with served(3) as server:
            command = servers.load_command(ARGUMENTS.binaries / "inference_load", server, 10_000_000, 4)
            with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as client:
                ranks = [pid for pid in server.rank_pids() if pid != server.root_pid]
                os.kill(ranks[0], signal.SIGKILL)
                _, said = client.communicate(timeout=servers.STOP_S)
            self.assertEqual(client.returncode, 1)
            self.assertRegex(said, rf"the server says: TUTTI_ERR_PEER_LOST: .*rank [12] \(host .*pid {ranks[0]}\)")
            self.assertNotEqual(server.wait(), 0)
            self.assertFalse(server.socket.exists())

    def test_a_socket_that_a_killed_server_left_behind_is_replaced(self):
        with served(1) as killed:
            killed.kill()
            self.assertTrue(killed.socket.exists())
            again = servers.Server(ARGUMENTS.binaries / "inference_tutti", [], killed.socket)
            try:
                servers.load(ARGUMENTS.binaries / "inference_load", again, REQUESTS, 1)
                self.assertEqual(again.stop(), 0)
            finally:
                again.kill()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--binaries", required=True, type=pathlib.Path)
    parser.add_argument("--mpi", action="store_true", help="inference_mpi is there, too")
    ARGUMENTS = parser.parse_args()
    unittest.main(argv=sys.argv[:1], verbosity=2)
