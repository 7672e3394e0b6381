"""tutti bench: every operation is measured and right, rivals take part and fail without harm, nothing is left."""

import json
import os
import pathlib
import re
import shutil
import signal
import tempfile

from command import Case, is_running, wait_until_gone
from job import PROGRAMS, run_tests

OPERATIONS = "all_reduce reduce broadcast all_gather gather scatter reduce_scatter all_to_all barrier".split()
INTEGERS = "int8 uint8 int16 int32 uint32 int64 uint64".split()
FLOATS = "float32 float64 float16 bfloat16".split()
KEYS = ("op peer transport ranks bytes type in_place symmetric p50_us p99_us algbw_GBps busbw_GBps wrong "
        "cpu_s").split()

# In the place of mpirun: makes the ranks of a rival that behaves as its environment says.
FAKE_LAUNCHER = """
import os, sys
words = sys.argv[1:]
count, folder = int(words[words.index("-n") + 1]), words[-2]
behaviour = os.environ["FAKE_BEHAVIOUR"]

def serve(rank):
    with open(f"{folder}/{rank}.in") as orders, open(f"{folder}/{rank}.out", "w") as replies:
        print("ready a fake with", words[words.index("-n") - 1], file=replies, flush=True)
        for order in orders:
            words_ordered = order.split()
            if words_ordered == ["quit"]:
                return
            iterations, single, check = int(words_ordered[7]), int(words_ordered[9]), int(words_ordered[10])
            if behaviour == "dies" and rank == count - 1:
                os._exit(3)
            if behaviour == "refuses":
                print("error this is too hard for me", file=replies, flush=True)
                continue
            if behaviour == "babbles":
                print("hello", file=replies, flush=True)
                continue
            calls = " 1000 " + " ".join(f"{i} {250000 * (rank + 1)}" for i in range(iterations)) if single else ""
            wrong = 7 if behaviour == "errs" and check else 0
            print(f"ok {250 * (rank + 1)} 0.5 {wrong} {iterations if single else 0}{calls}", file=replies, flush=True)

children = []
for rank in range(count):
    child = os.fork()
    if child == 0:
        serve(rank)
        os._exit(0)
    children.append(child)
sys.exit(max(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children))
"""


def processes_with(text):
    """Pids whose command line has the text in it."""
    found = []
    for path in pathlib.Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if text in path.read_bytes().decode(errors="replace"):
                found.append(int(path.parent.name))
        except (FileNotFoundError, ProcessLookupError):
            continue
    return found


class BenchCase(Case):
    def setUp(self):
        folder = tempfile.TemporaryDirectory(prefix="tutti-test-")
        self.addCleanup(folder.cleanup)
        self.folder = pathlib.Path(folder.name)

    def bench(self, *arguments, status=0, **environment):
        """The process, and the rows of JSON."""
        path = self.folder / "rows"
        pipes = self.folder / "pipes"
        pipes.mkdir(exist_ok=True)
        process = self.run_command("bench", *arguments, "-J", str(path), status=status, TMPDIR=pipes, **environment)
        self.assertEqual(list(pipes.iterdir()), [])
        return process, [json.loads(line) for line in path.read_text().splitlines()]


