"""Every collective, for every type, layout and group, beside Gloo and beside what must come out."""

import pytest
import torch
import torch.distributed as dist
from cases import (
    BACKEND,
    LAYOUTS,
    TYPES,
    Buffers,
    Check,
    each_group,
    label,
    numbers,
    reduced,
    reduction,
    reductions,
    refused_by_gloo,
)

SAMPLE = [torch.float32, torch.bfloat16, torch.int64, torch.bool]


def _cases(layouts=LAYOUTS):
    """(type, layout, shape): every type as it is, and the layouts for a sample of the types."""
    for dtype in TYPES:
        for layout in layouts if dtype in SAMPLE else ["contiguous", "strided"]:
            yield dtype, layout, LAYOUTS.get(layout, (4, 6))


def _inputs(n, shape, dtype, layout="contiguous", seed=0):
    inputs = [numbers(rank, shape, dtype, seed) for rank in range(n)]
    return [x[:1].expand(shape).clone() for x in inputs] if layout == "expanded" else inputs


def _tried(name, usual, dtype, layout):
    """Whether to try an operation by this name: by all that this torch has where it is quick, else by the usual one."""
    return name == usual or (hasattr(dist, name) and layout == "contiguous" and dtype in SAMPLE)


def _oracle(gloo, **case):
    return None if refused_by_gloo(**case) else gloo


def _all_reduce(ranks):
    check = Check()

    def run(case, op, dtype, layout, shape, group, me, n):
        inputs = _inputs(n, shape, dtype)

        def call(group, x):
            assert dist.all_reduce(x, reduction(op, me), group=group) is None
            return [x]

        oracle = _oracle(group[1], dtype=dtype, op=op, layout=layout)
        check.run(case, group[0], oracle, lambda b: [b.lay(layout, inputs[me])], call, [reduced(op, inputs)])

    for members, me, *group in each_group(ranks):
        for dtype, layout, shape in _cases():
            for op in reductions(dtype) if layout == "contiguous" else ["SUM"]:
                case = label("all_reduce", op, dtype, layout, "in", members)
                run(case, op, dtype, layout, shape, group, me, len(members))
    return check.finish()


def test_all_reduce(group):
    group(_all_reduce)


def _mixed_layouts(ranks):
    """Every rank has a layout of its own: what counts is where an element is in the tensor, not in memory."""
    check = Check()
    layouts = ["contiguous", "transposed", "strided", "offset"]
    for dtype in SAMPLE:
        inputs = _inputs(ranks.size, (4, 6), dtype)
        for i in range(len(layouts)):
            layout = layouts[(i + ranks.rank) % len(layouts)]
            case = label(dtype, layout, "beside other layouts")
            buffers = Buffers()
            x = buffers.lay(layout, inputs[ranks.rank])
            dist.all_reduce(x)
            check.equal("all_reduce " + case, x, reduced("SUM", inputs))
            x = buffers.lay(layout, inputs[ranks.rank])
            dist.broadcast(x, ranks.size - 1)
            check.equal("broadcast " + case, x, inputs[-1])
            x = buffers.lay(layout, inputs[ranks.rank])
            outputs = [torch.zeros_like(x) for _ in inputs]
            dist.all_gather(outputs, x)
            check.equal("all_gather " + case, torch.stack(outputs), torch.stack(inputs))
            check.that(case, buffers.intact(), "something was written between the elements")
    return check.finish()


@pytest.mark.skipif(BACKEND == "gloo", reason="Gloo adds what is at the same place in memory")
def test_ranks_may_have_different_layouts_of_the_same_shape(small_group):
    small_group(_mixed_layouts)


def _reduce(ranks):
    check = Check()

    def run(case, op, dtype, layout, shape, group, me, n, root):
        inputs = _inputs(n, shape, dtype)

        def call(group, x):
            dist.reduce(x, group=group, op=reduction(op, me), group_dst=root)
            return [x] if me == root else []  # elsewhere what is left in it is not said

        oracle = _oracle(group[1], dtype=dtype, op=op, layout=layout)
        expected = [reduced(op, inputs)] if me == root else []
        check.run(case, group[0], oracle, lambda b: [b.lay(layout, inputs[me])], call, expected)

    for members, me, *group in each_group(ranks):
        for dtype, layout, shape in _cases():
            for op in reductions(dtype) if layout == "contiguous" else ["SUM"]:
                root = len(op + layout) % len(members)
                case = label("reduce", op, dtype, layout, "to", root, "in", members)
                run(case, op, dtype, layout, shape, group, me, len(members), root)
    return check.finish()


