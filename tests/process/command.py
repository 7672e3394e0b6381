"""The tutti command: how it starts, watches and ends processes, and what it says about a wrong command line."""

import os
import pathlib
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time
import unittest

from job import PROGRAMS, Process, clean_environment, free_port, run_tests

PRINT_TORCH_VARIABLES = (r"env | grep -E '^(((LOCAL|GROUP)_)?(RANK|WORLD_SIZE)|MASTER_(ADDR|PORT)|TORCHELASTIC_.*)=' "
                         r"| tr '\n' ' '; echo")
FAKE_SSH = '#!/bin/sh\nshift\nexec sh -c "$*"\n'


def is_running(pid):
    try:
        state = pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):  # gone before it was opened, or before it was read
        return False
    return state != "Z"


def wait_until_gone(pids, timeout=10):
    deadline = time.monotonic() + timeout
    while any(is_running(pid) for pid in pids):
        if time.monotonic() > deadline:
            raise AssertionError(f"still running: {[pid for pid in pids if is_running(pid)]}")
        time.sleep(0.01)


class Case(unittest.TestCase):
    def start(self, *arguments, **environment):
        process = Process(PROGRAMS.tutti, *arguments, **environment)
        self.addCleanup(process.kill)
        return process

    def run_command(self, *arguments, status=0, **environment):
        process = self.start(*arguments, **environment)
        self.assertEqual(process.finish(30), status, process.text())
        return process

    def stdout(self, process):
        return [line.text for line in process.lines if line.stream == "stdout"]