class Operations(BenchCase):
    def test_every_operation_is_measured_and_right_on_each_transport(self):
        for operation in OPERATIONS:
            with self.subTest(operation):
                process, rows = self.bench(operation, "--ranks", "3", "-b", "4", "-e", "4K", "-f", "32", "-n", "5",
                                           "--rounds", "3", "--transports", "shm,uds,tcp")
                self.assertEqual(process.text().count("# Out of bounds values : 0 OK"), 3)
                self.assertEqual({row["transport"] for row in rows}, {"shm", "uds", "tcp"})
                for row in rows:
                    self.assertEqual(list(row), KEYS)
                    self.assertEqual((row["op"], row["peer"], row["ranks"], row["wrong"], row["symmetric"]),
                                     (operation, "tutti", 3, 0, False))
                    self.assertGreater(row["p50_us"], 0)
                    self.assertGreaterEqual(row["p99_us"], row["p50_us"])
                    # By definition; the printed digits set the tolerance.
                    self.assertAlmostEqual(row["algbw_GBps"], row["bytes"] / row["p50_us"] / 1e3,
                                           delta=1e-4 * row["algbw_GBps"] + 1e-6)
                self.assertEqual(len(rows), 3 if operation == "barrier" else 3 * 2 * 3)

    def reductions(self, kind):
        """Those that the type takes, as tutti.h says."""
        if kind == "complex64":
            return "sum product avg premultiplied_sum".split()
        common = "sum product min max".split()
        bits = "bit_and bit_or bit_xor logical_and logical_or".split()
        return common + {"bool": bits}.get(kind, ["avg"] + (bits if kind in INTEGERS else ["premultiplied_sum"]))

    def test_every_type_and_reduction_is_exact(self):
        for kind in FLOATS + INTEGERS + ["bool", "complex64"]:
            for reduction in self.reductions(kind):
                with self.subTest(f"{kind} {reduction}"):
                    self.run_command("bench", "all_reduce", "--ranks", "3", "-b", "1000", "-e", "1000", "-n", "2",
                                     "--rounds", "1", "-d", kind, "-o", reduction).expect("values : 0 OK")

    def test_an_algorithm_can_be_asked_for(self):
        self.run_command("bench", "all_reduce", "-a", "tree", "-e", "4", "-n", "2").expect("algorithm: tree")
        self.run_command("bench", "all_reduce", "-a", "rung", "-e", "4", status=1).expect("no algorithm 'rung'")

    def test_every_algorithm_is_measured_beside_the_choice(self):
        for operation in OPERATIONS:
            with self.subTest(operation):
                process, rows = self.bench(operation, "--algorithms", "--ranks", "3", "-b", "64", "-e", "4K", "-f",
                                           "64", "--rounds", "2")
                process.expect("values : 0 OK")
                process.expect("geometric mean")
                self.assertEqual(len(rows), 1 if operation == "barrier" else 2)
                for row in rows:
                    self.assertEqual((row["op"], row["ranks"]), (operation, 3))
                    self.assertIn(row["best"], row["algorithms"])
                    self.assertIn(row["selected"], row["algorithms"])
                    self.assertTrue(row["ratio"] > 0 and row["selected_us"] > 0 and row["predicted_us"] > 0)


class Settings(BenchCase):
    SMALL = "all_reduce", "-b", "1K", "-e", "1K", "-n", "4", "--rounds", "2"

    def test_the_size_of_a_gathered_vector_is_that_of_the_whole(self):
        process, rows = self.bench("all_gather", "--ranks", "4", "-b", "1K", "-e", "1K", "-n", "2", "--rounds", "1")
        self.assertEqual({row["bytes"] for row in rows}, {1024})
        self.assertRegex(process.text(), r"\n +1024 +64 +float32 ")

    def test_the_place_can_be_chosen(self):
        for place, expected in ("in", [True]), ("out", [False]), ("both", [False, True]):
            _, rows = self.bench(*self.SMALL, "--place", place)
            self.assertEqual([row["in_place"] for row in rows], expected)

    def test_symmetric_memory_is_used_and_said(self):
        process, rows = self.bench(*self.SMALL, "--symmetric", "--transports", "shm,uds")
        self.assertEqual({(row["transport"], row["symmetric"], row["wrong"]) for row in rows},
                         {("shm", True, 0), ("uds", True, 0)})
        process.expect("symmetric memory")

    def test_late_ranks_are_no_part_of_the_time(self):
        process, rows = self.bench("all_reduce", "-b", "4", "-e", "4", "-n", "64", "--rounds", "2", "--skew", "20000",
                                   "--place", "in")
        row, = rows
        self.assertEqual(list(row), KEYS + ["skew_us", "p999_us"])
        self.assertEqual(row["skew_us"], 20000)
        # The last rank comes 13 ms late on average: a time that counted this would be far above.
        self.assertLess(row["p50_us"], 5000)
        self.assertLessEqual(row["p50_us"], row["p99_us"])
        self.assertLessEqual(row["p99_us"], row["p999_us"])
        process.expect("p99.9")

    def test_a_file_that_cannot_be_written_is_said(self):
        process = self.run_command("bench", *self.SMALL, "-J", str(self.folder / "none" / "rows"), status=1)
        process.expect("cannot write to '.*none/rows': No such file or directory")

    def test_what_is_wrong_on_the_command_line_is_said_and_the_status_is_2(self):
        for arguments, said in {
            ("--vs", "openmpi,nccl"): "'nccl' is neither openmpi, mpich nor limit",
            ("--vs", ""): "'' is neither openmpi",
            ("--place", "here"): "'here' is neither in, out nor both",
            ("--skew", "fast"): "'fast' is not a number",
            ("--rounds", "0"): "not a number from 1",
            ("--transports", "uds,"): "a name is empty",
            ("--algorithms", "--vs", "openmpi"): "neither --vs nor --skew",
        }.items():
            with self.subTest(" ".join(arguments)):
                process = self.run_command("bench", "all_reduce", *arguments, status=2)
                process.expect(re.escape(said))
                process.expect("--help")


