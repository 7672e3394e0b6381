"""Inputs and outputs that share memory: Gloo copies, so torch programs may do it."""

import pytest
import torch
import torch.distributed as dist
from cases import BACKEND, Check


def _row(ranks):
    """One tensor cut into a part for each rank; element i is i + 10 * rank."""
    row = torch.arange(2.0 * ranks.size) + 10 * ranks.rank
    return row, list(row.chunk(ranks.size))


def _aliases(ranks):
    """A rank's own part lies within the row of all parts, once at its own place and once at another's."""
    check, n, me = Check(), ranks.size, ranks.rank
    sums = sum(torch.arange(2.0 * n) + 10 * rank for rank in range(n)).chunk(n)
    for place in range(n):
        row, parts = _row(ranks)
        mine = parts[place].clone()
        everybodys = [torch.arange(2.0 * n).chunk(n)[place] + 10 * rank for rank in range(n)]
        dist.all_gather(parts, parts[place])
        check.equal(f"all_gather of part {place}", row, torch.cat(everybodys))

        row, parts = _row(ranks)
        dist.reduce_scatter(parts[place], parts)
        check.equal(f"reduce_scatter to part {place}", parts[place], sums[me])

        row, parts = _row(ranks)
        dist.gather(parts[place], parts if me == 0 else None, dst=0)
        check.equal(f"gather of part {place}", row if me == 0 else mine, torch.cat(everybodys) if me == 0 else mine)

        row, parts = _row(ranks)
        dist.scatter(parts[place], parts if me == 0 else None, src=0)
        check.equal(f"scatter to part {place}", parts[place], torch.arange(2.0 * n).chunk(n)[me])
    return check.finish()


def test_a_part_of_the_row_may_be_the_other_buffer(small_group):
    small_group(_aliases)


def _in_place(ranks):
    check, n, me = Check(), ranks.size, ranks.rank
    row, parts = _row(ranks)
    expected = torch.cat([torch.arange(2.0 * n).chunk(n)[me] + 10 * rank for rank in range(n)])
    dist.all_to_all_single(row, row)
    check.equal("all_to_all_single", row, expected)
    row, parts = _row(ranks)
    dist.all_to_all(parts, parts)
    check.equal("all_to_all", row, expected)
    row, parts = _row(ranks)
    output = torch.empty_like(row)
    splits = [2] * n if me == 0 else None
    dist.all_to_all_single(output, row, splits, splits)
    check.equal("all_to_all_single with split sizes on one rank", output, expected)
    return check.finish()


@pytest.mark.skipif(BACKEND == "gloo", reason="Gloo reads what it has overwritten")
def test_all_to_all_may_be_in_place_and_with_sizes_on_some_ranks(small_group):
    small_group(_in_place)


def _overlapping(ranks):
    """An output whose elements lie at one place cannot hold a result: said before anything is sent."""
    x = torch.ones(1).expand(4)
    with pytest.raises(ValueError, match="several elements of an output lie at the same place"):
        dist.all_reduce(x)
    y = torch.ones(2)
    dist.all_reduce(y)  # the group lives
    return y.tolist() == [ranks.size] * 2


@pytest.mark.skipif(BACKEND == "gloo", reason="Gloo reduces the one element, or the four of them")
def test_an_output_that_overlaps_itself_is_refused(pair):
    assert all(pair(_overlapping))


def _short_message(ranks):
    """What a message does not reach stays as it was, in a tensor with gaps too."""
    if ranks.rank == 0:
        dist.send(torch.ones(2), 1)
        return True
    wide = torch.zeros(3, 2)
    dist.recv(wide[:, 0], 0)
    return wide.tolist() == [[1, 0], [1, 0], [0, 0]]


@pytest.mark.skipif(BACKEND == "gloo", reason="Gloo does not take a message that is shorter than its tensor")
def test_a_short_message_leaves_the_rest_of_the_tensor(pair):
    assert all(pair(_short_message))