class Run(Case):
    def test_each_rank_learns_who_it_is(self):
        script = "echo $TUTTI_RANK $TUTTI_SIZE $TUTTI_RENDEZVOUS $OMP_NUM_THREADS"
        lines = sorted(self.stdout(self.run_command("run", "-n", "3", "--", "sh", "-c", script)))
        self.assertEqual(len(lines), 3)
        for rank, line in enumerate(lines):
            self.assertRegex(line, rf"^\[{rank}\] {rank} 3 unix:@\S+ 1$")

    def test_a_number_of_threads_that_is_set_is_left_alone(self):
        process = self.run_command("run", "sh", "-c", "echo $OMP_NUM_THREADS", OMP_NUM_THREADS="5")
        self.assertEqual(self.stdout(process), ["[0] 5"])

    def torch_variables(self, *arguments, **environment):
        """What the ranks of `tutti run ARGUMENTS` find of torch, a list of dictionaries by rank."""
        process = self.run_command("run", *arguments, "--", "sh", "-c", PRINT_TORCH_VARIABLES, **environment)
        return [dict(pair.split("=", 1) for pair in line.partition("] ")[2].split())
                for line in sorted(self.stdout(process))]

    def test_each_rank_finds_what_torchrun_would_tell_it(self):
        ranks = self.torch_variables("-n", "3")
        for rank, found in enumerate(ranks):
            self.assertEqual(found, {"RANK": str(rank), "WORLD_SIZE": "3", "LOCAL_RANK": str(rank),
                                     "LOCAL_WORLD_SIZE": "3", "GROUP_RANK": "0", "GROUP_WORLD_SIZE": "1",
                                     "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": ranks[0]["MASTER_PORT"]})

    def test_the_master_port_is_free_and_below_those_of_outgoing_connections(self):
        port = int(self.torch_variables()[0]["MASTER_PORT"])
        self.assertTrue(20000 <= port < 32768, port)
        with socket.socket() as listener:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind(("0.0.0.0", port))
            listener.listen()

    def test_a_master_that_the_user_chose_stays(self):
        found = self.torch_variables(MASTER_ADDR="localhost", MASTER_PORT="23456")[0]
        self.assertEqual((found["MASTER_ADDR"], found["MASTER_PORT"]), ("localhost", "23456"))
        found = self.torch_variables(MASTER_PORT="23456", MASTER_ADDR="")[0]
        self.assertEqual((found["MASTER_ADDR"], found["MASTER_PORT"]), ("127.0.0.1", "23456"))

    def test_in_a_rank_of_torchrun_a_job_of_its_own_begins(self):
        ranks = self.torch_variables(
            "-n", "2", RANK="5", WORLD_SIZE="8", LOCAL_RANK="1", LOCAL_WORLD_SIZE="4", GROUP_RANK="1",
            GROUP_WORLD_SIZE="2", MASTER_ADDR="node0", MASTER_PORT="40000", TORCHELASTIC_RUN_ID="outer",
            TORCHELASTIC_USE_AGENT_STORE="True", TORCHELASTIC_RESTART_COUNT="0", TORCHELASTIC_MAX_RESTARTS="0",
            TORCHELASTIC_ERROR_FILE="/nowhere")
        for rank, found in enumerate(ranks):
            self.assertLess(int(found.pop("MASTER_PORT")), 32768)
            self.assertEqual(found, {"RANK": str(rank), "WORLD_SIZE": "2", "LOCAL_RANK": str(rank),
                                     "LOCAL_WORLD_SIZE": "2", "GROUP_RANK": "0", "GROUP_WORLD_SIZE": "1",
                                     "MASTER_ADDR": "127.0.0.1"})

    def test_in_a_rank_of_tutti_run_a_job_of_its_own_begins(self):
        inner = f"test $TUTTI_RANK = 0 || exit 0; echo $MASTER_PORT; {PROGRAMS.tutti} run -n 2 -- " \
                f"sh -c 'echo $RANK $WORLD_SIZE $TUTTI_RANK $TUTTI_SIZE $MASTER_PORT'"
        lines = self.stdout(self.run_command("run", "-n", "3", "--", "sh", "-c", inner, MASTER_PORT="40000"))
        self.assertEqual(lines[0], "[0] 40000")
        found = sorted(line.removeprefix("[0] ") for line in lines[1:])
        self.assertEqual(len(found), 2, lines)
        for rank, line in enumerate(found):
            self.assertRegex(line, rf"^\[{rank}\] {rank} 2 {rank} 2 \d+$")
            self.assertLess(int(line.split()[-1]), 32768)

    def test_standard_output_and_error_stay_apart_and_a_last_line_needs_no_newline(self):
        process = self.run_command("run", "-n", "2", "--", "sh", "-c", "printf out; printf err >&2")
        self.assertEqual(sorted(process.lines), sorted(
            [(stream, f"[{rank}] {text}") for rank in range(2) for stream, text in
             (("stdout", "out"), ("stderr", "err"))]))

    def test_a_very_long_line_is_cut_into_pieces(self):
        script = "head -c 20000 /dev/zero | tr '\\0' x; echo; echo end"
        lines = self.stdout(self.run_command("run", "--", "sh", "-c", script))
        self.assertEqual("".join(line.removeprefix("[0] ") for line in lines), "x" * 20000 + "end")
        self.assertLess(max(map(len, lines)), 10000)

    def test_without_prefix_output_goes_straight_through(self):
        process = self.run_command("run", "-n", "2", "--no-prefix", "--", "sh", "-c", "echo plain")
        self.assertEqual(self.stdout(process), ["plain", "plain"])

    def test_rank_0_alone_has_the_standard_input(self):
        done = subprocess.run([PROGRAMS.tutti, "run", "-n", "2", "--", "sh", "-c", "cat; echo end"],
                              input="text\n", capture_output=True, text=True, timeout=30,
                              env=clean_environment())
        self.assertEqual(sorted(done.stdout.splitlines()), ["[0] end", "[0] text", "[1] end"])

    def test_bind_gives_each_rank_processors_of_its_own(self):
        script = "import os; print(*sorted(os.sched_getaffinity(0)))"
        usable = sorted(os.sched_getaffinity(0))
        process = self.run_command("run", "-n", "2", "--bind", "--", sys.executable, "-c", script)
        sets = [set(map(int, line[4:].split())) for line in self.stdout(process)]
        if len(usable) > 1:
            self.assertFalse(sets[0] & sets[1])
            self.assertEqual(sets[0] | sets[1], set(usable))
        else:
            self.assertEqual(sets, [set(usable)] * 2)

    def test_the_status_is_that_of_the_rank_that_failed(self):
        process = self.run_command("run", "-n", "3", "--", "sh", "-c", "test $TUTTI_RANK != 1 || exit 7", status=7)
        process.expect(r"^tutti run: rank 1 \(pid \d+\) exited with status 7$")

    def test_a_rank_that_a_signal_kills_is_named_with_the_signal(self):
        process = self.run_command("run", "-n", "2", "--", "sh", "-c", "test $TUTTI_RANK = 0 || kill -9 $$",
                                   status=128 + signal.SIGKILL)
        process.expect(r"^tutti run: rank 1 \(pid \d+\) was killed by signal 9 \(Killed\)$")

    def test_ranks_that_ignore_a_failure_are_terminated_and_then_killed(self):
        script = "echo pid $$; test $TUTTI_RANK = 0 || exit 3; trap '' TERM; while :; do sleep 1; done"
        process = self.start("run", "-n", "2", "--", "sh", "-c", script)
        pid = int(process.expect(r"^\[0\] pid").split()[-1])
        self.assertEqual(process.finish(40), 3)
        process.expect("sending SIGTERM")
        process.expect("sending SIGKILL")
        self.assertFalse(is_running(pid))

    def test_a_program_that_cannot_be_executed_is_status_127(self):
        process = self.run_command("run", "-n", "2", "no-such-program-at-all", status=127)
        process.expect("cannot execute 'no-such-program-at-all': there is no such program in PATH")
        self.run_command("run", "/", status=127).expect("Permission denied")

    def test_a_signal_is_passed_on_once_and_the_second_one_kills(self):
        script = "trap 'echo heard' TERM; echo ready $$; while :; do sleep 0.1; done"
        process = self.start("run", "-n", "2", "--", "sh", "-c", script)
        pids = [int(process.expect(rf"^\[{rank}\] ready").split()[-1]) for rank in range(2)]
        process.child.send_signal(signal.SIGTERM)
        process.child.send_signal(signal.SIGTERM)  # as close as `timeout` sends them: counts as one
        for rank in range(2):
            process.expect(rf"^\[{rank}\] heard")
        time.sleep(0.6)  # what the launcher takes for one signal is over
        self.assertTrue(all(map(is_running, pids)))
        process.child.send_signal(signal.SIGTERM)
        self.assertEqual(process.finish(10), 128 + signal.SIGKILL)
        self.assertFalse(any(map(is_running, pids)))

    def test_ranks_that_end_well_after_a_signal_are_no_failure(self):
        script = "trap 'exit 0' TERM; echo ready; while :; do sleep 0.1; done"
        process = self.start("run", "-n", "2", "--", "sh", "-c", script)
        for rank in range(2):
            process.expect(rf"^\[{rank}\] ready")
        process.child.send_signal(signal.SIGTERM)
        self.assertEqual(process.finish(10), 0, process.text())

    def test_ranks_die_with_a_launcher_that_is_killed(self):
        process = self.start("run", "-n", "2", "--", "sh", "-c", "echo ready $$; exec sleep 100")
        pids = [int(process.expect(rf"^\[{rank}\] ready").split()[-1]) for rank in range(2)]
        process.child.kill()
        wait_until_gone(pids)

    def test_a_grandchild_that_keeps_the_output_open_does_not_keep_the_launcher(self):
        start = time.monotonic()
        process = self.start("run", "--", "sh", "-c", "echo ready; sleep 20 & exit 0")
        self.assertEqual(process.child.wait(10), 0)
        self.assertLess(time.monotonic() - start, 10)
        process.expect("ready")

    def test_a_reader_that_goes_away_ends_the_ranks_as_in_any_pipeline(self):
        with subprocess.Popen([PROGRAMS.tutti, "run", "-n", "2", "yes"], stdout=subprocess.PIPE,
                              stderr=subprocess.DEVNULL, env=clean_environment()) as child:
            child.stdout.readline()
            child.stdout.close()
            self.assertEqual(child.wait(20), 128 + signal.SIGPIPE)


