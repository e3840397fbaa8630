"""What is wrong with a record that `read` takes, and how records contradict one another."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from reports.record import PanopticCounts, Record, SemanticCounts, write
from reports.validate import Checked, files_in, summary_line, validate

Make = Callable[..., Record]
SERIES = [[90, 60, 50], [90, 50, 40, 30], [90, 40, 30, 30, 20]]


def checked(folder: Path, *records: Record) -> list[Checked]:
    for number, record in enumerate(records):
        write(record, folder / str(number) / f"seed-{record.seed}.json")
    return validate(files_in(folder))


def test_a_sound_record_is_one_line(make: Make, tmp_path: Path) -> None:
    found = checked(tmp_path, clean(make(SERIES)), make([], reason="out of memory", seed=1))
    assert [line.partition("seed-")[2] for each in found for line in each.lines] == [
        "0.json: pets-2-1 mib seed 0, mIoU 38.1",
        "1.json: pets-2-1 mib seed 1, failed: out of memory",
    ]
    assert summary_line(found) == "2 of 2 records sound"


def with_step(record: Record, index: int, **changes: object) -> Record:
    steps = list(record.steps)
    steps[index] = replace(steps[index], **changes)  # type: ignore[arg-type]
    return replace(record, steps=tuple(steps))


def changed_truth(record: Record) -> Record:
    """One pixel more of class 1 after the last step."""
    counts = record.steps[2].counts
    assert isinstance(counts, SemanticCounts)
    more = (100_000, 100_001, *counts.ground_truth[2:])
    return with_step(record, 2, counts=replace(counts, ground_truth=more))


def untested(record: Record) -> Record:
    zeros = SemanticCounts(intersection=(0,) * 3, ground_truth=(0,) * 3, prediction=(0,) * 3)
    return with_step(record, 0, counts=zeros)


WRONG = {
    "no-parameters": (
        lambda r: replace(r, network=replace(r.network, parameters=0)),
        "network.parameters: 0, but a network has some",
    ),
    "other-truth": (
        changed_truth,
        "steps[2].counts (ground_truth): 100001 for class 1 'cat', but 100000 after step 0; test on the same",
    ),
    "untested": (untested, "steps[0].counts: nothing was tested"),
    "predicted-twice": (
        lambda r: with_step(r, 0, counts=replace(r.steps[0].counts, prediction=(10**6, 10**6, 10**6))),
        "steps[0].counts.prediction: 3000000 pixels in all, but 300000 in ground_truth; count the same",
    ),
    "more-than-all": (
        lambda r: with_step(r, 1, test_images=21),
        "steps[1].test_images: 21 exceeds the 20 of data.val_images",
    ),
}
DOUBTFUL = {
    "no-cost": (lambda r: replace(r, cost=None), "cost: null; the table will have no time"),
    "untrained": (lambda r: with_step(r, 0, iterations=0), "steps[0].iterations: nothing was trained"),
    "nan": (
        lambda r: with_step(r, 0, final_loss={"a": None}),
        "steps[0].final_loss.a: null: the loss was not finite",
    ),
    "provenance": (
        lambda r: replace(r, method=replace(r.method, provenance="mine")),
        "method.provenance: 'mine'; say 'port of",
    ),
}


def clean(record: Record) -> Record:
    """Without the doubtful places of the fixture: no loss of NaN, every predicted background counted."""
    steps = []
    for step in record.steps:
        counts = step.counts
        if isinstance(counts, SemanticCounts) and counts.unassigned is not None:
            counts = replace(counts, prediction=(sum(counts.unassigned), *counts.prediction[1:]))
        steps.append(replace(step, counts=counts, final_loss={"a": 1.0}))
    return replace(record, steps=tuple(steps))


@pytest.mark.parametrize("case", WRONG)
def test_what_is_wrong(make: Make, tmp_path: Path, case: str) -> None:
    change, message = WRONG[case]
    (found,) = checked(tmp_path, change(clean(make(SERIES))))
    assert not found.is_sound
    assert found.lines[0].partition("seed-0.json: ")[2].startswith(message)
    assert summary_line([found]) == "0 of 1 record sound"


@pytest.mark.parametrize("case", DOUBTFUL)
def test_what_is_doubtful(make: Make, tmp_path: Path, case: str) -> None:
    change, message = DOUBTFUL[case]
    (found,) = checked(tmp_path, change(clean(make(SERIES))))
    assert found.is_sound
    ok, warning = found.lines
    assert ok.startswith("ok: ")
    assert warning.startswith("warning: ")
    assert warning.partition("seed-0.json: ")[2].startswith(message)
    assert summary_line([found]) == "1 of 1 record sound, 1 warning"


def test_other_truth_in_a_panoptic_record(make: Make, tmp_path: Path) -> None:
    record = clean(make(SERIES, task="panoptic"))
    counts = record.steps[1].counts
    assert isinstance(counts, PanopticCounts)
    missed = (counts.false_negatives[0] + 1, *counts.false_negatives[1:])
    (found,) = checked(tmp_path, with_step(record, 1, counts=replace(counts, false_negatives=missed)))
    assert found.findings[0].field == "steps[1].counts (true_positives + false_negatives)"


def test_a_record_that_was_tested_on_something_else(make: Make, tmp_path: Path) -> None:
    first, second, third = (clean(make(SERIES, name=name)) for name in ("a", "b", "c"))
    doubled = []
    for step in third.steps:
        counts = step.counts
        assert isinstance(counts, SemanticCounts)
        twice = tuple(2 * pixels for pixels in counts.ground_truth)
        doubled.append(replace(step, counts=replace(counts, ground_truth=twice)))
    found = checked(tmp_path, first, second, replace(third, steps=tuple(doubled)))
    assert [len(each.findings) for each in found] == [0, 0, 1]
    assert found[2].is_sound
    assert "200000 for class 1 'cat', 100000 in" in found[2].lines[1]


def test_no_seed_counts_twice(make: Make, tmp_path: Path) -> None:
    record = clean(make(SERIES))
    found = checked(tmp_path, record, record, replace(record, key="other"))
    assert [each.is_sound for each in found] == [True, False, False]
    assert found[1].findings[0].field == "key"
    assert found[2].findings[0].field == "seed"


def test_a_file_that_report_would_not_find(make: Make, tmp_path: Path) -> None:
    path = tmp_path / "mine.json"
    write(clean(make(SERIES)), path)
    (found,) = validate(files_in(path))
    assert found.is_sound
    assert "seed: 0 in a file named 'mine.json'; name it seed-0.json" in found.lines[1]


def test_what_is_no_plain_file(tmp_path: Path) -> None:
    (tmp_path / "seed-0.json").mkdir()
    (tmp_path / "seed-1.json").symlink_to("seed-1.json")
    os.mkfifo(tmp_path / "seed-2.json")
    with (tmp_path / "seed-3.json").open("wb") as file:
        file.truncate(65 * 2**20)
    (tmp_path / "seed-4.json").write_text("[" * 100_000)
    (tmp_path / "seed-5.json").write_text('{"schema": 2, "schema": 2}')
    (tmp_path / "seed-6.json").symlink_to("nowhere")
    found = validate(files_in(tmp_path))
    assert [each.lines[0].partition(": ")[2].partition("; ")[0] for each in found] == [
        "is no plain file",
        "cannot be read (Too many levels of symbolic links)",
        "is no plain file",
        "has 65 MiB, more than the 64 that are read",
        "not valid JSON (maximum recursion depth exceeded while decoding a JSON array from a unicode string)",
        "schema: occurs twice in one object, with the values 2 and 2",
        "cannot be read (No such file or directory)",
    ]
    assert all(len(each.lines) == 1 for each in found)


def test_nothing_to_validate(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"no seed-\*\.json in it"):
        files_in(tmp_path)
    with pytest.raises(ValueError, match="no such file or folder"):
        files_in(tmp_path / "none")
