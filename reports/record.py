"""The record: the one JSON file that a run (protocol x method x seed) leaves. Typed, versioned, strict.

Whoever makes a record uses these dataclasses; `write` and `read` check every field, so what is on disk can be
trusted. Sequences are tuples; label id 0 is the background. Everything but `cost` is a function of what was
asked: two identical runs are equal after `without_cost`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from reports.cards import (
    DataCard,
    MethodCard,
    NetworkCard,
    ProtocolCard,
    ProtocolStep,
    RulesCard,
    check_labels,
    check_not_negative,
)
from reports.codec import FieldError, decode, dumps, loads
from reports.counts import Counts, InstanceCounts, PanopticCounts, SemanticCounts
from reports.files import read_text, write_text

__all__ = [
    "FAILED",
    "FINISHED",
    "SCHEMA",
    "Cost",
    "Counts",
    "DataCard",
    "Environment",
    "InstanceCounts",
    "MethodCard",
    "NetworkCard",
    "PanopticCounts",
    "ProtocolCard",
    "ProtocolStep",
    "Record",
    "RulesCard",
    "SemanticCounts",
    "StepCost",
    "StepRecord",
    "counts_from_json",
    "read",
    "without_cost",
    "write",
]

SCHEMA = 2
"""Version 1 knew semantic segmentation alone; `read` converts it, what it did not count is None."""
FINISHED = "finished"
FAILED = "failed"


@dataclass(frozen=True, kw_only=True)
class StepRecord:
    """One trained and measured step. `channels[c]` is the label id of output channel c."""

    index: int
    channels: tuple[int, ...]
    train_images: int
    test_images: int
    iterations: int
    final_loss: Mapping[str, float | None]
    """Each named loss at the end of training; null where it is not finite."""
    counts: Counts
    trained_by: str
    """The run that trained this stored step, `finetune/seed-0`: another one where a step is shared."""
    key: str
    """Hash of everything that the step depends on."""

    def __post_init__(self) -> None:
        check_not_negative(self, "train_images", "test_images", "iterations")
        if self.counts.num_channels != len(self.channels):
            wanted = f"expected one a channel ({len(self.channels)})"
            problem = f"{self.counts.num_channels} entries, {wanted}; correct it or rerun the benchmark"
            raise FieldError("counts", problem)


@dataclass(frozen=True, kw_only=True)
class StepCost:
    """Seconds and megabytes of one step, as measured by the run that trained it."""

    train_seconds: float
    eval_seconds: float
    peak_memory_mb: float | None


@dataclass(frozen=True, kw_only=True)
class Environment:
    """Where it ran; `version` is ContiSeg's."""

    python: str
    torch: str
    platform: str
    device_name: str
    threads: int
    version: str


@dataclass(frozen=True, kw_only=True)
class Cost:
    """The volatile part of a record; `created` is ISO 8601."""

    created: str
    steps: tuple[StepCost, ...]
    environment: Environment


@dataclass(frozen=True, kw_only=True)
class Record:
    """One run. `steps` are the finished ones: all of them, or a single one for a method such as joint."""

    schema: int = SCHEMA
    status: str
    reason: str
    """Why it failed, in one line; "" when finished."""
    key: str
    """Hash of everything that the run depends on."""
    protocol: ProtocolCard
    method: MethodCard
    scale: str
    seed: int
    device: str
    data: DataCard
    hyperparameters: Mapping[str, Any]
    overrides: Mapping[str, Any]
    """What the user set: parts of `hyperparameters` and `recipe`, and files that steps were read from."""
    recipe: Mapping[str, Any]
    network: NetworkCard | None
    """None only when the run failed before it was built."""
    replay_images: int
    steps: tuple[StepRecord, ...]
    cost: Cost | None = None

    def __post_init__(self) -> None:
        check_not_negative(self, "seed", "replay_images")
        _check_status(self)
        for index, step in enumerate(self.steps):
            if step.index != index:
                raise FieldError(
                    f"steps[{index}].index", f"{step.index}, expected {index}; list the steps in order"
                )
            check_labels(f"steps[{index}].channels", step.channels, len(self.protocol.class_names))
            if step.counts.task != self.protocol.task:
                problem = f"{step.counts.task!r}, expected the protocol's ({self.protocol.task!r}); rerun it"
                raise FieldError(f"steps[{index}].counts.task", problem)
            _check_channels(self, index)
        if self.cost is not None and len(self.cost.steps) != len(self.steps):
            problem = f"{len(self.cost.steps)} entries, expected one a step ({len(self.steps)}); rerun"
            raise FieldError("cost.steps", problem)

    @property
    def finished(self) -> bool:
        return self.status == FINISHED

    @property
    def knows_last_step_alone(self) -> bool:
        """Whether nothing was measured before the last step, so that there is no forgetting to speak of."""
        return self.finished and len(self.steps) == 1 < len(self.protocol.steps)

    @property
    def is_offline(self) -> bool:
        """Whether all steps were trained as one ("joint"): an upper bound, not a competitor."""
        return self.knows_last_step_alone and "checkpoint" not in self.overrides


