"""Bad input and failures, end to end with real processes: each gives a clear error on the right side, disturbs
nobody else, and nothing hangs.  Every wait has a limit."""

import itertools
import os
import signal
import socket
import tempfile
import time
import unittest

from job import PROGRAMS, Fifo, Job, Process, fields, free_port, run_tests, tcp_listeners, unix_listeners

GARBAGE = {
    "HTTP": b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "TLS": bytes.fromhex("16030100c8010000c40303") + bytes(range(200)),
    "SSH": b"SSH-2.0-OpenSSH_9.2p1 Debian-2\r\n",
    "random": bytes((i * 7919 + 13) % 256 for i in range(5000)),
    "zeros": bytes(4096),
    "magic only": b"TUTI",
    "nothing": b"",
}


def throw_garbage(address, keep):
    """One connection for each kind; all stay open, in `keep`, so that nothing is gained by their closing."""
    for data in GARBAGE.values():
        family = socket.AF_UNIX if isinstance(address, str) else socket.AF_INET
        connection = socket.socket(family, socket.SOCK_STREAM)
        keep.append(connection)
        connection.settimeout(5)
        connection.connect(address)
        try:
            connection.sendall(data)
        except (BrokenPipeError, ConnectionResetError):
            pass  # refused while we still spoke: just as well


def abstract(name):
    """'@name' as the socket module writes it."""
    return "\0" + name[1:] if name.startswith("@") else name


TRANSPORTS = "shm", "uds", "tcp"


class FailureTest(unittest.TestCase):
    def job(self, size, rendezvous=None, **environment):
        job = Job(PROGRAMS.member, size, rendezvous, **environment)
        self.addCleanup(job.__exit__)
        return job

    def rendezvous_service(self):
        """`tutti rendezvous` on a port of its own choice: (process, address)."""
        service = Process(PROGRAMS.tutti, "rendezvous", "--listen", "127.0.0.1:0")
        self.addCleanup(service.kill)
        return service, service.expect(r"listening on ").split()[-1]

    def assert_done(self, *processes):
        for process in processes:
            self.assertEqual(process.finish(), 0, process.text())
            process.expect(r"^done$")

    def assert_fails(self, process, name, *patterns, timeout=20, rank=None):
        """It failed with this status (a name without TUTTI_ERR_), in a sentence that matches."""
        self.assertEqual(process.finish(timeout), 3, process.text())
        failure = fields(process.expect(r"^failed "))
        self.assertEqual(failure["status"], f"TUTTI_ERR_{name}", process.text())
        self.assertGreater(len(failure["message"].split()), 3, "one full sentence")
        for pattern in patterns:
            self.assertRegex(failure["message"], pattern)
        if rank is not None:
            self.assertEqual(int(failure["rank"]), rank, process.text())
        return failure