class Ends(BenchCase):
    """A run that would go on for long; its ranks are found by the folder of their pipes."""
    LONG = "all_reduce", "-b", "1M", "-e", "1M", "-n", "2000", "--rounds", "101", "--transports", "uds"

    def begin(self):
        process = self.start("bench", *self.LONG, TMPDIR=self.folder)
        process.expect(r"^# tutti uds")
        ranks = [pid for pid in processes_with(str(self.folder)) if pid != process.pid]
        self.assertGreaterEqual(len(ranks), 3)  # two, and who started them
        return process, ranks

    def test_the_folder_of_the_pipes_is_gone_while_it_runs(self):
        self.begin()
        self.assertEqual(list(self.folder.iterdir()), [])

    def test_a_signal_ends_it_and_all_that_it_started(self):
        for number in signal.SIGINT, signal.SIGTERM:
            process, ranks = self.begin()
            process.child.send_signal(number)
            self.assertEqual(process.finish(20), 128 + number)
            wait_until_gone(ranks)

    def test_its_own_sudden_death_leaves_nothing_running(self):
        process, ranks = self.begin()
        process.child.kill()
        process.finish(20)
        wait_until_gone(ranks)
        self.assertEqual(list(self.folder.iterdir()), [])

    def test_a_rank_that_dies_is_named_and_the_rest_is_ended(self):
        process, ranks = self.begin()
        victim, = [pid for pid in ranks if b"TUTTI_RANK=1\0" in pathlib.Path(f"/proc/{pid}/environ").read_bytes()]
        os.kill(victim, signal.SIGKILL)
        self.assertEqual(process.finish(20), 1)
        process.expect(r"tutti bench: tutti uds: rank \d ended before it answered")
        wait_until_gone(ranks)
        self.assertFalse(is_running(victim))


