"""Failures end the group on every rank, with the sentence of the C library; bad starts are refused."""

import os
import pickle
import signal
import warnings

import numpy as np
import pytest
from ranks import signal_peers, wait_for_peers

import tutti
from tutti import _errors


def _catch(function):
    try:
        function()
    except tutti.Error as error:
        return error


def _mismatch(comm):
    error = _catch(lambda: comm.all_reduce(np.ones(3 + comm.rank, np.float32)))
    return error, _catch(comm.barrier)


def test_different_calls_are_a_mismatch_on_every_rank():
    for error, later in tutti.spawn(_mismatch, 2, timeout=60):
        assert isinstance(error, (tutti.MismatchError, tutti.AbortedError)), repr(error)
        assert later.code == error.code and str(later)


def _waits_for_the_end(comm, path):
    if comm.rank == 0:
        error = _catch(lambda: comm.all_reduce(np.ones(3), timeout=0.3))
        signal_peers(path)
        return error
    wait_for_peers(path)
    return _catch(comm.barrier)


def test_the_deadline_of_a_call_ends_the_group(tmp_path):
    first, second = tutti.spawn(_waits_for_the_end, 2, str(tmp_path / "failed"), timeout=60)
    assert isinstance(first, tutti.TimeoutError) and isinstance(first, TimeoutError)
    assert first.code == -7 and first.operation == "all_reduce" and first.sequence == 1
    assert isinstance(second, tutti.Error) and not isinstance(second, tutti.ArgumentError)


def _dies(comm, signum):
    comm.barrier()
    if comm.rank == 1:
        os.kill(os.getpid(), signum)
    return _catch(lambda: comm.all_reduce(np.ones(3)))


def test_a_killed_rank_is_named():
    with pytest.raises(tutti.SpawnError, match=r"rank 1 ended by signal 9 \(SIGKILL\)") as caught:
        tutti.spawn(_dies, 3, signal.SIGKILL, timeout=60)
    assert caught.value.rank == 1


def test_the_survivors_of_a_killed_rank_name_it(run_ranks):
    script = """
import os, signal, numpy as np, tutti
with tutti.init() as comm:
    comm.barrier()
    if comm.rank == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    try:
        while True:
            comm.all_reduce(np.ones(1000))
    except tutti.Error as error:
        print(type(error).__name__, isinstance(error, ConnectionError), error.rank)
"""
    first, killed = run_ranks(2, script)
    assert killed.code == -signal.SIGKILL
    assert first.out.split() == ["PeerLostError", "True", "1"], first


def test_an_exception_in_the_block_is_the_reason_that_the_others_get(run_ranks):
    script = """
import tutti
with tutti.init() as comm:
    if comm.rank == 2:
        raise ValueError("the data set is empty")
    comm.barrier()
"""
    ranks = run_ranks(3, script)
    for rank in ranks:
        assert rank.code == 1
    assert "ValueError: the data set is empty" in ranks[2].err
    for rank in ranks[:2]:
        assert "tutti._errors.AbortedError" in rank.err and "rank 2: ValueError: the data set is empty" in rank.err, (
            rank
        )


def test_sys_exit_0_leaves_the_block_normally_and_sys_exit_1_does_not(run_ranks):
    script = """
import sys, tutti
with tutti.init() as comm:
    comm.barrier()
    sys.exit(int(sys.argv[1]))
"""
    assert [rank.code for rank in run_ranks(2, script, "0")] == [0, 0]
    assert [rank.code for rank in run_ranks(2, script, "1")] == [1, 1]


def _aborts(comm):
    if comm.rank == 0:
        comm.abort("the loss is not a number")
    error = _catch(comm.barrier)
    assert error.rank == 0
    return error


def test_abort_gives_its_reason_to_every_rank():
    for error in tutti.spawn(_aborts, 3, timeout=60):
        assert type(error) is tutti.AbortedError and "the loss is not a number" in str(error)


def _reduces_after_finalize(comm):
    comm.finalize(timeout=30)
    return _catch(comm.barrier), _catch(lambda: comm.barrier(async_op=True))


def test_a_finalized_communicator_refuses_calls():
    for errors in tutti.spawn(_reduces_after_finalize, 2, timeout=60):
        assert all(isinstance(error, tutti.FinalizedError) for error in errors)


def test_a_closed_communicator_refuses_everything():
    with tutti.init(rank=0, size=1) as comm:
        pass
    assert "closed" in repr(comm) and (comm.rank, comm.size) == (0, 1)
    comm.abort("has no effect")
    calls = [comm.barrier, comm.finalize, comm.links, comm.fileno, comm.__enter__, lambda: comm.all_reduce(1),
             lambda: comm.all_reduce(1, async_op=True)]  # fmt: skip
    for call in calls:
        with pytest.raises(tutti.FinalizedError, match=r"closed: call tutti\.init\(\)"):
            call()


def test_dropping_a_communicator_warns():
    comm = tutti.init(rank=0, size=1)
    with pytest.warns(ResourceWarning, match=r"dropped without finalize\(\)"):
        del comm
    comm = tutti.init(rank=0, size=1)
    comm.finalize()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        del comm


