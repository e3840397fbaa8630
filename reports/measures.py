"""From one record to the numbers that papers print: old, new, all, average over steps, forgetting.

All values are per cent (0..100), forgetting in points; None where a value is not defined. Every mean is over
the classes that have ground truth in the test set (spec section 4, `metrics/stream_metrics.py`).
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from reports.record import ProtocolCard, Record, StepRecord

BACKGROUND = 0


@dataclass(frozen=True)
class StepMeasures:
    """mIoU after one step. `old` = the first step's classes, `new` = those of all later steps so far.

    `old` and `all` count the background where the protocol does, the other two never. In a domain-incremental
    protocol each step learns all classes anew, so a split by class says nothing: `old` and `new` are None.
    """

    old: float | None
    new: float | None
    all: float | None
    old_no_background: float | None
    all_no_background: float | None


@dataclass(frozen=True)
class Measures:
    """What one finished run has shown."""

    steps: tuple[StepMeasures | None, ...]
    """One entry a step of the protocol; for joint only the last is not None."""
    average: float | None
    """Mean of `all` over all steps, the first included (PLOP's "avg"); None for joint."""
    forgetting: float | None
    class_iou: dict[int, float | None]
    """IoU after the last step by label id; None for a class without ground truth."""

    @property
    def final(self) -> StepMeasures:
        last = self.steps[-1]
        assert last is not None, "a finished run has measured the last step"
        return last


def measure(record: Record) -> Measures:
    """All measures of a finished run.

    Raises:
        ValueError: the run has failed, so there is nothing final to measure.
    """
    if not record.finished:
        raise ValueError(
            f"{record.method.name} seed {record.seed}: status {record.status!r}; measure finished runs"
        )
    protocol = record.protocol
    known = tuple(measure_step(step, protocol) for step in record.steps)
    steps = (None,) * (len(protocol.steps) - len(known)) + known
    return Measures(
        steps=steps,
        average=None if record.is_offline else _mean(step.all for step in known),
        forgetting=None if record.is_offline else _forgetting(record, known),
        class_iou=iou_by_label(record.steps[-1]),
    )


def iou_by_label(step: StepRecord) -> dict[int, float | None]:
    """IoU in per cent by label id, in channel order; None for a class without ground truth."""
    values = 100 * step.counts.quality()
    return {
        label: None if np.isnan(value) else float(value)
        for label, value in zip(step.channels, values, strict=True)
    }


def measure_step(step: StepRecord, protocol: ProtocolCard) -> StepMeasures:
    """The groups of classes after one step."""
    iou = iou_by_label(step)
    background = [label for label in iou if label == BACKGROUND and protocol.background]
    foreground = [label for label in iou if label not in background]
    first = set(protocol.steps[0].classes)
    old = [label for label in foreground if label in first]
    new = [label for label in foreground if label not in first]
    by_class = not protocol.is_domain_incremental
    return StepMeasures(
        old=_mean(iou[label] for label in background + old) if by_class else None,
        new=_mean(iou[label] for label in new) if by_class else None,
        all=_mean(iou[label] for label in background + foreground),
        old_no_background=_mean(iou[label] for label in old) if by_class else None,
        all_no_background=_mean(iou[label] for label in foreground),
    )


def _forgetting(record: Record, steps: tuple[StepMeasures, ...]) -> float | None:
    """Points lost since the best earlier step: mean over the foreground classes learnt before the last step.

    Negative where the classes got better. Domain-incremental: the loss of `all` instead. None for one step.
    """
    if record.protocol.is_domain_incremental:
        return _lost([step.all for step in steps])
    histories = [iou_by_label(step) for step in record.steps]
    labels = dict.fromkeys(label for history in histories[:-1] for label in history)
    foreground = [label for label in labels if label != BACKGROUND or not record.protocol.background]
    return _mean(_lost([history.get(label) for history in histories]) for label in foreground)


def _lost(series: list[float | None]) -> float | None:
    earlier = [value for value in series[:-1] if value is not None]
    return max(earlier) - series[-1] if earlier and series[-1] is not None else None


def _mean(values: Iterable[float | None]) -> float | None:
    defined = [value for value in values if value is not None]
    return math.fsum(defined) / len(defined) if defined else None