class Hosts(Case):
    def fake_ssh(self):
        folder = tempfile.TemporaryDirectory(prefix="tutti-test-")
        self.addCleanup(folder.cleanup)
        path = pathlib.Path(folder.name) / "ssh"
        path.write_text(FAKE_SSH)
        path.chmod(0o755)
        return path

    def test_two_nodes_form_one_group(self):
        address = f"127.0.0.1:{free_port()}"
        nodes = [self.start("run", "--nnodes", "2", "--node-rank", str(node), "-n", "2", "--rendezvous", address,
                            "--", PROGRAMS.member, "once") for node in (1, 0)]
        for node in nodes:
            self.assertEqual(node.finish(40), 0, node.text())
        joined = "\n".join(node.text() for node in nodes)
        self.assertEqual(sorted(re.findall(r"joined rank=(\d) size=4", joined)), list("0123"))

    def test_the_ranks_of_all_nodes_find_one_master_beside_the_rendezvous(self):
        script = "echo $RANK $WORLD_SIZE $LOCAL_RANK $LOCAL_WORLD_SIZE $GROUP_RANK $GROUP_WORLD_SIZE " \
                 "$MASTER_ADDR $MASTER_PORT"
        port = free_port()
        nodes = [self.start("run", "--nnodes", "2", "--node-rank", str(node), "-n", "2", "--rendezvous",
                            f"localhost:{port}", "--", "sh", "-c", script) for node in (1, 0)]
        for node in nodes:
            self.assertEqual(node.finish(40), 0, node.text())
        found = [line.split()[1:] for line in sorted(self.stdout(nodes[1]) + self.stdout(nodes[0]))]
        master_port = found[0][-1]
        self.assertNotEqual(int(master_port), port)
        self.assertTrue(20000 <= int(master_port) < 32768)
        self.assertEqual(found, [f"{rank} 4 {rank % 2} 2 {rank // 2} 2 localhost {master_port}".split()
                                 for rank in range(4)])

    def test_ssh_starts_the_ranks_of_every_host_with_program_and_settings_as_they_are(self):
        script = 'echo $TUTTI_RANK of $TUTTI_SIZE "$TUTTI_INTERFACE" "$PWD" "$1" "$2"'
        process = self.run_command("run", "-n", "2", "--hosts", "localhost,localhost", "--", "sh", "-c", script, "sh",
                                   "it's", "$HOME;", TUTTI_RUN_SSH=self.fake_ssh(), TUTTI_INTERFACE="a b'c")
        self.assertEqual(sorted(self.stdout(process)),
                         [f"[{rank}] {rank} of 4 a b'c {os.getcwd()} it's $HOME;" for rank in range(4)])

    def test_the_status_of_a_host_is_that_of_its_rank(self):
        process = self.run_command("run", "--hosts", "a,localhost", "--rendezvous", f"localhost:{free_port()}", "--",
                                   "sh", "-c", "test $TUTTI_RANK = 0 || exit 9", status=9,
                                   TUTTI_RUN_SSH=self.fake_ssh())
        process.expect(r"^tutti run: rank 1 \(pid \d+\) exited with status 9$")
        process.expect(r"^tutti run: host localhost \(pid \d+\) exited with status 9$")

    def test_ranks_on_other_hosts_end_when_the_launcher_is_told_to_or_is_killed(self):
        for number in signal.SIGTERM, signal.SIGKILL:
            process = self.start("run", "--hosts", "localhost,localhost", "--", "sh", "-c",
                                 "trap 'exit 0' TERM; echo ready $$; while :; do sleep 0.1; done",
                                 TUTTI_RUN_SSH=self.fake_ssh())
            pids = [int(process.expect(rf"^\[{rank}\] ready").split()[-1]) for rank in range(2)]
            process.child.send_signal(number)
            wait_until_gone(pids)
            process.child.wait(10)

    def test_a_missing_ssh_is_said_clearly(self):
        process = self.run_command("run", "--hosts", "a,b", "true", status=127, TUTTI_RUN_SSH="no-such-ssh-at-all")
        process.expect("--hosts needs ssh")