def test_reduce(small_group):
    small_group(_reduce)


def _broadcast(ranks):
    check = Check()

    def run(case, dtype, layout, shape, group, me, n, root):
        inputs = _inputs(n, shape, dtype)

        def call(group, x):
            dist.broadcast(x, group=group, group_src=root)
            return [x]

        oracle = _oracle(group[1], dtype=dtype, layout=layout)
        check.run(case, group[0], oracle, lambda b: [b.lay(layout, inputs[me])], call, [inputs[root]])

    for members, me, *group in each_group(ranks):
        for dtype, layout, shape in _cases():
            for root in range(len(members)):
                case = label("broadcast", dtype, layout, "from", root, "in", members)
                run(case, dtype, layout, shape, group, me, len(members), root)
    return check.finish()


def test_broadcast(group):
    group(_broadcast)


def _all_gather(ranks):
    check = Check()

    def run(case, dtype, layout, shape, group, me, n):
        inputs = _inputs(n, shape, dtype, layout)
        into = layout if layout != "expanded" else "contiguous"

        def make(buffers):
            zeros = torch.zeros(shape, dtype=dtype)
            return [buffers.lay(into, zeros) for _ in range(n)], buffers.lay(layout, inputs[me])

        def call(group, outputs, x):
            dist.all_gather(outputs, x, group=group)
            return outputs

        check.run("all_gather " + case, group[0], _oracle(group[1], dtype=dtype), make, call, inputs)

        def make_one(stacked):
            whole = (n, *shape) if stacked else (n * shape[0], *shape[1:])
            return lambda buffers: (torch.zeros(whole, dtype=dtype), buffers.lay(layout, inputs[me]))

        def call_one(function):
            def call(group, output, x):
                function(output, x, group=group)
                return [output]

            return call

        for name in ("all_gather_into_tensor", "all_gather_single", "_all_gather_base"):
            function = getattr(dist, name, None)
            if not _tried(name, "all_gather_into_tensor", dtype, layout):
                continue
            # Gloo has no stacked form.
            stack = [torch.stack(inputs)]
            check.run(f"{name} stacked {case}", group[0], None, make_one(True), call_one(function), stack)
            if shape:
                oracle = _oracle(group[1], dtype=dtype)
                check.run(f"{name} {case}", group[0], oracle, make_one(False), call_one(function), [torch.cat(inputs)])

    for members, me, *group in each_group(ranks):
        for dtype, layout, shape in _cases([*LAYOUTS, "expanded"]):
            run(label(dtype, layout, "in", members), dtype, layout, shape, group, me, len(members))
    return check.finish()


def test_all_gather(group):
    group(_all_gather)


def _reduce_scatter(ranks):
    check = Check()

    def run(case, op, dtype, layout, shape, group, me, n):
        whole = (n * shape[0], *shape[1:])
        inputs = _inputs(n, whole, dtype, layout)
        expected = [reduced(op, inputs).chunk(n)[me] if shape[0] else torch.zeros(shape, dtype=dtype)]
        into = layout if layout != "expanded" else "contiguous"
        oracle = _oracle(group[1], dtype=dtype, op=op, layout=layout)

        def make(buffers):
            return buffers.lay(into, torch.zeros(shape, dtype=dtype)), buffers.lay(layout, inputs[me])

        def call_one(function):
            def call(group, output, x):
                function(output, x, reduction(op, me), group=group)
                return [output]

            return call

        for name in ("reduce_scatter_tensor", "reduce_scatter_single", "_reduce_scatter_base"):
            function = getattr(dist, name, None)
            if _tried(name, "reduce_scatter_tensor", dtype, layout):
                check.run(f"{name} {case}", group[0], oracle, make, call_one(function), expected)

        def make_list(buffers):
            parts = inputs[me].chunk(n) if shape[0] else [inputs[me]] * n
            return buffers.lay(into, torch.zeros(shape, dtype=dtype)), [buffers.lay(layout, part) for part in parts]

        def call_list(group, output, parts):
            dist.reduce_scatter(output, parts, reduction(op, me), group=group)
            return [output]

        check.run("reduce_scatter " + case, group[0], oracle, make_list, call_list, expected)

        def make_stack(buffers):
            stack = torch.stack(make_list(buffers)[1])
            return buffers.lay(into, torch.zeros(shape, dtype=dtype)), buffers.lay(layout, stack)

        if layout not in ("transposed", "channels last", "expanded"):
            stacked = call_one(dist.reduce_scatter_tensor)
            check.run("reduce_scatter_tensor stacked " + case, group[0], None, make_stack, stacked, expected)

    for members, me, *group in each_group(ranks):
        for dtype, layout, shape in _cases([*LAYOUTS, "expanded"]):
            if shape == ():
                continue  # nothing to scatter
            for op in reductions(dtype) if layout == "contiguous" else ["SUM"]:
                run(label(op, dtype, layout, "in", members), op, dtype, layout, shape, group, me, len(members))
    return check.finish()


