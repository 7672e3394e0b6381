"""Real processes for the tests of the torch backend: groups that stay up from test to test, and scripts.

TUTTI_TORCH_TEST_BACKEND names the backend under test: "tutti", or "gloo" to prove the tests themselves.
"""

import multiprocessing
import multiprocessing.connection
import os
import socket
import subprocess
import sys
import tempfile
import time
import traceback
import warnings
from datetime import timedelta

import pytest

# Before torch is imported anywhere: one thread for each rank, and Gloo's sockets where no network is needed.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")
os.environ.setdefault("TUTTI_TORCH_TEST_BACKEND", "tutti")

BACKEND = os.environ["TUTTI_TORCH_TEST_BACKEND"]

#: Seconds for one call of a group or one script; a test has twice as long.
LIMIT = 60

#: Seconds for one operation of the backend: before LIMIT, so that its own error is seen.
OPERATION_LIMIT = 30

#: Imported once, by the server that the processes of all groups are forked from. It makes no threads.
PRELOAD = [
    "torch",
    "torch.distributed",
    "torch.distributed._functional_collectives",
    "torch.distributed.nn.functional",
    "torch.distributed.tensor",
    "torch.distributed.fsdp",
    "torch.nn.parallel",
]


def pytest_configure(config):
    if not config.pluginmanager.hasplugin("timeout"):
        raise pytest.UsageError("these tests need pytest-timeout, so that none can hang: pip install pytest-timeout")


def pytest_collection_modifyitems(items):
    for item in items:
        if item.get_closest_marker("timeout") is None:
            item.add_marker(pytest.mark.timeout(2 * LIMIT))


def pytest_collection_finish(session):
    """Has torch imported before the clock of the first test runs: that may take long on a busy machine."""
    if session.items and not session.config.option.collectonly:
        process = _forkserver().Process(target=int)
        process.start()
        process.join(5 * LIMIT)


def _forkserver():
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(PRELOAD)
    return context


class _WithoutTorch(pytest.Module):
    """A test module where there is no torch to import, or no backend to test."""

    def collect(self):
        pytest.skip(self.reason, allow_module_level=True)


def pytest_pycollect_makemodule(module_path, parent):
    reason = _what_is_missing()
    if reason is None:
        return None
    module = _WithoutTorch.from_parent(parent, path=module_path)
    module.reason = reason
    return module


def _what_is_missing():
    try:
        import torch.distributed
    except ImportError as error:
        return f"torch is not installed: {error}"
    return None if torch.distributed.is_available() else "this torch has no torch.distributed"


class Group:
    """``size`` processes with a default group of the backend under test, which run functions of test modules."""

    def __init__(self, size):
        self.size = size
        self.processes = []

    def __call__(self, function, *args, lost=(), limit=LIMIT):
        """The results of ``function(ranks, *args)`` by rank; fails with the traceback of each rank that does.

        lost: ranks whose process is to end instead; ``limit``: seconds.
        """
        if not self.processes:
            self._start()
        try:
            for pipe in self.pipes:
                pipe.send((function, args))
            return self._receive(function.__name__, lost, limit)
        except BaseException:
            self.stop()  # the next call gets a new group
            raise

    def _start(self):
        context = _forkserver()
        self.folder = tempfile.TemporaryDirectory()
        self.pipes = []
        for rank in range(self.size):
            pipe, remote = context.Pipe()
            store = os.path.join(self.folder.name, "store")
            process = context.Process(target=_serve, args=(remote, store, rank, self.size), daemon=True)
            process.start()
            remote.close()
            self.pipes.append(pipe)
            self.processes.append(process)

    def _receive(self, what, lost, limit):
        deadline = time.monotonic() + limit
        waiting = dict(zip(self.pipes, range(self.size)))
        results, failures = [None] * self.size, []
        while waiting:
            ready = multiprocessing.connection.wait(list(waiting), max(deadline - time.monotonic(), 0))
            if not ready:
                late = f"{what}: ranks {sorted(waiting.values())} did not return in time ({limit} s)\n"
                pytest.fail("\n".join([late, *failures]), pytrace=False)
            for pipe in ready:
                rank = waiting.pop(pipe)
                try:
                    succeeded, results[rank] = pipe.recv()
                except (EOFError, ConnectionResetError):
                    succeeded, results[rank] = rank in lost, "the process ended\n"
                if not succeeded:
                    failures.append(f"rank {rank}: {results[rank]}")
                    # The others wait for this rank; what they were doing tells little.
                    deadline = min(deadline, time.monotonic() + 5)
        if failures:
            pytest.fail(f"{what} failed\n" + "\n".join(failures), pytrace=False)
        return results

    def stop(self):
        for process in self.processes:
            process.kill()
            process.join()
        if self.processes:
            for pipe in self.pipes:
                pipe.close()
            self.folder.cleanup()
        self.processes = []


