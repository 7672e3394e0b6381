"""torch.distributed with tutti beside Gloo of the same torch, in one run: collectives, messages, and training steps.

Every process holds a group of each backend (--apart: processes of its own for each), and these take turns batch by
batch, for several rounds, because the machine's own speed changes from minute to minute; nothing is bound to a core.
A call lasts from the last rank's arrival to the last rank's departure.  A figure is the median of a round's calls and
then of the rounds; a ratio is the median of the rounds' ratios, and not the ratio of the figures beside it.
Each cell's result is checked once, before it is measured.  Prints Markdown.
Exit status: 1 when an aim is missed (not with --quick), 2 when something could not be measured."""

import argparse
import array
import collections
import contextlib
import datetime
import gc
import json
import multiprocessing
import multiprocessing.connection
import os
import pathlib
import statistics
import sys
import time
import traceback

try:
    import torch
    import torch.distributed as dist
except ImportError as fault:
    print(f"{sys.executable} has no torch: {fault}", file=sys.stderr)
    sys.exit(2)
import torch_cells
from figures import KIB, MIB, Aims, least, number, size_text, table

RIVAL = "gloo"
BATCH_S, QUICK_BATCH_S = 0.06, 0.005
CALLS_MIN, CALLS_MAX = 3, 2000
CALL_TIMEOUT = datetime.timedelta(seconds=60)
ANSWER_TIMEOUT_S, END_TIMEOUT_S = 300, 20


# ---- A rank -----------------------------------------------------------------------------------------------------

def groups_of(backends, rank, size, port):
    """The first backend makes the default group.  `backends` is {name: backend}."""
    names = list(backends)
    store = dist.TCPStore("127.0.0.1", port, is_master=False)
    dist.init_process_group(backends[names[0]], store=store, rank=rank, world_size=size, timeout=CALL_TIMEOUT)
    groups = {names[0]: dist.group.WORLD}
    for name in names[1:]:
        groups[name] = dist.new_group(backend=backends[name], timeout=CALL_TIMEOUT)
    return groups


def timed(group, call, calls):
    """When each call began and ended: nanoseconds of a clock that all processes of the machine share."""
    begins, ends = array.array("q", bytes(8 * calls)), array.array("q", bytes(8 * calls))
    dist.barrier(group=group)
    call()
    gc.disable()
    for i in range(calls):
        begins[i] = time.monotonic_ns()
        call()
        ends[i] = time.monotonic_ns()
    gc.enable()
    return begins, ends


def serve(connection, groups):
    """Does what the parent says until it says "end", and answers each time."""
    jobs = {}
    while True:
        word, *arguments = connection.recv()
        if word == "make":
            name, group, operation, size_bytes = arguments
            call, is_right = getattr(torch_cells, operation)(groups[group], size_bytes)
            call()
            jobs[name] = group, call
            answer = is_right()
        elif word == "time":
            name, calls = arguments
            group, call = jobs[name]
            answer = timed(groups[group], call, calls)
        elif word == "drop":
            jobs.clear()
            answer = gc.collect()
        else:
            return
        connection.send(("ok", answer))


def rank_main(connection, backends, rank, size, port):
    try:
        groups = groups_of(backends, rank, size, port)
        connection.send(("ok", None))
        serve(connection, groups)
        dist.destroy_process_group()
        connection.send(("ok", None))
    except (EOFError, BrokenPipeError):
        pass  # The parent is gone.
    except BaseException:
        connection.send(("fault", traceback.format_exc()))


# ---- The ranks, from the parent ---------------------------------------------------------------------------------

