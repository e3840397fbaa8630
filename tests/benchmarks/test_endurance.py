"""What a machine does to a run: memory and disks that are too small, numbers that are not finite, clocks."""

from __future__ import annotations

import errno
import io
import itertools
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

import pytest
import torch

from benchmarks.bar import Bar
from benchmarks.failures import reason_of
from benchmarks.store import Checkpoint, Store
from reports.files import CannotWrite
from reports.record import read

Runner = Callable[..., int]
Capture = pytest.CaptureFixture[str]


def in_a_loader(error: type[Exception], text: str) -> Exception:
    """As torch raises again what a loader process sent."""
    return error(f"Caught {error.__name__} in DataLoader worker process 0.\nTraceback:\n  ...\n{text}")


@pytest.mark.parametrize(
    ("error", "says"),
    [
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."), "recipe.batch=N"),
        (RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried"), "--jobs 1"),
        (RuntimeError("DefaultCPUAllocator: not enough memory: you tried to allocate 9 bytes"), "--jobs 1"),
        (MemoryError(), "--jobs 1"),
        (in_a_loader(MemoryError, "MemoryError"), "--workers 0"),
        (RuntimeError("DataLoader worker (pid 7) is killed by signal: Killed."), "--workers 0"),
    ],
)
def test_memory_that_is_too_small_comes_with_a_remedy(error: Exception, says: str) -> None:
    reason = reason_of(error)
    assert says in reason and "memory" in reason and "\n" not in reason


def test_other_errors_come_without(tmp_path: Path) -> None:
    assert reason_of(KeyError("x")) == "KeyError: 'x'"
    assert reason_of(in_a_loader(ValueError, "ValueError: a.png: damaged")) == "ValueError: a.png: damaged"


GREEDY = """
import torch
from methods.finetune import FineTune

class Greedy(FineTune):
    key = "greedy"

    def later_loss(self, batch):
        return {"loss": torch.empty(10**15).sum()}
"""


def test_a_run_out_of_memory_is_a_row_and_the_others_go_on(run_tiny: Runner, tmp_path: Path) -> None:
    (tmp_path / "greedy.py").write_text(GREEDY)
    assert run_tiny(methods=f"{tmp_path}/greedy.py,finetune") == 1
    records = tmp_path / "runs/records/tiny-2-1"
    assert read(records / "greedy/seed-0.json").reason.startswith("out of memory: RuntimeError: ")
    assert read(records / "finetune/seed-0.json").finished


class SmallDisk:
    """Fails every write to `folder` once `room` files were written: also those of the safetensors library."""

    def __init__(self, folder: Path, room: int, monkeypatch: pytest.MonkeyPatch) -> None:
        self.folder, self.room = folder, room
        for module, name in (
            ("pathlib.Path", "write_bytes"),
            ("pathlib.Path", "write_text"),
            ("benchmarks.store", "save_file"),
        ):
            monkeypatch.setattr(f"{module}.{name}", self.limited(module, name))

    def limited(self, module: str, name: str) -> Callable[..., Any]:
        real: Any = (
            getattr(Path, name)
            if module == "pathlib.Path"
            else __import__("safetensors.torch", fromlist=["save_file"]).save_file
        )

        def write(*arguments: Any, **options: Any) -> Any:
            path = arguments[0] if module == "pathlib.Path" else arguments[1]
            if path.is_relative_to(self.folder):
                self.room -= 1
                if self.room < 0:
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))
            return real(*arguments, **options)

        return write


def left_over(runs: Path) -> list[Path]:
    return [path for path in runs.rglob("*") if "tmp" in path.name]


