"""tutti's all_reduce on 2 ranks beside raw sockets of the same kind and settings, and beside Open MPI.

All rivals run in turn, several times over, because the machine's own speed changes from minute to minute;
figures are medians of those rounds, and each ratio is the median of the ratios within a round."""

import argparse
import json
import pathlib
import shutil
import statistics
import subprocess
import sys
import tempfile

LARGE, SMALL = 64 << 20, 4
BANDWIDTH_RATIO_MIN, LATENCY_RATIO_MAX = 0.70, 1.5


def output(*command):
    result = subprocess.run([str(part) for part in command], text=True, stdout=subprocess.PIPE,
                            stderr=subprocess.PIPE, timeout=300)
    if result.returncode != 0:
        sys.exit(f"failed: {' '.join(map(str, command))}\n{result.stdout}{result.stderr}")
    return result.stdout


def read_rows(text):
    """JSON objects, as an array or one on a line."""
    text = text.strip()
    return json.loads(text) if text.startswith("[") else [json.loads(line) for line in text.splitlines()]


def tutti_row(binaries, transport, size):
    with tempfile.NamedTemporaryFile("r", suffix=".json") as rows:
        output(binaries / "tutti", "bench", "all_reduce", "--ranks", 2, "-b", size, "-e", size, "--transports",
               transport, "-J", rows.name)
        row, = [row for row in read_rows(rows.read()) if row["in_place"]]
    if row["wrong"] or row["transport"] != transport:
        sys.exit(f"failed: a result that means nothing: {row}")
    return row


def mpi_row(binaries, size, *options):
    program = binaries / "mpi_all_reduce"
    if not program.exists() or shutil.which("mpirun") is None:
        return None
    turns = 10 if size == LARGE else 20000
    text = output("mpirun", "--allow-run-as-root", "--oversubscribe", *options, "-n", 2, program, size, turns)
    return read_rows(text)[0]


def one_round(binaries, transport):
    mpi_options = [] if transport == "uds" else ["--mca", "btl", "tcp,self"]
    raw = json.loads(output(binaries / "raw_sockets", transport))
    large, small = (tutti_row(binaries, transport, size) for size in (LARGE, SMALL))
    mpi_large, mpi_small = (mpi_row(binaries, size, *mpi_options) for size in (LARGE, SMALL))
    return {
        "bandwidth": {"raw": raw["duplex_GBps"], "tutti": large["busbw_GBps"],
                      "mpi": mpi_large and mpi_large["busbw_GBps"]},
        "latency": {"raw": raw["exchange_us"], "tutti": small["p50_us"], "mpi": mpi_small and mpi_small["p50_us"]},
    }


def summary(rounds, what):
    values = {who: statistics.median(r[what][who] for r in rounds) if rounds[0][what][who] is not None else None
              for who in ("raw", "tutti", "mpi")}
    ratio = statistics.median(r[what]["tutti"] / r[what]["raw"] for r in rounds)
    return values, ratio


def number(value):
    return f"{value:10.2f}" if value is not None else f"{'-':>10}"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--binaries", required=True, type=pathlib.Path)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--transports", default="uds,tcp")
    parser.add_argument("--check", action="store_true", help="fail when a target is missed")
    arguments = parser.parse_args()

    transports = arguments.transports.split(",")
    rounds = {transport: [] for transport in transports}
    for turn in range(arguments.rounds):
        for transport in transports:
            print(f"round {turn + 1} of {arguments.rounds}, {transport}", file=sys.stderr, flush=True)
            rounds[transport].append(one_round(arguments.binaries, transport))

    met = True
    print(f"all_reduce of float32, 2 ranks, in place; medians of {arguments.rounds} interleaved rounds")
    print("ratio: the median of the rounds' ratios of tutti to raw, not the ratio of the two medians")
    print(f"{'':32}{'raw':>10}{'tutti':>10}{'ratio':>10}   {'target':<10}{'Open MPI':>10}")
    for transport in transports:
        mpi_kind = "default" if transport == "uds" else "tcp"
        for what, label in (("bandwidth", "64 MiB, bus bandwidth, GB/s"), ("latency", "4 B, p50, us")):
            values, ratio = summary(rounds[transport], what)
            good = ratio >= BANDWIDTH_RATIO_MIN if what == "bandwidth" else ratio <= LATENCY_RATIO_MAX
            target = f">= {BANDWIDTH_RATIO_MIN}" if what == "bandwidth" else f"<= {LATENCY_RATIO_MAX}"
            met = met and good
            print(f"{transport}  {label:27}{number(values['raw'])}{number(values['tutti'])}{ratio:10.2f}   "
                  f"{target:<10}{number(values['mpi'])} ({mpi_kind}){'' if good else '   MISSED'}")
    if arguments.check and not met:
        sys.exit(1)


if __name__ == "__main__":
    main()
