"""A published number beside a measured one: where it may stand, which is taken, what is said of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from benchmarks.recording import card_of
from protocols import names
from protocols.datasets import DATASETS
from protocols.datasets.dataset import Dataset
from reports.cards import DataCard, ProtocolCard
from reports.comparison import TEST_IMAGES, compare
from reports.leaderboard import write_leaderboards
from reports.record import Record
from tests.reports.test_leaderboard import compare as compare_with_golden

Make = Callable[..., Record]
EVERYTHING = dict.fromkeys(
    ("old", "new", "all", "average", "all_labelled", "all_assigned", "all_no_background"), 50.0
)


def card(name: str) -> ProtocolCard:
    """The card of a protocol of the literature, as a run writes it."""
    protocol = names.parse(name)
    return card_of(protocol, DATASETS[protocol.dataset].title, protocol.notes)


def run(make: Make, key: str, name: str, **changes: Any) -> Record:
    """A finished run at paper scale on the real data; its counts do not matter here."""
    record = make([[90, 60, 50], [90, 50, 40, 30], [90, 40, 30, 30, 20]], key)
    protocol = card(name)
    tested = TEST_IMAGES[protocol.dataset]
    data = DataCard(synthetic=False, root="data", train_images=10582, val_images=tested)
    changed = {
        **{"protocol": protocol, "data": data, "scale": "paper", "steps": ()},
        **{"recipe": {"weights": "resnet101.pth"}, **changes},
    }
    plain = {key: value for key, value in record.__dict__.items() if key not in changed}
    unchecked = object.__new__(Record)
    unchecked.__dict__.update({**plain, **changed})
    return unchecked


def test_the_authors_number_of_the_same_protocol(make: Make) -> None:
    found = compare([run(make, "plop", "voc-15-1")], {"all": 54.0, "old": 65.0, "new": 20.0})
    by_column = {each.column: each for each in found}
    assert found[0].column == "all"
    assert by_column["all"].published.value == 54.64
    assert by_column["all"].published.origin == "own"
    assert by_column["all"].difference == pytest.approx(54.0 - 54.64)
    assert by_column["old"].published.value == 65.12
    assert all("second-hand" not in remark for remark in by_column["all"].remarks)


def test_what_others_measured_says_so(make: Make) -> None:
    found = compare([run(make, "mib", "voc-15-1")], {"all": 30.0})
    assert found[0].published.method == "mib"
    assert any(remark.startswith("second-hand, ") for remark in found[0].remarks)


def test_what_does_not_reproduce_says_so(make: Make) -> None:
    found = compare([run(make, "rcil", "voc-15-1")], {"all": 58.0})
    assert found[0].published.value == 59.4
    assert "not reproduced" in found[0].remarks
    assert any("RCIL#8" in remark for remark in found[0].remarks)


def test_another_convention_of_background_is_another_column(make: Make) -> None:
    """MiB prints 15-1 without background and with its own label rules, PLOP's table with."""
    found = compare([run(make, "mib", "voc-15-1-disjoint+mib")], EVERYTHING)
    papers = {each.column: each.published.paper for each in found}
    assert papers["all_no_background"] == "mib"
    assert papers["all"] == "sdr"  # which counts the background, in its own runs of MiB
    simcis = compare([run(make, "simcis", "ade-100-10")], EVERYTHING)
    assert {each.column for each in simcis} == {"all_assigned"}


def test_another_setting_or_order_is_not_compared(make: Make) -> None:
    assert compare([run(make, "plop", "voc-15-1")], EVERYTHING)
    disjoint = compare([run(make, "plop", "voc-15-1-disjoint")], EVERYTHING)
    assert all(each.published.setting == "disjoint" for each in disjoint)
    assert compare([run(make, "plop", "voc-15-1@random3")], EVERYTHING) == []


@pytest.mark.parametrize(
    "changes",
    [
        {"data": DataCard(synthetic=True, root="standin", train_images=2400, val_images=1449)},
        {"data": DataCard(synthetic=False, root="data", train_images=10582, val_images=445)},
        {"overrides": {"pod_weight": 1.0}},
    ],
)
def test_other_data_and_other_settings_are_not_compared(make: Make, changes: dict[str, Any]) -> None:
    assert compare([run(make, "plop", "voc-15-1")], EVERYTHING)
    assert compare([run(make, "plop", "voc-15-1", **changes)], EVERYTHING) == []


