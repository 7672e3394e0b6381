"""After a failure the survivors make a new group and go on."""

import json
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

import tutti

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "examples" / "python" / "survive.py"
KILLED = -signal.SIGKILL


def _facts(ranks, *survivors):
    """What the survivors have reported; they must have ended normally."""
    for rank in survivors:
        assert ranks[rank].code == 0, (rank, ranks)
    return [json.loads(ranks[rank].out.splitlines()[-1]) for rank in survivors]


def _common(facts):
    """What the new group agrees on, after a check that it does, and that the order of the ranks was kept."""
    assert [fact["rank"] for fact in facts] == list(range(len(facts)))
    assert {fact["size"] for fact in facts} == {len(facts)}
    before = [fact["previous_rank"] for fact in facts]
    assert before == sorted(set(before))
    for fact in facts:
        assert fact["common"] == facts[0]["common"]
    return facts[0]["common"]


def test_the_survivors_of_a_killed_rank_form_a_group_that_computes(run_ranks):
    script = """
import os, signal, numpy as np, tutti
from ranks import fails, meet, origin, report

with tutti.init() as comm:
    assert (comm.generation, comm.reformed, comm.completed) == (1, None, 0)
    x = np.ones(100_000)
    for _ in range(3):
        comm.all_reduce(x)
    assert comm.completed == 3
    meet(comm)
    if comm.rank == 2:
        os.kill(os.getpid(), signal.SIGKILL)
    error = fails(comm.all_reduce, x)
    old, comm = comm, comm.reform()
    before = comm.reformed.previous_rank
    total = comm.all_reduce(np.array([before, 1]))
    report(error=[type(error).__name__, error.rank, bool(error.host)], operation=[error.operation, error.sequence],
           total=total.tolist(), old=old.completed, completed=comm.completed, **origin(comm))
"""
    ranks = run_ranks(4, script)
    assert ranks[2].code == KILLED
    facts = _facts(ranks, 0, 1, 3)
    common = _common(facts)
    for fact in facts:
        assert fact["error"] == ["PeerLostError", 2, True]
        assert fact["operation"] in (["all_reduce", fact["old"] + 1], ["", 0])  # it may come between two calls
        assert fact["total"] == [0 + 1 + 3, 3] and fact["completed"] == 1
    assert [fact["previous_rank"] for fact in facts] == [0, 1, 3]
    assert (common["generation"], common["previous_generation"], common["previous_size"]) == (2, 1, 4)
    assert common["lost"] == "rank 2" and common["cause"][:2] == ["PeerLostError", 2]
    completed = [fact["old"] for fact in facts]
    assert common["completed_everywhere"] == min(completed) and common["completed_anywhere"] == max(completed)


@pytest.mark.parametrize("served", ["beside the ranks", "by rank 0, in whose place a survivor serves"])
def test_rank_after_rank_may_die_and_the_last_is_a_group(run_ranks, request, served):
    script = """
import os, signal, tutti
from ranks import fails, meet, origin, report

with tutti.init() as comm:
    meet(comm)
    while comm.size > 1:
        if comm.rank == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        fails(comm.barrier)
        comm = comm.reform()
    report(total=comm.all_reduce(5), generation=comm.generation, **origin(comm))
"""
    beside = request.getfixturevalue("rendezvous") if served == "beside the ranks" else None
    ranks = run_ranks(4, script, rendezvous=beside)
    assert [rank.code for rank in ranks[:3]] == [KILLED] * 3
    (fact,) = _facts(ranks, 3)
    assert (fact["rank"], fact["size"], fact["total"], fact["generation"]) == (0, 1, 5, 4)
    assert fact["common"]["previous_size"] == 2 and fact["common"]["lost"] == "rank 0"