def test_reduce_scatter(group):
    group(_reduce_scatter)


def _gather(ranks):
    check = Check()

    def run(case, dtype, layout, shape, group, me, n, root):
        inputs = _inputs(n, shape, dtype, layout)
        into = layout if layout != "expanded" else "contiguous"

        def make(buffers):
            zeros = torch.zeros(shape, dtype=dtype)
            return [buffers.lay(into, zeros) for _ in range(n)] if me == root else None, buffers.lay(layout, inputs[me])

        def call(group, outputs, x):
            dist.gather(x, outputs, group=group, group_dst=root)
            return outputs or []

        oracle = _oracle(group[1], dtype=dtype, name="gather")
        check.run(case, group[0], oracle, make, call, inputs if me == root else [])

    for members, me, *group in each_group(ranks):
        for dtype, layout, shape in _cases([*LAYOUTS, "expanded"]):
            root = len(layout) % len(members)
            case = label("gather", dtype, layout, "to", root, "in", members)
            run(case, dtype, layout, shape, group, me, len(members), root)
    return check.finish()


def test_gather(group):
    group(_gather)


def _scatter(ranks):
    check = Check()

    def run(case, dtype, layout, shape, group, me, n, root):
        inputs = _inputs(n, shape, dtype, layout)
        into = layout if layout != "expanded" else "contiguous"

        def make(buffers):
            output = buffers.lay(into, torch.zeros(shape, dtype=dtype))
            return output, [buffers.lay(layout, x) for x in inputs] if me == root else None

        def call(group, output, parts):
            dist.scatter(output, parts, group=group, group_src=root)
            return [output]

        check.run(case, group[0], _oracle(group[1], dtype=dtype, layout=layout), make, call, [inputs[me]])

    for members, me, *group in each_group(ranks):
        for dtype, layout, shape in _cases([*LAYOUTS, "expanded"]):
            root = (len(layout) + 1) % len(members)
            case = label("scatter", dtype, layout, "from", root, "in", members)
            run(case, dtype, layout, shape, group, me, len(members), root)
    return check.finish()


def test_scatter(group):
    group(_scatter)


def _all_to_all(ranks):
    check = Check()

    def run(case, dtype, layout, shape, group, me, n):
        def sent(source, target):
            x = numbers(source, shape, dtype, seed=target)
            return x[:1].expand(shape).clone() if layout == "expanded" else x

        into = layout if layout != "expanded" else "contiguous"
        oracle = _oracle(group[1], dtype=dtype)
        received = [sent(source, me) for source in range(n)]

        def make(buffers):
            outputs = [buffers.lay(into, torch.zeros(shape, dtype=dtype)) for _ in range(n)]
            return outputs, [buffers.lay(layout, sent(me, target)) for target in range(n)]

        def call(group, outputs, inputs):
            dist.all_to_all(outputs, inputs, group=group)
            return outputs

        # Gloo has none of zero-dimensional tensors.
        check.run("all_to_all " + case, group[0], oracle if shape else None, make, call, received)
        if not shape:
            return

        def make_single(buffers):
            x = torch.cat([sent(me, target) for target in range(n)])
            return buffers.lay(into, torch.zeros_like(x)), buffers.lay(layout if layout != "expanded" else into, x)

        def call_single(group, output, x):
            dist.all_to_all_single(output, x, group=group)
            return [output]

        # Gloo takes tensors that are contiguous only.
        oracle = oracle if layout in ("contiguous", "offset", "empty", "odd") else None
        check.run("all_to_all_single " + case, group[0], oracle, make_single, call_single, [torch.cat(received)])

    for members, me, *group in each_group(ranks):
        for dtype, layout, shape in _cases([*LAYOUTS, "expanded"]):
            run(label(dtype, layout, "in", members), dtype, layout, shape, group, me, len(members))
    return check.finish()


def test_all_to_all(group):
    group(_all_to_all)


