"""The ways in which a script is started: torchrun, tutti run, mp.spawn, and what names the meeting point."""

import os
import shutil
import sys

import pytest
from cases import BACKEND

#: What runs everywhere; with a torch of 2 seconds to import, scripts do as much as they can at once.
JOB = """
import os, sys
import torch, torch.distributed as dist

def work(rank, size):
    assert (dist.get_rank(), dist.get_world_size()) == (rank, size)
    x = torch.full((10,), float(rank))
    dist.all_reduce(x)
    assert (x == sum(range(size))).all()
    odd = dist.new_group([i for i in range(size) if i % 2 == 1])
    if rank % 2 == 1:
        dist.all_reduce(x, group=odd)
    names = [None] * size
    dist.all_gather_object(names, f"rank {rank}")
    assert names == [f"rank {i}" for i in range(size)]
    dist.barrier()
"""

MAIN = (
    JOB
    + """
dist.init_process_group(os.environ["BACKEND"])
work(int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"]))
sys.stdout.write(f"done {dist.get_rank()} of {dist.get_world_size()} by {dist.get_backend()}\\n")
dist.destroy_process_group()
"""
)


def _beside_python(name):
    return shutil.which(name, path=os.path.dirname(sys.executable)) or shutil.which(name)


@pytest.fixture
def torchrun():
    return [sys.executable, "-m", "torch.distributed.run"]


@pytest.fixture
def script(tmp_path):
    """script(source): the path of a file with it."""

    def write(source):
        path = tmp_path / "script.py"
        path.write_text(source)
        return path

    return write


def _expect(finished, size):
    assert finished.code == 0, finished
    for rank in range(size):
        assert f"done {rank} of {size} by {BACKEND}" in finished.out, finished


@pytest.mark.parametrize("size", [2, 4])
def test_torchrun(run, torchrun, script, size):
    options = ["--standalone", f"--nproc-per-node={size}"]
    _expect(run([*torchrun, *options, script(MAIN)]), size)


def test_torchrun_restarts_after_a_rank_has_died(run, torchrun, script, free_port):
    """At the first attempt rank 1 kills itself, so the survivor raises; at the second all goes well."""
    source = (
        JOB
        + """
import signal
dist.init_process_group(os.environ["BACKEND"])
rank, attempt = dist.get_rank(), int(os.environ["TORCHELASTIC_RESTART_COUNT"])
work(rank, 2)
if attempt == 0:
    if rank == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    try:
        dist.all_reduce(torch.ones(3))
    except RuntimeError as error:
        sys.stdout.write(f"attempt 0: {error}\\n")
        sys.stdout.flush()
        raise
sys.stdout.write(f"done {rank} of 2 by {dist.get_backend()}\\n")
dist.destroy_process_group()
"""
    )
    # With a store of the agent, which the second attempt finds as the first has left it.
    where = ["--rdzv-backend=c10d", f"--rdzv-endpoint=127.0.0.1:{free_port()}"]
    finished = run([*torchrun, *where, "--nnodes=1", "--nproc-per-node=2", "--max-restarts=1", script(source)])
    _expect(finished, 2)
    # The agent may end the survivor before it has said so.
    for line in finished.out.splitlines():
        assert not line.startswith("attempt 0") or BACKEND == "gloo" or "rank 1" in line, finished


@pytest.mark.skipif(BACKEND == "gloo", reason="it is a launcher of tutti's")
def test_tutti_run(run, script):
    command = _beside_python("tutti")
    if command is None:
        pytest.skip("there is neither a tutti command beside this Python nor on the PATH")
    _expect(run([command, "run", "-n", "2", "--", sys.executable, script(MAIN)]), 2)