class FakeRivals(BenchCase):
    """A launcher and a program that only look like an MPI, beside a copy of tutti: what a rival does is known."""
    NAMES = ["openmpi", "openmpi-nocma", "openmpi-keep"]
    SMALL = "all_reduce", "-b", "4", "-e", "64", "-f", "16", "-n", "4", "--rounds", "3", "--place", "in"

    def setUp(self):
        super().setUp()
        self.programs = self.folder / "bin"
        self.programs.mkdir()
        shutil.copy(PROGRAMS.tutti, self.programs / "tutti")
        self.write("mpirun.openmpi", "#!/usr/bin/env python3" + FAKE_LAUNCHER)
        self.write("tutti-bench-openmpi", "")

    def write(self, name, text):
        (self.programs / name).write_text(text)
        (self.programs / name).chmod(0o755)

    def start(self, *arguments, **environment):
        program, PROGRAMS.tutti = PROGRAMS.tutti, self.programs / "tutti"
        try:
            return super().start(*arguments, PATH=f"{self.programs}:{os.environ['PATH']}", **environment)
        finally:
            PROGRAMS.tutti = program

    def test_every_setting_takes_turns_and_its_slowest_rank_counts(self):
        process, rows = self.bench(*self.SMALL, "--vs", "openmpi", "--ranks", "3", FAKE_BEHAVIOUR="works")
        self.assertEqual([row["peer"] for row in rows], (["tutti"] + self.NAMES) * 2)
        for row in rows:
            self.assertEqual(list(row), KEYS)
            if row["peer"] != "tutti":
                self.assertEqual((row["transport"], row["p50_us"], row["p99_us"], row["wrong"], row["cpu_s"]),
                                 ("mpi", 750, 750, 0, 3 * 3 * 0.5))
        ours = [row["p50_us"] for row in rows if row["peer"] == "tutti"]
        process.expect(r"^# tutti \w+, in place; ratio")
        # The three are equally fast.
        mean = (750 / ours[0] * 750 / ours[1]) ** 0.5
        for whom in self.NAMES + ["the best rival"]:
            line = process.expect(rf"^# ratio to {whom} +: geometric mean ")
            self.assertAlmostEqual(float(line.split("mean ")[1].split(",")[0]), mean, delta=1e-3 * mean + 1e-3)
            self.assertAlmostEqual(float(line.split("min ")[1].split()[0]), 750 / max(ours),
                                   delta=1e-3 * 750 / max(ours) + 1e-3)

    def test_wrong_results_of_a_rival_are_told_and_are_no_failure_of_ours(self):
        process, rows = self.bench(*self.SMALL, "--vs", "openmpi", FAKE_BEHAVIOUR="errs")
        for row in rows:  # looked at before the first batch and behind the last, on two ranks
            self.assertEqual(row["wrong"], 0 if row["peer"] == "tutti" else 2 * 2 * 7)
        self.assertEqual(process.text().count("FAILED"), 3)

    def test_a_rival_that_cannot_go_on_is_left_out_with_one_line(self):
        for behaviour, said in (("refuses", "this is too hard for me"), ("dies", r"rank \d ended before it answered"),
                                ("babbles", 'it answered "hello", which is no result')):
            with self.subTest(behaviour):
                process, rows = self.bench(*self.SMALL, "--vs", "openmpi", FAKE_BEHAVIOUR=behaviour)
                self.assertEqual([row["peer"] for row in rows], ["tutti"] * 2)
                for name in self.NAMES:
                    self.assertEqual(len(re.findall(f"without {name} from here on: {said}", process.text())), 1,
                                     process.text())
                wait_until_gone(processes_with(str(self.folder)))

    def test_a_launcher_that_fails_leaves_its_rival_out(self):
        self.write("mpirun.openmpi", "#!/bin/sh\nexit 1\n")
        process, rows = self.bench(*self.SMALL, "--vs", "openmpi")
        self.assertEqual([row["peer"] for row in rows], ["tutti"] * 2)
        process.expect("without openmpi from here on: 'mpirun.openmpi' ended before rank")

    def test_a_rival_that_is_not_installed_is_told_with_what_installs_it(self):
        (self.programs / "tutti-bench-openmpi").unlink()
        process, rows = self.bench(*self.SMALL, "--vs", "openmpi,limit,mpich", "--ranks", "3")
        self.assertEqual([row["peer"] for row in rows], ["tutti"] * 2)
        process.expect("without openmpi: there is no .*tutti-bench-openmpi: after `scripts/setup --bench`")
        process.expect("without mpich: there is no .*mpi.*: .*`scripts/setup --bench`")
        process.expect("without limit: it knows the all_reduce of two ranks only")


class Rivals(BenchCase):
    def test_installed_rivals_are_measured_and_right(self):
        programs = pathlib.Path(PROGRAMS.tutti).parent
        installed = [name for name in ("openmpi", "mpich")
                     if shutil.which(f"mpirun.{name}") and (programs / f"tutti-bench-{name}").exists()]
        if not installed:
            self.skipTest("neither Open MPI nor MPICH is installed, or this build has sanitizers")
        for operation in "all_reduce", "gather":
            _, rows = self.bench(operation, "-b", "64", "-e", "64K", "-f", "1024", "-n", "5", "--rounds", "3",
                                 "--vs", ",".join(installed))
            peers = ["tutti"] + (FakeRivals.NAMES if "openmpi" in installed else [])
            peers += ["mpich"] if "mpich" in installed else []
            self.assertEqual([row["peer"] for row in rows], peers * 4)
            for row in rows:
                self.assertEqual((row["op"], row["wrong"]), (operation, 0))
                self.assertGreater(row["p50_us"], 0)


if __name__ == "__main__":
    run_tests(__doc__)