def test_incomplete_data_and_a_users_method_are_not_compared(make: Make) -> None:
    record = run(make, "plop", "voc-15-1")
    present = {"train": 1464, "val": 1449}
    incomplete = SimpleNamespace(
        title=record.protocol.dataset_title,
        official_sizes={"train": 10582, "val": 1449},
        samples=lambda split: range(present[split]),
    )
    notes = Dataset.differences(cast(Dataset, incomplete))
    assert len(notes) == 1
    less = run(make, "plop", "voc-15-1", protocol=replace(record.protocol, notes=notes))
    mine = run(make, "plop", "voc-15-1", method=replace(record.method, origin="file: plop.py"))
    assert compare([less], EVERYTHING) == compare([mine], EVERYTHING) == []
    assert compare([record, less], EVERYTHING) == []


def test_the_place_of_the_weights_may_be_set(make: Make) -> None:
    record = run(make, "plop", "voc-15-1", overrides={"weights": "resnet101.pth"})
    assert compare([record], EVERYTHING)[0].published.value == 54.64


def test_a_small_network_and_random_weights_are_remarked(make: Make) -> None:
    small = compare([run(make, "plop", "voc-15-1", scale="mini")], EVERYTHING)[0]
    assert "measured at mini scale, not with the published network and schedule" in small.remarks
    random = compare([run(make, "plop", "voc-15-1", recipe={"weights": ""})], EVERYTHING)[0]
    assert "measured from random weights, published from pretrained ones" in random.remarks


def test_a_network_from_a_file_says_so(make: Make) -> None:
    changes = {"overrides": {"checkpoint": "plop.safetensors.0123abcd"}, "recipe": {"weights": ""}}
    found = compare([run(make, "plop", "voc-15-1", **changes)], EVERYTHING)[0]
    assert "measured with plop.safetensors.0123abcd, wherever that was trained" in found.remarks
    assert not any("random weights" in remark for remark in found.remarks)
    changes["overrides"]["random_parameters"] = 3
    assert compare([run(make, "plop", "voc-15-1", **changes)], EVERYTHING) == []


def test_joint_training_is_that_of_any_division(make: Make) -> None:
    """The papers on panoptic segmentation print somebody's joint training; Mask2Former's own stands apart."""
    steps = make([[90] * 5], "joint").steps
    single = run(make, "joint@mask2former", "ade-100-10-panoptic", steps=steps)
    assert single.is_offline
    found = compare([single], EVERYTHING)[0]
    assert (found.column, found.published.value) == ("all", 39.7)
    assert found.published.protocol == "ade-offline-panoptic"
    stepwise = compare([run(make, "joint@mask2former", "ade-100-10-panoptic")], EVERYTHING)[0]
    assert (stepwise.published.value, stepwise.published.origin) == (40.4, "unknown")


def test_nothing_finished_nothing_compared() -> None:
    assert compare([], EVERYTHING) == []


@pytest.mark.parametrize("suffix", ["md", "tex"])
def test_golden_files_with_published_numbers(make: Make, tmp_path: Path, suffix: str) -> None:
    """voc-15-1 as three seeds of two methods would leave it; rcil and plop are in the papers, mine is not."""
    protocol = card("voc-15-1")
    channels = [tuple(range(16 + step)) for step in range(6)]

    def record(key: str, seed: int, iou: int) -> Record:
        series = [[90, *(iou - 2 * step + seed for _ in known[1:])] for step, known in enumerate(channels)]
        made = make(series, key, seed, protocol=protocol, channels=channels)
        data = DataCard(synthetic=False, root="data", train_images=10582, val_images=1449)
        origin = "file: mine.py" if key == "mine" else "built-in"
        method = replace(made.method, origin=origin)
        weights = {"weights": "resnet101.pth"}
        return replace(made, data=data, scale="paper", method=method, recipe=weights)

    methods = (("plop", 64), ("rcil", 68), ("mine", 60))
    write_leaderboards([record(key, seed, iou) for key, iou in methods for seed in range(3)], tmp_path)
    compare_with_golden(tmp_path / f"voc-15-1.{suffix}")
