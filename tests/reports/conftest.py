"""A small protocol (2 + 1 + 1 classes, background counted) and records made by hand."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import pytest

from reports.record import (
    Cost,
    Counts,
    DataCard,
    Environment,
    InstanceCounts,
    MethodCard,
    NetworkCard,
    PanopticCounts,
    ProtocolCard,
    ProtocolStep,
    Record,
    RulesCard,
    SemanticCounts,
    StepCost,
    StepRecord,
)

PROTOCOL = ProtocolCard(
    name="pets-2-1",
    title="two pets, then one at a time",
    dataset="pets",
    dataset_title="Pets",
    task="semantic",
    setting="overlapped",
    rules=RulesCard(
        name="plop", void_in_training=255, future_at_test=0, unlabelled_at_test=0, other_classes=255
    ),
    background=True,
    class_names=("background", "cat", "dog", "cow", "horse"),
    steps=(ProtocolStep(classes=(1, 2)), ProtocolStep(classes=(3,)), ProtocolStep(classes=(4,))),
    notes=("The two cats look alike.",),
)
CHANNELS = ((0, 1, 2), (0, 1, 2, 3), (0, 1, 2, 3, 4))
PROVENANCE = {"mib": "port of fcdl94/MiB@1a2b3c4"}


def counts(iou: Sequence[int | None], task: str) -> Counts:
    """Counts of 100000 pixels or segments a channel with this IoU, PQ or AP in per cent; None: no truth.

    Of the pixels that are missed a tenth is predicted as background; nothing is predicted on the background.
    """
    truth = tuple(0 if value is None else 100_000 for value in iou)
    both = tuple(0 if value is None else value * 1000 for value in iou)
    missed = tuple(total - same for total, same in zip(truth, both, strict=True))
    if task == "panoptic":
        return PanopticCounts(
            true_positives=both,
            false_positives=missed,
            false_negatives=missed,
            iou_sum=tuple(map(float, both)),
        )
    if task == "instance":
        ap = tuple(None if value is None else value / 100 for value in iou)
        ap50 = tuple(None if value is None else (value + 10) / 110 for value in iou)
        return InstanceCounts(ap=ap, ap50=ap50, ap75=ap, instances=truth)
    predicted = tuple(7 if value is None else same for value, same in zip(iou, both, strict=True))
    return SemanticCounts(
        intersection=both,
        ground_truth=truth,
        prediction=predicted,
        prediction_on_background=(predicted[0], *(0 for _ in iou[1:])),
        unassigned=(both[0], *(pixels // 10 for pixels in missed[1:])),
    )


def step_record(
    index: int, channels: Sequence[int], iou: Sequence[int | None], run: str, task: str
) -> StepRecord:
    return StepRecord(
        index=index,
        channels=tuple(channels),
        train_images=40,
        test_images=20,
        iterations=5,
        final_loss={"cross_entropy": 0.25, "distillation": None},
        counts=counts(iou, task),
        trained_by=run,
        key=f"{run}-{index}",
    )


def make_record(
    series: Sequence[Sequence[int | None]],
    name: str = "mib",
    seed: int = 0,
    reason: str = "",
    protocol: ProtocolCard = PROTOCOL,
    channels: Sequence[Sequence[int]] = CHANNELS,
    task: str = "semantic",
) -> Record:
    """A record with the given IoU, PQ or AP (per cent) of each channel after each step.

    Where the protocol has no background, its value is left out.
    """
    protocol = replace(protocol, task=task, background=protocol.background and task == "semantic")
    if not protocol.background and channels == CHANNELS:
        channels = tuple(known[1:] for known in CHANNELS)
        series = [iou[len(iou) > len(channels[step]) :] for step, iou in enumerate(series)]
    if len(series) == 1 < len(protocol.steps):
        channels = channels[-1:]
    run = f"{name}/seed-{seed}"
    steps = [
        step_record(index, channels[index][: len(iou)], iou, run, task) for index, iou in enumerate(series)
    ]
    key = name.partition("[")[0]
    return Record(
        status="failed" if reason else "finished",
        reason=reason,
        key=f"key-{run}",
        protocol=protocol,
        method=MethodCard(
            name=name,
            key=key,
            title=f"The {key} paper",
            venue="CVPR",
            year=2020,
            provenance=PROVENANCE.get(key, "baseline"),
            origin="built-in",
            url=f"https://example.org/{key}",
        ),
        scale="mini",
        seed=seed,
        device="cpu",
        data=DataCard(synthetic=False, root="pets", train_images=120, val_images=20),
        hyperparameters={"weights": (1.5, 2), "nested": {"on": True, "rest": None}},
        overrides={},
        recipe={"epochs": 6, "lr": 0.01},
        network=NetworkCard(name="deeplabv3", backbone="resnet18", parameters=1_234_567),
        replay_images=0,
        steps=tuple(steps),
        cost=Cost(
            created="2026-01-02T03:04:05+00:00",
            steps=tuple(StepCost(train_seconds=30.0, eval_seconds=2.5, peak_memory_mb=512.0) for _ in steps),
            environment=Environment(
                python="3.12", torch="2.11", platform="Linux", device_name="cpu", threads=2, version="0.1.0"
            ),
        ),
    )


@pytest.fixture
def make() -> Callable[..., Record]:
    return make_record


@pytest.fixture
def protocol() -> ProtocolCard:
    return PROTOCOL


@pytest.fixture
def board() -> list[Record]:
    """Two methods with two seeds each, joint, one failed method, one method with a failed seed."""
    flaky = make_record([[90, 60, 50], [90, 55, 50, 30], [90, 45, 45, 28, 18]], "flaky[alpha=2]", 0)
    flaky = replace(flaky, method=replace(flaky.method, origin="file: flaky.py", url="", venue="", year=None))
    broken = make_record([], "flaky[alpha=2]", 1, reason="loss is NaN | step 0")
    return [
        make_record([[90, 60, 50], [90, 50, 40, 30], [90, 40, 30, 30, 20]], "mib", 0),
        make_record([[90, 62, 50], [90, 52, 40, 32], [90, 44, 30, 32, 24]], "mib", 1),
        make_record([[90, 60, 50], [80, 0, 0, 40], [80, 0, 0, 0, 50]], "finetune", 0),
        make_record([[90, 62, 50], [80, 0, 0, 44], [80, 0, 0, 0, 54]], "finetune", 1),
        make_record([[95, 70, 60, 60, 60]], "joint", 0),
        replace(make_record([], "plop", 0, reason="out of memory"), network=None, cost=None),
        flaky,
        replace(broken, method=flaky.method),
    ]
