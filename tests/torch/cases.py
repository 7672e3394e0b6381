"""What the sweep is made of: element types, reductions, layouts, groups, and how results are compared.

Every input is a small whole number or a half, so that every result is exact in every type, whatever the order in which
terms are added: results are compared without any tolerance.
"""

import inspect
import os

import torch
import torch.distributed as dist

BACKEND = os.environ["TUTTI_TORCH_TEST_BACKEND"]

FLOATS = [torch.float32, torch.float64, torch.float16, torch.bfloat16]
INTEGERS = [torch.int8, torch.uint8, torch.int16, torch.int32, torch.int64]
COMPLEX = [torch.complex64, torch.complex128]
TYPES = [*FLOATS, *INTEGERS, torch.bool, *COMPLEX]

#: What the gaps between the elements of a tensor hold, in which nobody may write; no result is it, but for bool.
GAP = 99


def reductions(dtype):
    """The reductions that a type has, as dist.ReduceOp calls them."""
    if dtype.is_complex:
        return ["SUM", "AVG"]  # torch itself refuses the others
    if dtype.is_floating_point:
        return ["SUM", "PRODUCT", "MIN", "MAX", "AVG", "PREMUL_SUM"]
    return ["SUM", "PRODUCT", "MIN", "MAX", "BAND", "BOR", "BXOR"]


def factor(rank):
    """What the elements of a rank are multiplied by before a PREMUL_SUM adds them."""
    return 0.5 * (rank + 1)


def reduction(name, rank):
    """The argument ``op`` of dist.all_reduce() on this rank of the group."""
    return dist._make_nccl_premul_sum(factor(rank)) if name == "PREMUL_SUM" else getattr(dist.ReduceOp, name)


def reduced(name, inputs):
    """What a reduction of the inputs of all ranks gives, in their type."""
    dtype, n = inputs[0].dtype, len(inputs)
    if dtype == torch.bool:
        # As C++ has it for bool: a sum is an or, a product an and.
        name = {"SUM": "BOR", "MAX": "BOR", "PRODUCT": "BAND", "MIN": "BAND"}.get(name, name)
    if name == "PREMUL_SUM":
        inputs = [factor(rank) * x for rank, x in enumerate(inputs)]
    combine = {
        "SUM": torch.add,
        "AVG": torch.add,
        "PREMUL_SUM": torch.add,
        "PRODUCT": torch.mul,
        "MIN": torch.minimum,
        "MAX": torch.maximum,
        "BAND": torch.bitwise_and,
        "BOR": torch.bitwise_or,
        "BXOR": torch.bitwise_xor,
    }[name]
    result = inputs[0].clone()
    for x in inputs[1:]:
        result = combine(result, x)
    if name == "AVG":
        return (torch.view_as_complex(torch.view_as_real(result) / n) if dtype.is_complex else result / n).to(dtype)
    return result.to(dtype)


def numbers(rank, shape, dtype, seed=0):
    """The numbers of a rank; every rank knows those of all."""
    random = torch.Generator().manual_seed(1000 * seed + rank)
    if dtype == torch.bool:
        return torch.randint(0, 2, shape, generator=random).bool()
    whole = torch.randint(0 if dtype == torch.uint8 else -3, 4, shape, generator=random)
    if dtype.is_complex:
        return torch.complex(whole.double(), torch.randint(-3, 4, shape, generator=random).double()).to(dtype)
    return (whole / 2 if dtype.is_floating_point else whole).to(dtype)


#: Layouts by name: the shape that they are tried with.
LAYOUTS = {
    "contiguous": (4, 6),
    "transposed": (4, 6),
    "strided": (4, 6),
    "offset": (4, 6),
    "channels last": (2, 3, 2, 2),
    "scalar": (),
    "empty": (0, 3),
    "odd": (7,),
}


class Buffers:
    """Tensors of given layouts, and whether the gaps between their elements are as they were."""

    def __init__(self):
        self._gaps = []

    def lay(self, layout, logical):
        """A tensor equal to ``logical`` with this layout; the expanded one takes ``logical`` with equal rows."""
        if layout == "transposed":
            return logical.t().contiguous().t()
        if layout == "strided":
            base = torch.full((*logical.shape[:-1], 2 * logical.shape[-1]), GAP, dtype=logical.dtype)
            self._gaps.append(base[..., 1::2])
            return base[..., ::2].copy_(logical)
        if layout == "offset":
            base = torch.full((logical.numel() + 6,), GAP, dtype=logical.dtype)
            self._gaps += [base[:3], base[-3:]]
            return base[3:-3].view(logical.shape).copy_(logical)
        if layout == "channels last":
            return logical.contiguous(memory_format=torch.channels_last)
        if layout == "expanded":
            return logical[:1].contiguous().expand(logical.shape)
        return logical.clone()

    def intact(self):
        return all(torch.equal(gap, torch.full_like(gap, GAP)) for gap in self._gaps)


