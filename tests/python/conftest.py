"""Real processes for the tests: groups that stay up from test to test, and scripts with ranks of their own."""

import multiprocessing
import multiprocessing.connection
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import time
import traceback
from pathlib import Path

import pytest

import tutti

os.environ.setdefault("OMP_NUM_THREADS", "1")

# A script's background job has SIGINT ignored, and its children would inherit that; here Ctrl-C is under test.
signal.signal(signal.SIGINT, signal.default_int_handler)

#: Seconds for one call of a group or one script; a test has twice as long.
LIMIT = 60


def pytest_configure(config):
    if not config.pluginmanager.hasplugin("timeout"):
        raise pytest.UsageError("these tests need pytest-timeout, so that none can hang: pip install pytest-timeout")


def pytest_collection_modifyitems(items):
    for item in items:
        if item.get_closest_marker("timeout") is None:
            item.add_marker(pytest.mark.timeout(2 * LIMIT))


def rendezvous_name():
    return f"unix:@tutti-test-{os.getpid()}-{secrets.token_hex(8)}"


def tcp_rendezvous_name():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{probe.getsockname()[1]}"


class Group:
    """``size`` processes with one communicator, which run functions of test modules.

    transports: as in ``tutti.init``.  ranks_per_host: makes as many hosts of this one; None: all are on one.
    """

    def __init__(self, size, transports=None, ranks_per_host=None):
        self.size = size
        self.transports = transports
        self.ranks_per_host = ranks_per_host
        self.processes = []

    def __call__(self, function, *args):
        """The results of ``function(comm, *args)`` by rank; fails with the traceback of the first rank that does."""
        if not self.processes:
            self._start()
        try:
            for pipe in self.pipes:
                pipe.send((function, args))
            results = self._receive(function.__name__)
        except BaseException:
            self.stop()  # the next call gets a new group
            raise
        return results

    def _start(self):
        context = multiprocessing.get_context("spawn")
        # Ranks of other hosts would not find a Unix socket.
        name = tcp_rendezvous_name() if self.ranks_per_host else rendezvous_name()
        self.pipes = []
        for rank in range(self.size):
            pipe, remote = context.Pipe()
            process = context.Process(target=_serve, args=(remote, self._settings(rank, name)), daemon=True)
            process.start()
            remote.close()
            self.pipes.append(pipe)
            self.processes.append(process)

    def _settings(self, rank, rendezvous):
        settings = {"rank": rank, "size": self.size, "rendezvous": rendezvous}
        if self.transports:
            settings["transports"] = self.transports
        if self.ranks_per_host:
            settings["host"] = f"host-{rank // self.ranks_per_host}"
        return settings

    def _receive(self, what):
        deadline = time.monotonic() + LIMIT
        waiting = dict(zip(self.pipes, range(self.size)))
        results, failures = [None] * self.size, []
        while waiting:
            ready = multiprocessing.connection.wait(list(waiting), max(deadline - time.monotonic(), 0))
            if not ready:
                pytest.fail(
                    f"{what}: ranks {sorted(waiting.values())} did not return within {LIMIT} s\n" + "".join(failures)
                )
            for pipe in ready:
                rank = waiting.pop(pipe)
                try:
                    succeeded, results[rank] = pipe.recv()
                except EOFError:
                    succeeded, results[rank] = False, "the process ended\n"
                if not succeeded:
                    failures.append(f"rank {rank}: {results[rank]}")
                    deadline = min(deadline, time.monotonic() + 10)
        if failures:
            pytest.fail(f"{what} failed\n" + "\n".join(failures), pytrace=False)
        return results

    def stop(self):
        for process in self.processes:
            process.kill()
            process.join()
        for pipe in self.pipes if self.processes else ():
            pipe.close()
        self.processes = []


def _serve(pipe, settings):
    with tutti.init(**settings) as comm:
        while True:
            try:
                function, args = pipe.recv()
            except EOFError:
                return
            try:
                result = True, function(comm, *args)
            except BaseException:
                result = False, traceback.format_exc()
                # So that the others do not wait for a rank that has given up; what they say comes second.
                comm.abort(f"rank {comm.rank} failed in a test")
            pipe.send(result)


