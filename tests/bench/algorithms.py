"""How good is the choice of algorithms?  For every size, each algorithm that may be used and the one that is chosen
take turns (tutti bench --algorithms); a ratio is the time of the choice to that of the best.

Prints the table of every operation, transport and number of ranks, and of each the geometric mean and the worst
ratio; with --check it fails where a mean is above 1.15 or a ratio above 1.5."""

import argparse
import json
import math
import pathlib
import subprocess
import sys
import tempfile

MEAN_MAX, WORST_MAX = 1.15, 1.5
TIMEOUT_S = 3600


def measure(tutti, operation, transport, ranks, arguments):
    """The rows of one table, as tutti bench writes them."""
    with tempfile.NamedTemporaryFile("r", suffix=".json") as file:
        command = [tutti, "bench", operation, "--algorithms", "--ranks", ranks, "--transports", transport, "-b",
                   arguments.minbytes, "-e", arguments.maxbytes, "-f", arguments.stepfactor, "--rounds",
                   arguments.rounds, "-d", arguments.type, "-J", file.name] + ["--bind"] * arguments.bind
        result = subprocess.run([str(word) for word in command], text=True, stdout=subprocess.PIPE,
                                stderr=subprocess.PIPE, timeout=TIMEOUT_S)
        if result.returncode != 0:
            sys.exit(f"failed: {' '.join(map(str, command))}\n{result.stdout}{result.stderr}")
        return [json.loads(line) for line in file]


def check_rows(rows, operation, transport, ranks):
    """A table that says nothing must not look like a good one."""
    if not rows:
        sys.exit(f"failed: {operation} on {ranks} ranks over {transport}: nothing was measured")
    for row in rows:
        if (row["op"], row["transport"], row["ranks"]) != (operation, transport, ranks) or not row["algorithms"]:
            sys.exit(f"failed: a result that means nothing: {row}")


def print_table(rows):
    first = rows[0]
    print(f"\n{first['op']}, {first['ranks']} ranks, {first['transport']}, {first['type']}")
    print(f"{'bytes':>10}  {'chosen':<19} {'us':>10} {'predicted':>10}  {'best':<19} {'us':>10} {'ratio':>6}  others")
    for row in rows:
        others = sorted((name, times) for name, times in row["algorithms"].items() if name != row["best"])
        text = ", ".join(f"{name} {times['us']:.1f}" for name, times in others)
        print(f"{row['bytes']:>10}  {row['selected']:<19} {row['selected_us']:>10.1f} {row['predicted_us']:>10.1f}  "
              f"{row['best']:<19} {row['best_us']:>10.1f} {row['ratio']:>6.2f}  {text}", flush=True)


def mean_ratio(rows):
    return math.exp(sum(math.log(row["ratio"]) for row in rows) / len(rows))


def model_error(rows):
    """By what factor the model is wrong about a time, on average over all algorithms."""
    errors = [abs(math.log(times["predicted_us"] / times["us"]))
              for row in rows for times in row["algorithms"].values() if times["predicted_us"] > 0]
    return math.exp(sum(errors) / len(errors))


def print_summary(tables):
    """Whether every table is good enough."""
    good = True
    print(f"\n{'operation':<16} {'transport':<10} {'ranks':>5} {'mean':>7} {'worst':>7} {'at bytes':>10} "
          f"{'model':>7}")
    for rows in tables:
        worst = max(rows, key=lambda row: row["ratio"])
        mean = mean_ratio(rows)
        fails = mean > MEAN_MAX or worst["ratio"] > WORST_MAX
        good = good and not fails
        print(f"{worst['op']:<16} {worst['transport']:<10} {worst['ranks']:>5} {mean:>7.3f} {worst['ratio']:>7.2f} "
              f"{worst['bytes']:>10} {model_error(rows):>7.2f}{'  MISSED' if fails else ''}")
    print(f"mean, worst: ratio of the choice's time to the best's; aim: {MEAN_MAX} and {WORST_MAX}.  "
          f"model: factor between predicted and measured times.")
    return good


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--binaries", required=True, type=pathlib.Path)
    parser.add_argument("--operations", default="all_reduce", help="all_reduce,broadcast,...")
    parser.add_argument("--transports", default="uds,tcp")
    parser.add_argument("--ranks", default="2,4,8")
    parser.add_argument("--type", default="float32")
    parser.add_argument("--minbytes", default="4")
    parser.add_argument("--maxbytes", default="64M")
    parser.add_argument("--stepfactor", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--bind", action="store_true", help="give each rank its own share of the processors")
    parser.add_argument("--json", type=pathlib.Path, help="write the rows there, too, one object a line")
    parser.add_argument("--check", action="store_true", help="fail when an aim is missed")
    arguments = parser.parse_args()

    tables = []
    for operation in arguments.operations.split(","):
        for transport in arguments.transports.split(","):
            for ranks in map(int, arguments.ranks.split(",")):
                rows = measure(arguments.binaries / "tutti", operation, transport, ranks, arguments)
                check_rows(rows, operation, transport, ranks)
                print_table(rows)
                tables.append(rows)
    if arguments.json:
        arguments.json.write_text("".join(json.dumps(row) + "\n" for rows in tables for row in rows))
    good = print_summary(tables)
    sys.exit(1 if arguments.check and not good else 0)


if __name__ == "__main__":
    main()
