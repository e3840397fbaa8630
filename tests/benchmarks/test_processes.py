"""What the processes of one command agree on: plans, the store, records, and how they end."""

from __future__ import annotations

import dataclasses
import io
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from benchmarks import grid, processes
from benchmarks.place import EndedByAnother, Place
from benchmarks.plan import make_run, open_benchmark
from benchmarks.processes import all_failed, assert_alike, first_then_others, interleaved, told, told_tensors
from benchmarks.run import Run, RunOptions
from benchmarks.settings import Setting
from benchmarks.shared_store import SharedStore
from benchmarks.store import Checkpoint, FinishedStep
from methods.registry import find_methods
from ops.processes import num_processes
from reports.record import Record, SemanticCounts, read, without_cost
from tests.benchmarks.tiny import write_tiny_protocol
from tests.pair import Pair

CPU = torch.device("cpu")


def rank() -> int:
    return torch.distributed.get_rank() if num_processes() > 1 else 0


def test_telling(pair: Pair, tmp_path: Path) -> None:
    answers = pair.call(speak, str(tmp_path))
    known = {"a": [0, 1, 2], "b": [], "c": True}
    assert answers == [[{"rank": 0, "nothing": None}, known, ["a", "d", "b", "e", "c"], True]] * 2


def speak(folder: str) -> list[Any]:
    answers: list[Any] = [told(lambda: {"rank": rank(), "nothing": None})]
    tensors = {"a": torch.arange(3) + rank(), "b": torch.zeros(0, 2), "c": torch.tensor(True)}
    answers.append({name: t.tolist() for name, t in told_tensors(lambda: tensors).items()})
    answers.append(interleaved([["a", "b", "c"], ["d", "e"]][rank()]))
    try:
        told(lambda: Path(folder, "missing").read_text())
    except ValueError as error:
        answers.append("No such file" in str(error))
    return answers


def plan(folder: str, wrong_in: tuple[int, ...]) -> tuple[str, str]:
    """What comes of it, and what this process says."""
    path = Path(folder, "drawn")

    def make() -> str:
        if rank() in wrong_in:
            raise ValueError(f"wrong in {rank()}")
        if rank() == 0:
            path.write_text("by the first")
        return path.read_text()

    said = io.StringIO()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "__stderr__", said)
        try:
            return first_then_others(make), said.getvalue()
        except (ValueError, EndedByAnother) as error:
            return repr(error), said.getvalue()


def test_the_first_plans_before_the_others(pair: Pair, tmp_path: Path) -> None:
    error, ended = ("ValueError('wrong in 0')", ""), ("EndedByAnother(2)", "")
    assert pair.call(plan, str(tmp_path), ()) == [("by the first", "")] * 2
    assert pair.call(plan, str(tmp_path), (0,)) == [error, ended]
    assert pair.call(plan, str(tmp_path), (0, 1)) == [error, ended]
    alone = "EndedByAnother(2)", "error: process 1 alone: wrong in 1\n"
    assert pair.call(plan, str(tmp_path), (1,)) == [ended, alone]


def fail(name: str, failing: tuple[int, ...]) -> bool | None:
    processes.PATIENCE *= 0.05
    found = all_failed(name, "broken") if rank() in failing else None
    processes.PATIENCE /= 0.05
    return found


def test_who_failed(pair: Pair) -> None:
    assert pair.call(fail, "alone", (1,)) == [None, False]
    assert pair.call(fail, "together", (0, 1)) == [True, True]


def compare(different: bool) -> str:
    tensors = {"x": torch.arange(5.0), "empty": torch.zeros(0), "n": torch.tensor(3)}
    if different and rank():
        tensors["x"][4] = torch.nextafter(tensors["x"][4], torch.tensor(9.0))
    try:
        assert_alike(tensors)
    except RuntimeError as error:
        return str(error)
    return ""


def test_networks_that_drift_apart_are_noticed(pair: Pair) -> None:
    assert pair.call(compare, False) == ["", ""]
    assert ["have learnt differs" in problem for problem in pair.call(compare, True)] == [True, True]


def use_store(folder: str) -> list[Any]:
    mine = Path(folder) if rank() == 0 else Path(folder, "not here")  # another machine's folder
    store = SharedStore(mine)
    before = store.has("abc"), store.checkpoint("abc")
    if rank() == 0:
        store.save_checkpoint("abc", Checkpoint({"w": torch.ones(2)}, {"iteration": 7}))
    partial = store.checkpoint("abc")
    assert partial is not None
    counts = SemanticCounts.from_confusion(torch.eye(3, dtype=torch.int64).numpy(), True)
    step = FinishedStep("mib/seed-0", 5, {"a": 0.1}, counts, 1.0, 2.0, 3.0)
    store.save("abc", {"w": torch.arange(3) + rank()}, {}, {}, step)
    found = store.tensors("abc")["w"].tolist(), store.finished("abc") == step, store.checkpoint("abc")
    told(lambda: (mine / "abc/state.safetensors").write_bytes(b"damaged"))
    try:
        store.tensors("abc")
    except ValueError as error:
        damage = str(error)
    assert mine.exists() == (rank() == 0)
    return [before, partial.tensors["w"].tolist(), partial.progress, found, damage.split(":")[-1][:8]]


def test_the_first_reads_and_writes_the_store(pair: Pair, tmp_path: Path) -> None:
    expected = [(False, None), [1.0, 1.0], {"iteration": 7}, ([0, 1, 2], True, None)]
    for found in pair.call(use_store, str(tmp_path)):
        assert found[:4] == expected