class Ranks:
    """Processes that hold a group of each backend, and do together what they are told.  For a `with` block."""

    def __init__(self, backends, size):
        self.store = dist.TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
        self.processes, self.connections = [], []
        context = multiprocessing.get_context("spawn")
        for rank in range(size):
            own, theirs = context.Pipe()
            process = context.Process(target=rank_main, args=(theirs, backends, rank, size, self.store.port),
                                      daemon=True)
            process.start()
            theirs.close()
            self.processes.append(process)
            self.connections.append(own)

    def __enter__(self):
        self.answers("joining")
        return self

    def __exit__(self, kind, *_):
        if kind is None:
            self.tell("end")
            for rank, process in enumerate(self.processes):
                process.join(END_TIMEOUT_S)
                if process.exitcode != 0:
                    self.fail("end", f"rank {rank} ended with status {process.exitcode} (None: not at all)")
        self.kill()

    def kill(self):
        for process in self.processes:
            process.kill()
            process.join()

    def tell(self, *words):
        """Returns the answers in the order of ranks."""
        for rank, connection in enumerate(self.connections):
            try:
                connection.send(words)
            except BrokenPipeError:
                self.fail(words, f"rank {rank} had ended before")
        return self.answers(words)

    def answers(self, words):
        answers, deadline = {}, time.monotonic() + ANSWER_TIMEOUT_S
        while len(answers) < len(self.connections):
            waiting = {c: rank for rank, c in enumerate(self.connections) if rank not in answers}
            ready = multiprocessing.connection.wait(waiting, max(0, deadline - time.monotonic()))
            if not ready:
                self.fail(words, f"no answer of ranks {sorted(waiting.values())} within {ANSWER_TIMEOUT_S} s")
            for connection in ready:
                rank = waiting[connection]
                try:
                    word, answers[rank] = connection.recv()
                except EOFError:
                    self.processes[rank].join(END_TIMEOUT_S)
                    self.fail(words, f"rank {rank} ended with status {self.processes[rank].exitcode}")
                if word != "ok":
                    self.fail(words, f"rank {rank}:\n{answers[rank]}")
        return [answers[rank] for rank in sorted(answers)]

    def fail(self, words, what):
        self.kill()
        raise SystemExit(f"{len(self.processes)} ranks, {words}: {what}")


# ---- Measuring --------------------------------------------------------------------------------------------------

Cell = collections.namedtuple("Cell", "table operation bytes goal alone", defaults=(0, 1, None))
Cell.__doc__ = """`goal`: how many times as fast as the rival tutti must be.  `alone`: the operation without its
communication, to be measured beside it."""

SIZES = KIB, 64 * KIB, MIB, 25 * MIB
MODEL_BYTES = 8 * torch_cells.LAYER_BYTES  # 25 million parameters
CELLS = [
    *(Cell("all_reduce", "all_reduce", size, 3) for size in (4, *SIZES)),
    *(Cell("reduce_scatter", "reduce_scatter_tensor", size, 3) for size in SIZES),
    *(Cell("all_gather", "all_gather_into_tensor", size, 3) for size in SIZES),
    *(Cell("broadcast", "broadcast", size, 3) for size in (64 * KIB, MIB)),
    *(Cell("all_to_all", "all_to_all_single", size, 3) for size in (64 * KIB, MIB)),
    Cell("barrier", "barrier", goal=3),
    *(Cell("async", operation, MIB, 3) for operation in ("all_reduce_wait", "all_reduce_future")),
    *(Cell("messages", "ping_pong", size) for size in (4, MIB)),
    Cell("objects", "all_gather_object"),
    Cell("ddp", "ddp", MODEL_BYTES, alone="ddp_no_sync"),
    Cell("fsdp", "fsdp", MODEL_BYTES, alone="no_group"),
]
TABLES = list(dict.fromkeys(cell.table for cell in CELLS))
TITLES = {
    "all_reduce_wait": "all_reduce(async_op=True).wait()",
    "all_reduce_future": "all_reduce(async_op=True).get_future().wait()",
    "ping_pong": "send and recv, there and back",
    "ddp": "DistributedDataParallel",
    "fsdp": "fully_shard",
}


def title_of(cell):
    title = TITLES.get(cell.operation, cell.operation)
    return f"{title}, {size_text(cell.bytes)}" if cell.bytes and not cell.alone else title


def quick(cell):
    return cell._replace(bytes=torch_cells.LAYER_BYTES if cell.alone else min(cell.bytes, 64 * KIB))


