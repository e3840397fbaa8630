"""The grid end to end on a tiny data set: sharing, resuming, isolation, determinism."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest

from benchmarks.store import Store
from reports.record import Record, read, without_cost
from tests.benchmarks.tiny import write_tiny_protocol

Runner = Callable[..., int]
REPOSITORY = Path(__file__).parents[2]


def records(runs: Path) -> dict[str, Record]:
    paths = sorted((runs / "records").rglob("seed-*.json"))
    return {f"{p.parent.name}/{p.stem}": read(p) for p in paths}


def stable(runs: Path) -> dict[str, Record]:
    return {name: without_cost(record) for name, record in records(runs).items()}


def weights(runs: Path) -> dict[str, bytes]:
    return {p.parent.name: p.read_bytes() for p in (runs / "store").glob("*/state.safetensors")}


def samples(runs: Path) -> dict[str, bytes]:
    folder = runs / "samples"
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*.*")}


def test_leaderboard_and_records(run_tiny: Runner, tmp_path: Path) -> None:
    assert run_tiny(methods="finetune,mib,joint") == 0
    table = pd.read_csv(tmp_path / "runs/leaderboards/tiny-2-1.csv")
    assert {"method", "status", "metric", "old", "new", "all", "forgetting"} <= set(table.columns)
    assert sorted(table["method"]) == ["finetune", "joint", "mib"]
    assert set(table["status"]) == {"ok"}
    found = records(tmp_path / "runs")
    assert [len(found[f"{m}/seed-0"].steps) for m in ("finetune", "mib", "joint")] == [3, 3, 1]
    mib = found["mib/seed-0"]
    assert mib.hyperparameters["kd_weight"] == 10.0
    assert mib.steps[1].channels == (0, 1, 2, 3)
    assert sum(mib.steps[2].counts.ground_truth) == 6 * 32 * 32


def test_first_step_is_shared(run_tiny: Runner, tmp_path: Path) -> None:
    run_tiny()
    found = records(tmp_path / "runs")
    mib, finetune = found["mib/seed-0"], found["finetune/seed-0"]
    assert mib.steps[0].key == finetune.steps[0].key
    assert mib.steps[0].trained_by == "finetune/seed-0"
    assert mib.steps[1].key != finetune.steps[1].key


def test_rerun_trains_nothing(run_tiny: Runner, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run_tiny()
    before = weights(tmp_path / "runs")
    monkeypatch.setattr("benchmarks.grid.execute", lambda *_: pytest.fail("trained again"))
    assert run_tiny() == 0
    assert weights(tmp_path / "runs") == before


def test_only_what_is_missing_runs(run_tiny: Runner, tmp_path: Path) -> None:
    run_tiny(methods="finetune")
    folders = set(weights(tmp_path / "runs"))
    run_tiny("--seeds", "0,1", methods="finetune,mib")
    found = records(tmp_path / "runs")
    assert len(found) == 4
    # Seed 0 of mib adds its two later steps; seed 1 adds a first step and two later ones for each.
    assert len(set(weights(tmp_path / "runs")) - folders) == 2 + 5


def test_same_command_same_bits(run_tiny: Runner, tmp_path: Path) -> None:
    run_tiny(runs="a")
    run_tiny("--workers", "1", runs="b")
    assert stable(tmp_path / "a") == stable(tmp_path / "b")
    assert weights(tmp_path / "a") == weights(tmp_path / "b")
    assert samples(tmp_path / "a") == samples(tmp_path / "b") != {}


def test_seeds_differ(run_tiny: Runner, tmp_path: Path) -> None:
    run_tiny("--seeds", "0,1", methods="finetune")
    found = records(tmp_path / "runs")
    first, second = (found[f"finetune/seed-{seed}"].steps[0] for seed in (0, 1))
    assert first.final_loss != second.final_loss


def test_settings_are_recorded_and_shown(run_tiny: Runner, tmp_path: Path) -> None:
    run_tiny("--set", "mib.kd_weight=3", "--set", "recipe.batch=2")
    found = records(tmp_path / "runs")
    record = found["mib[batch=2,kd_weight=3]/seed-0"]
    assert record.overrides == {"batch": 2, "kd_weight": 3}
    assert record.hyperparameters["kd_weight"] == 3.0
    assert "mib[batch=2,kd_weight=3]" in (tmp_path / "runs/leaderboards/tiny-2-1.md").read_text()


FAILING = """
from methods.finetune import FineTune
from methods.method import Info

class Broken(FineTune):
    key = "broken"
    info = Info("Broken")

    def later_loss(self, batch):
        raise RuntimeError("no luck today")
