"""Reading and writing records: what is whole comes back equal, what is not ends in one clear line."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from reports.load import load_records
from reports.record import PanopticCounts, Record, SemanticCounts, StepRecord, read, without_cost, write

Make = Callable[..., Record]
SERIES = [[90, 60, 50], [90, 50, 40, 30], [90, 40, 30, None, 20]]


def test_round_trip(make: Make, tmp_path: Path) -> None:
    record = make(SERIES)
    write(record, tmp_path / "a" / "seed-0.json")
    assert read(tmp_path / "a" / "seed-0.json") == record
    assert [path.name for path in (tmp_path / "a").iterdir()] == ["seed-0.json"]


def test_round_trip_of_a_failed_run_without_network_or_cost(make: Make, tmp_path: Path) -> None:
    record = replace(make(SERIES[:1], reason="out of memory"), network=None, cost=None)
    write(record, tmp_path / "seed-0.json")
    assert read(tmp_path / "seed-0.json") == record


def test_text_is_sorted_and_readable(make: Make, tmp_path: Path) -> None:
    write(make(SERIES), tmp_path / "seed-0.json")
    text = (tmp_path / "seed-0.json").read_text()
    assert '"ground_truth": [100000, 100000, 100000],' in text
    assert text.endswith("}\n")
    keys = list(json.loads(text))
    assert keys == sorted(keys)


def test_without_cost_is_what_identical_runs_share(make: Make) -> None:
    record = make(SERIES)
    assert record.cost is not None
    slower = replace(record, cost=replace(record.cost, created="2027-01-01T00:00:00+00:00"))
    assert slower != record
    assert without_cost(slower) == without_cost(record)


def put(value: Any, path: str, new: Any) -> None:
    """Set the entry at a dotted path of nested lists and dicts; a dict may grow."""
    *parents, last = path.replace("[", ".").replace("]", "").split(".")
    for name in parents:
        value = value[int(name)] if isinstance(value, list) else value[name]
    value[int(last) if isinstance(value, list) else last] = new


BROKEN = [
    ("methd", 1, "methd: unknown field with value 1; remove it, or did you mean 'method'?"),
    ("steps[1].foo", [1], "steps[1].foo: unknown field with value [1]; remove it"),
    ("schema", 3, "schema: 3 is newer than 2, the version read here; update ContiSeg"),
    ("schema", 0, "schema: 0 is older than 1, the first version; rerun"),
    ("schema", "2", "schema: found '2', expected the number 2"),
    ("protocol.task", "video", "protocol.task: found 'video', expected semantic, panoptic, instance"),
    ("protocol.task", "panoptic", "protocol.background: true, but a panoptic protocol has none"),
    ("protocol.things", [7], "protocol.things[0]: 7 is no label id"),
    (
        "steps[0].counts.task",
        "video",
        "steps[0].counts.task: found 'video' (str), expected 'semantic' or 'pan",
    ),
    ("steps[0].counts.task", "panoptic", "steps[0].counts.ground_truth: unknown field"),
    ("steps[0].counts", [], "steps[0].counts: found [] (list), expected an object {...}"),
    ("steps[0].counts.unassigned", None, "steps[0].counts.unassigned: give it and prediction_on_background"),
    ("steps[0].counts.unassigned[1]", 100001, "steps[0].counts.unassigned[1]: 100001 exceeds the 100000 of"),
    ("seed", "0", "seed: found '0' (str), expected a whole number; correct it or rerun"),
    ("seed", True, "seed: found True (bool), expected a whole number"),
    ("seed", -1, "seed: -1 is negative"),
    ("scale", 3, "scale: found 3 (int), expected text"),
    ("data.synthetic", 1, "data.synthetic: found 1 (int), expected true or false"),
    ("data.root", "/home/me/pets", "data.root: '/home/me/pets' is an absolute path of one machine; write"),
    ("data.root", "C:\\pets", "data.root: 'C:\\\\pets' is an absolute path"),
    ("data.train_images", -3, "data.train_images: -3 is negative"),
    ("network.parameters", 1.5, "network.parameters: found 1.5 (float), expected a whole number"),
    ("network", None, "network: null in a finished run"),
    ("protocol.steps", {}, "protocol.steps: found {} (dict), expected a list [...]"),
    ("protocol.steps", [], "protocol.steps: [] is empty"),
    ("protocol.steps[0].classes", [1, 9], "protocol.steps[0].classes[1]: 9 is no label id, expected 0..4"),
    ("protocol.rules", [], "protocol.rules: found [] (list), expected an object {...}"),
    ("recipe.lr", float("nan"), "recipe.lr: nan is not a finite number; write null"),
    ("cost.steps[0].train_seconds", float("inf"), "cost.steps[0].train_seconds: inf is not a finite number"),
    ("cost.steps", [], "cost.steps: 0 entries, expected one a step (3)"),
    ("steps[0].counts.prediction", [1, 2], "steps[0].counts.prediction: 2 counts, expected as many as"),
    ("steps[0].counts.ground_truth[1]", -5, "steps[0].counts.ground_truth[1]: -5 is negative"),
    (
        "steps[0].counts.ground_truth[1]",
        5,
        "steps[0].counts.intersection[1]: 60000 exceeds the 5 of ground_truth",
    ),
    ("steps[0].counts.ground_truth[1]", 5.0, "steps[0].counts.ground_truth[1]: found 5.0 (float)"),
    ("steps[0].channels", [0, 1], "steps[0].counts: 3 entries, expected one a channel (2)"),
    ("steps[0].channels", [0, 1, 1], "steps[0].channels: a label id occurs twice"),
    ("steps[1].channels[2]", 17, "steps[1].channels[2]: 17 is no label id"),
    ("steps[1].index", 4, "steps[1].index: 4, expected 1"),
    ("status", "done", "status: found 'done', expected 'finished' or 'failed'"),
    ("status", "failed", "reason: found '', expected the reason in one line"),
    ("reason", "oops", "reason: found 'oops', expected '' as the run finished"),
]


@pytest.mark.parametrize(("field", "value", "message"), BROKEN, ids=lambda part: str(part)[:30])
def test_a_wrong_field_is_named(make: Make, tmp_path: Path, field: str, value: Any, message: str) -> None:
    path = tmp_path / "seed-0.json"
    write(make(SERIES), path)
    plain = json.loads(path.read_text())
    put(plain, field, value)
    path.write_text(json.dumps(plain))
    with pytest.raises(ValueError) as error:
        read(path)
    assert str(error.value).startswith(f"{path}: {message}")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("field", ["network.backbone", "key", "steps[0].counts.prediction", "schema"])
def test_a_missing_field_is_named(make: Make, tmp_path: Path, field: str) -> None:
    path = tmp_path / "seed-0.json"
    write(make(SERIES), path)
    plain = json.loads(path.read_text())
    *parents, last = field.replace("[0]", "").split(".")
    parent = plain
    for name in parents:
        parent = parent[name][0] if isinstance(parent[name], list) else parent[name]
    del parent[last]
    path.write_text(json.dumps(plain))
    with pytest.raises(ValueError, match=r"missing field|schema: found None") as error:
        read(path)
    assert str(error.value).startswith(f"{path}: {field}: ")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b'{"schema": 1,', "not valid JSON"),
        (b"", "not valid JSON"),
        (b"\xff\xfe", "not UTF-8 text"),
        (b"[1]", "found list at the top"),
    ],
)
def test_what_is_no_record(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "seed-0.json"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=message) as error:
        read(path)
    assert str(error.value).startswith(f"{path}: ")


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"seed-0\.json: cannot be read"):
        read(tmp_path / "seed-0.json")


def test_a_finished_run_has_all_steps(make: Make) -> None:
    with pytest.raises(ValueError, match=r"steps: 2 steps in a finished run, expected 3"):
        make(SERIES[:2])


def test_write_refuses_what_read_would(make: Make, tmp_path: Path) -> None:
    path = tmp_path / "seed-0.json"
    for value, found in ((float("nan"), "nan is not a finite"), (np.float64(0.1), "expected a number")):
        with pytest.raises(ValueError, match=rf"recipe\.lr: .*{found}"):
            write(replace(make(SERIES), recipe={"lr": value}), path)
    assert not list(tmp_path.iterdir())


def test_write_into_a_file_as_folder(make: Make, tmp_path: Path) -> None:
    (tmp_path / "runs").write_text("")
    with pytest.raises(ValueError, match=r"cannot be written .*, or choose a folder"):
        write(make(SERIES), tmp_path / "runs" / "seed-0.json")


def test_counts_from_a_confusion_matrix() -> None:
    confusion = np.array([[5, 1, 0], [2, 4, 0], [0, 0, 0]])
    counts = SemanticCounts.from_confusion(confusion, background=True)
    assert counts == SemanticCounts(
        intersection=(5, 4, 0),
        ground_truth=(6, 6, 0),
        prediction=(7, 5, 0),
        prediction_on_background=(5, 1, 0),
        unassigned=(5, 2, 0),
    )
    np.testing.assert_allclose(counts.quality(), [5 / (8 + 1e-6), 4 / (7 + 1e-6), np.nan], rtol=1e-15)
    bare = SemanticCounts.from_confusion(confusion, background=False)
    assert (bare.prediction_on_background, bare.unassigned) == (None, None)
    assert (bare.intersection, bare.labelled_iou()) == (counts.intersection, None)


def test_counts_over_labelled_pixels_alone() -> None:
    """Without row 0, and besides without column 0, where a class can lose its last pixel."""
    confusion = np.array([[50, 10, 7, 3], [2, 30, 4, 0], [5, 1, 20, 2], [6, 0, 0, 0]])
    counts = SemanticCounts.from_confusion(confusion, background=True)
    labelled, assigned = counts.labelled_iou(), counts.labelled_iou(assigned_only=True)
    assert labelled is not None and assigned is not None
    np.testing.assert_allclose(labelled, [np.nan, 30 / 37, 20 / 32, 0], rtol=1e-6)
    np.testing.assert_allclose(assigned, [np.nan, 30 / 35, 20 / 27, np.nan], rtol=1e-6)


def test_qualities_of_panoptic_counts() -> None:
    counts = PanopticCounts(
        true_positives=(2, 0, 0, 1),
        false_positives=(1, 0, 2, 0),
        false_negatives=(1, 0, 0, 1),
        iou_sum=(1.5, 0, 0, 1),
    )
    np.testing.assert_allclose(counts.quality(), [0.5, np.nan, 0, 2 / 3])
    np.testing.assert_allclose(counts.segmentation_quality(), [0.75, np.nan, 0, 1])
    np.testing.assert_allclose(counts.recognition_quality(), [2 / 3, np.nan, 0, 2 / 3])


@pytest.mark.parametrize("task", ["panoptic", "instance"])
def test_round_trip_of_the_other_tasks(make: Make, tmp_path: Path, task: str) -> None:
    record = make(SERIES, task=task)
    write(record, tmp_path / "seed-0.json")
    assert read(tmp_path / "seed-0.json") == record


def test_the_counts_must_be_of_the_protocols_task(make: Make) -> None:
    record = make(SERIES)
    with pytest.raises(ValueError, match=r"steps\[0\]\.counts\.task: 'semantic', expected the protocol's"):
        replace(record, protocol=replace(record.protocol, task="panoptic", background=False))


def test_a_record_of_schema_1_is_converted(make: Make, tmp_path: Path) -> None:
    """`schema-1.json` was written by the version before; what it did not count is None."""
    old = read(Path(__file__).parent / "golden" / "schema-1.json")
    counts = old.steps[0].counts
    assert (old.schema, counts.task, old.protocol.things) == (2, "semantic", ())
    assert isinstance(counts, SemanticCounts)
    assert (counts.prediction_on_background, counts.unassigned) == (None, None)
    new = make(SERIES)
    assert old == replace(new, steps=tuple(map(without_background_counts, new.steps)))
    write(old, tmp_path / "seed-0.json")
    assert read(tmp_path / "seed-0.json") == old


def without_background_counts(step: StepRecord) -> StepRecord:
    return replace(step, counts=replace(step.counts, prediction_on_background=None, unassigned=None))


def test_load_records_goes_on_after_a_broken_file(make: Make, tmp_path: Path) -> None:
    folder = tmp_path / "records" / "pets-2-1"
    write(make(SERIES), folder / "mib" / "seed-0.json")
    write(make(SERIES), folder / "copy" / "seed-0.json")
    write(make(SERIES, seed=1), folder / "mib" / "seed-1.json")
    (folder / "mib" / "seed-2.json").write_text("{")
    records, problems = load_records(tmp_path)
    assert [record.seed for record in records] == [0, 1]
    assert [problem.partition(": ")[0].rpartition("pets-2-1/")[2] for problem in problems] == [
        "mib/seed-0.json",
        "mib/seed-2.json",
    ]
    assert load_records(tmp_path / "none")[1][0].endswith("run the benchmark first or check --runs")


def test_a_step_is_checked_when_made(make: Make) -> None:
    step: StepRecord = make(SERIES).steps[0]
    with pytest.raises(ValueError, match="iterations: -1 is negative"):
        replace(step, iterations=-1)