@pytest.mark.parametrize("delay_ms", [0, 1, 2, 4])
def test_one_loop_serves_also_where_a_rank_dies_while_the_others_re_form(run_ranks, rendezvous, delay_ms):
    script = """
import os, signal, sys, tutti
from ranks import meet, origin, report

delay = float(sys.argv[1]) / 1000
with tutti.init() as comm:
    meet(comm)
    if comm.rank == 2:
        os.kill(os.getpid(), signal.SIGKILL)
    while True:
        try:
            comm.barrier()
            if comm.size == 2:
                break
        except tutti.Error:
            if comm.rank == 1 and comm.generation == 1:
                signal.signal(signal.SIGALRM, signal.SIG_DFL)      # which ends the process
                signal.setitimer(signal.ITIMER_REAL, delay + 1e-6)  # before, while or after the new group connects
            comm = comm.reform()
    report(**origin(comm))
"""
    ranks = run_ranks(4, script, str(delay_ms), rendezvous=rendezvous)
    assert [rank.code for rank in ranks[1:3]] == [-signal.SIGALRM, KILLED], ranks
    assert _common(_facts(ranks, 0, 3))["previous_generation"] in (1, 2)


def test_ranks_that_abort_for_an_exception_can_all_come_back(run_ranks):
    script = """
import tutti
from ranks import meet, origin, report

with tutti.init() as comm:
    meet(comm)
    try:
        if comm.rank == 1:
            raise ValueError("the data set is empty")
        comm.barrier()
    except ValueError as error:
        comm.abort(f"{type(error).__name__}: {error}")
    except tutti.AbortedError as error:
        assert error.rank == 1 and "ValueError: the data set is empty" in str(error), error
    comm = comm.reform()
    report(total=comm.all_reduce(1), **origin(comm))
"""
    facts = _facts(run_ranks(4, script), 0, 1, 2, 3)
    common = _common(facts)
    assert [fact["total"] for fact in facts] == [4] * 4
    assert common["lost"] == "" and common["cause"][:2] == ["AbortedError", 1]
    assert "ValueError: the data set is empty" in common["cause"][2]


def test_a_rank_that_leaves_its_block_by_an_exception_is_left_out(run_ranks):
    script = """
import tutti
from ranks import meet, origin, report

with tutti.init() as comm:
    meet(comm)
    if comm.rank == 2:
        raise LookupError("no such file")
    try:
        comm.barrier()
    except tutti.AbortedError:
        comm = comm.reform()
    report(**origin(comm))
"""
    ranks = run_ranks(3, script)
    assert ranks[2].code == 1 and "LookupError: no such file" in ranks[2].err
    common = _common(_facts(ranks, 0, 1))
    assert common["lost"] == "rank 2" and "rank 2: LookupError: no such file" in common["cause"][2]


def test_completed_everywhere_and_anywhere_tell_how_far_the_survivors_were(run_ranks):
    script = """
import numpy as np, tutti
from ranks import fails, meet, origin, report, signal_peers, wait_for_peers

with tutti.init() as comm:
    comm.barrier()
    comm.barrier()
    meet(comm)
    if comm.rank == 0:
        comm.broadcast(np.ones(4))         # has completed where its root is, though nobody takes part
        signal_peers("sent")
        fails(comm.barrier)
    elif comm.rank == 1:
        wait_for_peers("sent")
        comm.abort("enough")
    else:
        fails(comm.broadcast, np.ones(4))  # which rank 1 would have to pass on
    old, comm = comm, comm.reform()
    report(old=old.completed, **origin(comm))
"""
    # In shared memory nobody would have to pass anything on.
    facts = _facts(run_ranks(3, script, TUTTI_TRANSPORTS="uds"), 0, 1, 2)
    common = _common(facts)
    assert [fact["old"] for fact in facts] == [3, 2, 2]
    assert (common["completed_everywhere"], common["completed_anywhere"]) == (2, 3)