@pytest.mark.parametrize(
    "room",
    [
        *(1, 8, 53, 60),  # the second checkpoint, a sample of the first step, the record, the leaderboards
        *(pytest.param(room, marks=pytest.mark.slow) for room in (0, 4, 5, 10, 33, 40, 54, 70)),
    ],
)
def test_a_full_disk_is_one_line_and_the_next_command_goes_on(
    run_tiny: Runner, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture, room: int
) -> None:
    """In the middle of checkpoints, finished steps, samples, the record or the leaderboards."""
    runs = tmp_path / "runs"
    with monkeypatch.context() as patch:
        SmallDisk(runs, room, patch)
        assert run_tiny("--checkpoint-seconds", "0", methods="finetune") == 74
    errors = [line for line in capsys.readouterr().err.splitlines() if "No space left" in line]
    assert len(errors) == 1 and errors[0].startswith(f"error: {runs}/")
    assert "free some space there" in errors[0] and "start the same command again" in errors[0]
    assert not left_over(runs)
    store = Store(runs / "store")
    for path in (runs / "store").glob("*/step.json"):
        store.finished(path.parent.name)
        store.tensors(path.parent.name)
    assert run_tiny("--checkpoint-seconds", "0", methods="finetune") == 0
    assert read(runs / "records/tiny-2-1/finetune/seed-0.json").finished


def test_a_checkpoint_that_cannot_be_written_leaves_the_one_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = Store(tmp_path)
    store.save_checkpoint("key", Checkpoint({"a": torch.zeros(2)}, {"iteration": 1}))

    def full(*_: object, **__: object) -> NoReturn:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("benchmarks.store.save_file", full)
    with pytest.raises(CannotWrite, match="No space left on device"):
        store.save_checkpoint("key", Checkpoint({"a": torch.ones(2)}, {"iteration": 2}))
    kept = store.checkpoint("key")
    assert kept is not None and kept.progress == {"iteration": 1}
    assert [path.name for path in tmp_path.iterdir()] == ["key.partial.safetensors"]


BAD_NUMBERS = """
import torch
from methods.finetune import FineTune

class Endless(FineTune):
    key = "endless"
    calls = 0

    def training_loss(self, batch):
        Endless.calls += 1
        losses = super().training_loss(batch)
        if Endless.calls == 4:
            losses["kd"] = {value}
        return losses
"""


@pytest.mark.parametrize(
    ("value", "says"),
    [
        ("torch.tensor(float('inf'))", "iteration 4: loss not finite (cross_entropy "),
        # Finite, with a gradient that is not.
        (
            "torch.sqrt(0 * next(self.network.parameters()).sum())",
            "iteration 4: gradients not finite (cross_entropy ",
        ),
    ],
)
def test_numbers_that_are_not_finite_name_their_place_and_are_not_saved(
    run_tiny: Runner, tmp_path: Path, value: str, says: str
) -> None:
    (tmp_path / "endless.py").write_text(BAD_NUMBERS.format(value=value))
    options = ["--checkpoint-seconds", "0"]
    assert run_tiny(*options, methods=f"{tmp_path}/endless.py,mib") == 1
    reason = read(tmp_path / "runs/records/tiny-2-1/endless/seed-0.json").reason
    assert reason.startswith("FloatingPointError: step 1, ") and says in reason
    named = reason.partition("images ")[2].partition(";")[0].split(", ")
    assert len(set(named)) == 4 and all((tmp_path / "tiny/images" / name).is_file() for name in named)
    assert read(tmp_path / "runs/records/tiny-2-1/mib/seed-0.json").finished
    (partial,) = (tmp_path / "runs/store").glob("*.partial.safetensors")
    checkpoint = Store(tmp_path / "runs/store").checkpoint(partial.name.partition(".")[0])
    assert checkpoint is not None and checkpoint.progress["iteration"] == 3
    assert all(bool(tensor.isfinite().all()) for tensor in checkpoint.tensors.values())


def test_the_bar_does_not_ask_the_clock_that_is_set(monkeypatch: pytest.MonkeyPatch) -> None:
    bar = Bar(total=10, file=io.StringIO())
    with monkeypatch.context() as patch:
        patch.setattr("tqdm.std.time", lambda: -1e9)
        patch.setattr(time, "time", lambda: -1e9)
        bar.update(5)
        shown = bar.format_dict
    assert 0 <= shown["elapsed"] < 100 and "-" not in str(bar)
    bar.close()


def test_a_clock_that_is_set_back_makes_no_time_negative(
    run_tiny: Runner, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    back = itertools.count(2_000_000_000, -3600)
    monkeypatch.setattr(time, "time", lambda: float(next(back)))
    assert run_tiny(methods="finetune") == 0
    costs = read(tmp_path / "runs/records/tiny-2-1/finetune/seed-0.json").cost.steps
    assert all(cost.train_seconds > 0 and cost.eval_seconds > 0 for cost in costs)
