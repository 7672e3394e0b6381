"""The tables of docs/shared-memory.md: tutti beside its rivals, each table held to its aims.

Every table is a few runs of `tutti bench` (one: of tests/bench/late.c), whose JSON is kept in --out: a table that is
there already is printed and not measured again, so that a run that was broken off goes on where it stopped.  Prints
Markdown.
Exit status: 1 when an aim is missed, 2 when something could not be measured."""

import argparse
import json
import os
import pathlib
import re
import statistics
import subprocess
import sys

KIB, MIB = 1 << 10, 1 << 20
LIMIT = "limit"  # the program pull_limit: no rival, but what is possible
DEFAULT = "openmpi"
RUN_TIMEOUT_S = 3600


# ---- Measuring --------------------------------------------------------------------------------------------------

class Bench:
    """How `tutti bench` is called; what is the same in all tables."""

    def __init__(self, arguments):
        self.command = arguments.tutti
        self.transports = arguments.transports
        self.rivals = arguments.vs
        self.quick = arguments.quick
        self.rounds = 1 if arguments.quick else arguments.rounds

    def rows(self, out, operation, ranks, sizes, *options, rivals=None, rounds=None):
        """Of the sizes (first, last, factor), in place.  `out` is where `tutti bench` may write."""
        first, last, factor = sizes
        if self.quick:
            last = max(first, min(last, 64 * KIB))
        rivals = self.rivals if rivals is None else rivals
        command = [self.command, "bench", operation, "--ranks", ranks, "-b", first, "-e", last, "-f", factor,
                   "--place", "in", "--rounds", rounds or self.rounds, "--transports", self.transports, "-J", out,
                   *options]
        if rivals:
            command += ["--vs", ",".join(rivals)]
        text = self.run(command)
        rows = [json.loads(line) for line in out.read_text().splitlines()]
        if not any(row["peer"] == "tutti" for row in rows):
            raise SystemExit(f"{text}\ngave no figure of tutti")
        return rows

    @staticmethod
    def run(command, variables=()):
        """The command and what it printed; ends the program where it fails."""
        words = [str(word) for word in command]
        print(" ".join(words), file=sys.stderr, flush=True)
        try:
            result = subprocess.run(words, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                                    timeout=RUN_TIMEOUT_S, env={**os.environ, **dict(variables)})
        except (OSError, subprocess.TimeoutExpired) as fault:
            raise SystemExit(f"{' '.join(words)}: {fault}") from fault
        if result.returncode != 0:
            raise SystemExit(f"{' '.join(words)}\n{result.stdout}\nended with status {result.returncode}")
        return f"{' '.join(words)}\n{result.stdout}"


# ---- What rows say ----------------------------------------------------------------------------------------------

class Cell:
    """One operation of one size by all that took part: times by peer."""

    def __init__(self, rows):
        self.rows = {row["peer"]: row for row in rows}
        if len(self.rows) != len(rows):
            raise SystemExit(f"two rows of the same: {rows}")
        self.operation, self.bytes = rows[0]["op"], rows[0]["bytes"]

    def us(self, peer, key="p50_us"):
        return self.rows[peer][key] if peer in self.rows else None

    def ratio(self, peer, key="p50_us"):
        """How many times as fast as the peer tutti is; None where the peer was not measured."""
        return self.us(peer, key) / self.us("tutti", key) if peer in self.rows else None

    def rivals(self):
        return [peer for peer in self.rows if peer not in ("tutti", LIMIT)]

    def best(self, key="p50_us"):
        """Likewise, of the best setting of the rivals."""
        return min((self.ratio(peer, key) for peer in self.rivals()), default=None)


def cells_of(rows):
    """In the order of the rows; refuses results that mean nothing."""
    groups = {}
    for row in rows:
        if row["wrong"]:
            raise SystemExit(f"a wrong result: {row}")
        groups.setdefault((row["op"], row["ranks"], row["bytes"], row["type"]), []).append(row)
    lonely = [group for group in groups.values() if all(row["peer"] != "tutti" for row in group)]
    if lonely:
        raise SystemExit(f"rows without tutti's: {lonely}")
    return [Cell(group) for group in groups.values()]


def geometric_mean(ratios):
    return statistics.geometric_mean(ratios) if ratios else None


def least(ratios):
    return min(ratios, default=None)


def known(values):
    return [value for value in values if value is not None]


def between(cells, first, last):
    return [cell for cell in cells if first <= cell.bytes <= last]


