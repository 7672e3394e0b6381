"""Messages from rank to rank: tags, any source, batches, and beside collectives and threads."""

import threading

import numpy as np
import pytest
from ranks import TYPES, numbers, signal_peers, wait_for_peers

import tutti


def _ring(comm):
    n, rank = comm.size, comm.rank
    right, left = (rank + 1) % n, (rank - 1) % n
    for tag, dtype in enumerate(TYPES):
        x = numbers(rank, (3, 4), dtype, seed=1)
        x.flags.writeable = False
        y = np.zeros((3, 4), dtype)
        received = comm.batch([tutti.Recv(y, left, tag), tutti.Send(x, right, tag)])
        assert received == [tutti.Received(left, tag, 12), None]
        np.testing.assert_array_equal(y, numbers(left, (3, 4), dtype, seed=1))


def test_every_rank_sends_to_the_next_at_once(any_group):
    any_group(_ring)


def _to_rank_0(comm):
    if comm.rank != 0:
        for i in range(3):
            comm.send(np.full(comm.rank, 10 * comm.rank + i), 0, tag=i)
        return None
    last = {source: -1 for source in range(1, comm.size)}
    room = np.zeros(comm.size, np.int64)
    for _ in range(3 * (comm.size - 1)):
        source, tag, count = comm.recv(room)
        assert count == source and (room[:count] == 10 * source + tag).all()
        assert tag == last[source] + 1  # those of one source come in the order of sending
        last[source] = tag
    return last


def test_a_receive_from_any_source_says_what_it_received(any_group):
    assert any_group(_to_rank_0)[0] == {source: 2 for source in range(1, any_group.size)}


def _by_tag(comm):
    if comm.rank == 0:
        for tag in range(4):
            comm.send(np.array([tag]), 1, tag)
        return None
    room = np.zeros(1, np.int64)
    order = []
    for tag in (2, 0, tutti.ANY_TAG, tutti.ANY_TAG):
        received = comm.recv(room, source=0, tag=tag)
        assert received.tag == room[0]
        order.append(received.tag)
    return order


def test_a_receive_takes_the_first_message_with_its_tag(pair):
    assert pair(_by_tag)[1] == [2, 0, 1, 3]


def _to_itself(comm):
    comm.send(2.5, comm.rank, tag=7)
    room = np.zeros(3)
    assert comm.recv(room) == (comm.rank, 7, 1) and room[0] == 2.5
    work = comm.recv(room, source=comm.rank, async_op=True)
    assert not work.done()
    comm.send(room[:0], comm.rank)
    assert work.wait() == (comm.rank, 0, 0)


def test_a_rank_may_send_to_itself_and_messages_may_be_empty(group):
    group(_to_itself)


def _large(comm):
    x = np.arange(1_000_000, dtype=np.float64) + comm.rank
    y = np.zeros_like(x)
    other = 1 - comm.rank
    comm.batch([tutti.Send(x, other), tutti.Recv(y, other)])
    np.testing.assert_array_equal(y, np.arange(1_000_000) + other)


def test_large_messages_cross(pair):
    pair(_large)


def _beside_collectives(comm, path):
    """Rank 0 receives, and meanwhile both reduce; only then rank 1 sends."""
    room = np.zeros(4)
    if comm.rank == 0:
        work = comm.recv(room, source=1, async_op=True)
        later = comm.all_reduce(np.ones(3), async_op=True)
        assert later.wait().tolist() == [2, 2, 2] and not work.done()
        signal_peers(path)
        assert work.wait() == (1, 5, 4) and room.tolist() == [1, 2, 3, 4]
    else:
        comm.all_reduce(np.ones(3))
        wait_for_peers(path)
        comm.send(np.array([1.0, 2, 3, 4]), 0, tag=5)


def test_messages_and_collectives_do_not_wait_for_each_other(pair, tmp_path):
    pair(_beside_collectives, str(tmp_path / "reduced"))


def _threads(comm):
    """Two threads of each rank, one in a blocking receive while the other sends, and again the other way round."""
    n, rank = comm.size, comm.rank
    echoed, errors = np.zeros(1), []

    def serve():
        try:
            room = np.zeros(1)
            for _ in range(10):
                source, _, _ = comm.recv(room, tag=1)
                comm.send(room * 2, source, tag=2)
        except BaseException as error:
            errors.append(error)
            comm.abort(str(error))

    server = threading.Thread(target=serve)
    server.start()
    for i in range(10):
        comm.send(np.array([10.0 * rank + i]), (rank + 1) % n, tag=1)
        assert comm.recv(echoed, source=(rank + 1) % n, tag=2).count == 1
        assert echoed[0] == 2 * (10 * rank + i)
    server.join()
    assert errors == []
    comm.barrier()


def test_threads_receive_while_others_send(any_group):
    any_group(_threads)


def _awaited(comm):
    import asyncio

    async def main():
        n, rank = comm.size, comm.rank
        rooms = [np.zeros(1, np.int64) for _ in range(n)]
        receives = [comm.recv(rooms[r], source=r, tag=3, async_op=True) for r in reversed(range(n))]
        sends = [comm.send(10 * rank + r, r, tag=3, async_op=True) for r in range(n)]
        received = await asyncio.gather(*receives)
        assert await asyncio.gather(*sends) == [None] * n
        assert received == [(r, 3, 1) for r in reversed(range(n))]
        return [int(room[0]) for room in rooms]

    return asyncio.run(main())


def test_messages_are_awaited_in_any_order(group):
    n = group.size
    assert group(_awaited) == [[10 * r + rank for r in range(n)] for rank in range(n)]


def _mismatch(comm, x, room):
    """The error of the rank whose receive does not fit, and what becomes of the group."""
    try:
        if comm.rank == 0:
            comm.send(x, 1)
        else:
            comm.recv(room)
        comm.barrier()
    except tutti.Error as error:
        return error


@pytest.mark.parametrize(
    "x, room",
    [(np.ones(5), np.zeros(4)), (np.ones(4), np.zeros(4, np.float32))],
    ids=["a message that is too long", "another type"],
)
def test_a_message_that_does_not_fit_ends_the_group(x, room):
    errors = tutti.spawn(_mismatch, 2, x, room, timeout=60)
    assert isinstance(errors[1], tutti.MismatchError)
    assert isinstance(errors[0], (tutti.MismatchError, tutti.AbortedError))


def test_wrong_messages_say_what_is_right(alone):
    x = np.ones(3)
    with pytest.raises(tutti.ArgumentError, match="1"):
        alone.send(x, 1)
    with pytest.raises(tutti.ArgumentError):
        alone.recv(x, source=-2)
    with pytest.raises(tutti.ArgumentError):
        alone.send(x, 0, tag=-1)
    with pytest.raises(TypeError, match="dest is a str: pass an integer"):
        alone.send(x, "0")
    with pytest.raises(TypeError, match=r"x is a list: pass an array; batch\(\) takes several"):
        alone.send([x], 0)
    with pytest.raises(TypeError, match="cannot be changed in place"):
        alone.recv(1.0)
    with pytest.raises(ValueError, match=r"messages\[1\]\.x .*np\.ascontiguousarray"):
        alone.batch([tutti.Send(x, 0), tutti.Recv(np.ones(6)[::2])])
    with pytest.raises(TypeError, match=r"messages\[0\] is a tuple: pass tutti\.Send\(x, dest, tag\)"):
        alone.batch([(x, 0)])
    assert alone.batch([]) == [] and alone.batch([], async_op=True).wait() == []
    assert alone.all_reduce(2) == 2
