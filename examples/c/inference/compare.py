"""The inference server over tutti and over MPI, side by side: one table.

    python3 examples/c/inference/compare.py --binaries build/release/bin -n 2

Each round starts every server in turn, leaves it idle for a second, and puts the same load on it; the figures are
medians of the rounds.  "cores" is the CPU time of all ranks in each second."""

import argparse
import pathlib
import statistics
import time

import servers

IDLE_S = 1
COLUMNS = "requests/s", "p50", "p90", "p99", "p99.9", "cores idle", "cores busy"


def contestants(arguments):
    """Name, program, launcher and options of each."""
    binaries, ranks = arguments.binaries, arguments.ranks
    transports = [] if arguments.transport == "local" else ["--transports", "tcp"]
    btl = "self,vader" if arguments.transport == "local" else "self,tcp"
    tutti = binaries / "inference_tutti", [binaries / "tutti", "run", "-n", ranks, *transports, "--"]
    mpi = binaries / "inference_mpi", [*servers.MPI, "--mca", "btl", btl, "-n", ranks]
    rows = [("tutti, event loop", *tutti, 0), ("tutti, waits 1 ms first", *tutti, 1)]
    if mpi[0].exists():
        rows += [("MPI, event loop that spins", *mpi, 0), ("MPI, blocking calls", *mpi, -1)]
    else:
        print("without MPI: inference_mpi was not built")
    return rows


def measure(arguments, program, launcher, patience_ms):
    model = "--width", arguments.width, "--hidden", arguments.hidden, "--patience", patience_ms
    with servers.served(program, launcher, *model) as server:
        before_idle_s = server.cpu_seconds()
        time.sleep(IDLE_S)
        before_s, began_s = server.cpu_seconds(), time.monotonic()
        figures = servers.load(arguments.binaries / "inference_load", server, arguments.requests,
                               arguments.connections)
        took_s = time.monotonic() - began_s
        figures["cores busy"] = (server.cpu_seconds() - before_s) / took_s
        figures["cores idle"] = (before_s - before_idle_s) / IDLE_S
        if (status := server.stop()) != 0:
            raise RuntimeError(f"the server ended with status {status}:\n{server.output()}")
    return figures


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--binaries", required=True, type=pathlib.Path)
    parser.add_argument("-n", "--ranks", type=int, default=2)
    parser.add_argument("--transport", choices=["local", "tcp"], default="local", help="what each has for one host")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--requests", type=int, default=5000, help="in each round")
    parser.add_argument("--connections", type=int, default=1)
    parser.add_argument("--width", type=int, default=256)
    parser.add_argument("--hidden", type=int, default=1024)
    arguments = parser.parse_args()

    rows = contestants(arguments)
    rounds = [[measure(arguments, *row[1:]) for row in rows] for _ in range(arguments.rounds)]
    print(f"{arguments.ranks} ranks, {arguments.width} x {arguments.hidden}, {arguments.connections} connection(s), "
          f"{arguments.rounds} rounds of {arguments.requests} requests; latency in us")
    print(f"{'':28}" + "".join(f"{column:>12}" for column in COLUMNS))
    for index, (name, *_) in enumerate(rows):
        medians = [statistics.median(figures[index][column] for figures in rounds) for column in COLUMNS]
        print(f"{name:28}" + "".join(f"{value:12.2f}" if column.startswith("cores") else f"{value:12.0f}"
                                     for column, value in zip(COLUMNS, medians)))


if __name__ == "__main__":
    main()