def test_the_failed_communicator_goes_on_to_raise_its_error(run_ranks):
    script = """
import numpy as np, tutti
from ranks import fails, meet, report, signal_peers, wait_for_peers

with tutti.init() as comm:
    done = comm.all_reduce(np.ones(3), async_op=True)  # completes, and nobody looks before the group has failed
    comm.barrier()
    meet(comm)
    pending = None
    if comm.rank == 2:
        wait_for_peers("0")
        wait_for_peers("1")
        comm.abort("enough")
    else:
        pending = comm.all_reduce(np.ones(3), async_op=True)
        signal_peers(str(comm.rank))
    fails(comm.barrier)
    old, comm = comm, comm.reform()
    errors = []
    for call in (old.barrier, lambda: old.all_reduce(1, async_op=True), old.reform, old.finalize, old.links, old.fileno,
                 old.__enter__):
        try:
            call()
        except tutti.Error as error:
            errors.append(error)
    assert {(type(error), error.rank) for error in errors} == {(tutti.AbortedError, 2)} and len(errors) == 7, errors
    assert all("enough" in str(error) and "re-formed: use the new one" in str(error) for error in errors), errors
    assert (done.wait() == 3).all()
    if pending is not None:
        assert pending.done()
        error = fails(pending.wait)
        assert type(error) is tutti.AbortedError and error.rank == 2, error
    assert "closed" in repr(old) and "generation 2" in repr(comm)
    report(total=comm.all_reduce(1))
"""
    assert [fact["total"] for fact in _facts(run_ranks(3, script), 0, 1, 2)] == [3] * 3


@pytest.mark.parametrize("idiom", ["outer block", "block of its own", "no block"])
def test_the_new_communicator_ends_with_the_block_of_the_old_one_or_its_own(run_ranks, idiom):
    script = """
import sys, tutti
from ranks import fails, meet, report

def fail(comm):
    meet(comm, f"generation {comm.generation}")
    if comm.rank == 1:
        comm.abort("enough")
    fails(comm.barrier)

if sys.argv[1] == "outer block":
    with tutti.init() as comm:
        for _ in range(3):
            fail(comm)
            comm = comm.reform()
        comm.barrier()
elif sys.argv[1] == "block of its own":
    with tutti.init() as first:
        fail(first)
        with first.reform() as comm:
            comm.barrier()
        assert "closed" in repr(comm)
else:
    comm = tutti.init()
    fail(comm)
    comm = comm.reform()
    comm.barrier()
    comm.finalize()
assert "closed" in repr(comm) or sys.argv[1] == "no block"
report(generation=comm.generation)
"""
    ranks = run_ranks(2, script, idiom, PYTHONWARNINGS="error")
    generation = 4 if idiom == "outer block" else 2
    assert [fact["generation"] for fact in _facts(ranks, 0, 1)] == [generation] * 2
    assert [rank.err for rank in ranks] == [""] * 2


def test_re_forming_again_and_again_leaves_nothing_behind(run_ranks, rendezvous):
    script = """
import gc, os, tutti
from ranks import fails, meet, report

def count():
    gc.collect()
    return [len(os.listdir("/proc/self/fd")), len(os.listdir("/proc/self/task")),
            sum(isinstance(thing, tutti.Communicator) for thing in gc.get_objects())]

counts = []
with tutti.init() as comm:
    meet(comm)
    for turn in range(20):
        if comm.rank == turn % 2:
            comm.abort("enough")
        fails(comm.barrier)
        comm = comm.reform()
        comm.barrier()
        counts.append(count())
report(counts=counts)
"""
    for fact in _facts(run_ranks(2, script, rendezvous=rendezvous), 0, 1):
        counts = fact["counts"]
        # The first has its block, the latest its variable; and a helper thread may not have ended yet.
        assert [communicators for _, _, communicators in counts] == [2] * 20
        assert {descriptors for descriptors, _, _ in counts} == {counts[0][0]}
        assert max(threads for _, threads, _ in counts) <= min(threads for _, threads, _ in counts) + 1


def test_an_exception_after_a_reforming_aborts_the_new_group(run_ranks):
    script = """
import tutti
from ranks import fails, meet

with tutti.init() as comm:
    meet(comm)
    if comm.rank == 0:
        comm.abort("enough")
    fails(comm.barrier)
    comm = comm.reform()
    meet(comm, "again")
    if comm.rank == 1:
        raise ValueError("a bug")
    comm.barrier()
"""
    first, second = run_ranks(2, script)
    assert second.code == 1 and "ValueError: a bug" in second.err
    assert first.code == 1 and "AbortedError" in first.err and "rank 1: ValueError: a bug" in first.err