class Contestant:
    """Who does a cell's operation, or what is left of it without communication."""

    def __init__(self, ranks, name, group, operation, cell):
        self.ranks, self.name = ranks, name
        self.rounds = collections.defaultdict(list)
        if not all(ranks.tell("make", name, group, operation, cell.bytes)):
            raise SystemExit(f"{name}, {len(ranks.processes)} ranks: a wrong result of {operation}, {cell.bytes} bytes")

    def figures(self, calls):
        """Microseconds of one batch: the median call, the mean with all that lies between calls, and the median that
        the slowest rank sees, from its own arrival."""
        times = self.ranks.tell("time", self.name, calls)
        begins, ends = ([time[part] for time in times] for part in (0, 1))
        spans = [max(end) - max(begin) for begin, end in zip(zip(*begins), zip(*ends))]
        own = [statistics.median(e - b for b, e in zip(begin, end)) for begin, end in times]
        total = max(end[-1] for end in ends) - min(begin[0] for begin in begins)
        return {"p50_us": statistics.median(spans) / 1e3, "mean_us": total / calls / 1e3, "own_p50_us": max(own) / 1e3}

    def calibrate(self, batch_s):
        """Calls that take about as long as a batch should.  The second look is at a warm one."""
        self.calls = CALLS_MIN
        for _ in range(2):
            calls = 1e6 * batch_s / self.figures(self.calls)["mean_us"]
            self.calls = max(CALLS_MIN, min(CALLS_MAX, round(calls)))

    def play(self):
        for key, value in self.figures(self.calls).items():
            self.rounds[key].append(value)

    def row(self, cell):
        return {"op": cell.operation, "ranks": len(self.ranks.processes), "bytes": cell.bytes, "peer": self.name,
                "torch": torch.__version__, "calls": self.calls,
                **{key: statistics.median(values) for key, values in self.rounds.items()}, "rounds": self.rounds}


def measure(cell, holders, arguments):
    """Rows of all that took part.  `holders` is {name: Ranks}, tutti first."""
    contestants = [Contestant(ranks, name, name, cell.operation, cell) for name, ranks in holders.items()]
    if cell.alone:
        name, ranks = next(iter(holders.items()))
        contestants.append(Contestant(ranks, cell.alone, name, cell.alone, cell))
    for contestant in contestants:
        contestant.calibrate(QUICK_BATCH_S if arguments.quick else BATCH_S)
    for turn in range(arguments.rounds):
        first = turn % len(contestants)
        for contestant in contestants[first:] + contestants[:first]:
            contestant.play()
    for ranks in set(holders.values()):
        ranks.tell("drop")
    return [contestant.row(cell) for contestant in contestants]


@contextlib.contextmanager
def holders_of(backends, size, is_apart):
    """{name: the Ranks that hold its group}."""
    with contextlib.ExitStack() as stack:
        if is_apart:
            yield {name: stack.enter_context(Ranks({name: backend}, size)) for name, backend in backends.items()}
        else:
            ranks = stack.enter_context(Ranks(backends, size))
            yield {name: ranks for name in backends}


# ---- Printing ---------------------------------------------------------------------------------------------------

class Result:
    """A cell's figures: of the backend, of its rival, and without communication."""

    def __init__(self, cell, rows):
        self.cell = cell
        self.own, self.rival, *alone = rows
        self.alone = alone[0] if alone else None

    def ratio(self, key="p50_us"):
        """How many times as fast as the rival."""
        return statistics.median(rival / own for own, rival in zip(self.own["rounds"][key], self.rival["rounds"][key]))

    def communication(self, row):
        """The share of a step, in percent, that it would not take without communication."""
        pairs = zip(row["rounds"]["p50_us"], self.alone["rounds"]["p50_us"])
        return 100 * statistics.median(1 - alone / step for step, alone in pairs)


def calls_table(results, names):
    lines = [[title_of(result.cell), *(number(row["p50_us"]) for row in (result.own, result.rival)),
              *(number(result.ratio(key)) for key in ("p50_us", "mean_us"))] for result in results]
    ratio = " / ".join(reversed(names))
    return ["Microseconds:", "", *table(["operation", *names, ratio, f"{ratio}, of means"], lines)]


def steps_table(results, names):
    """Without communication: DDP's no_sync(); for fully_shard, the model that is not sharded."""
    lines = [[title_of(result.cell),
              *(number(row["p50_us"] / 1e3) for row in (result.own, result.rival, result.alone)),
              number(result.ratio()), *(number(result.communication(row)) for row in (result.own, result.rival))]
             for result in results]
    titles = ["step", *names, "without communication", " / ".join(reversed(names)),
              *(f"communication with {name}, %" for name in names)]
    millions = results[0].cell.bytes / 4e6
    return [f"Steps of a transformer of {millions:.1f} million parameters, {torch_cells.TOKENS} tokens for each rank, "
            "milliseconds:", "", *table(titles, lines)]