SETTINGS = ["recipe.batch=4", "recipe.crop=32", "recipe.short_side=32", "recipe.iterations=2"]
SETTINGS += ["recipe.later_iterations=2"]


def tiny_run(
    folder: Path, name: str, batch_per_device: int | None = None, settings: Sequence[str] = ()
) -> Run:
    benchmark = open_benchmark(str(folder / "tiny-2-1.toml"), "semantic", None, folder / "runs")
    place = Place(rank(), rank(), num_processes())
    (method,) = find_methods(name, "semantic")
    texts = [*(SETTINGS[3:] if method.family == "deeplabv3" else SETTINGS), *settings]
    parsed = [Setting.parse(text) for text in texts]
    divided = {"place": place, "batch_per_device": batch_per_device}
    return make_run(benchmark, method, "mini", 0, parsed, "cpu", **divided)  # type: ignore[arg-type]


def run_tiny(folder: str, name: str, runs: str, batch_per_device: int | None = None) -> int:
    run = tiny_run(Path(folder), name, batch_per_device)
    return grid.run_grid([run], Path(folder, runs), RunOptions(CPU)).failed


def only_record(runs: Path) -> Record:
    (path,) = (runs / "records").rglob("seed-*.json")
    return read(path)


@pytest.fixture
def tiny(tmp_path: Path) -> Path:
    write_tiny_protocol(tmp_path)
    return tmp_path


def test_the_record_of_one_process_in_two_passes(pair: Pair, tiny: Path) -> None:
    """Without batch statistics: all that was learnt and measured is equal to the last bit."""
    assert pair.call(run_tiny, str(tiny), "finetune@segvit", "two") == [0, 0]
    assert run_tiny(str(tiny), "finetune@segvit", "one", batch_per_device=2) == 0
    two, one = (without_cost(only_record(tiny / name)) for name in ("two", "one"))
    assert [(s.counts, s.final_loss, s.iterations) for s in two.steps] == [
        (s.counts, s.final_loss, s.iterations) for s in one.steps
    ]
    assert two.recipe["effective_batch"] == "4 = 2 processes x 2 images"
    assert one.recipe["effective_batch"] == "4 = 2 images x 2 passes"
    assert {s.key for s in two.steps}.isdisjoint(s.key for s in one.steps)  # in general the bits differ
    assert not any("Batch statistics" in note for note in one.protocol.notes)
    weights = [sorted((tiny / name / "store").glob("*/state.safetensors")) for name in ("two", "one")]
    assert len(weights[0]) == 3
    assert {p.read_bytes() for p in weights[0]} == {p.read_bytes() for p in weights[1]}


def test_a_whole_batch_has_the_key_it_always_had(tiny: Path) -> None:
    whole, halves = tiny_run(tiny, "mib"), tiny_run(tiny, "mib", batch_per_device=2)
    said = whole._depends_on(0, "")
    assert "processes" not in said and "passes" not in said
    assert "effective_batch" not in json.dumps(said)
    assert set(whole.step_keys.values()).isdisjoint(halves.step_keys.values())


def test_batch_statistics_of_passes_are_noted(tiny: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_tiny(str(tiny), "finetune", "runs", batch_per_device=2) == 0
    note = "Batch statistics were those of 2 images at a time, not of all 4"
    assert any(note in each for each in only_record(tiny / "runs").protocol.notes)
    assert note in capsys.readouterr().err


def diverge(folder: str, runs: str) -> int:
    run = tiny_run(Path(folder), "finetune", settings=["recipe.lr=1e30"])
    return grid.run_grid([run], Path(folder, runs), RunOptions(CPU)).failed


def test_a_loss_that_is_not_finite_anywhere_fails_the_run(pair: Pair, tiny: Path) -> None:
    assert pair.call(diverge, str(tiny), "runs") == [1, 1]
    assert "loss not finite" in only_record(tiny / "runs").reason


def meet_other_data(folder: str) -> str:
    run = tiny_run(Path(folder), "finetune")
    samples = [dataclasses.replace(step, train=step.train[rank() :]) for step in run.samples]
    run = dataclasses.replace(run, samples=samples)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "__stderr__", said := io.StringIO())
        try:
            grid.run_grid([run], Path(folder, "runs"), RunOptions(CPU))
        except EndedByAnother:
            return said.getvalue()
    return "went on"


def test_other_data_on_another_machine_are_noticed(pair: Pair, tiny: Path) -> None:
    first, second = pair.call(meet_other_data, str(tiny))
    assert first == "" and "not the data of the first process" in second


def break_method(folder: str, runs: str) -> tuple[int, bool]:
    """Fails in all processes alike, and what comes after it goes on."""
    bad = tiny_run(Path(folder), "finetune")
    bad.method.later_loss = broken  # type: ignore[method-assign]
    failed = grid.run_grid([bad, tiny_run(Path(folder), "mib")], Path(folder, runs), RunOptions(CPU))
    del bad.method.later_loss
    return failed.failed, failed.trained == 1


def broken(*_: Any) -> Any:
    raise RuntimeError("no luck today")


def test_a_failure_of_all_is_a_row_and_stops_nobody(pair: Pair, tiny: Path) -> None:
    assert pair.call(break_method, str(tiny), "runs") == [(1, True)] * 2
    records = {p.parent.name: read(p) for p in (tiny / "runs/records").rglob("seed-*.json")}
    reasons = {name.split("[")[0]: record.reason for name, record in records.items()}
    assert reasons == {"finetune": "RuntimeError: no luck today", "mib": ""}
