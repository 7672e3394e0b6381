"""A contestant of `tutti bench` does what it is told, and tells what src/tools/bench_reply.h promises:
    rivals.py [--limit] RANKS WORDS...
where WORDS start its ranks (mpirun, the program), but for the folder and the number of bytes."""

import argparse
import os
import pathlib
import select
import subprocess
import sys
import tempfile
import unittest

ANSWER_TIMEOUT_S, END_TIMEOUT_S, IDLE_S = 90, 30, 0.5
MAX_BYTES = 1 << 20
OPERATIONS = ("all_reduce", "reduce", "broadcast", "all_gather", "gather", "scatter", "reduce_scatter", "all_to_all",
              "barrier")
REDUCE = "all_reduce", "reduce", "reduce_scatter"
WITH_ROOT = "reduce", "broadcast", "gather", "scatter"
ARGUMENTS = argparse.Namespace()


def order(operation="all_reduce", size=4096, kind="float32", reduction="sum", root=0, in_place=1, iterations=3,
          warmup=1, single=0, check=1, skew_us=0, seed=1):
    return (f"run {operation} {size} {kind} {reduction} {root} {in_place} {iterations} {warmup} {int(single)} {check} "
            f"{skew_us} {seed}")


class Answer:
    def __init__(self, line):
        words = line.split()
        self.mean_us, self.cpu_s, self.wrong, self.count = *map(float, words[1:3]), *map(int, words[3:5])
        base = int(words[5]) if self.count else 0
        starts, times = words[6::2], words[7::2]
        assert words[0] == "ok" and len(starts) == len(times) == self.count, line
        self.begins = [base + int(word) for word in starts]
        self.ends = [begin + int(word) for begin, word in zip(self.begins, times)]


def processor_ticks(pid):
    """Of a process and all that come from it."""
    fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    children = [int(child) for task in pathlib.Path(f"/proc/{pid}/task").iterdir()
                for child in (task / "children").read_text().split()]
    return int(fields[11]) + int(fields[12]) + sum(map(processor_ticks, children))


class Contestant(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.ranks = ARGUMENTS.ranks
        self.inputs, self.outputs = [], []
        for rank in range(self.ranks):
            for kind, files in ("in", self.inputs), ("out", self.outputs):
                path = f"{folder.name}/{rank}.{kind}"
                os.mkfifo(path)
                files.append(os.fdopen(os.open(path, os.O_RDWR | os.O_CLOEXEC), "wb" if kind == "in" else "rb", 0))
        self.process = subprocess.Popen([*ARGUMENTS.words, folder.name, str(MAX_BYTES)], stdin=subprocess.DEVNULL)
        self.addCleanup(self.end)
        for line in self.lines():
            self.assertRegex(line, r"^ready \S")

    def end(self):
        for file in self.inputs + self.outputs:
            file.close()
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()

    def line(self, rank):
        """A line has come whole once its end is there: each answer is one."""
        text = b""
        while not text.endswith(b"\n"):
            ready, _, _ = select.select([self.outputs[rank]], [], [], ANSWER_TIMEOUT_S)
            self.assertTrue(ready, f"rank {rank} does not answer")
            text += os.read(self.outputs[rank].fileno(), 65536)
        return text.decode().strip()

    def lines(self):
        return [self.line(rank) for rank in range(self.ranks)]

    def tell(self, line):
        for file in self.inputs:
            file.write(line.encode() + b"\n")
        return self.lines()

    def obey(self, line):
        answers = self.tell(line)
        for answer in answers:
            self.assertTrue(answer.startswith("ok "), f"{line}: {answer[:200]}")
        return [Answer(answer) for answer in answers]

    def assert_refused(self, line):
        for answer in self.tell(line):
            self.assertRegex(answer, r"^error \S", line)

    def test_every_result_is_right(self):
        orders = [order(size=size) for size in (1, 4, 60, 64, 68, 8192, 8196, 100000, MAX_BYTES)]
        if not ARGUMENTS.limit:
            orders = [order(operation, size, kind, reduction, root, in_place, single=operation in WITH_ROOT)
                      for operation in OPERATIONS for size in (4, 1000, 100000) for in_place in (0, 1)
                      for root in ((0, self.ranks - 1) if operation in WITH_ROOT and not in_place else (0,))
                      for kind, reduction in (("float32", "sum"), ("float64", "max"), ("int32", "product"))]
            orders += [order(operation, kind="bfloat16", single=operation in WITH_ROOT)
                       for operation in OPERATIONS if operation not in REDUCE]
        for line in orders:
            with self.subTest(line):
                self.assertEqual([answer.wrong for answer in self.obey(line)], [0] * self.ranks)

    def test_calls_are_timed_together_or_one_by_one(self):
        for answer in self.obey(order(iterations=100)):
            self.assertEqual((answer.count, answer.mean_us > 0), (0, True))
        for answer in self.obey(order(iterations=100, single=1)):
            self.assertEqual(answer.count, 100)
            self.assertEqual(answer.begins[1:], answer.ends[:-1])
            self.assertAlmostEqual(answer.mean_us, (answer.ends[-1] - answer.begins[0]) / 100e3, places=3)

    def test_no_rank_leaves_before_the_last_has_come(self):
        answers = self.obey(order(iterations=50, single=1, skew_us=200))
        for begins, ends in zip(zip(*(a.begins for a in answers)), zip(*(a.ends for a in answers))):
            self.assertGreaterEqual(min(ends), max(begins))
        # Both clocks are the host's, and the ranks do come at different times.
        self.assertGreater(max(abs(a - b) for a, b in zip(answers[0].begins, answers[1].begins)), 10000)

    def test_an_order_that_cannot_be_done_is_refused_and_the_next_is_done(self):
        for line in ("", "walk", order()[:-2], order() + " 1", order("sort"), order(kind="float8"), order(root=99),
                     order(size=2 * MAX_BYTES), order(iterations=0), order(skew_us=10), order(reduction="avg"),
                     order(kind="bfloat16")):
            with self.subTest(line):
                self.assert_refused(line)
        self.obey(order())

    def test_it_sleeps_between_orders(self):
        self.obey(order())
        before = processor_ticks(self.process.pid)
        with self.assertRaises(subprocess.TimeoutExpired):
            self.process.wait(IDLE_S)
        share = (processor_ticks(self.process.pid) - before) / os.sysconf("SC_CLK_TCK") / IDLE_S
        self.assertLess(share, 0.2)

    def test_it_ends_when_told_so(self):
        for file in self.inputs:
            file.write(b"quit\n")
        self.assertEqual(self.process.wait(END_TIMEOUT_S), 0)

    def test_it_ends_with_whoever_started_it(self):
        self.obey(order())
        for file in self.inputs:
            file.close()
        self.assertEqual(self.process.wait(END_TIMEOUT_S), 0)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--limit", action="store_true", help="it knows the all_reduce of float32, in place, only")
    parser.add_argument("ranks", type=int)
    parser.add_argument("words", nargs=argparse.REMAINDER)
    parser.parse_args(namespace=ARGUMENTS)
    unittest.main(argv=sys.argv[:1])


if __name__ == "__main__":
    main()
