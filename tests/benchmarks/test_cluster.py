"""Runs as jobs, through submitit's executor for this machine; Slurm itself was tried by hand."""

from __future__ import annotations

import os
import signal
import stat
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from benchmarks import slurm
from benchmarks.cluster import by_first_step
from benchmarks.slurm import SlurmOptions
from benchmarks.status import states
from benchmarks.store import Store
from tests.benchmarks.test_several_runners import GATED, stable, start
from tests.benchmarks.test_side_by_side import some_runs, wait_until

Runner = Callable[..., int]


@pytest.mark.slow
def test_jobs_leave_what_one_process_leaves(
    run_tiny: Runner, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("submitit")
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    assert run_tiny("--executor", "local", "--jobs", "2", "--seeds", "0,1", runs="jobs") == 0
    said = capfd.readouterr()
    assert "4 trained, 0 kept, 0 failed" in said.out and said.err.count("finished (job") == 4
    logs = list((tmp_path / "jobs/logs/slurm").glob("*_0_log.out"))
    assert len(logs) == 4 and all("finished in" in log.read_text() for log in logs)
    found = states(tmp_path / "jobs")
    assert [each.state for each in found] == ["done"] * 4 and all(each.job for each in found)
    assert run_tiny("--seeds", "0,1", "--jobs", "1", runs="one") == 0
    assert stable(tmp_path / "jobs") == stable(tmp_path / "one")


@pytest.mark.slow
def test_a_job_whose_time_is_up_saves_and_is_queued_again(tiny_protocol: Path, tmp_path: Path) -> None:
    """The signal that Slurm sends some seconds before the end of a job's time."""
    pytest.importorskip("submitit")
    arrived, gate, own = tmp_path / "arrived", tmp_path / "gate", tmp_path / "gated.py"
    own.write_text(GATED.format(arrived=str(arrived), gate=str(gate)))
    runs = tmp_path / "runs"
    command = start(
        tiny_protocol, runs, tmp_path / "log", "--methods", str(own), "--executor", "local",
        "--checkpoint-seconds", "3600",
    )  # fmt: skip
    wait_until(arrived.exists)
    (first,) = states(runs)
    assert first.state == "running" and first.job  # which step is told after its first iteration
    os.kill(_job_process(first.job), signal.SIGUSR2)
    gate.touch()
    assert command.wait(180) == 0
    text = (runs / first.log).read_text()
    assert "Calling checkpoint method" in text and "is saved at iteration" in text
    assert text.count("gated/seed-0 step 1/3: mIoU") == 1 and text.count("finished in") == 1
    assert [each.state for each in states(runs)] == ["done"]


def _job_process(controller: str) -> int:
    """What the local executor's controller started: it stands in for the process of a Slurm task."""
    children = Path(f"/proc/{controller}/task/{controller}/children").read_text().split()
    return int(children[0])


def test_a_job_that_leaves_nothing_has_failed(
    run_tiny: Runner, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("submitit")
    own = tmp_path / "gone.py"
    body = GATED.replace("Path({arrived!r}).touch()", "import os; os._exit(9)")
    own.write_text(body.format(gate=""))
    assert run_tiny("--executor", "local", methods=str(own)) == 1
    said = capfd.readouterr()
    assert "left no result: its process ended" in said.err
    assert "0 trained, 0 kept, 1 failed" in said.out
    (state,) = states(tmp_path / "runs")
    assert state.state == "failed" and "left no result" in state.detail


def test_without_submitit(
    run_tiny: Runner, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "submitit", None)
    assert run_tiny("--executor", "local") == 2
    assert 'submitit is not installed; give: pip install -e ".[slurm]"' in capfd.readouterr().err


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--slurm", "time=4:00:00"], "--slurm and --no-wait go with --executor slurm"),
        (["--executor", "local", "--no-wait"], "--no-wait: goes with --executor slurm"),
        (
            ["--executor", "local", "--slurm", "cpus=none"],
            "--slurm cpus=none: must be a whole number",
        ),
        (["--executor", "local", "--slurm", "partition"], "--slurm 'partition': write key=value"),
        (["--executor", "local", "--slurm", "gpus=1"], "gpus=1: does not go with --device cpu"),
    ],
)
def test_wrong_options(
    run_tiny: Runner, capfd: pytest.CaptureFixture[str], options: list[str], message: str
) -> None:
    assert run_tiny(*options) == 2
    assert message in capfd.readouterr().err


@pytest.mark.parametrize(
    ("text", "expected"),
    [("90", 90), ("1:30", 2), ("4:00:00", 240), ("1-0", 1440), ("2-03:30", 3090), ("0-0:0:30", 1)],
)
def test_times_as_slurm_writes_them(text: str, expected: int) -> None:
    assert slurm.minutes(text) == expected


def test_options_for_sbatch() -> None:
    texts = ["time=1-00:00:00", "cpus=4", "mem=32G", "partition=gpu", "array=8", "setup=module load cuda"]
    options = SlurmOptions.parse(texts, "cuda").for_submitit("/clone")
    assert options == {
        "time": 1440,
        "cpus_per_task": 4,
        "gpus_per_node": 1,
        "array_parallelism": 8,
        "signal_delay_s": 120,
        "setup": ["export PYTHONPATH=/clone", "module load cuda"],
        "additional_parameters": {"requeue": True, "mem": "32G", "partition": "gpu"},
    }
    with pytest.raises(ValueError, match="a run takes one GPU"):
        SlurmOptions.parse(["gpus=2"], "cuda")
    with pytest.raises(ValueError, match="grace=120: must be less"):
        SlurmOptions.parse(["time=2"], "cuda")
    with pytest.raises(ValueError, match="--slurm time=soon"):
        SlurmOptions.parse(["time=soon"], "cuda")


def test_who_begins_with_the_same_step_waits_for_one_job(tmp_path: Path) -> None:
    runs = some_runs(tmp_path / "a", 2, "mini")
    others = some_runs(tmp_path / "b", 2, "mini")  # the same data: the same first steps
    groups = by_first_step([*runs, *others], Store(tmp_path / "store"))
    assert [[run.seed for run in group] for group in groups] == [[0, 0], [1, 1]]


SQUEUE = "#!/bin/sh\nprintf '7_0\\n7_1\\n12\\n'\n"
SCONTROL = """#!/bin/sh
echo "JobId=$4 JobName=contiseg JobState=NODE_FAIL Reason=NodeDown Dependency=(null) NodeList=gpu7 NumNodes=1"
"""


def test_what_slurm_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert slurm.jobs_in_queue() is None
    for name, text in (("squeue", SQUEUE), ("scontrol", SCONTROL)):
        (tmp_path / name).write_text(text)
        (tmp_path / name).chmod(stat.S_IRWXU)
    monkeypatch.setenv("PATH", f"{tmp_path}:/bin:/usr/bin")
    assert slurm.jobs_in_queue() == {"7_0", "7_1", "12"}
    assert slurm.why_ended("7_0") == "NODE_FAIL, NodeDown, on gpu7"