# ---- Printing ---------------------------------------------------------------------------------------------------

def size_text(size):
    for unit, name in (1 << 30, "GiB"), (MIB, "MiB"), (KIB, "KiB"):
        if size >= unit and size % unit == 0:
            return f"{size // unit} {name}"
    return f"{size} B"


def number(value):
    if value is None:
        return "-"
    return f"{value:.0f}" if value >= 100 else f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def table(titles, lines):
    text = [f"| {' | '.join(titles)} |", f"|{'---|' * len(titles)}"]
    return text + [f"| {' | '.join(line)} |" for line in lines] + [""]


def times_table(cells, label=lambda cell: size_text(cell.bytes), title="size"):
    """Microseconds of all, and the ratios."""
    peers = list(dict.fromkeys(peer for cell in cells for peer in cell.rows))
    ratios = {"best rival / tutti": Cell.best}
    if DEFAULT in peers:
        ratios["Open MPI's default / tutti"] = lambda cell: cell.ratio(DEFAULT)
    if LIMIT in peers:
        ratios["limit / tutti"] = lambda cell: cell.ratio(LIMIT)
    return table([title, *peers, *ratios],
                 [[label(cell), *(number(cell.us(peer)) for peer in peers),
                   *(number(ratio(cell)) for ratio in ratios.values())] for cell in cells])


class Aims:
    """What a table must show."""

    def __init__(self):
        self.lines, self.missed = [], 0

    def at_least(self, what, value, goal):
        self.note(what, value, f"at least {goal:g}", value is not None and value >= goal)

    def at_most(self, what, value, goal):
        self.note(what, value, f"at most {goal:g}", value is not None and value <= goal)

    def note(self, what, value, goal, is_met):
        if value is None:
            verdict = "not measured"
        else:
            verdict = "met" if is_met else "**missed**"
        self.missed += not is_met
        self.lines.append(f"- {what}: {number(value)} ({goal}): {verdict}")


# ---- The tables -------------------------------------------------------------------------------------------------
# Each has a title, a way to its rows, and one from these to lines of Markdown.

def rivals_of(bench, ranks):
    """Not MPICH where ranks share cores: it spins through whole time slices there, milliseconds for each call."""
    return [peer for peer in bench.rivals if peer != "mpich" or ranks == 2]


def measure_all_reduce(bench, out):
    return bench.rows(out, "all_reduce", 2, (4, 256 * MIB, 4))


def show_all_reduce(rows, aims):
    cells = cells_of(rows)
    best = known(cell.best() for cell in cells)
    aims.at_least("best rival / tutti, geometric mean", geometric_mean(best), 1.7)
    aims.at_least("best rival / tutti, least", least(best), 0.95)
    middle = known(cell.best() for cell in between(cells, 16 * KIB, 4 * MIB))
    aims.at_least("best rival / tutti, least from 16 KiB to 4 MiB", least(middle), 1.3)
    default = known(cell.ratio(DEFAULT) for cell in cells)
    aims.at_least("Open MPI's default / tutti, geometric mean", geometric_mean(default), 2.5)
    return times_table(cells)


def measure_symmetric(bench, out):
    return bench.rows(out, "all_reduce", 2, (4, 256 * MIB, 4), "--symmetric",
                      rivals=[*bench.rivals, LIMIT])


def show_symmetric(rows, aims):
    cells = cells_of(rows)
    middle = between(cells, 64 * KIB, 16 * MIB)
    aims.at_least("best rival / tutti, least from 64 KiB to 16 MiB", least(known(c.best() for c in middle)), 2.5)
    slower = [1 / ratio for ratio in known(c.ratio(LIMIT) for c in middle)]
    aims.at_most("tutti / limit, most from 64 KiB to 16 MiB", max(slower, default=None), 1.5)
    return times_table(cells)


def measure_ranks4(bench, out):
    return bench.rows(out, "all_reduce", 4, (4, 256 * MIB, 4), rivals=rivals_of(bench, 4))


def show_ranks4(rows, aims):
    cells = cells_of(rows)
    small = known(cell.best() for cell in cells if cell.bytes < 16 * KIB)
    large = known(cell.best() for cell in cells if cell.bytes >= 16 * KIB)
    aims.at_least("best rival / tutti, least below 16 KiB", least(small), 1.5)
    aims.at_least("best rival / tutti, least from 16 KiB up", least(large), 2)
    return times_table(cells)


