"""Runs in processes of their own give what runs one after the other give."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from benchmarks import again, side_by_side
from benchmarks.plan import make_run, open_benchmark
from benchmarks.run import Run
from benchmarks.side_by_side import choose_jobs
from methods.finetune import FineTune
from reports.record import read, without_cost
from tests.benchmarks.tiny import write_tiny_protocol

Runner = Callable[..., int]

BREAKS = """
import os
from methods.finetune import FineTune

class Breaks(FineTune):
    key = "breaks"
    def later_loss(self, batch):
        {fault}
"""


def stable(runs: Path) -> dict[str, object]:
    """Records without what a first step's trainer, or a clock, decides."""
    found = {}
    for path in sorted((runs / "records").rglob("seed-*.json")):
        record = without_cost(read(path))
        found[f"{path.parent.name}/{path.stem}"] = [(s.key, s.counts) for s in record.steps]
    return found


def test_same_results_as_one_by_one(
    run_tiny: Runner, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(side_by_side, "cores", lambda: 2)  # one thread each, as the tests have
    assert run_tiny("--seeds", "0,1", methods="finetune,mib", runs="one") == 0
    capfd.readouterr()
    assert run_tiny("--seeds", "0,1", "--jobs", "2", methods="finetune,mib", runs="two") == 0
    assert stable(tmp_path / "two") == stable(tmp_path / "one")
    for path in (tmp_path / "one/samples").rglob("*.png"):
        assert (tmp_path / "two" / path.relative_to(tmp_path / "one")).read_bytes() == path.read_bytes()
    said = capfd.readouterr().err
    assert "4 runs (2 methods, seeds 0,1) on cpu, 2 side by side" in said
    assert said.count("finished in") == 4 and said.count("step 1/3") == 2  # the first step once a seed


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        ("raise RuntimeError('broken')", "RuntimeError: broken"),
        ("os._exit(7)", "ended with status 7"),
        ("os._exit(1)", "ended with status 1"),
    ],
)
def test_a_run_that_breaks_stops_no_other(
    run_tiny: Runner, tmp_path: Path, capfd: pytest.CaptureFixture[str], fault: str, reason: str
) -> None:
    own = tmp_path / "breaks.py"
    own.write_text(BREAKS.format(fault=fault))
    assert run_tiny("--jobs", "2", methods=f"{own},mib") == 1
    assert reason in capfd.readouterr().err
    table = (tmp_path / "runs/leaderboards/tiny-2-1.md").read_text()
    assert "failed" in table and len(stable(tmp_path / "runs")["mib/seed-0"]) == 3  # type: ignore[arg-type]


def test_a_killed_command_takes_its_processes_along(tiny_protocol: Path, tmp_path: Path) -> None:
    marker = tmp_path / "marker"
    own = tmp_path / "slow.py"
    fault = f"import time; open({str(marker)!r}, 'a').write('x'); time.sleep(0.1)"
    own.write_text(BREAKS.format(fault=f"{fault}; return super().later_loss(batch)"))
    options = ["--methods", f"{own},mib", "--runs", str(tmp_path / "runs"), "--jobs", "2", "--device", "cpu"]
    options += ["--set", "recipe.later_iterations=2000"]
    command = subprocess.Popen(again.command(["--protocol", str(tiny_protocol), *options]))
    wait_until(marker.exists)
    command.kill()
    command.wait()
    wait_until(lambda: not grows(marker))


def test_files_that_change_meanwhile_are_told(
    run_tiny: Runner, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """A process of `--jobs` reads a method as it is now, the first one as it was: two things were asked."""
    own = tmp_path / "edited.py"
    edit = (
        f"path = {str(own)!r}; text = open(path).read(); open(path, 'w').write(text + '\\nEDITED = True\\n')"
    )
    start = BREAKS.format(fault="return super().later_loss(batch)")
    own.write_text(f"import sys\n{start}\nif '--only' in sys.argv:\n    {edit}\n")
    assert run_tiny("--jobs", "2", methods=f"{own},mib") == 1
    assert "files changed meanwhile; give the command again" in capfd.readouterr().err


def wait_until(holds: Callable[[], bool], seconds: float = 60.0) -> None:
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.2)


def grows(path: Path) -> bool:
    before = path.stat().st_size
    time.sleep(1.5)
    return path.stat().st_size > before


def some_runs(folder: Path, number: int, scale: str) -> list[Run]:
    benchmark = open_benchmark(str(write_tiny_protocol(folder)), "semantic", None, folder / "runs")
    benchmark.recipe.clear()
    return [make_run(benchmark, FineTune, scale, seed, []) for seed in range(number)]


def test_default_number(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(side_by_side, "cores", lambda: 3)
    mini, paper = some_runs(tmp_path / "a", 5, "mini"), some_runs(tmp_path / "b", 5, "paper")
    assert choose_jobs(None, mini, "cpu") == 3
    assert choose_jobs(None, mini[:2], "cpu") == 2
    assert choose_jobs(None, mini, "cuda") == choose_jobs(None, paper, "cpu") == 1
    assert choose_jobs(6, paper, "cuda") == 6
    with pytest.raises(ValueError, match="--jobs 0: must be 1 or more"):
        choose_jobs(0, mini, "cpu")