SPAWN = (
    JOB
    + """
import torch.multiprocessing as mp

def main(rank, backend, method, expected):
    if method == "env://":
        os.environ.update(RANK=str(rank), WORLD_SIZE="2")
        dist.init_process_group(backend)
    else:
        dist.init_process_group(backend, init_method=method, rank=rank, world_size=2)
    work(rank, 2)
    sys.stdout.write(f"{expected}: {rank} by {dist.get_backend()}\\n")
    dist.destroy_process_group()

if __name__ == "__main__":
    mp.start_processes(main, tuple(sys.argv[1:]), 2, start_method=os.environ.get("START", "spawn"))
"""
)


def _expect_spawned(finished, case, backend=BACKEND):
    assert finished.code == 0, finished
    for rank in range(2):
        assert f"{case}: {rank} by {backend}" in finished.out, finished


def test_spawn_with_the_address_of_a_master(run, script, free_port):
    place = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port())}
    _expect_spawned(run([sys.executable, script(SPAWN), BACKEND, "env://", "env"], **place), "env")


@pytest.mark.parametrize("method", ["file", "tcp"])
def test_fork_with_a_meeting_point(run, script, free_port, tmp_path, method):
    where = f"file://{tmp_path}/store" if method == "file" else f"tcp://127.0.0.1:{free_port()}"
    command = [sys.executable, script(SPAWN), BACKEND, where, method]
    _expect_spawned(run(command, START="fork"), method)


@pytest.mark.skipif(BACKEND == "gloo", reason="torch has it built in")
def test_an_import_registers_the_backend_where_torch_loads_none(run, script, tmp_path):
    command = [sys.executable, script("import tutti.torch\n" + SPAWN), BACKEND, f"file://{tmp_path}/store", "import"]
    _expect_spawned(run(command, TORCH_DEVICE_BACKEND_AUTOLOAD="0", START="fork"), "import")


def test_every_call_is_checked_under_debug_detail(run, script, tmp_path):
    """torch wraps the backend and compares the calls of the ranks before it makes them."""
    command = [sys.executable, script(SPAWN), BACKEND, f"file://{tmp_path}/store", "detail"]
    finished = run(command, TORCH_DISTRIBUTED_DEBUG="DETAIL", START="fork")
    _expect_spawned(finished, "detail")


MAPS = (
    JOB
    + """
import torch.multiprocessing as mp

def main(rank, backend):
    given = f"cpu:{backend},cuda:nccl"
    try:
        dist.init_process_group(given, init_method=f"file://{os.getcwd()}/both", rank=rank, world_size=2)
        work(rank, 2)
        said = f"runs: {dist.get_backend_config()}"
    except Exception as error:
        said = f"raises: {type(error).__name__}: {error}"
    sys.stdout.write(said.replace(backend, "NAME").splitlines()[0] + "\\n")
    if dist.is_initialized():
        dist.destroy_process_group()
    given = f"cpu:{backend}"
    dist.init_process_group(given, init_method=f"file://{os.getcwd()}/one", rank=rank, world_size=2)
    work(rank, 2)
    # A group of another backend for the same ranks, and one of ours beside it.
    gloo, own = dist.new_group(backend="gloo"), dist.new_group(backend=given)
    for group in (gloo, own):
        x = torch.ones(1)
        dist.all_reduce(x, group=group)
        assert float(x) == 2
    sys.stdout.write(f"alone: {dist.get_backend_config()}\\n")
    dist.destroy_process_group()

if __name__ == "__main__":
    mp.start_processes(main, (sys.argv[1],), 2, start_method="fork")
"""
)


def test_maps_of_devices_to_backends(run, script, tmp_path):
    """cpu:tutti,cuda:nccl goes as far as cpu:gloo,cuda:nccl does on this machine."""
    own = run([sys.executable, script(MAPS), BACKEND])
    assert own.code == 0 and own.out.count("alone: ") == 2, own
    for name in ("both", "one"):
        (tmp_path / name).unlink(missing_ok=True)
    gloo = run([sys.executable, script(MAPS), "gloo"])

    def first_lines(finished):
        return {line for line in finished.out.splitlines() if line.startswith(("runs", "raises"))}

    assert first_lines(own) == first_lines(gloo), (own, gloo)