def test_a_forked_child_neither_uses_nor_disturbs_the_group(run_ranks):
    script = """
import os, tutti
with tutti.init() as comm:
    child = os.fork()
    if child == 0:
        try:
            comm.barrier()
        except tutti.FinalizedError as error:
            assert "belongs to the parent process" in str(error)
            os._exit(7)
        os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
    assert comm.all_reduce(1) == comm.size
"""
    assert [rank.code for rank in run_ranks(2, script)] == [0, 0]


@pytest.mark.parametrize("kind", sorted(set(_errors.CLASSES.values()), key=lambda kind: kind.__name__))
def test_errors_can_be_sent_between_processes(kind):
    error = kind("what, where", code=-3, rank=2, host="h", operation="gather", sequence=9, moved_bytes=8)
    copy = pickle.loads(pickle.dumps(error))
    assert type(copy) is kind and isinstance(copy, tutti.Error) and str(copy) == "what, where"
    assert (copy.code, copy.rank, copy.host) == (-3, 2, "h")
    assert (copy.operation, copy.sequence, copy.moved_bytes) == ("gather", 9, 8)


def test_every_status_has_a_class_of_its_own():
    from tutti._c import lib

    statuses = {getattr(lib, name) for name in dir(lib) if name.startswith("TUTTI_ERR_")}
    assert set(_errors.CLASSES) == statuses and len(set(_errors.CLASSES.values())) == len(statuses)


# ---- Starting --------------------------------------------------------------------------------------------------


@pytest.fixture
def no_launcher(monkeypatch):
    for name in list(os.environ):
        if name.startswith(("TUTTI_", "OMPI_", "PMI", "SLURM_")) or name in ("RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE"):
            monkeypatch.delenv(name)
    return monkeypatch


def test_without_a_launcher_the_group_is_one(no_launcher):
    with tutti.init() as comm:
        assert (comm.rank, comm.size) == (0, 1)
        assert comm.all_reduce(3.5, op="avg") == 3.5


def test_partial_variables_are_an_error_that_names_the_missing(no_launcher):
    no_launcher.setenv("TUTTI_RANK", "0")
    with pytest.raises(tutti.ConfigError, match="TUTTI_SIZE") as caught:
        tutti.init()
    assert caught.value.code == -4 and isinstance(caught.value, ValueError)


def test_wrong_arguments_of_init_say_what_is_right(no_launcher):
    with pytest.raises(TypeError, match="rank=1 was given without size"):
        tutti.init(rank=1)
    with pytest.raises(ValueError, match="size is 0: a group has at least 1 rank"):
        tutti.init(size=0)
    with pytest.raises(TypeError, match="no setting 'call_timeout': did you mean call_timeout_ms"):
        tutti.init(call_timeout=3)
    with pytest.raises(TypeError, match="no setting 'xyzzy': there are job, "):
        tutti.init(xyzzy=3)
    with pytest.raises(TypeError, match="call_timeout_ms is '5 s': pass an integer"):
        tutti.init(call_timeout_ms="5 s")
    with pytest.raises(TypeError, match="transports is a int: pass a string"):
        tutti.init(transports=1)
    with pytest.raises(tutti.ConfigError, match="loud"):
        tutti.init(log="loud")


def test_settings_reach_the_library(no_launcher):
    with tutti.init(rank=0, size=1, call_timeout_ms=1000, transports="tcp", checksum=True, log=None) as comm:
        comm.barrier()


def test_how_to_choose_is_a_setting_too(no_launcher):
    with tutti.init(rank=0, size=1, algorithm="all_reduce:ring", channels=2, tuning="none") as comm:
        assert comm.choice("all_reduce", np.ones(4)).algorithm == "ring"
    with pytest.raises(tutti.ConfigError, match="DETERMINISTIC"):
        tutti.init(rank=0, size=1, algorithm="all_reduce:ring", deterministic=True)
    with pytest.raises(tutti.ConfigError, match="xyzzy"):
        tutti.init(rank=0, size=1, algorithm="all_reduce:xyzzy")
    with pytest.raises(TypeError, match="no setting 'determinstic': did you mean deterministic"):
        tutti.init(determinstic=True)


def test_a_group_that_is_not_complete_in_time_names_the_missing(no_launcher, tmp_path):
    with pytest.raises(tutti.TimeoutError, match="rank 1"):
        tutti.init(rank=0, size=2, rendezvous=f"unix:{tmp_path}/meet", join_timeout_ms=300)


def test_a_rank_that_is_not_given_is_assigned_on_arrival(run_ranks, rendezvous):
    script = """
import os, sys, tutti
for name in ("TUTTI_RANK", "TUTTI_SIZE", "TUTTI_RENDEZVOUS"):
    del os.environ[name]
with tutti.init(size=3, rendezvous=sys.argv[1]) as comm:
    print(comm.rank, comm.all_reduce(1))
"""
    assert sorted(rank.out for rank in run_ranks(3, script, rendezvous)) == ["0 3\n", "1 3\n", "2 3\n"]