class Ranks:
    """What a function in a process of a group gets: where it is, and Gloo's group of the same ranks as the oracle.

    A group of ranks of the backend under test comes with one of Gloo; they are made when first asked for, and stay.
    """

    def __init__(self, rank, size, world, gloo):
        self.rank, self.size = rank, size
        self._groups = {tuple(range(size)): (world, gloo)}

    def groups(self, members):
        """(group under test, Gloo's group) of these ranks of the world, in this order; collective over the world."""
        import torch.distributed as dist

        members = tuple(members)
        if members not in self._groups:
            order = {} if list(members) == sorted(members) else {"sort_ranks": False}
            self._groups[members] = tuple(
                dist.new_group(list(members), backend=backend, **order) for backend in (None, "gloo")
            )
        return self._groups[members]

    @property
    def gloo(self):
        return self._groups[tuple(range(self.size))][1]


def _serve(pipe, store, rank, size):
    import torch
    import torch.distributed as dist

    torch.set_num_threads(1)
    warnings.simplefilter("ignore", FutureWarning)  # of old names of operations, which are under test as well
    timeout = timedelta(seconds=OPERATION_LIMIT)
    try:
        dist.init_process_group(BACKEND, store=dist.FileStore(store, size), rank=rank, world_size=size, timeout=timeout)
        ranks = Ranks(rank, size, dist.group.WORLD, dist.new_group(backend="gloo"))
    except BaseException:
        pipe.recv()
        pipe.send((False, traceback.format_exc()))
        return
    while True:
        try:
            function, args = pipe.recv()
        except EOFError:
            return
        try:
            result = True, function(ranks, *args)
        except BaseException:
            result = False, traceback.format_exc()
        pipe.send(result)


_groups = {}


def _group(size):
    return _groups.setdefault(size, Group(size))


@pytest.fixture(params=[1, 2, 3, 4], ids="{} ranks".format)
def group(request):
    """Groups of 1 to 4 processes."""
    return _group(request.param)


@pytest.fixture(params=[2, 3], ids="{} ranks".format)
def small_group(request):
    """Groups of 2 and 3 processes, for what depends little on their number."""
    return _group(request.param)


@pytest.fixture
def pair():
    """A group of 2 processes."""
    return _group(2)


@pytest.fixture
def four():
    """A group of 4 processes."""
    return _group(4)


@pytest.fixture
def fresh():
    """fresh(n): a group of n processes for a test that ends it."""
    made = []

    def make(size):
        made.append(Group(size))
        return made[-1]

    yield make
    for group in made:
        group.stop()


class Finished:
    """What a process left: its exit code, what it wrote, and how long it ran, in seconds."""

    def __init__(self, code, out, err, seconds):
        self.code, self.out, self.err, self.seconds = code, out, err, seconds

    def __repr__(self):
        return f"exit code {self.code} after {self.seconds:.1f} s\n--- output\n{self.out}--- errors\n{self.err}"


@pytest.fixture
def run(tmp_path):
    """run(command, **environment) runs a command in an empty folder: a Finished."""

    def run_command(command, limit=LIMIT, **environment):
        began = time.monotonic()
        process = _start(command, tmp_path, environment)
        return _finish(process, began, began + limit)

    return run_command


@pytest.fixture
def run_ranks(tmp_path):
    """run_ranks(n, source, *arguments): runs a script on n ranks with the environment that torchrun would set.

    They meet at a free port of the loopback, or by whatever the script does. What each left, by rank.
    """

    def run_script(size, source, *arguments, limit=LIMIT, ranks=None, **environment):
        path = tmp_path / "script.py"
        path.write_text(source)
        began = time.monotonic()
        processes = []
        try:
            for rank in range(size) if ranks is None else ranks:
                place = {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(size)}
                command = [sys.executable, str(path), *arguments]
                processes.append(_start(command, tmp_path, {**place, **environment}))
            return [_finish(process, began, began + limit) for process in processes]
        finally:
            for process in processes:
                process.kill()

    return run_script


def _start(command, folder, environment):
    environment = {**os.environ, "BACKEND": BACKEND, "PYTHONFAULTHANDLER": "1", **environment}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "universal_newlines": True}
    return subprocess.Popen([str(word) for word in command], env=environment, cwd=folder, **pipes)


def _finish(process, began, deadline):
    try:
        out, err = process.communicate(timeout=max(deadline - time.monotonic(), 0.1))
    except subprocess.TimeoutExpired:
        process.kill()
        out, err = process.communicate()
        pytest.fail(f"{process.args} did not end in time\n--- output\n{out}--- errors\n{err}", pytrace=False)
    return Finished(process.returncode, out, err, time.monotonic() - began)


@pytest.fixture
def free_port():
    """free_port(): a TCP port of the loopback that nobody listens at."""

    def find():
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            return probe.getsockname()[1]

    return find


@pytest.fixture(scope="session", autouse=True)
def _stop_groups():
    yield
    for group in _groups.values():
        group.stop()
