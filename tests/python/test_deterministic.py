"""TUTTI_DETERMINISTIC: the same bits whatever the transport, the channels and the hosts."""

import json
import os

import numpy as np
import pytest
from conftest import tcp_rendezvous_name

#: Prints a digest of every reduction of numbers of very different sizes, whose sums depend on the order.
SCRIPT = """
import hashlib, json, os, sys
import numpy as np, ml_dtypes, tutti

settings = json.loads(sys.argv[1])
hosts = settings.pop("hosts", None)
if hosts:
    settings["host"] = hosts[int(os.environ["TUTTI_RANK"])]
with tutti.init(deterministic=1, **settings) as comm:
    digests = {}
    for dtype in ("float32", "float64", "float16", "bfloat16", "complex64"):
        for count in (1, 5, 1000, 100_003):
            random = np.random.default_rng([comm.rank, count])
            kind = ml_dtypes.bfloat16 if dtype == "bfloat16" else dtype
            x = (random.standard_normal(count) * np.exp(4 * random.standard_normal(count))).astype(kind)
            found = [comm.all_reduce(x.copy(), op) for op in ("sum", "avg")]
            found.append(comm.all_reduce(x.copy(), "premultiplied_sum", factor=1 / 3))
            parts = np.resize(x, (comm.size, count))
            found.append(comm.all_gather(comm.reduce_scatter(parts)))
            y = x.copy()
            comm.reduce(y, root=comm.size - 1)
            found.append(comm.broadcast(y, root=comm.size - 1))
            if dtype == "float32" and comm.rank == 0:
                np.save(f"sum-{count}.npy", found[0])
            np.save(f"x-{dtype}-{count}-{comm.rank}.npy", x.view(np.uint16) if dtype == "bfloat16" else x)
            for name, result in zip(("sum", "avg", "scaled", "scattered", "reduced"), found):
                digests[f"{name} {dtype} {count}"] = hashlib.sha256(result.tobytes()).hexdigest()
    print(json.dumps(digests))
"""


def _digests(run_ranks, size, **settings):
    """The digests, which must be the same on every rank."""
    ranks = run_ranks(size, SCRIPT, json.dumps(settings))
    assert [rank.code for rank in ranks] == [0] * size, ranks
    found = [json.loads(rank.out) for rank in ranks]
    assert all(digests == found[0] for digests in found)
    return found[0]


@pytest.mark.parametrize("size", [3, 4])
def test_deterministic_sums_have_the_same_bits_over_every_transport_and_layout(run_ranks, tmp_path, size):
    pytest.importorskip("ml_dtypes")
    expected = _digests(run_ranks, size, transports="uds")
    for count in (1, 5, 1000, 100_003):
        total = np.load(tmp_path / f"x-float32-{count}-0.npy")
        for rank in range(1, size):
            total = total + np.load(tmp_path / f"x-float32-{count}-{rank}.npy")  # in the order of the ranks
        np.testing.assert_array_equal(np.load(tmp_path / f"sum-{count}.npy"), total)
    hosts = ["red", "blue", "red", "blue"][:size]
    for settings in (
        {"transports": "shm"},
        {"transports": "shm", "slice_bytes": 8192},
        {"transports": "tcp"},
        {"transports": "uds", "slice_bytes": 8192},
        {"transports": "tcp", "hosts": hosts},
        {"transports": "shm,tcp", "hosts": hosts},
    ):
        assert _digests(run_ranks, size, **settings) == expected, settings


#: Prints over how many channels a vector goes that is long enough for two, and a digest of its sum.
LARGE = """
import hashlib, json, os, sys
import numpy as np, tutti

host = "host-" + os.environ["TUTTI_RANK"]
with tutti.init(deterministic=1, tuning="none", host=host, channels=int(sys.argv[1])) as comm:
    random = np.random.default_rng(comm.rank)
    x = (random.standard_normal(1 << 20) * np.exp(4 * random.standard_normal(1 << 20))).astype(np.float32)
    channels = comm.choice("all_reduce", x).channels
    print(json.dumps([channels, hashlib.sha256(comm.all_reduce(x).tobytes()).hexdigest()]))
"""


@pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="a second channel needs a second core, and there is one")
def test_deterministic_sums_have_the_same_bits_over_one_channel_and_over_two(run_ranks):
    # A host for each rank, so that each takes all cores for its own.
    sums = set()
    for channels in (1, 2):
        ranks = run_ranks(3, LARGE, str(channels), rendezvous=tcp_rendezvous_name())
        assert [rank.code for rank in ranks] == [0] * 3, ranks
        found = [json.loads(rank.out) for rank in ranks]
        assert [used for used, _ in found] == [channels] * 3
        sums.update(digest for _, digest in found)
    assert len(sums) == 1
