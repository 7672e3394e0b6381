"""The training example, as a user runs it."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLE = Path(__file__).parents[2] / "examples" / "python" / "train_digits.py"

pytest.importorskip("sklearn", reason="scikit-learn is not installed: the example is not tested")


def _accuracy(text):
    return float(re.fullmatch(r"accuracy (0\.\d{4})", text.splitlines()[-1]).group(1))


def test_training_on_four_ranks_is_as_good_as_on_one(run_ranks):
    ranks = run_ranks(4, EXAMPLE, "--check-single", "--batch", "50")  # 50 samples cannot be divided by 4
    assert [rank.code for rank in ranks] == [0] * 4, ranks
    assert _accuracy(ranks[0].out) >= 0.95
    assert len(re.findall(r"^epoch +\d+  loss \d+\.\d+  accuracy 0\.\d+ +\d+ samples/s$", ranks[0].out, re.M)) == 30
    assert [rank.out for rank in ranks[1:]] == [""] * 3


def test_a_batch_smaller_than_the_group_leaves_ranks_without_samples(run_ranks):
    ranks = run_ranks(3, EXAMPLE, "--check-single", "--batch", "2", "--epochs", "1")
    assert [rank.code for rank in ranks] == [0] * 3, ranks


def test_parameters_that_differ_are_noticed(run_ranks, tmp_path):
    broken = tmp_path / "broken.py"
    source = EXAMPLE.read_text()
    assert "comm.broadcast(params, root=0)" in source
    broken.write_text(source.replace("comm.broadcast(params, root=0)", "pass"))
    for rank in run_ranks(2, broken, "--epochs", "1"):
        assert rank.code == 1 and "the parameters of ranks [1] differ from those of rank 0" in rank.err, rank


def test_training_runs_alone_and_under_tutti_run(tutti_command):
    alone = [sys.executable, str(EXAMPLE), "--epochs", "5"]
    for line in (alone, [tutti_command, "run", "-n", "2", "--no-prefix", "--", *alone]):
        finished = subprocess.run(line, stdout=subprocess.PIPE, text=True, timeout=60)
        assert finished.returncode == 0 and _accuracy(finished.stdout) > 0.9


@pytest.mark.parametrize(
    "launcher",
    [
        ["mpirun", "--allow-run-as-root", "--oversubscribe", "-n", "3", sys.executable],
        ["torchrun", "--nproc-per-node", "3"],
    ],
    ids=["mpirun", "torchrun"],
)
def test_training_runs_under_the_launchers_of_others(launcher):
    command = shutil.which(launcher[0], path=str(Path(sys.executable).parent)) or shutil.which(launcher[0])
    if command is None:
        pytest.skip(f"{launcher[0]} is not installed: starting under it is not tested")
    line = [command, *launcher[1:], str(EXAMPLE), "--epochs", "5", "--check-single"]
    finished = subprocess.run(line, stdout=subprocess.PIPE, text=True, timeout=100)
    assert finished.returncode == 0 and "3 ranks" in finished.stdout and _accuracy(finished.stdout) > 0.9