def test_who_does_not_come_in_time_is_left_out_and_refused(run_ranks):
    script = """
import tutti
from ranks import fails, meet, origin, report, signal_peers, wait_for_peers

with tutti.init() as comm:
    meet(comm)
    if comm.rank == 0:
        comm.abort("enough")
    fails(comm.barrier)
    if comm.rank == 2:
        wait_for_peers("went on")
        for _ in range(2):
            try:
                comm.reform(timeout=20)
            except tutti.RefusedError as error:
                assert isinstance(error, ConnectionError)
                refusal = str(error)
        report(refusal=refusal, later=str(fails(comm.barrier)))
        signal_peers("refused")
    else:
        comm = comm.reform(timeout=1)
        report(total=comm.all_reduce(1), **origin(comm))
        if comm.rank == 0:
            signal_peers("went on")
        wait_for_peers("refused")          # the rendezvous, which rank 0 serves, must answer until then
"""
    ranks = run_ranks(3, script)
    facts = _facts(ranks, 0, 1)
    assert _common(facts)["lost"] == "rank 2" and [fact["total"] for fact in facts] == [2, 2]
    (refused,) = _facts(ranks, 2)
    assert "went on without" in refused["refusal"] and "enough" in refused["later"]


def test_where_the_rendezvous_died_with_its_rank_the_error_says_what_to_run_instead(run_ranks, tmp_path):
    script = """
import os, signal, tutti
from ranks import fails, meet, report

with tutti.init() as comm:
    meet(comm)
    if comm.rank == 0:
        os.kill(os.getpid(), signal.SIGKILL)
    error = fails(comm.barrier)
    assert error.rank == 0, error
    try:
        comm.reform(timeout=300)
    except tutti.UnreachableError as error:
        report(text=str(error))
"""
    # The name of a file is not free when its server has died; and the limit is a tenth of the time-out of reform().
    ranks = run_ranks(3, script, limit=30, rendezvous=f"unix:{tmp_path}/meet")
    assert ranks[0].code == KILLED
    for fact in _facts(ranks, 1, 2):
        assert "tutti run" in fact["text"] and "tutti rendezvous" in fact["text"]


def test_a_group_that_lives_cannot_be_re_formed_and_lives_on(pair):
    for outcome, total in pair(_reforms_a_living_group):
        assert outcome[0] == "ArgumentError" and re.search(r"not failed|alive|lives", outcome[1]), outcome
        assert total == 2


def _reforms_a_living_group(comm):
    try:
        comm.reform(timeout=5)
    except tutti.Error as error:
        outcome = type(error).__name__, str(error)
    with pytest.raises(ValueError, match="timeout is 0"):
        comm.reform(timeout=0)
    return outcome, comm.all_reduce(1)


def test_a_group_that_has_ended_normally_cannot_be_re_formed():
    with tutti.init(rank=0, size=1) as comm:
        comm.finalize()
        with pytest.raises(tutti.FinalizedError, match="finalize"):
            comm.reform()
    with pytest.raises(tutti.FinalizedError, match="closed"):
        comm.reform()


def test_a_forked_child_neither_keeps_its_dead_parent_in_the_group_nor_can_re_form_it(run_ranks):
    script = """
import multiprocessing, os, signal, tutti
from ranks import fails, meet, origin, report, signal_peers, wait_for_peers

def load(comm):
    for call in (comm.barrier, comm.reform):
        try:
            call()
        except tutti.FinalizedError as error:
            assert "belongs to the parent process" in str(error)
        else:
            os._exit(1)
    signal_peers("loading")
    wait_for_peers("noticed")              # outlives its parent
    os._exit(0)

with tutti.init() as comm:
    meet(comm)
    if comm.rank == 1:
        multiprocessing.get_context("fork").Process(target=load, args=(comm,)).start()
        wait_for_peers("loading")
        os.kill(os.getpid(), signal.SIGKILL)
    error = fails(comm.barrier)
    if comm.rank == 0:
        signal_peers("noticed")
    comm = comm.reform()
    report(lost=error.rank, total=comm.all_reduce(1), **origin(comm))
"""
    # Silence counts only after ten times the limit: what is noticed before is the end of the connections.
    ranks = run_ranks(3, script, limit=30, TUTTI_DEAD_AFTER="300s")
    facts = _facts(ranks, 0, 2)
    assert [(fact["lost"], fact["total"]) for fact in facts] == [(1, 2)] * 2 and _common(facts)["lost"] == "rank 1"