"""


def test_a_failure_is_a_row_and_stops_nobody(run_tiny: Runner, tmp_path: Path) -> None:
    (tmp_path / "broken.py").write_text(FAILING)
    assert run_tiny(methods=f"{tmp_path}/broken.py,finetune") == 1
    table = pd.read_csv(tmp_path / "runs/leaderboards/tiny-2-1.csv").set_index("method")
    assert table.loc["broken", "status"] == "failed: RuntimeError: no luck today"
    assert table.loc["finetune", "status"] == "ok"
    assert "no luck today" in (tmp_path / "runs/logs/tiny-2-1/broken/seed-0.log").read_text()


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ("raise SystemExit(3)", "SystemExit: 3"),
        ("raise RuntimeError('first line\\nsecond line')", "RuntimeError: first line"),
        ("assert False", "AssertionError"),
    ],
)
def test_whatever_a_method_raises_is_isolated(
    run_tiny: Runner, tmp_path: Path, body: str, reason: str
) -> None:
    (tmp_path / "broken.py").write_text(FAILING.replace('raise RuntimeError("no luck today")', body))
    assert run_tiny(methods=f"{tmp_path}/broken.py,finetune") == 1
    found = records(tmp_path / "runs")
    assert found["broken/seed-0"].reason == reason
    assert found["finetune/seed-0"].finished


def test_a_bad_image_is_named_also_by_a_loader_process(run_tiny: Runner, tmp_path: Path) -> None:
    path = tmp_path / "tiny/images/train_0.png"
    path.write_bytes(path.read_bytes()[:200])
    assert run_tiny("--workers", "1", methods="finetune") == 1
    reason = records(tmp_path / "runs")["finetune/seed-0"].reason
    assert "train_0.png" in reason
    assert "Caught" not in reason


def test_an_unreadable_record_is_kept_and_run_anew(
    run_tiny: Runner, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run_tiny(methods="finetune")
    path = tmp_path / "runs/records/tiny-2-1/finetune/seed-0.json"
    path.write_text("{ broken")
    assert run_tiny(methods="finetune") == 0
    assert "not valid JSON" in capsys.readouterr().err
    assert read(path).finished
    assert path.with_name("seed-0.unreadable.json.old").read_text() == "{ broken"


def test_a_damaged_step_is_named(run_tiny: Runner, tmp_path: Path) -> None:
    run_tiny(methods="finetune")
    for path in (tmp_path / "runs/store").glob("*/state.safetensors"):
        path.write_bytes(b"damaged")
    assert run_tiny(methods="mib") == 1
    assert "delete the folder" in records(tmp_path / "runs")["mib/seed-0"].reason


def test_loss_that_is_not_finite_fails_the_run(run_tiny: Runner, tmp_path: Path) -> None:
    assert run_tiny("--set", "recipe.lr=1e30", methods="finetune") == 1
    (record,) = records(tmp_path / "runs").values()
    assert record.status == "failed"
    assert "step 1, iteration 2: loss not finite (cross_entropy nan), images train_" in record.reason


def test_a_record_on_other_data_is_not_replaced(
    run_tiny: Runner, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run_tiny(methods="finetune")
    path = tmp_path / "runs/records/tiny-2-1/finetune/seed-0.json"
    changed = json.loads(path.read_text())
    changed["data"]["synthetic"] = True
    path.write_text(json.dumps(changed))
    assert run_tiny(methods="finetune") == 2
    assert "use another --runs folder" in capsys.readouterr().err
    assert json.loads(path.read_text()) == changed


def test_an_older_result_is_kept_beside(run_tiny: Runner, tmp_path: Path) -> None:
    run_tiny(methods="finetune")
    path = tmp_path / "runs/records/tiny-2-1/finetune/seed-0.json"
    before = json.loads(path.read_text())
    path.write_text(json.dumps(before | {"key": "0123456789abcdef"}))
    run_tiny(methods="finetune")
    assert json.loads(path.read_text())["key"] == before["key"]
    assert path.with_name("seed-0.01234567.json.old").is_file()


def test_dry_run_trains_nothing(run_tiny: Runner, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_tiny("--dry-run") == 0
    assert "mib/seed-0 step 1/3: shared, 5 iterations" in capsys.readouterr().out
    assert not (tmp_path / "runs/store").exists()


MORTAL = """
import os, signal
from methods.method import Info
from methods.mib import MiB

calls = 0

def maybe_die():
    global calls
    calls += 1
    if calls == int(os.environ.get("DIE_AT_CALL", "0")):
        os.kill(os.getpid(), signal.SIGKILL)

class Mortal(MiB):
    key = "mortal"
    info = Info("Mortal")

    def begin_step(self, step, data):
        maybe_die()
        super().begin_step(step, data)

    def training_loss(self, batch):
        maybe_die()
        return super().training_loss(batch)

    def end_step(self, step, data):
        maybe_die()

    def predict(self, images):
        maybe_die()
        return super().predict(images)
"""


@pytest.mark.slow
def test_killed_at_ten_moments_the_bits_are_the_same(tmp_path: Path) -> None:
    """A step has 1 + 8 + 1 + 3 calls of hooks; the ten processes die at, before and after iterations."""
    protocol = write_tiny_protocol(tmp_path, iterations=8)
    method = tmp_path / "mortal.py"
    method.write_text(MORTAL)

    def run(runs: Path, die_at: int) -> int:
        options = [
            "--methods",
            str(method),
            "--runs",
            str(runs),
            "--device",
            "cpu",
            "--checkpoint-seconds",
            "0",
        ]
        command = [sys.executable, "run_benchmark.py", "--protocol", str(protocol), *options]
        environment = os.environ | {"DIE_AT_CALL": str(die_at)}
        return subprocess.run(command, cwd=REPOSITORY, env=environment, capture_output=True).returncode

    assert run(tmp_path / "undisturbed", die_at=0) == 0
    for die_at in (1, 2, 4, 3, 5, 2, 6, 1, 5, 4):
        assert run(tmp_path / "killed", die_at) == -signal.SIGKILL
    assert run(tmp_path / "killed", die_at=0) == 0
    assert stable(tmp_path / "killed") == stable(tmp_path / "undisturbed")
    assert samples(tmp_path / "killed") == samples(tmp_path / "undisturbed") != {}
    assert weights(tmp_path / "killed") == weights(tmp_path / "undisturbed")


def test_a_damaged_checkpoint_starts_the_step_afresh(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store = Store(tmp_path)
    (tmp_path / "abc.partial.safetensors").write_bytes(b"not a checkpoint")
    assert store.checkpoint("abc") is None
    assert "damaged checkpoint" in capsys.readouterr().err
