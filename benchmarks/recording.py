"""What a record says of a run."""

from __future__ import annotations

import dataclasses
import platform
import subprocess
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch

from benchmarks.execute import Network
from benchmarks.fingerprint import REPOSITORY
from benchmarks.run import Run
from benchmarks.store import FinishedStep
from methods.registry import origin
from protocols.protocol import Protocol
from reports import record as schema
from reports.record import Record

VERSION = "0.1.0"
NOT_PRETRAINED = (
    "The backbone started from random weights; the published numbers start from ImageNet weights "
    "(--set recipe.weights=FILE)"
)


def finished_record(
    run: Run, device: torch.device, steps: Sequence[FinishedStep], network: Network
) -> Record:
    costs = tuple(
        schema.StepCost(
            train_seconds=s.train_seconds, eval_seconds=s.eval_seconds, peak_memory_mb=s.peak_memory_mb
        )
        for s in steps
    )
    return Record(
        **_common(run),
        status=schema.FINISHED,
        reason="",
        protocol=protocol_card(run, network),
        device=device.type,
        network=schema.NetworkCard(
            name=network.name, backbone=run.recipe.backbone, parameters=network.parameters
        ),
        replay_images=network.replay_images,
        steps=tuple(
            _step_record(run, place, index, step)
            for place, (index, step) in enumerate(zip(run.step_keys, steps, strict=True))
        ),
        cost=schema.Cost(created=_now(), steps=costs, environment=environment(device)),
    )


def failed_record(run: Run, device: torch.device, reason: str) -> Record:
    return Record(
        **_common(run),
        status=schema.FAILED,
        reason=reason,
        protocol=protocol_card(run),
        device=device.type,
        network=None,
        replay_images=0,
        steps=(),
        cost=schema.Cost(created=_now(), steps=(), environment=environment(device)),
    )


def _common(run: Run) -> dict[str, Any]:
    """What a record says of a run however that ends."""
    info = run.method.info
    trained = [run.samples[index].train for index in run.step_keys if index not in run.checkpoints]
    return {
        "key": run.key,
        "method": schema.MethodCard(
            name=run.name,
            key=run.method.key,
            title=info.title,
            venue=info.venue,
            year=info.year or None,
            provenance=info.provenance,
            origin=origin(run.method),
            url=info.url,
        ),
        "scale": run.scale,
        "seed": run.seed,
        "data": schema.DataCard(
            synthetic=run.dataset.is_synthetic,
            root=run.dataset.root.name,
            train_images=len(set().union(*trained)),
            val_images=len(run.samples[-1].test),
        ),
        "hyperparameters": dataclasses.asdict(run.hyperparameters),
        "overrides": run.overrides,
        "recipe": _recipe(run),
    }


def _recipe(run: Run) -> dict[str, Any]:
    recipe = dataclasses.asdict(run.recipe) | {"weights": Path(run.recipe.weights).name}
    if run.share.parts > 1:
        recipe["effective_batch"] = run.share.describe(run.recipe.batch)
    return recipe


def statistics_note(run: Run, network: Network) -> str:
    """That batch statistics are those of fewer images than published; "" where they are not."""
    if run.share.passes == 1 or not network.batch_statistics or run.evaluates_only:
        return ""
    batch = run.recipe.batch
    return (
        f"Batch statistics were those of {batch // run.share.passes} images at a time, not of all {batch} of "
        "a batch, whose gradients were added up over passes"
    )


def protocol_card(run: Run, network: Network | None = None) -> schema.ProtocolCard:
    """The protocol as a record states it, with whatever keeps it from being the published one."""
    dataset = run.dataset
    notes = list(run.asked.notes)
    if not dataset.is_synthetic:
        notes += dataset.differences()
    if run.scale == "paper" and not run.recipe.weights and not run.checkpoints:
        notes.append(NOT_PRETRAINED)
    if network and (note := statistics_note(run, network)):
        notes.append(note)
    return card_of(run.asked, dataset.title, notes)


def card_of(protocol: Protocol, dataset_title: str, notes: Sequence[str]) -> schema.ProtocolCard:
    rules = protocol.rules
    return schema.ProtocolCard(
        name=protocol.name,
        dataset=protocol.dataset,
        dataset_title=dataset_title,
        task=protocol.task,
        setting=protocol.setting,
        rules=schema.RulesCard(
            name=rules.name,
            void_in_training=rules.void_in_training,
            future_at_test=rules.future_at_test,
            unlabelled_at_test=rules.unlabelled_at_test,
            other_classes=protocol.other_classes,
        ),
        background=protocol.background,
        class_names=protocol.class_names,
        steps=tuple(schema.ProtocolStep(classes=s.classes, domains=s.domains) for s in protocol.steps),
        things=protocol.things,
        notes=tuple(notes),
    )


def environment(device: torch.device) -> schema.Environment:
    name = (
        torch.cuda.get_device_name(device)
        if device.type == "cuda" and torch.cuda.is_available()
        else platform.processor() or platform.machine()
    )
    return schema.Environment(
        python=platform.python_version(),
        torch=str(torch.__version__),
        platform=platform.platform(),
        device_name=name,
        threads=torch.get_num_threads(),
        version=_version(),
    )


def _version() -> str:
    """ContiSeg's version, with the commit where the clone is a git checkout."""
    command = ["git", "-C", str(REPOSITORY), "rev-parse", "--short", "HEAD"]
    try:
        commit = subprocess.run(
            command, capture_output=True, text=True, check=True, timeout=10
        ).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return VERSION
    return f"{VERSION}+{commit}"


def _step_record(run: Run, place: int, index: int, step: FinishedStep) -> schema.StepRecord:
    """`place` in the record is `index` in the protocol, unless only the last step was evaluated."""
    return schema.StepRecord(
        index=place,
        channels=run.protocol.channels(index),
        train_images=0 if index in run.checkpoints else len(run.samples[index].train),
        test_images=len(run.samples[index].test),
        iterations=step.iterations,
        final_loss=step.final_loss,
        counts=step.counts,
        trained_by=step.trained_by,
        key=run.step_keys[index],
    )


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