@pytest.mark.parametrize("afterwards", ["ends", "lives on"])
def test_ctrl_c_ends_a_re_forming_that_waits_for_a_rank(run_ranks, rendezvous, afterwards):
    script = """
import os, sys, tutti
from ranks import fails, meet, origin, report, signal_peers, signal_self_inside, wait_for_peers

with tutti.init() as comm:
    meet(comm)
    if comm.rank == 0:
        comm.abort("enough")
    fails(comm.barrier)
    if comm.rank == 0:
        signal_self_inside("run_interruptibly")
        try:
            comm.reform(timeout=300)       # rank 1 comes only afterwards
        except KeyboardInterrupt:
            assert "closed" in repr(comm)
            signal_peers("interrupted")
            if sys.argv[1] == "ends":
                raise
            wait_for_peers("alone")
    else:
        wait_for_peers("interrupted")
        comm = comm.reform(timeout=300)
        while comm.size > 1:               # what is left of rank 0's attempt may have come to its end in a group
            error = fails(comm.barrier)
            assert error.rank == 0 and (sys.argv[1] == "ends" or "interrupted while joining" in str(error)), error
            comm = comm.reform(timeout=300)
        report(**origin(comm))
        signal_peers("alone")
"""
    interrupted, other = ranks = run_ranks(2, script, afterwards, limit=30, rendezvous=rendezvous)
    assert interrupted.code == (-signal.SIGINT if afterwards == "ends" else 0), interrupted
    (fact,) = _facts(ranks, 1)
    assert (fact["size"], fact["common"]["lost"]) == (1, "rank 0"), other


def test_the_error_tells_how_much_of_the_operation_had_arrived(run_ranks):
    script = """
import numpy as np, tutti
from ranks import report, signal_peers, wait_for_peers

with tutti.init() as comm:
    if comm.rank == 2:
        wait_for_peers("0")
        wait_for_peers("1")
    else:
        try:
            comm.all_reduce(np.ones(300_000), timeout=2)
        except tutti.Error as error:
            report(moved=error.moved_bytes)
        signal_peers(str(comm.rank))
"""
    first, second = _facts(run_ranks(3, script, TUTTI_TRANSPORTS="uds"), 0, 1)
    assert first["moved"] == 0          # all that it could have comes from rank 2, which does not take part
    assert 0 < second["moved"] < 2_400_000  # what rank 0 could send without having heard of rank 2


def test_the_loops_in_the_document_are_those_of_the_examples():
    text = (ROOT / "docs" / "failure.md").read_text()
    text = text[text.index("## A loop that survives") :]
    blocks = re.findall(r"^```(python|c)\n(.*?)\n```$", text, re.M | re.S)
    assert [language for language, _ in blocks] == ["python", "python", "c", "c"]
    for language, block in blocks:
        source = EXAMPLE if language == "python" else ROOT / "examples" / "c" / "survive.c"
        assert block in source.read_text(), f"{source.name} no longer holds\n{block}"


def test_the_survivors_under_tutti_run_finish_the_training(tutti_command):
    outputs = []
    for kill in ([], ["--kill", "0"], ["--kill", "3"]):
        line = [tutti_command, "run", "-n", "4", "--keep-going", "--", sys.executable, str(EXAMPLE), *kill]
        finished = subprocess.run(line, stdout=subprocess.PIPE, text=True, timeout=60)
        assert finished.returncode == 0, finished
        outputs.append(finished.stdout)
    finals = [re.search(r"^\[\d\] (\d) ranks, 200 steps, accuracy (0\.\d{4})$", output, re.M) for output in outputs]
    assert all(finals), outputs
    assert [final.group(1) for final in finals] == ["4", "3", "3"]
    accuracies = [float(final.group(2)) for final in finals]
    assert min(accuracies) >= 0.95
    # The same samples count in every step; only the rounding differs, which moves hardly a sample of 1000.
    assert max(accuracies) - min(accuracies) <= 0.002