def measure_ranks8(bench, out):
    return bench.rows(out, "all_reduce", 8, (4, 64 * MIB, 4), rivals=rivals_of(bench, 8))


def show_ranks8(rows, aims):
    """A cliff: where four times the bytes cost much more than four times the time."""
    cells = cells_of(rows)
    times = [cell.us("tutti") for cell in cells]
    steps = [after / before for before, after in zip(times, times[1:])]
    aims.at_most("tutti, the time from one size to the next, most", max(steps, default=None), 8)
    return times_table(cells)


OTHERS = "broadcast", "all_gather", "reduce_scatter", "gather", "barrier"


def measure_others(bench, out):
    rows = []
    for ranks in 2, 4:
        rivals = rivals_of(bench, ranks)
        for operation in OTHERS:
            if operation == "barrier":
                rows += bench.rows(out, operation, ranks, (4, 4, 2), rivals=rivals)
                continue
            rows += bench.rows(out, operation, ranks, (KIB, MIB, KIB), rivals=rivals)
            if not bench.quick:
                rows += bench.rows(out, operation, ranks, (16 * MIB, 16 * MIB, 2), rivals=rivals)
    return rows


def operation_text(cell):
    return f"{cell.operation}, {size_text(cell.bytes)}" if cell.bytes else cell.operation


def show_others(rows, aims):
    lines = []
    for ranks in 2, 4:
        cells = cells_of(row for row in rows if row["ranks"] == ranks)
        lines += [f"{ranks} ranks:", ""]
        lines += times_table(cells, operation_text, "operation")
        for cell in cells:
            is_level = cell.operation == "gather" and cell.bytes == 16 * MIB
            aims.at_least(f"{operation_text(cell)}, {ranks} ranks: best rival / tutti", cell.best(),
                          0.95 if is_level else 1)
    return lines


def measure_skew(bench, out):
    return [row for ranks in (2, 4)
            for row in bench.rows(out, "all_reduce", ranks, (4 * KIB, 64 * KIB, 4), "--skew", 200,
                                  rivals=rivals_of(bench, ranks))]


def show_skew(rows, aims):
    """No aims: these stand beside each other."""
    lines = []
    for ranks in 2, 4:
        cells = cells_of(row for row in rows if row["ranks"] == ranks)
        peers = list(dict.fromkeys(peer for cell in cells for peer in cell.rows))
        lines += [f"{ranks} ranks, from the last arrival to the last departure: p50 / p99 / p99.9", ""]
        lines += table(["size", *peers], [
            [size_text(cell.bytes), *(" / ".join(number(cell.us(peer, key)) for key in ("p50_us", "p99_us", "p999_us"))
                                      for peer in peers)] for cell in cells])
    return lines


def measure_bfloat16(bench, out):
    """The two types take turns, because the machine's own speed changes from minute to minute."""
    rows = []
    for turn in range(bench.rounds):
        for kind in "bfloat16", "float32":
            rows += [{**row, "turn": turn}
                     for row in bench.rows(out, "all_reduce", 2, (4 * KIB, 256 * MIB, 4), "-d", kind,
                                            rivals=(), rounds=1)]
    return rows


def show_bfloat16(rows, aims):
    """The same bytes hold twice as many elements of bfloat16."""
    times, lines, ratios = {}, [], {}
    for row in rows:
        if row["wrong"]:
            raise SystemExit(f"a wrong result: {row}")
        times.setdefault(row["bytes"], {}).setdefault(row["turn"], {})[row["type"]] = row["p50_us"]
    for size, turns in times.items():
        both = [turn for turn in turns.values() if len(turn) == 2]
        ratios[size] = statistics.median(2 * turn["float32"] / turn["bfloat16"] for turn in both)
        medians = [statistics.median(turn[kind] for turn in both) for kind in ("bfloat16", "float32")]
        lines.append([size_text(size), *map(number, medians), number(ratios[size])])
    large = [ratio for size, ratio in ratios.items() if size >= MIB]
    aims.at_least("elements a second, bfloat16 / float32, least from 1 MiB up", least(large), 1.7)
    return table(["size", "bfloat16", "float32", "elements a second, bfloat16 / float32"], lines)


LATE_S = 2


