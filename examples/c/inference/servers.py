"""Starts the inference server over tutti or MPI, and its load generator: for compare.py and check.py."""

import contextlib
import os
import pathlib
import re
import signal
import subprocess
import tempfile
import threading

START_S, LOAD_S, STOP_S = 60, 240, 30
MPI = ["mpirun", "--allow-run-as-root", "--oversubscribe", "--mca", "btl_vader_single_copy_mechanism", "none"]


class Server:
    """A server that has begun to serve.  `binaries`: the folder of the programs; `launcher`: what starts ranks."""

    def __init__(self, program, launcher, socket, *options):
        self.socket, self.lines = socket, []
        self._serves = threading.Event()
        command = [*launcher, program, "--socket", socket, *options]
        self.process = subprocess.Popen([str(word) for word in command], stdout=subprocess.PIPE,
                                        stderr=subprocess.STDOUT, text=True)
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        if not self._serves.wait(START_S) or not (found := re.search(r"serving at .*, process (\d+)", self.output())):
            self.kill()
            raise RuntimeError(f"the server did not start:\n{self.output()}")
        self.root_pid = int(found[1])

    def _read(self):
        for line in self.process.stdout:
            self.lines.append(line)
            if "serving at" in line:
                self._serves.set()
        self._serves.set()  # or never will

    def output(self):
        return "".join(self.lines)

    def rank_pids(self):
        """Processes of this host that serve this socket, launchers left out."""
        found = []
        for path in pathlib.Path("/proc").glob("[0-9]*/cmdline"):
            with contextlib.suppress(OSError):
                words = path.read_bytes().decode(errors="replace").split("\0")
                if pathlib.Path(words[0]).name in ("inference_tutti", "inference_mpi") and str(self.socket) in words:
                    found.append(int(path.parent.name))
        return found

    def cpu_seconds(self):
        """That its ranks have used so far."""
        ticks = 0
        for pid in self.rank_pids():
            fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            ticks += int(fields[11]) + int(fields[12])
        return ticks / os.sysconf("SC_CLK_TCK")

    def stop(self):
        """Asks it to end; returns the exit status of its launcher."""
        os.kill(self.root_pid, signal.SIGTERM)
        return self.wait()

    def wait(self):
        status = self.process.wait(STOP_S)
        self._reader.join(STOP_S)
        self.process.stdout.close()
        return status

    def kill(self):
        if self.process.poll() is not None:
            return
        for pid in self.rank_pids():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self.process.kill()
        self.wait()


@contextlib.contextmanager
def served(program, launcher, *options):
    """A Server, at a socket of its own, that does not outlive the block."""
    with tempfile.TemporaryDirectory(prefix="inference-") as folder:
        server = Server(program, launcher, pathlib.Path(folder) / "socket", *options)
        try:
            yield server
        finally:
            server.kill()


def load_command(program, server, requests, connections):
    return [str(program), "--socket", str(server.socket), "--requests", str(requests), "--connections",
            str(connections)]


def load(*arguments):
    """Requests, each answer checked; returns requests/s and the latencies in microseconds by their names."""
    result = subprocess.run(load_command(*arguments), text=True, capture_output=True, timeout=LOAD_S)
    if result.returncode != 0:
        raise RuntimeError(f"the load failed: {result.stderr}")
    figures = {name: float(value) for name, value in re.findall(r"(p[\d.]+|max) ([\d.]+)", result.stdout)}
    return {"requests/s": float(re.search(r"([\d.]+) requests/s", result.stdout)[1]), **figures}