def refused_by_gloo(dtype=torch.float32, op=None, layout="contiguous", name=""):
    """Whether Gloo refuses the case, or gets it wrong. layout: of a tensor in which its operation itself writes."""
    return (
        dtype == torch.int16
        or op == "PREMUL_SUM"
        or (dtype == torch.bool and op is not None)  # sums of bool come as bytes of 2 and more
        or (dtype.is_complex and op == "AVG")  # off by one in the last place
        or layout == "strided"  # writes between the elements
        or (dtype.is_complex and name == "gather")
    )


class Check:
    """Collects what is wrong, so that every rank goes on to the same next call; ``finish`` raises."""

    def __init__(self):
        self.wrong = []
        self.count = 0

    def that(self, case, condition, text="is not so"):
        self.count += 1
        if not condition:
            self.wrong.append(f"{case}: {text}")

    def equal(self, case, got, expected):
        """Both are tensors of the same type and shape, with equal elements."""
        self.count += 1
        if got.dtype != expected.dtype or got.shape != expected.shape:
            self.wrong.append(
                f"{case}: got {got.dtype} of {list(got.shape)} instead of {expected.dtype} of {list(expected.shape)}"
            )
        elif not torch.equal(got, expected):
            where = (got != expected).nonzero()[0].tolist()
            index = tuple(where)
            self.wrong.append(f"{case}: got {got[index]} instead of {expected[index]} at {where}")

    def raises(self, case, call, kinds=(RuntimeError, ValueError, TypeError), match=""):
        """The call raises one of these, with a sentence in which all words of ``match`` are."""
        self.count += 1
        try:
            call()
        except kinds as error:
            for word in match.split():
                if word.lower() not in str(error).lower():
                    self.wrong.append(f"{case}: {word!r} is not in the error {error!r}")
        except BaseException as error:
            self.wrong.append(f"{case}: raised {error!r}")
        else:
            self.wrong.append(f"{case}: raised nothing")

    def run(self, case, subject, gloo, make, call, expected):
        """Runs one case on the group under test, and on Gloo's unless ``gloo`` is None, and compares the results.

        Where Gloo itself is under test, only what it takes is run.
        make(buffers) gives the arguments of call(group, *arguments), which gives the tensors to compare with
        ``expected``. An exception counts as a wrong result.
        """
        if gloo is None and BACKEND == "gloo":
            return
        for name, group in ((BACKEND, subject), ("the oracle", gloo)):
            if name == "the oracle" and gloo is None:
                continue
            buffers = Buffers()
            try:
                results = call(group, *make(buffers))
            except Exception as error:
                self.wrong.append(f"{case}: {name} raised {type(error).__name__}: {error}")
                self.count += 1
                continue
            self.that(f"{case} by {name}", len(results) == len(expected), f"{len(results)} results")
            for i, (got, wanted) in enumerate(zip(results, expected)):
                self.equal(f"{case} by {name}, result {i}", got, wanted)
            self.that(f"{case} by {name}", buffers.intact(), "something was written between the elements")

    def finish(self):
        """Raises AssertionError if anything was wrong; the number of comparisons otherwise."""
        if self.wrong:
            first = "\n  ".join(wrong[:400] for wrong in self.wrong[:6])
            raise AssertionError(f"{len(self.wrong)} of {self.count} are wrong, first of all\n  {first}")
        assert self.count, "nothing was compared"
        return self.count


#: Whether this torch makes groups whose ranks are in another order than in the world.
ORDERED = "sort_ranks" in inspect.signature(dist.new_group).parameters


def member_lists(size):
    """Groups of a world of this size: all of it, parts that overlap, and another order of the ranks."""
    lists = [tuple(range(size))]
    if size > 1:
        lists += [(size - 1,), tuple(range(1, size))]
    if size > 2:
        lists += [(0, size - 1)]
    if size > 1 and ORDERED:
        lists += [tuple(reversed(range(size)))]
    return list(dict.fromkeys(lists))


def each_group(ranks, lists=None):
    """(members, own rank in it, group under test, Gloo's group) of the groups that this rank belongs to.

    All groups are made before the first is used, and then used one after the other.
    """
    made = [(members, *ranks.groups(members)) for members in lists or member_lists(ranks.size)]
    for members, subject, gloo in made:
        if ranks.rank in members:
            yield members, members.index(ranks.rank), subject, gloo


def label(*parts):
    """The name of a case."""
    return " ".join(str(part).replace("torch.", "") for part in parts)