def measure_late(bench, out):
    """Rank 0 waits for a rank that sleeps.  The programs lie beside the tutti command."""
    folder = pathlib.Path(bench.command).resolve().parent
    peers = {"tutti": [bench.command, "run", "-n", 2, "--", folder / "late"]}
    if "openmpi" in bench.rivals:
        peers["openmpi"] = ["mpirun.openmpi", "--allow-run-as-root", "--oversubscribe", "--bind-to", "none", "-n", 2,
                            folder / "late_mpi"]
    rows = []
    for turn in range(min(bench.rounds, 5)):
        for peer, words in peers.items():
            text = bench.run([*words, LATE_S], {"TUTTI_TRANSPORTS": bench.transports})
            row = json.loads(re.search(r"\{.*\}", text).group())
            rows.append({"op": "late", "peer": peer, "ranks": 2, "turn": turn, **row})
    return rows


def show_late(rows, aims):
    """Milliseconds of processor time, not microseconds."""
    peers, lines = list(dict.fromkeys(row["peer"] for row in rows)), []
    for peer in peers:
        own = [row for row in rows if row["peer"] == peer]
        used, waited = ([row[key] for row in own] for key in ("cpu_ms", "waited_s"))
        if min(waited) < 0.9 * LATE_S:
            raise SystemExit(f"nobody waited: {own}")
        lines.append([peer, number(statistics.median(waited)), number(statistics.median(used)), number(max(used))])
        if peer == "tutti":
            aims.at_most("tutti, ms of processor time, most", max(used), 20)
    return table(["of rank 0", "s in the call", "ms of processor time", "most"], lines)


TABLES = {
    "all_reduce": ("all_reduce, 2 ranks", measure_all_reduce, show_all_reduce),
    "symmetric": ("all_reduce, 2 ranks, symmetric memory", measure_symmetric, show_symmetric),
    "ranks4": ("all_reduce, 4 ranks", measure_ranks4, show_ranks4),
    "ranks8": ("all_reduce, 8 ranks", measure_ranks8, show_ranks8),
    "others": ("Other collectives", measure_others, show_others),
    "skew": ("all_reduce, ranks that arrive up to 200 us late", measure_skew, show_skew),
    "bfloat16": ("all_reduce of bfloat16, 2 ranks", measure_bfloat16, show_bfloat16),
    "late": (f"all_reduce, a rank that comes {LATE_S} s late", measure_late, show_late),
}


# ---- All of it --------------------------------------------------------------------------------------------------

def rows_of(name, bench, arguments):
    """Those that are kept, or new ones."""
    kept = arguments.out / f"{name}.json"
    if kept.exists() and not arguments.again:
        return [json.loads(line) for line in kept.read_text().splitlines()]
    running = arguments.out / f"{name}.running.json"
    rows = TABLES[name][1](bench, running)
    running.write_text("".join(json.dumps(row) + "\n" for row in rows))
    running.rename(kept)  # whole, or not there
    return rows


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tutti", default="build/release/bin/tutti", help="the tutti command (default: %(default)s)")
    parser.add_argument("--out", type=pathlib.Path, default=pathlib.Path("build/figures"),
                        help="the folder of the JSON files (default: %(default)s)")
    parser.add_argument("--only", action="append", choices=TABLES, help="this table; may be given several times")
    parser.add_argument("--again", action="store_true", help="measure, whatever is there")
    parser.add_argument("--quick", action="store_true",
                        help="small sizes and one round: to see that all works; its figures mean nothing")
    parser.add_argument("--transports", default="shm", help="of tutti: one (default: %(default)s)")
    parser.add_argument("--vs", default="openmpi,mpich", type=lambda text: [name for name in text.split(",") if name],
                        help="the rivals, or '' (default: openmpi,mpich)")
    parser.add_argument("--rounds", type=int, default=15, help="in which all take turns (default: %(default)s)")
    return parser.parse_args()


def main():
    arguments = parse_arguments()
    if arguments.quick:
        arguments.out /= "quick"  # never to be taken for figures
    arguments.out.mkdir(parents=True, exist_ok=True)
    bench = Bench(arguments)
    missed = 0
    for name in arguments.only or TABLES:
        aims = Aims()
        title, _, show = TABLES[name]
        try:
            rows = rows_of(name, bench, arguments)
            lines = show(rows, aims)
        except SystemExit as fault:
            print(fault, file=sys.stderr)
            sys.exit(2)
        unit = "medians" if name == "late" else "microseconds, p50"
        head = [f"### {title}", "", f"`tests/bench/figures.py --only {name}`; {unit}", ""]
        print("\n".join([*head, *lines, *aims.lines, ""]), flush=True)
        missed += aims.missed
    if missed and not arguments.quick:
        sys.exit(1)


if __name__ == "__main__":
    main()