_groups = {}


@pytest.fixture(params=[1, 2, 3], ids="{} ranks".format)
def group(request):
    """A group of 1, of 2 and of 3 processes."""
    return _groups.setdefault(request.param, Group(request.param))


@pytest.fixture(
    params=[(1, None), (2, None), (3, None), (4, None), (5, None), (3, "uds"), (4, "tcp")],
    ids=lambda param: f"{param[0]} ranks" + (f" over {param[1]}" if param[1] else ""),
)
def any_group(request):
    """Groups of 1 to 5 processes, for what depends on their number; they share memory but for two of them."""
    size, transports = request.param
    return _groups.setdefault(request.param if transports else size, Group(size, transports))


@pytest.fixture(params=["shm,tcp", "uds,tcp", "tcp"])
def two_hosts(request):
    """A group of 2 processes on each of 2 hosts, with shared memory, Unix sockets or TCP within a host, and TCP between
    them."""
    key = (4, request.param, 2)
    return _groups.setdefault(key, Group(*key))


@pytest.fixture
def pair():
    """A group of 2 processes."""
    return _groups.setdefault(2, Group(2))


@pytest.fixture(scope="session", autouse=True)
def _stop_groups():
    yield
    for group in _groups.values():
        group.stop()


@pytest.fixture
def alone(monkeypatch):
    """A communicator of this process alone."""
    with tutti.init(rank=0, size=1) as comm:
        yield comm


@pytest.fixture
def tutti_command():
    """The `tutti` command that came with the package, or else the one on the PATH."""
    found = shutil.which("tutti", path=os.path.dirname(sys.executable)) or shutil.which("tutti")
    if found is None:
        pytest.skip("there is neither a tutti command beside this Python nor on the PATH")
    return found


@pytest.fixture
def rendezvous(tutti_command):
    """Where ranks meet at a rendezvous in a process of its own, so that any rank may die."""
    address = rendezvous_name()
    with subprocess.Popen([tutti_command, "rendezvous", "--listen", address], stdout=subprocess.PIPE) as server:
        try:
            assert b"listening on" in server.stdout.readline()
            yield address
        finally:
            server.terminate()


class Finished:
    def __init__(self, code, out, err):
        self.code, self.out, self.err = code, out, err

    def __repr__(self):
        return f"exit code {self.code}\n--- output\n{self.out}--- errors\n{self.err}"


@pytest.fixture
def run_ranks(tmp_path):
    """run_ranks(n, source or path, *arguments): runs a script on n ranks; what each left, by rank.

    rendezvous: where they meet; rank 0 serves it unless somebody does.
    """

    def run(size, script, *arguments, limit=LIMIT, rendezvous=None, **environment):
        if not isinstance(script, Path):
            path = tmp_path / "script.py"
            path.write_text(script)
            script = path
        name = rendezvous or rendezvous_name()
        processes = []
        try:
            for rank in range(size):
                env = dict(os.environ, PYTHONFAULTHANDLER="1", **environment)
                env["PYTHONPATH"] = os.pathsep.join(
                    [str(Path(__file__).parent), *filter(None, [env.get("PYTHONPATH")])]
                )
                env.update(TUTTI_RANK=str(rank), TUTTI_SIZE=str(size), TUTTI_RENDEZVOUS=name)
                processes.append(
                    subprocess.Popen(
                        [sys.executable, str(script), *arguments],
                        env=env,
                        cwd=tmp_path,
                        stdout=subprocess.PIPE,
                        stderr=subprocess.PIPE,
                        universal_newlines=True,
                    )
                )
            deadline = time.monotonic() + limit
            finished = []
            for process in processes:
                out, err = process.communicate(timeout=max(deadline - time.monotonic(), 0.1))
                finished.append(Finished(process.returncode, out, err))
            return finished
        finally:
            for process in processes:
                if process.poll() is None:
                    process.kill()
                    process.communicate()

    return run