def read(path: Path) -> Record:
    """Read and check one record; one of schema 1 comes back as of schema 2.

    Raises:
        ValueError: one line with the file, the field's dotted path, its value and the remedy.
    """
    text = read_text(path)
    try:
        value = loads(text)
        _check_schema(value)
        record: Record = decode(Record, _upgraded(value))
    except FieldError as error:
        raise ValueError(f"{path}: {error}") from None
    return record


def write(record: Record, path: Path) -> None:
    """Check `record` and write it atomically: keys sorted, one line a list of numbers, never NaN.

    Raises:
        ValueError: a field that `read` would refuse, or a folder that cannot be written.
    """
    plain = asdict(record)
    try:
        _check_schema(plain)
        decode(Record, plain)
    except FieldError as error:
        raise ValueError(f"{path}: {error}") from None
    write_text(path, dumps(plain) + "\n")


def counts_from_json(value: Any) -> Counts:
    """The counts that `dataclasses.asdict` made plain, of whichever task.

    Raises:
        ValueError: what is wrong, at which field.
    """
    counts: Counts = decode(Counts, value, "counts")
    return counts


def without_cost(record: Record) -> Record:
    """The part that two identical runs share: all but times, memory and environment."""
    return replace(record, cost=None)


def _check_schema(value: Any) -> None:
    if not isinstance(value, dict):
        raise FieldError(
            "", f"found {type(value).__name__} at the top, expected an object {{...}}; is it a record?"
        )
    version = value.get("schema")
    if type(version) is not int:
        raise FieldError("schema", f"found {version!r}, expected the number {SCHEMA}; is this file a record?")
    if version > SCHEMA:
        raise FieldError(
            "schema", f"{version} is newer than {SCHEMA}, the version read here; update ContiSeg"
        )
    if version < 1:
        raise FieldError("schema", f"{version} is older than 1, the first version; rerun the benchmark")


def _upgraded(value: dict[str, Any]) -> dict[str, Any]:
    """A record of schema 1 as one of schema 2; whatever is wrong with it stays wrong."""
    if value["schema"] == SCHEMA:
        return value
    steps = value.get("steps")
    if isinstance(steps, list):
        steps = [_with_task(step) if isinstance(step, dict) else step for step in steps]
    return {**value, "schema": SCHEMA, "steps": steps}


def _with_task(step: dict[str, Any]) -> dict[str, Any]:
    counts = step.get("counts")
    return {**step, "counts": {**counts, "task": "semantic"}} if isinstance(counts, dict) else step


def _check_status(record: Record) -> None:
    if record.status not in (FINISHED, FAILED):
        raise FieldError("status", f"found {record.status!r}, expected {FINISHED!r} or {FAILED!r}")
    if "\n" in record.reason or bool(record.reason) == record.finished:
        wanted = "the reason in one line" if not record.finished else "'' as the run finished"
        raise FieldError(
            "reason", f"found {record.reason!r}, expected {wanted}; correct it or rerun the benchmark"
        )
    if record.finished and len(record.steps) not in (1, len(record.protocol.steps)):
        wanted = f"{len(record.protocol.steps)} (the protocol's) or 1 (trained as one)"
        raise FieldError("steps", f"{len(record.steps)} steps in a finished run, expected {wanted}; rerun it")
    if record.finished and record.network is None:
        raise FieldError("network", "null in a finished run; add the network or rerun the benchmark")


def _check_channels(record: Record, index: int) -> None:
    """The channels are the classes learnt so far in any order, after the background where there is one."""
    protocol, channels = record.protocol, record.steps[index].channels
    field = f"steps[{index}].channels"
    known = protocol.labels_known_after(len(protocol.steps) - 1 if record.knows_last_step_alone else index)
    if record.status == FAILED and set(channels) == protocol.labels_known_after(len(protocol.steps) - 1):
        return  # it may have been about to be trained as one
    for which, labels in (("lacks", known - set(channels)), ("has", set(channels) - known)):
        if labels:
            label = min(labels)
            name = f"{label} ({protocol.class_names[label]!r})"
            more = f" and {len(labels) - 1} more" if len(labels) > 1 else ""
            taught = "which the protocol has taught by then" if which == "lacks" else "not taught by then"
            raise FieldError(field, f"{which} {name}{more}, {taught}; list what the network can predict")
    if protocol.background and channels[0] != 0:
        raise FieldError(f"{field}[0]", f"{channels[0]}, expected the background (0); put its counts first")