class Rendezvous(Case):
    def test_it_serves_several_addresses_and_ends_cleanly(self):
        with tempfile.TemporaryDirectory(prefix="tutti-test-") as folder:
            path = pathlib.Path(folder) / "socket"
            process = self.start("rendezvous", "--listen", f"unix:{path}", "--listen", "127.0.0.1:0")
            process.expect(f"^listening on unix:{path}$")
            address = process.expect(r"^listening on 127\.0\.0\.1:\d+$").split()[-1]
            members = [self.member(address, rank) for rank in range(2)]
            members += [self.member(f"unix:{path}", rank, TUTTI_JOB="other") for rank in range(2)]
            for member in members:
                self.assertEqual(member.finish(30), 0, member.text())
            process.child.send_signal(signal.SIGTERM)
            self.assertEqual(process.finish(10), 0, process.text())
            self.assertFalse(path.exists())

    def member(self, rendezvous, rank, **environment):
        process = Process(PROGRAMS.member, "once", TUTTI_RANK=rank, TUTTI_SIZE=2, TUTTI_RENDEZVOUS=rendezvous,
                          **environment)
        self.addCleanup(process.kill)
        return process

    def test_a_connection_that_says_nothing_is_dropped_after_ten_seconds(self):
        process = self.start("rendezvous", "--listen", "127.0.0.1:0")
        port = int(process.expect("^listening").rpartition(":")[2])
        with socket.create_connection(("127.0.0.1", port), timeout=30) as silent:
            self.assertEqual(silent.recv(1), b"")
        process.expect(r"dropped the connection of 127\.0\.0\.1:\d+: it has not asked to join")

    def test_an_address_that_is_taken_is_said_clearly(self):
        process = self.start("rendezvous", "--listen", "127.0.0.1:0")
        address = process.expect("^listening").split()[-1]
        self.run_command("rendezvous", "--listen", address, status=1).expect(f"{address}: the port is taken")