def hold(results, aims, size, names):
    """The results of one number of ranks to their aims."""
    ratio = " / ".join(reversed(names))
    for operation in dict.fromkeys(result.cell.operation for result in results):
        of_it = [result for result in results if result.cell.operation == operation]
        aims.at_least(f"{TITLES.get(operation, operation)}, {size} ranks: {ratio}, least",
                      least([result.ratio() for result in of_it]), of_it[0].cell.goal)
    for result in results:
        if (result.cell.operation, result.cell.bytes, size) == ("all_reduce", 4, 2):
            aims.at_most("all_reduce, 4 B, 2 ranks: microseconds from a rank's own call to its return",
                         result.own["own_p50_us"], 25)


def show(size, results, names, aims, arguments):
    options = "".join(f" --{name}" for name in ("quick", "apart") if getattr(arguments, name))
    lines = [f"### {size} ranks", "", f"torch {torch.__version__}; `tests/bench/torch_bench.py --ranks {size} "
             f"--rounds {arguments.rounds}{options}`", ""]
    calls = [result for result in results if not result.alone]
    steps = [result for result in results if result.alone]
    if calls:
        lines += calls_table(calls, names)
    if steps:
        lines += steps_table(steps, names)
    hold(results, aims, size, names)
    print("\n".join([*lines, *aims.lines, ""]), flush=True)


# ---- All of it --------------------------------------------------------------------------------------------------

def sizes_of(text):
    sizes = [int(word) for word in text.split(",")]
    if any(size < 2 or size & (size - 1) for size in sizes):
        raise argparse.ArgumentTypeError("numbers of ranks are powers of two, which every size can be shared by")
    return sizes


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--ranks", type=sizes_of, default="2,4", help="numbers of ranks (default: %(default)s)")
    parser.add_argument("--only", action="append", choices=TABLES, help="this; may be given several times")
    parser.add_argument("--rounds", type=int, default=15, help="in which all take turns (default: %(default)s)")
    parser.add_argument("--quick", action="store_true",
                        help="small sizes and one round: to see that all works; its figures mean nothing")
    parser.add_argument("--apart", action="store_true", help="processes of its own for each backend")
    parser.add_argument("--backend", default="tutti",
                        help="what is measured beside gloo (default: %(default)s); gloo shows the noise")
    parser.add_argument("-J", "--json", type=pathlib.Path, metavar="FILE", help="the rows, a JSON object on each line")
    arguments = parser.parse_args()
    if arguments.quick:
        arguments.rounds = 1
    if arguments.rounds < 1:
        parser.error("--rounds must be at least 1")
    return arguments


def run(arguments, report):
    """Measures and prints; returns how many aims were missed.  `report` is where rows go, or None."""
    own = arguments.backend if arguments.backend != RIVAL else f"{RIVAL} again"
    backends = {own: arguments.backend, RIVAL: RIVAL}
    cells = [cell for cell in CELLS if not arguments.only or cell.table in arguments.only]
    if arguments.quick:
        cells = list(dict.fromkeys(map(quick, cells)))
    missed = 0
    for size in arguments.ranks:
        results, aims = [], Aims()
        with holders_of(backends, size, arguments.apart) as holders:
            for cell in cells:
                print(f"{size} ranks: {title_of(cell)}", file=sys.stderr, flush=True)
                rows = measure(cell, holders, arguments)
                results.append(Result(cell, rows))
                if report:
                    report.writelines(json.dumps(row) + "\n" for row in rows)
                    report.flush()
        show(size, results, list(backends), aims, arguments)
        missed += aims.missed
    return missed


def main():
    arguments = parse_arguments()
    # One thread of compute for each rank, and no name look-ups or outer interfaces for Gloo; ranks inherit both.
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")
    try:
        with contextlib.ExitStack() as stack:
            missed = run(arguments, arguments.json and stack.enter_context(arguments.json.open("w")))
    except (SystemExit, OSError) as fault:
        print(fault, file=sys.stderr)
        sys.exit(2)
    if missed and not arguments.quick:
        sys.exit(1)


if __name__ == "__main__":
    main()
