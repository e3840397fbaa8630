"""The command under `torchrun`: one voice, one record, and the same one after a kill."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from reports.record import read, without_cost
from tests.benchmarks.tiny import write_tiny_protocol

REPOSITORY = Path(__file__).parents[2]
MORTAL = """
import os, signal
from methods.method import Info
from methods.mib import MiB

calls = 0

def maybe_die():
    global calls
    calls += 1
    rank, call, how = os.environ.get("DIE", "9:0:").split(":")
    if os.environ.get("RANK", "0") == rank and calls == int(call):
        if how == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        raise RuntimeError("no luck today")

class Mortal(MiB):
    key = "mortal"
    info = Info("Mortal")

    def begin_step(self, step, data):
        maybe_die()
        super().begin_step(step, data)

    def training_loss(self, batch):
        maybe_die()
        return super().training_loss(batch)

    def predict(self, images):
        maybe_die()
        return super().predict(images)
"""


def torchrun(protocol: Path, *options: str, die: str = "9:0:") -> subprocess.CompletedProcess[str]:
    """`die`: which process, at which call of its hooks, and whether by "kill"."""
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    command = [*launcher, "run_benchmark.py", "--protocol", str(protocol), "--device", "cpu", *options]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "DIE": die}
    return subprocess.run(
        command, cwd=REPOSITORY, env=environment, capture_output=True, text=True, timeout=300
    )


def ours(said: str) -> list[str]:
    """The lines that torch's launcher has not written."""
    return [line for line in said.splitlines() if re.match(r"error:|.*: failed", line)]


@pytest.mark.slow
def test_a_mistake_is_told_once(tmp_path: Path) -> None:
    protocol = write_tiny_protocol(tmp_path)
    done = torchrun(protocol, "--methods", "mibb", "--runs", str(tmp_path / "runs"))
    assert done.returncode == 1  # torchrun's own
    (line,) = ours(done.stderr)
    assert line.startswith("error: unknown method 'mibb'")


@pytest.mark.slow
def test_killed_in_either_process_the_record_is_the_same(tmp_path: Path) -> None:
    """A step has 1 + 8 + 1 calls in each process."""
    protocol, method = write_tiny_protocol(tmp_path, iterations=8), tmp_path / "mortal.py"
    method.write_text(MORTAL)

    def run(runs: str, die: str = "9:0:") -> subprocess.CompletedProcess[str]:
        folder = str(tmp_path / runs)
        options = ["--methods", str(method), "--runs", folder, "--checkpoint-seconds", "0"]
        return torchrun(protocol, *options, die=die)

    undisturbed = run("undisturbed")
    assert undisturbed.returncode == 0
    assert undisturbed.stdout.count("Leaderboards:") == 1
    assert undisturbed.stderr.count("batch 4 = 2 processes x 2 images: mortal") == 1
    assert undisturbed.stderr.count("step 3/3") == 1
    for die in ("0:4:kill", "1:10:kill", "1:1:kill"):
        assert run("killed", die).returncode == 1
    assert run("killed").returncode == 0
    records = [
        read(next((tmp_path / runs / "records").rglob("*.json"))) for runs in ("killed", "undisturbed")
    ]
    assert without_cost(records[0]) == without_cost(records[1])
    files = [
        sorted((tmp_path / runs / "store").glob("*/*.safetensors")) for runs in ("killed", "undisturbed")
    ]
    assert [p.read_bytes() for p in files[0]] == [p.read_bytes() for p in files[1]]


@pytest.mark.slow
def test_a_process_that_fails_alone_ends_all_in_one_line(tmp_path: Path) -> None:
    """After waiting half a minute for the other one, which may have failed as well."""
    protocol, method = write_tiny_protocol(tmp_path), tmp_path / "mortal.py"
    method.write_text(MORTAL)
    done = torchrun(protocol, "--methods", str(method), "--runs", str(tmp_path / "runs"), die="1:4:raise")
    assert done.returncode == 1
    (line,) = ours(done.stderr)
    assert "mortal/seed-0: failed in process 1 of 2 alone: RuntimeError: no luck today" in line
    (record,) = (read(path) for path in (tmp_path / "runs/records").rglob("*.json"))
    assert record.reason == "RuntimeError: no luck today"