class Tuning(Case):
    def test_a_host_is_tuned_and_the_constants_count(self):
        with tempfile.TemporaryDirectory() as folder:
            path = pathlib.Path(folder, "tutti", "tuning")
            process = self.run_command("tune", "--ranks", "4", "--rounds", "1", XDG_CONFIG_HOME=folder)
            process.expect(re.escape(f"stored in {path}"))
            self.assertEqual(path.read_text().splitlines()[1], "tutti tuning 2")
            self.run_command("info", "--plan", "all_reduce", XDG_CONFIG_HOME=folder).expect(re.escape(str(path)))
            self.run_command("info", "--plan", "all_reduce", XDG_CONFIG_HOME=folder,
                             TUTTI_TUNING="none").expect("built in")
            self.run_command("bench", "all_reduce", "-e", "4", "-n", "2", XDG_CONFIG_HOME=folder)
            for text, said in (("tutti tuning 2\nuds.latency_us fast\n", "line 2 .*uds.latency_us fast"),
                               ("tutti tuning 1\n", "line 1 .*reads version 2; run `tutti tune`")):
                path.write_text(text)
                for command in ("info", "--plan", "all_reduce"), ("bench", "all_reduce", "-e", "4"):
                    self.run_command(*command, status=1, XDG_CONFIG_HOME=folder).expect(said)

    def test_a_transport_is_tuned_alone(self):
        for transport in "shm", "uds", "tcp":
            with self.subTest(transport):
                process = self.run_command("tune", "--ranks", "4", "--rounds", "1", "--transports", transport, "-o", "-")
                process.expect(f"# {transport}: [0-9]+ times")
                self.assertEqual("# shared: " in process.text(), transport == "shm")

    def test_what_between_hosts_was_set_by_hand_is_kept(self):
        with tempfile.TemporaryDirectory() as folder:
            path = pathlib.Path(folder, "tuning")
            arguments = "tune", "--ranks", "4", "--rounds", "1", "--transports", "uds", "-o", str(path)
            self.run_command(*arguments)
            text = re.sub(r"tcp.latency_us .*", "tcp.latency_us 7.25", path.read_text())
            path.write_text(text)
            self.run_command(*arguments)
            self.assertIn("\ntcp.latency_us 7.25\n", path.read_text())


class Plan(Case):
    def rows(self, *arguments, **environment):
        process = self.run_command("info", "--plan", *arguments, **environment)
        return [line.split() for line in self.stdout(process) if not line.startswith("#")]

    def test_the_choice_is_shown_by_size_for_ranks_that_do_not_exist(self):
        rows = self.rows("all_reduce", "-n", "1000", "--hosts", "10", "-b", "4", "-e", "16M", "-f", "64")
        self.assertEqual([int(row[0]) for row in rows], [4 * 64 ** i for i in range(4)])
        for row in rows:
            self.assertLessEqual(float(row[3]), float(row[5]))

    def test_settings_count(self):
        rows = self.rows("all_reduce", TUTTI_ALGORITHM="all_reduce:tree")
        self.assertEqual({row[1] for row in rows}, {"tree"})
        rows = self.rows("all_reduce", "-n", "8", TUTTI_DETERMINISTIC="1", TUTTI_TRANSPORTS="uds,tcp")
        self.assertLessEqual({row[1] for row in rows}, {"ring_exchange", "exchange", "direct"})
        self.run_command("info", "--plan", "all_reduce", status=1, TUTTI_DETERMINISTIC="1",
                         TUTTI_ALGORITHM="all_reduce:ring").expect("TUTTI_DETERMINISTIC")

    def test_ranks_of_one_host_share_memory_where_the_transports_allow_it(self):
        self.assertEqual({row[1] for row in self.rows("all_reduce", "-n", "8")}, {"shared"})
        self.assertEqual({row[1] for row in self.rows("all_reduce", "--transport", "shm")}, {"shared"})
        for arguments in ("-n", "8", "--hosts", "2"), ("--transport", "uds"), ("--transport", "tcp"):
            self.assertNotIn("shared", {row[1] for row in self.rows("all_reduce", *arguments)})
        self.assertNotIn("shared", {row[1] for row in self.rows("scatter")})
        rows = self.rows("all_reduce", TUTTI_ALGORITHM="all_reduce:tree", TUTTI_TRANSPORTS="shm")
        self.assertEqual({row[1] for row in rows}, {"tree"})
        self.assertEqual({row[4] for row in rows}, {"shared"})
        self.run_command("info", "--plan", "all_reduce").expect("links within a host: shm")


