"""tutti.spawn: results by rank, and the failure that came first."""

import multiprocessing
import os

import pytest

import tutti


def _product(comm, factor):
    return comm.rank * factor, comm.all_reduce(1)


def test_spawn_returns_the_results_by_rank():
    assert tutti.spawn(_product, 3, 10, timeout=60) == [(0, 3), (10, 3), (20, 3)]
    assert tutti.spawn(_product, 1, 10, timeout=60) == [(0, 1)]


def _settings(comm):
    return [link["transport"] for link in comm.links()], os.environ["OMP_NUM_THREADS"]


def test_spawn_passes_settings_on():
    for transport in "shm", "uds", "tcp":
        assert tutti.spawn(_settings, 2, timeout=60, transports=transport) == [([transport] * 2, "1")] * 2


def _fails(comm, failing):
    if comm.rank == failing:
        raise LookupError("no such sample")
    comm.barrier()


def test_spawn_raises_the_first_error_with_its_rank():
    before = set(multiprocessing.active_children())
    with pytest.raises(tutti.SpawnError, match="rank 2: LookupError: no such sample") as caught:
        tutti.spawn(_fails, 3, 2, timeout=60)
    assert caught.value.rank == 2 and "in _fails" in caught.value.traceback
    assert isinstance(caught.value.__cause__, LookupError)
    assert set(multiprocessing.active_children()) <= before


def _exits(comm):
    if comm.rank == 1:
        os._exit(5)
    comm.barrier()


def test_spawn_says_how_a_process_ended_that_gave_no_result():
    with pytest.raises(tutti.SpawnError, match="rank 1 ended with exit code 5 without a result") as caught:
        tutti.spawn(_exits, 2, timeout=60)
    assert caught.value.rank == 1


def _never_returns(comm):
    if comm.rank == 1:
        while True:
            pass


def test_spawn_ends_the_processes_when_time_is_up():
    before = set(multiprocessing.active_children())
    with pytest.raises(TimeoutError, match=r"after 5 s, ranks .*1 of 2 had not returned"):
        tutti.spawn(_never_returns, 2, timeout=5)
    assert set(multiprocessing.active_children()) <= before


def _unpicklable(comm):
    return lambda: None


def test_spawn_refuses_what_cannot_be_sent():
    with pytest.raises(tutti.SpawnError, match="ickl"):
        tutti.spawn(_unpicklable, 1, timeout=60)
    with pytest.raises(ValueError, match="n is 0: a group has at least 1 rank"):
        tutti.spawn(_product, 0, 10)


def test_spawn_takes_functions_of_a_notebook_with_cloudpickle():
    pytest.importorskip("cloudpickle", reason="cloudpickle is not installed: functions of notebooks are not tested")
    offset = 5
    assert tutti.spawn(lambda comm: comm.all_reduce(comm.rank) + offset, 2, timeout=60) == [6, 6]
