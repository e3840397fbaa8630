"""What became of every run, told from files."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from benchmarks import asked
from benchmarks.asked import Asked
from benchmarks.cli import main
from benchmarks.locks import Holder, myself
from benchmarks.status import State, states, table

Runner = Callable[..., int]
NOTE = {"run": "p m/seed-0", "step": 2, "steps": 3, "iteration": 120, "iterations": 400}
ASKED = Asked("p m/seed-0", "key", "lock", "records/p/m/seed-0.json", [("a", 400), ("b", 400), ("c", 400)])


def only(runs: Path, one: Asked = ASKED, queue: set[str] | None = None) -> State:
    path = runs / "asked/p/m/seed-0.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(asdict(one)))
    (state,) = states(runs, queue)
    return state


def hold(runs: Path, holder: Holder, age: float = 0.0) -> None:
    path = runs / "store/locks/lock/1.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(asdict(holder)))
    os.utime(path, (time.time() - age,) * 2)


def test_a_run_that_nobody_began(tmp_path: Path) -> None:
    assert only(tmp_path).state == "waiting"
    (tmp_path / "store/a").mkdir(parents=True)
    (tmp_path / "store/a/step.json").write_text("{}")
    found = only(tmp_path)
    assert (found.state, found.detail) == ("stopped", "step 2/3 is next")


def test_a_run_that_somebody_is_at(tmp_path: Path) -> None:
    hold(tmp_path, replace(myself(), note=NOTE, job="12_3"))
    found = only(tmp_path)
    assert (found.state, found.job) == ("running", "12_3")
    assert found.detail.startswith("step 2/3, iteration 120/400 on ")
    hold(tmp_path, replace(myself(), note=NOTE | {"iteration": 400}))
    assert "step 2/3, trained, being tested" in only(tmp_path).detail


def test_a_run_that_somebody_left(tmp_path: Path) -> None:
    hold(tmp_path, replace(myself(), note=NOTE, born="before"))
    found = only(tmp_path)
    assert found.state == "stale" and "that process is gone" in found.detail
    hold(tmp_path, Holder("node7", "another boot", 7, "1", "", note=NOTE), age=3600)
    found = only(tmp_path)
    assert found.state == "stale" and "node7:7: no sign of life for 60 min" in found.detail
    hold(tmp_path, replace(myself(), free=True))
    assert only(tmp_path).state == "waiting"


def test_a_job_in_the_queue_and_one_that_left_it(tmp_path: Path) -> None:
    job = replace(ASKED, job="12_3", log="logs/slurm/12_3_0_log.out")
    assert only(tmp_path, job).state == "queued"  # no Slurm to ask
    assert only(tmp_path, job, {"12_3"}).state == "queued"
    lost = only(tmp_path, job, {"12_4"})
    assert lost.state == "lost" and "logs/slurm/12_3_0_log.out" in lost.detail


def test_ended_runs_and_the_command(
    run_tiny: Runner, tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    own = tmp_path / "broken.py"
    own.write_text(
        "from methods.finetune import FineTune\n\n\nclass Broken(FineTune):\n    key = 'broken'\n\n"
        "    def later_loss(self, batch):\n        raise RuntimeError('no luck')\n"
    )
    monkeypatch.setenv("PATH", "")
    assert run_tiny(methods=f"{own},finetune") == 1
    capfd.readouterr()
    assert main(["status", "--runs", str(tmp_path / "runs")]) == 0
    lines = capfd.readouterr().out.splitlines()
    assert [line.split()[:3] for line in lines[:2]] == [
        ["tiny-2-1", "broken/seed-0", "failed"],
        ["tiny-2-1", "finetune/seed-0", "done"],
    ]
    assert "RuntimeError: no luck" in lines[0] and lines[2] == "2 runs: 1 done, 1 failed"
    assert main(["status", "--runs", str(tmp_path / "runs"), "--json"]) == 0
    assert [each["state"] for each in json.loads(capfd.readouterr().out)] == ["failed", "done"]
    assert len(asked.known(tmp_path / "runs")) == 2


def test_no_folder_and_an_empty_one(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["status", "--runs", str(tmp_path / "none")]) == 2
    assert "no such folder; give --runs" in capfd.readouterr().err
    (tmp_path / "asked/p").mkdir(parents=True)
    (tmp_path / "asked/p/seed-0.json").write_text("{")
    assert table(states(tmp_path)) == "Nothing was asked for yet."
