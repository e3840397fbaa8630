"""Several runners on one folder: everything once, the same records as one alone, whoever is killed."""

from __future__ import annotations

import re
import subprocess
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks.again import command
from reports.record import Record, read, without_cost
from tests.benchmarks.test_side_by_side import wait_until

Runner = Callable[..., int]
GATED = """
import time
from pathlib import Path
from methods.finetune import FineTune

class Gated(FineTune):
    key = "gated"
    def later_loss(self, batch):
        Path({arrived!r}).touch()
        while not Path({gate!r}).exists():
            time.sleep(0.05)
        return super().later_loss(batch)
"""


def start(protocol: Path, runs: Path, log: Path, *more: str) -> subprocess.Popen[bytes]:
    options = ["--protocol", str(protocol), "--runs", str(runs), "--device", "cpu", *more]
    with log.open("wb") as file:
        return subprocess.Popen(command(options), stdout=file, stderr=subprocess.STDOUT)


def stable(runs: Path) -> dict[str, Record]:
    """Records without cost, and without who of several methods was the first to train a shared step."""
    found = {}
    for path in sorted((runs / "records").rglob("seed-*.json")):
        record = without_cost(read(path))
        steps = tuple(replace(step, trained_by="") for step in record.steps)
        found[f"{path.parent.name}/{path.stem}"] = replace(record, steps=steps)
    return found


def weights(runs: Path) -> dict[str, bytes]:
    return {p.parent.name: p.read_bytes() for p in (runs / "store").glob("*/state.safetensors")}


def trainings(logs: Sequence[Path]) -> Counter[str]:
    """How often each step of each run was trained, as the runners say it."""
    said = "".join(log.read_text() for log in logs)
    return Counter(re.findall(r"^(tiny-2-1 \S+ step \d/3): mIoU", said, re.MULTILINE))


@pytest.mark.slow
@pytest.mark.parametrize(("number", "jobs", "seeds"), [(4, "1", "0,1,2"), (2, "2", "0")])
def test_runners_share_a_grid(
    tiny_protocol: Path,
    run_tiny: Runner,
    tmp_path: Path,
    number: int,
    jobs: str,
    seeds: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    num_seeds = len(seeds.split(","))
    grid = ("--methods", "finetune,mib,lwf,ilt", "--seeds", seeds, "--jobs", jobs)
    logs = [tmp_path / f"{i}.log" for i in range(number)]
    runners = [start(tiny_protocol, tmp_path / "shared", log, *grid) for log in logs]
    assert [runner.wait(600) for runner in runners] == [0] * number
    done = trainings(logs)
    assert set(done.values()) == {1}
    assert len(done) == num_seeds * (1 + 4 * 2)  # a seed: one first step for all, two later ones for each
    said = "".join(log.read_text() for log in logs)
    assert said.count("finished in") == 4 * num_seeds
    counts = [tuple(map(int, found)) for found in re.findall(r"(\d+) trained, (\d+) kept, 0 failed", said)]
    assert len(counts) == number
    assert all(sum(each) == 4 * num_seeds for each in counts)
    assert sum(trained for trained, _ in counts) == 4 * num_seeds
    assert not list((tmp_path / "shared/store/locks").iterdir())
    assert run_tiny("--seeds", seeds, "--jobs", "1", methods="finetune,mib,lwf,ilt", runs="one") == 0
    assert stable(tmp_path / "shared") == stable(tmp_path / "one")
    assert weights(tmp_path / "shared") == weights(tmp_path / "one")


def test_another_takes_over_from_who_is_killed(
    tiny_protocol: Path, run_tiny: Runner, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    arrived, gate, own = tmp_path / "arrived", tmp_path / "gate", tmp_path / "gated.py"
    own.write_text(GATED.format(arrived=str(arrived), gate=str(gate)))
    first = start(tiny_protocol, tmp_path / "two", tmp_path / "first.log", "--methods", str(own))
    wait_until(arrived.exists)
    second = start(tiny_protocol, tmp_path / "two", tmp_path / "second.log", "--methods", str(own))
    wait_until(lambda: "gated/seed-0: waits for" in (tmp_path / "second.log").read_text())
    first.kill()
    gate.touch()
    assert second.wait(120) == 0
    first.wait()
    assert trainings([tmp_path / "first.log"]) == {"tiny-2-1 gated/seed-0 step 1/3": 1}
    assert sorted(trainings([tmp_path / "second.log"])) == [
        f"tiny-2-1 gated/seed-0 step {step}/3" for step in (2, 3)
    ]
    assert run_tiny(methods=str(own), runs="one") == 0
    assert stable(tmp_path / "two") == stable(tmp_path / "one")
    assert weights(tmp_path / "two") == weights(tmp_path / "one")


def test_what_one_saw_fail_the_other_does_not_try_again(tiny_protocol: Path, tmp_path: Path) -> None:
    arrived, gate, own = tmp_path / "arrived", tmp_path / "gate", tmp_path / "gated.py"
    broken = GATED.replace("return super().later_loss(batch)", "raise RuntimeError('no luck')")
    own.write_text(broken.format(arrived=str(arrived), gate=str(gate)))
    logs = [tmp_path / "first.log", tmp_path / "second.log"]
    first = start(tiny_protocol, tmp_path / "two", logs[0], "--methods", str(own))
    wait_until(arrived.exists)
    second = start(tiny_protocol, tmp_path / "two", logs[1], "--methods", str(own))
    wait_until(lambda: "waits for" in logs[1].read_text())
    gate.touch()
    assert (first.wait(120), second.wait(120)) == (1, 1)
    assert [log.read_text().count("gated/seed-0: failed: RuntimeError: no luck") for log in logs] == [1, 0]
    assert "0 trained, 0 kept, 1 failed" in logs[1].read_text()