class CommandLine(Case):
    WRONG = {
        ("nonsense",): "there is no command 'nonsense'",
        ("run",): "which program",
        ("run", "--nonsense", "true"): "there is no option '--nonsense'",
        ("run", "-x", "true"): "there is no option '-x'",
        ("run", "-n"): "option '-n' needs an argument",
        ("run", "-n", "0", "true"): "'0' is not a number from 1",
        ("run", "-n", "two", "true"): "'two' is not a number",
        ("run", "--bind=1", "true"): "takes no argument",
        ("run", "--nnodes", "2", "true"): "--nnodes needs --node-rank",
        ("run", "--nnodes", "2", "--node-rank", "0", "true"): "--nnodes needs --rendezvous",
        ("run", "--nnodes", "2", "--node-rank", "2", "--rendezvous", "h:1", "true"): "goes from 0 to 1",
        ("run", "--rendezvous", "nowhere", "true"): "'nowhere' is no address",
        ("run", "--rendezvous", "host:0", "true"): "must know the port",
        ("run", "--hosts", "a,,b", "true"): "is no host name",
        ("run", "--hosts", "a,-oProxyCommand=x", "true"): "is no host name",
        ("rendezvous", "extra"): "unexpected 'extra'",
        ("rendezvous", "--listen", "nowhere"): "'nowhere' is no address",
        ("info", "--markdown"): "goes with --settings",
        ("info", "--plan", "send"): "no algorithm is chosen",
        ("info", "--plan", "all"): "there is no operation 'all'",
        ("info", "-n", "4"): "go with --plan",
        ("info", "--plan", "all_reduce", "--settings"): "give one of the two",
        ("info", "--plan", "all_reduce", "-n", "3", "--hosts", "4"): "only 3 ranks",
        ("info", "--plan", "all_reduce", "--transport", "mpi"): "none of shm, uds and tcp",
        ("tune", "extra"): "unexpected 'extra'",
        ("tune", "--ranks", "2"): "from 4 to 64",
        ("tune", "--transports", "uds,"): "shm, uds and tcp",
        ("bench",): "which operation",
        ("bench", "all"): "there is no operation 'all'",
        ("bench", "all_reduce", "-b", "0"): "not a size above 0",
        ("bench", "all_reduce", "-b", "2K", "-e", "1K"): "is more than",
        ("bench", "all_reduce", "-d", "float8"): "there is no type 'float8'",
        ("bench", "all_reduce", "-o", "xor"): "there is no reduction 'xor'",
        ("bench", "broadcast", "-r", "2"): "from 0 to 1",
        ("bench", "all_gather_v"): "is not measured",
        ("bench", "all_reduce", "-d", "bool", "-o", "avg"): "not defined for -d bool",
        ("bench", "all_reduce", "--algorithms", "-a", "ring"): "give one of the two",
    }

    def test_what_is_wrong_is_said_and_the_status_is_2(self):
        for arguments, said in self.WRONG.items():
            with self.subTest(" ".join(arguments)):
                process = self.run_command(*arguments, status=2)
                process.expect(re.escape(said))
                process.expect("--help")

    def test_help_of_every_command_goes_to_standard_output(self):
        self.assertIn("Commands:", "\n".join(self.stdout(self.run_command("--help"))))
        for command in "run", "rendezvous", "bench", "tune", "info":
            text = "\n".join(self.stdout(self.run_command(command, "--help")))
            self.assertTrue(text.startswith(f"Usage: tutti {command}"), text)
            self.assertLessEqual(max(map(len, text.splitlines())), 110)

    def test_version_and_info(self):
        self.assertRegex(self.stdout(self.run_command("--version"))[0], r"^tutti \d+\.\d+\.\d+$")
        text = self.run_command("info").text()
        for word in "wire version", "libuv", "reduction kernels", "uds", "tcp":
            self.assertIn(word, text)
        self.assertRegex(text, r"shm +(available .*huge pages for it: \w+|missing: )")
        self.assertIn("TUTTI_TRANSPORTS", self.run_command("info", "--settings").text())


if __name__ == "__main__":
    run_tests(__doc__)