def _uneven(ranks):
    """Rank s sends (3 s + 5 t) % 4 rows to rank t, or elements where there is one dimension only: some send nothing."""
    check = Check()

    def rows(source, target):
        return (3 * source + 5 * target) % 4

    def run(case, dtype, layout, row, group, me, n):
        def sent(source, target):
            return numbers(source, (rows(source, target), *row), dtype, seed=target)

        received = [sent(source, me) for source in range(n)]

        def make(buffers):
            x = torch.cat([sent(me, target) for target in range(n)])
            return buffers.lay(layout, torch.zeros_like(torch.cat(received))), buffers.lay(layout, x)

        def call(group, output, x):
            into, out_of = [rows(s, me) for s in range(n)], [rows(me, t) for t in range(n)]
            dist.all_to_all_single(output, x, into, out_of, group=group)
            return [output]

        contiguous = layout in ("contiguous", "offset")
        oracle = _oracle(group[1], dtype=dtype) if contiguous else None
        check.run("all_to_all_single uneven " + case, group[0], oracle, make, call, [torch.cat(received)])

        def make_lists(buffers):
            outputs = [buffers.lay(layout, torch.zeros_like(x)) for x in received]
            return outputs, [buffers.lay(layout, sent(me, target)) for target in range(n)]

        def call_lists(group, outputs, inputs):
            dist.all_to_all(outputs, inputs, group=group)
            return outputs

        check.run("all_to_all uneven " + case, group[0], None, make_lists, call_lists, received)

    for members, me, *group in each_group(ranks):
        for dtype in TYPES:
            for layout, row in (("contiguous", ()), ("contiguous", (3,)), ("strided", (2, 2)), ("offset", (3,))):
                run(label(dtype, layout, "rows of", row, "in", members), dtype, layout, row, group, me, len(members))
    return check.finish()


def test_all_to_all_with_uneven_splits(group):
    group(_uneven)


def _coalesced(ranks):
    check = Check()
    shapes = [(5,), (2, 3), (), (0, 2), (1000,)]

    def run(case, op, dtype, group, me, n):
        inputs = [_inputs(n, shape, dtype, seed=i) for i, shape in enumerate(shapes)]
        expected = [reduced(op, x) for x in inputs]
        oracle = _oracle(group[1], dtype=dtype, op=op)

        def make(buffers):
            # Gloo flattens them into one tensor, which it does for dense ones only.
            return [[buffers.lay("transposed" if i == 1 else "offset", x[me]) for i, x in enumerate(inputs)]]

        def call(group, tensors):
            dist.all_reduce_coalesced(tensors, reduction(op, me), group=group)
            return tensors

        def call_async(group, tensors):
            dist.all_reduce_coalesced(tensors, reduction(op, me), group=group, async_op=True).wait()
            return tensors

        def call_manager(group, tensors):
            with dist._coalescing_manager(group, async_ops=True) as manager:
                for x in tensors:
                    dist.all_reduce(x, reduction(op, me), group=group)
            manager.wait()
            return tensors

        def make_gather(buffers):
            outputs = [[torch.zeros_like(x[me]) for x in inputs] for _ in range(n)]
            return outputs, [buffers.lay("offset", x[me]) for x in inputs]

        def call_gather(group, outputs, tensors):
            dist.all_gather_coalesced(outputs, tensors, group=group)
            return [x for output in outputs for x in output]

        if op == "SUM" and not dtype.is_complex:
            each = [x[rank] for rank in range(n) for x in inputs]
            check.run(label("all_gather_coalesced", case), group[0], oracle, make_gather, call_gather, each)

        for name, function in (("", call), ("async", call_async), ("by the manager", call_manager)):
            check.run(label("all_reduce_coalesced", name, case), group[0], oracle, make, function, expected)

    def run_others(case, dtype, group, me, n):
        whole = [_inputs(n, (n * (i + 1), 2), dtype, seed=i) for i in range(4)]

        def make(buffers):
            outputs = [torch.zeros(i + 1, 2).to(dtype) for i in range(4)]
            return outputs, [buffers.lay("contiguous", x[me]) for x in whole]

        def scatter(group, outputs, inputs):
            with dist._coalescing_manager(group):
                for output, x in zip(outputs, inputs):
                    dist.reduce_scatter_tensor(output, x, group=group)
            return outputs

        def gather(group, outputs, inputs):
            gathered = [torch.zeros_like(x) for x in inputs]
            with dist._coalescing_manager(group):
                for output, x in zip(gathered, inputs):
                    dist.all_gather_into_tensor(output, x.chunk(n)[me], group=group)
            return gathered

        oracle = _oracle(group[1], dtype=dtype, op="SUM")
        expected = [reduced("SUM", x).chunk(n)[me] for x in whole]
        check.run("reduce_scatter_tensor coalesced " + case, group[0], oracle, make, scatter, expected)
        expected = [torch.cat([x[rank].chunk(n)[rank] for rank in range(n)]) for x in whole]
        oracle = _oracle(group[1], dtype=dtype)
        check.run("all_gather_into_tensor coalesced " + case, group[0], oracle, make, gather, expected)

    for members, me, *group in each_group(ranks):
        for dtype in TYPES:
            for op in ["SUM"] if dtype != torch.float32 else reductions(dtype):
                run(label(op, dtype, "in", members), op, dtype, group, me, len(members))
            run_others(label(dtype, "in", members), dtype, group, me, len(members))
    return check.finish()