class Joining(FailureTest):
    def test_an_unreachable_rendezvous_is_named_when_the_join_timeout_has_passed(self):
        port = free_port()
        member = self.job(2, f"127.0.0.1:{port}", TUTTI_JOIN_TIMEOUT="2s").rank(1)
        failure = self.assert_fails(member, "UNREACHABLE", rf"127\.0\.0\.1:{port}", "(?i)rendezvous")
        self.assertGreaterEqual(int(failure["ms"]), 1500, "it must have kept trying")
        self.assertLess(int(failure["ms"]), 4000)

    def test_a_unix_rendezvous_where_nobody_listens_is_named(self):
        member = self.job(2, "unix:/nonexistent/tutti.sock", TUTTI_JOIN_TIMEOUT="1s").rank(1)
        self.assert_fails(member, "UNREACHABLE", "/nonexistent/tutti.sock")

    def test_a_host_name_that_never_resolves_is_named(self):
        member = self.job(2, "no-such-host.invalid:4711", TUTTI_JOIN_TIMEOUT="2s").rank(1)
        self.assert_fails(member, "UNREACHABLE", r"no-such-host\.invalid", timeout=40)

    def test_a_meeting_point_that_speaks_http_is_no_rendezvous(self):
        with socket.create_server(("127.0.0.1", 0)) as server:
            server.settimeout(20)
            port = server.getsockname()[1]
            member = self.job(2, f"127.0.0.1:{port}", TUTTI_JOIN_TIMEOUT="3s").rank(1)
            connection, _ = server.accept()
            with connection:
                connection.sendall(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n" + bytes(64))
                self.assert_fails(member, "PROTOCOL", rf"127\.0\.0\.1:{port}")

    def test_a_meeting_point_that_says_nothing_costs_the_join_timeout_and_no_more(self):
        with socket.create_server(("127.0.0.1", 0)) as server:
            port = server.getsockname()[1]
            member = self.job(2, f"127.0.0.1:{port}", TUTTI_JOIN_TIMEOUT="2s").rank(1)
            failure = self.assert_fails(member, "TIMEOUT", rf"127\.0\.0\.1:{port}")
            self.assertLess(int(failure["ms"]), 5000)

    def test_a_member_with_the_wrong_size_is_refused_and_the_others_are_undisturbed(self):
        job = self.job(2, TUTTI_MISSING_AFTER="100ms")
        first = job.rank(0)
        first.expect("missing")
        stranger = job.rank(1, size=3)
        self.assert_fails(stranger, "REFUSED", r"\b3\b", r"\b2\b")
        self.assert_done(job.rank(1), first)

    def test_a_second_member_with_the_same_rank_is_refused_and_the_first_is_undisturbed(self):
        job = self.job(3, TUTTI_MISSING_AFTER="100ms")
        first, second = job.rank(0), job.rank(1)
        first.expect("missing")
        second.expect("missing")
        twin = job.rank(1)
        self.assert_fails(twin, "REFUSED", r"rank 1\b", rf"\b{second.pid}\b")
        self.assert_done(job.rank(2), first, second)

    def test_a_rank_that_never_comes_is_named_to_everyone(self):
        job = self.job(4, TUTTI_JOIN_TIMEOUT="2s", TUTTI_MISSING_AFTER="200ms")
        members = [job.rank(0), job.rank(1), job.rank(3)]
        for member in members:
            self.assertRegex(member.expect("missing"), r"rank 2\b")
            self.assert_fails(member, "TIMEOUT", r"rank 2\b")

    def test_garbage_on_a_rendezvous_in_service_disturbs_nobody(self):
        service, address = self.rendezvous_service()
        host, port = address.rsplit(":", 1)
        keep = []
        self.addCleanup(lambda: [connection.close() for connection in keep])
        job = self.job(3, address, TUTTI_MISSING_AFTER="100ms")
        throw_garbage((host, int(port)), keep)
        early = [job.rank(0), job.rank(1)]
        for member in early:
            member.expect("missing")
        throw_garbage((host, int(port)), keep)
        self.assert_done(job.rank(2), *early)
        self.assertRegex(service.expect("127.0.0.1:.*HTTP"), "(?i)warning")
        self.assert_done(*self.job(2, address, TUTTI_JOB="another").ranks())
        service.child.send_signal(signal.SIGTERM)
        self.assertEqual(service.finish(), 0, service.text())

    def test_garbage_on_the_rendezvous_of_rank_0_disturbs_nobody(self):
        port, keep = free_port(), []
        self.addCleanup(lambda: [connection.close() for connection in keep])
        job = self.job(2, f"127.0.0.1:{port}", TUTTI_MISSING_AFTER="100ms")
        first = job.rank(0)
        first.expect("missing")
        throw_garbage(("127.0.0.1", port), keep)
        self.assert_done(job.rank(1), first)

    def test_garbage_on_the_tcp_listener_of_a_member_disturbs_nobody(self):
        port, keep = free_port(), []
        self.addCleanup(lambda: [connection.close() for connection in keep])
        job = self.job(2, TUTTI_MISSING_AFTER="100ms", TUTTI_TRANSPORTS="tcp")
        first = job.rank(0, TUTTI_PORT_RANGE=f"{port}-{port}", TUTTI_INTERFACE="lo")
        first.expect("missing")
        self.assertTrue(tcp_listeners(first.pid))
        throw_garbage(("127.0.0.1", port), keep)
        self.assert_done(job.rank(1, TUTTI_INTERFACE="lo"), first)

    def test_garbage_on_the_unix_listeners_of_a_member_disturbs_nobody(self):
        keep = []
        self.addCleanup(lambda: [connection.close() for connection in keep])
        job = self.job(2, TUTTI_MISSING_AFTER="100ms")
        first = job.rank(0)
        first.expect("missing")
        names = unix_listeners(first.pid)
        self.assertGreaterEqual(len(names), 2, "the rendezvous and the member's own listener")
        for name in names:
            throw_garbage(abstract(name), keep)
        self.assert_done(job.rank(1), first)


class Serving(FailureTest):
    """Rank 0 comes while the rendezvous of another job has its address, and that one ends before its own job is
    complete: then rank 0 must serve, or nobody ever would."""

    def rank_0_takes_over_from_another_job(self, rendezvous):
        with Fifo() as fifo:
            other = self.job(2, rendezvous, TUTTI_JOB="other").ranks("hold", fifo.path)
            for member in other:
                member.expect("^joined ")
            job = self.job(2, rendezvous, TUTTI_JOB="ours", TUTTI_MISSING_AFTER="100ms")
            first = job.rank(0)
            self.assertRegex(first.expect("still waiting"), r"rank 1\b", "it joined where the other job's rank 0 serves")
            fifo.release(2)
            self.assert_done(*other)
            self.assertIsNone(first.child.poll(), first.text())
            self.assert_done(job.rank(1), first)

    def test_rank_0_takes_over_a_tcp_address_when_the_other_job_ends(self):
        self.rank_0_takes_over_from_another_job(f"127.0.0.1:{free_port()}")

    def test_rank_0_takes_over_an_abstract_name_when_the_other_job_ends(self):
        self.rank_0_takes_over_from_another_job(f"unix:@tutti-test-takeover-{os.getpid()}")

    def test_rank_0_takes_over_a_path_when_the_other_job_ends(self):
        with tempfile.TemporaryDirectory(prefix="tutti-test-") as folder:
            self.rank_0_takes_over_from_another_job(f"unix:{folder}/meet")

    def test_rank_0_takes_over_when_a_rendezvous_service_is_killed(self):
        service, address = self.rendezvous_service()
        job = self.job(2, address, TUTTI_MISSING_AFTER="100ms")
        first = job.rank(0)
        first.expect("still waiting")
        service.kill()
        self.assert_done(job.rank(1), first)


class Launching(FailureTest):
    def assert_config_error(self, *patterns, **environment):
        process = Process(PROGRAMS.member, "once", **environment)
        self.addCleanup(process.kill)
        self.assert_fails(process, "CONFIG", *patterns)

    def test_a_partial_set_of_tutti_variables_names_what_is_missing(self):
        self.assert_config_error("TUTTI_SIZE", TUTTI_RANK=0)
        self.assert_config_error("TUTTI_RENDEZVOUS", TUTTI_RANK=0, TUTTI_SIZE=2)
        self.assert_config_error("TUTTI_RANK", "TUTTI_SIZE", TUTTI_RENDEZVOUS="unix:@tutti-test-nowhere")

    def test_a_partial_set_of_torchrun_variables_names_what_is_missing(self):
        self.assert_config_error("WORLD_SIZE", RANK=0)
        self.assert_config_error(r"\bRANK\b", WORLD_SIZE=2, LOCAL_WORLD_SIZE=2)

    def test_a_partial_set_of_open_mpi_variables_names_what_is_missing(self):
        self.assert_config_error("OMPI_COMM_WORLD_SIZE", OMPI_COMM_WORLD_RANK=0)

    def test_numbers_out_of_range_and_unreadable_settings_are_named(self):
        meeting = "unix:@tutti-test-nowhere"
        self.assert_config_error("TUTTI_RANK", "5", TUTTI_RANK=5, TUTTI_SIZE=2, TUTTI_RENDEZVOUS=meeting)
        self.assert_config_error("TUTTI_SIZE", "two", TUTTI_RANK=0, TUTTI_SIZE="two", TUTTI_RENDEZVOUS=meeting)
        self.assert_config_error("TUTTI_RENDEZVOUS|pigeon", TUTTI_RANK=0, TUTTI_SIZE=2,
                                 TUTTI_RENDEZVOUS="pigeon")
        self.assert_config_error("TUTTI_CALL_TIMEOUT", "soon", TUTTI_CALL_TIMEOUT="soon")
        self.assert_config_error("TUTTI_TRANSPORTS", "pigeon", TUTTI_TRANSPORTS="pigeon")


class Running(FailureTest):
    def loop_until_everyone_turns(self, mode="loop", size=4, **environment):
        job = self.job(size, **environment)
        members = job.ranks(mode)
        for member in members:
            member.expect("^looping$" if mode.startswith("loop") else "^joined ")
        return members

    def assert_all_name(self, members, rank, since, limit):
        for member in members:
            self.assert_fails(member, "PEER_LOST", rf"rank {rank}\b", rank=rank,
                              timeout=max(0.1, since + limit - time.monotonic()))

    def test_the_others_name_a_killed_rank_within_5_s(self):
        for transport in TRANSPORTS:
            with self.subTest(transport=transport):
                members = self.loop_until_everyone_turns(TUTTI_TRANSPORTS=transport)
                os.kill(members[2].pid, signal.SIGKILL)
                killed = members.pop(2)
                self.assert_all_name(members, 2, time.monotonic(), 5)
                self.assertEqual(killed.finish(), -signal.SIGKILL)

    def test_the_others_name_a_rank_that_stopped_answering(self):
        for transport in "shm", "uds":
            with self.subTest(transport=transport):
                members = self.loop_until_everyone_turns(size=3, TUTTI_DEAD_AFTER="2s", TUTTI_HEARTBEAT="200ms",
                                                         TUTTI_TRANSPORTS=transport)
                stopped = members.pop(1)
                os.kill(stopped.pid, signal.SIGSTOP)
                self.assert_all_name(members, 1, time.monotonic(), 10)

    def test_the_others_name_a_rank_that_exits_without_finalize(self):
        for transport in "shm", "uds":
            with self.subTest(transport=transport):
                members = self.loop_until_everyone_turns("quit", size=3, TUTTI_TRANSPORTS=transport)
                quitter = members.pop()
                self.assertEqual(quitter.finish(), 0)
                self.assert_all_name(members, 2, time.monotonic(), 5)

    def test_when_a_deadline_passes_everybody_names_the_rank_that_did_not_call(self):
        for transport in "shm", "uds":
            with self.subTest(transport=transport), Fifo() as fifo:
                job = self.job(5, TUTTI_STRAGGLER_AFTER="500ms", TUTTI_CALL_TIMEOUT="2s", TUTTI_TRANSPORTS=transport)
                # In a ring everybody waits for the rank before; only rank 0 waits for the one that is late.
                members = [job.rank(rank, "absent", fifo.path) for rank in range(5)]
                absent = members[4]
                absent.expect("^joined ")
                for member in members[:4]:
                    failure = self.assert_fails(member, "TIMEOUT", "all_reduce",
                                                r"missing: rank 4 \(host .*\), which has made no call yet", rank=4)
                    self.assertLess(int(failure["ms"]), 8000)
                self.assertRegex(members[0].expect("waiting for data"), r"warning.*rank 4\b.*has not made this call")
                fifo.release(1)
                self.assert_fails(absent, "TIMEOUT", r"rank 4\b", rank=4)

    def test_ranks_that_call_with_different_counts_get_both_calls_in_the_error(self):
        for transport in TRANSPORTS:
            for member in self.job(2, TUTTI_TRANSPORTS=transport).ranks("count"):
                self.assert_fails(member, "MISMATCH", r"\b10 x float32", r"\b20 x float32")

    def test_ranks_that_call_different_operations_get_both_in_the_error(self):
        for transport in TRANSPORTS:
            for member in self.job(3, TUTTI_TRANSPORTS=transport).ranks("operation"):
                self.assert_fails(member, "MISMATCH", "all_reduce", "broadcast")

    def test_a_setting_that_must_agree_is_refused_when_it_does_not(self):
        job = self.job(2, TUTTI_MISSING_AFTER="100ms")
        first = job.rank(0, TUTTI_SLICE_BYTES="64K")
        first.expect("missing")
        self.assert_fails(job.rank(1, TUTTI_SLICE_BYTES="128K"), "REFUSED", "(?i)slice")
        self.assert_done(job.rank(1, TUTTI_SLICE_BYTES="64K"), first)

    def test_a_child_communicator_whose_rank_does_not_call_ends_the_family_within_its_deadline(self):
        for transport in "shm", "uds":
            with self.subTest(transport=transport), Fifo() as fifo:
                job = self.job(4, TUTTI_STRAGGLER_AFTER="500ms", TUTTI_CALL_TIMEOUT="2s", TUTTI_TRANSPORTS=transport)
                members = [job.rank(rank, "absent_child", fifo.path) for rank in range(4)]
                absent = members.pop()
                for member in members:
                    # Of the calls of a child the rendezvous knows nothing: who waits for the absent rank says so.
                    failure = self.assert_fails(member, "TIMEOUT", "waiting (for data from|to send to) rank")
                    self.assertLess(int(failure["ms"]), 5000)
                fifo.release(1)
                self.assert_fails(absent, "TIMEOUT")

    def test_a_rank_that_is_killed_in_a_child_communicator_is_named_to_the_whole_family(self):
        for transport in "shm", "uds":
            with self.subTest(transport=transport):
                members = self.loop_until_everyone_turns("loop_child", size=5, TUTTI_TRANSPORTS=transport)
                killed = members.pop(3)  # rank 1 of 2 in its child
                os.kill(killed.pid, signal.SIGKILL)
                self.assert_all_name(members, 3, time.monotonic(), 5)

    def test_tutti_run_names_the_killed_rank_and_gives_its_status(self):
        launcher = Process(PROGRAMS.tutti, "run", "-n", "3", "--", PROGRAMS.member, "loop")
        self.addCleanup(launcher.kill)
        launcher.expect("looping")
        victim = fields(launcher.expect(r"^\[1\] started "))
        os.kill(int(victim["pid"]), signal.SIGKILL)
        self.assertEqual(launcher.finish(30), 128 + signal.SIGKILL, launcher.text())
        self.assertRegex(launcher.text(), r"rank 1 .*pid " + victim["pid"] + r".*signal 9")


# Those of all_reduce.  The hierarchical one needs several hosts: here each half of the ranks calls itself one.
ALGORITHMS = ("ring", "ring_exchange", "exchange", "recursive_doubling", "halving_doubling", "direct", "tree",
              "hierarchical")
MIXED_ALGORITHMS = "hierarchical_shared", "hierarchical_exchange"  # in shared memory within each host
BEYOND_THE_RING = "all_reduce:recursive_doubling"


class BeyondTheRing(FailureTest):
    """Links between any two ranks, which are opened by the first call that needs them."""

    def ranks_by(self, algorithm, mode, size=8, **environment):
        job = self.job(size, TUTTI_ALGORITHM=f"all_reduce:{algorithm}", **environment)
        hosts = [{"TUTTI_HOST": f"half-{2 * rank // size}"} if algorithm.startswith("hierarchical") else {}
                 for rank in range(size)]
        return [job.rank(rank, mode, **hosts[rank]) for rank in range(size)]

    def assert_all_name(self, members, rank, since, limit):
        for member in members:
            self.assert_fails(member, "PEER_LOST", rf"rank {rank}\b", rank=rank,
                              timeout=max(0.1, since + limit - time.monotonic()))

    def test_whichever_algorithm_runs_among_8_ranks_a_killed_rank_is_named_by_all(self):
        for algorithm, transport in [*itertools.product(ALGORITHMS, ("shm,tcp", "uds,tcp")),
                                     *itertools.product(MIXED_ALGORITHMS, ("shm,tcp",))]:
            with self.subTest(algorithm=algorithm, transport=transport):
                members = self.ranks_by(algorithm, "loop", TUTTI_TRANSPORTS=transport)
                for member in members:
                    member.expect("^looping$")
                killed = members.pop(5)
                os.kill(killed.pid, signal.SIGKILL)
                self.assert_all_name(members, 5, time.monotonic(), 5)

    def test_a_stopped_rank_is_named_also_by_those_who_wait_for_it_across_the_ring(self):
        members = self.ranks_by("recursive_doubling", "loop", TUTTI_DEAD_AFTER="2s", TUTTI_HEARTBEAT="200ms")
        for member in members:
            member.expect("^looping$")
        stopped = members.pop(2)  # ranks 0 and 6 wait for it, and are no neighbours of it
        os.kill(stopped.pid, signal.SIGSTOP)
        self.assert_all_name(members, 2, time.monotonic(), 10)

    def held_group(self, transport):
        """Eight ranks that have not called yet, so that no link beyond the ring is open; and what each waits for,
        which is its own, lest a rank that dies takes the release of another with it."""
        job = self.job(8, TUTTI_ALGORITHM=BEYOND_THE_RING, TUTTI_TRANSPORTS=transport)
        fifos = [Fifo().__enter__() for _ in range(job.size)]
        for fifo in fifos:
            self.addCleanup(fifo.__exit__)
        members = [job.rank(rank, "hold", fifo.path) for rank, fifo in enumerate(fifos)]
        for member in members:
            member.expect("^joined ")
        return members, fifos

    def release(self, fifos):
        for fifo in fifos:
            fifo.release(1)

    def test_a_rank_that_is_killed_while_links_to_it_are_opened_is_named_by_all(self):
        for transport in "shm", "uds":
            with self.subTest(transport=transport):
                members, fifos = self.held_group(transport)
                victim = members.pop(3)
                os.kill(victim.pid, signal.SIGSTOP)  # the kernel takes connections for it; it answers none
                self.release(fifos)
                time.sleep(0.3)  # the others dial meanwhile; whoever comes later finds it dead, and that is as well
                os.kill(victim.pid, signal.SIGKILL)
                self.assert_all_name(members, 3, time.monotonic(), 5)

    def test_a_rank_that_has_been_killed_before_the_first_link_to_it_is_wanted_is_named_by_all(self):
        for transport in "shm", "uds":
            with self.subTest(transport=transport):
                members, fifos = self.held_group(transport)
                victim = members.pop(3)
                os.kill(victim.pid, signal.SIGKILL)
                self.release(fifos)
                self.assert_all_name(members, 3, time.monotonic(), 5)

    def test_a_rank_that_is_stopped_for_a_moment_while_links_to_it_are_opened_is_waited_for(self):
        for transport in "shm", "uds":
            with self.subTest(transport=transport):
                members, fifos = self.held_group(transport)
                os.kill(members[3].pid, signal.SIGSTOP)
                self.release(fifos)
                time.sleep(0.5)  # the fault itself: so long it answers nobody
                os.kill(members[3].pid, signal.SIGCONT)
                self.assert_done(*members)

    def test_links_are_opened_by_need_and_kept(self):
        links = {"ring": {1, 7}, "recursive_doubling": {1, 2, 4, 7}, "direct": {1, 2, 3, 4, 5, 6, 7}}
        for algorithm, expected in links.items():
            with self.subTest(algorithm=algorithm):
                for transport in "shm", "uds":
                    members = self.ranks_by(algorithm, "links", TUTTI_TRANSPORTS=transport)
                    self.assert_done(*members)
                    told = [fields(line.text) for line in members[0].lines if line.text.startswith("link ")]
                    self.assertEqual({int(link["peer"]) for link in told}, expected)
                    self.assertEqual({link["transport"] for link in told}, {transport})

    def test_when_a_deadline_passes_the_rank_that_did_not_call_is_named_whatever_the_algorithm(self):
        for algorithm in "recursive_doubling", "direct", "tree":
            with self.subTest(algorithm=algorithm), Fifo() as fifo:
                job = self.job(8, TUTTI_ALGORITHM=f"all_reduce:{algorithm}", TUTTI_CALL_TIMEOUT="2s")
                members = job.ranks("absent", fifo.path)
                absent = members.pop()
                for member in members:
                    failure = self.assert_fails(member, "TIMEOUT", r"missing: rank 7 \(", rank=7)
                    self.assertLess(int(failure["ms"]), 8000)
                fifo.release(1)
                self.assert_fails(absent, "TIMEOUT", r"rank 7\b", rank=7)


class Choosing(FailureTest):
    """Ranks that do not agree on what chooses their algorithms."""

    def test_ranks_that_force_different_algorithms_get_both_in_the_error(self):
        for size in 2, 5:
            for member in self.job(size).ranks("algorithm"):
                self.assert_fails(member, "MISMATCH", r"all_reduce\(.*\) by ring", r"all_reduce\(.*\) by tree")

    def test_a_choice_that_differs_is_refused_before_there_is_a_group(self):
        for variable, ours, theirs in (("TUTTI_ALGORITHM", "all_reduce:ring", "all_reduce:tree"),
                                       ("TUTTI_DETERMINISTIC", "0", "1"), ("TUTTI_CHANNELS", "1", "2")):
            with self.subTest(variable=variable):
                job = self.job(2, TUTTI_MISSING_AFTER="100ms")
                first = job.rank(0, **{variable: ours})
                first.expect("missing")
                self.assert_fails(job.rank(1, **{variable: theirs}), "REFUSED", f"{variable}={ours}",
                                  f"{variable}={theirs}")
                self.assert_done(job.rank(1, **{variable: ours}), first)

    def test_an_algorithm_that_there_is_not_is_refused_with_those_that_there_are(self):
        for size in 1, 2:
            for member in self.job(size, TUTTI_ALGORITHM="all_reduce:pigeon").ranks("once"):
                self.assert_fails(member, "CONFIG", "TUTTI_ALGORITHM", "pigeon", *ALGORITHMS)
        for member in self.job(1, TUTTI_ALGORITHM="all_deduce:ring").ranks("once"):
            self.assert_fails(member, "CONFIG", "TUTTI_ALGORITHM", "all_deduce")

    def test_an_algorithm_that_is_not_deterministic_is_refused_where_that_is_asked_for(self):
        for member in self.job(2, TUTTI_ALGORITHM="all_reduce:ring", TUTTI_DETERMINISTIC=1).ranks("once"):
            self.assert_fails(member, "CONFIG", "all_reduce:ring", "TUTTI_DETERMINISTIC", r"\bdirect\b")


if __name__ == "__main__":
    run_tests(__doc__)