def test_coalesced_collectives(small_group):
    small_group(_coalesced)


def _large(ranks):
    """A million elements: beyond every limit at which another algorithm, slices or pipelining begin."""
    check = Check()
    n, me = ranks.size, ranks.rank
    for dtype in (torch.float32, torch.bfloat16, torch.int64):
        inputs = _inputs(n, (1 << 20,), dtype)
        case = label(dtype, "of 1 M elements")
        for layout in ("contiguous", "strided") if BACKEND != "gloo" else ("contiguous",):
            x = Buffers().lay(layout, inputs[me])
            dist.all_reduce(x)
            check.equal(f"all_reduce {layout} {case}", x, reduced("SUM", inputs))
            x = Buffers().lay(layout, inputs[me])
            dist.broadcast(x, n - 1)
            check.equal(f"broadcast {layout} {case}", x, inputs[-1])
        output = torch.empty(n << 20, dtype=dtype)
        dist.all_gather_into_tensor(output, inputs[me])
        check.equal("all_gather_into_tensor " + case, output, torch.cat(inputs))
        output = torch.empty((1 << 20) // 12 * 12 // n, dtype=dtype)
        dist.reduce_scatter_tensor(output, inputs[me][: output.numel() * n])
        expected = reduced("SUM", inputs)[: output.numel() * n].chunk(n)[me]
        check.equal("reduce_scatter_tensor " + case, output, expected)
        output = torch.empty((1 << 20) // 12 * 12, dtype=dtype)
        dist.all_to_all_single(output, inputs[me][: output.numel()])
        expected = torch.cat([x[: output.numel()].chunk(n)[me] for x in inputs])
        check.equal("all_to_all_single " + case, output, expected)
    return check.finish()


def test_large_tensors(group):
    group(_large)


def _in_place(ranks):
    """The output is a part of the input, or the input of the output, as FSDP has it."""
    check = Check()
    n, me = ranks.size, ranks.rank
    for dtype in TYPES:
        inputs = _inputs(n, (5,), dtype)
        output = torch.zeros(n * 5, dtype=dtype)
        output[5 * me : 5 * me + 5] = inputs[me]
        dist.all_gather_into_tensor(output, output[5 * me : 5 * me + 5])
        check.equal(label("all_gather_into_tensor in place", dtype), output, torch.cat(inputs))
        whole = _inputs(n, (n * 5,), dtype)
        x = whole[me].clone()
        part = x[5 * me : 5 * me + 5]
        dist.reduce_scatter_tensor(part, x)
        check.equal(label("reduce_scatter_tensor in place", dtype), part, reduced("SUM", whole).chunk(n)[me])
        outputs = [torch.zeros(5, dtype=dtype) for _ in range(n)]
        outputs[me].copy_(inputs[me])
        dist.all_gather(outputs, outputs[me])
        check.equal(label("all_gather in place", dtype), torch.cat(outputs), torch.cat(inputs))
    return check.finish()


@pytest.mark.skipif(BACKEND == "gloo", reason="Gloo has no int16")
def test_outputs_that_share_memory_with_inputs(small_group):
    small_group(_in_place)


def _sparse(ranks):
    """Sparse tensors are added up, with any number of elements, also none, by rank; hybrid ones as well."""
    check = Check()
    for dtype in (torch.float32, torch.float64, torch.int64):
        for row in ((), (2,)):

            def of(rank, dtype=dtype, row=row):
                indices = torch.stack([torch.arange(rank) % 3, torch.arange(rank) ** 2 % 4])
                return torch.sparse_coo_tensor(indices, numbers(rank, (rank, *row), dtype), (3, 4, *row)).coalesce()

            x = of(ranks.rank)
            dist.all_reduce(x)
            expected = sum(of(rank).to_dense() for rank in range(ranks.size))
            check.equal(label("all_reduce sparse", dtype, row), x.to_dense(), expected)
    return check.finish()


def test_sparse_tensors_are_added(group):
    group(_sparse)
