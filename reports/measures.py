"""From one record to the numbers that papers print: old, new, all, average over steps, forgetting.

All values are per cent (0..100), forgetting in points; None where a value is not defined. Every mean is over
the classes for which the task's quality is defined: those with ground truth in the test set, for panoptic
quality those with any segment, true or predicted (panopticapi `evaluation.py@pq_average`).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from reports.record import InstanceCounts, PanopticCounts, ProtocolCard, Record, SemanticCounts, StepRecord

BACKGROUND = 0
Values = Mapping[str, float | None]
"""Values by the name of their column, see `reports.columns`."""


@dataclass(frozen=True)
class Measures:
    """What one finished run has shown."""

    steps: tuple[Values | None, ...]
    """One entry a step of the protocol; for joint only the last is not None."""
    averages: Values
    """Means over all steps, the first included (PLOP's "avg"); None for joint."""
    forgetting: float | None
    histories: tuple[Mapping[int, float | None], ...]
    """Quality after each step of the protocol by label id; None for a class where it is not defined. Empty
    for a step that was not measured."""

    @property
    def final(self) -> Values:
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
    protocol, steps = record.protocol, record.steps
    qualities = [100 * step.counts.quality() for step in steps]
    known = tuple(
        _measure_step(step, quality, protocol) for step, quality in zip(steps, qualities, strict=True)
    )
    unmeasured = len(protocol.steps) - len(known)
    histories = tuple(_by_label(step, quality) for step, quality in zip(steps, qualities, strict=True))
    averaged = {name: name.replace("all", "average") for name in known[-1] if name in AVERAGED}
    return Measures(
        steps=(None,) * unmeasured + known,
        averages={
            average: None if record.knows_last_step_alone else _mean([step[name] for step in known])
            for name, average in averaged.items()
        },
        forgetting=None if record.knows_last_step_alone else _forgetting(record, known, qualities),
        histories=({},) * unmeasured + histories,
    )


AVERAGED = ("all", "all_labelled", "all_assigned")


def _measure_step(step: StepRecord, quality: NDArray, protocol: ProtocolCard) -> Values:
    """The groups of classes after one step, and what else the task tells; `quality` (K,) in per cent.

    `old` = the first step's classes, `new` = those of all later steps so far. `old` and `all` count the
    background where the protocol does, all other groups never. In a domain-incremental protocol each step
    learns all classes anew, so a split by class says nothing: its `old` and `new` are None.
    """
    groups = _Groups.of(step, protocol)
    foreground = groups.means(quality)
    values = {
        "old": None if groups.old is None else _mean(quality[groups.old | ~groups.all]),
        "new": foreground["new"],
        "all": _mean(quality),
    }
    counts = step.counts
    if isinstance(counts, SemanticCounts):
        values |= {f"{name}_no_background": foreground[name] for name in ("old", "all")}
        if protocol.zero_is_unlabelled:
            for suffix, assigned_only in (("labelled", False), ("assigned", True)):
                iou = counts.labelled_iou(assigned_only)
                means = groups.means(np.full_like(quality, np.nan) if iou is None else 100 * iou)
                values |= {f"{name}_{suffix}": mean for name, mean in means.items()}
    elif isinstance(counts, PanopticCounts):
        things = np.isin(step.channels, protocol.things)
        values |= {
            "sq": _mean(100 * counts.segmentation_quality()),
            "rq": _mean(100 * counts.recognition_quality()),
            "things": _mean(quality[things]),
            "stuff": _mean(quality[~things]),
        }
    elif isinstance(counts, InstanceCounts):
        values["ap50"] = _mean(100 * counts.quality_at(50))
        values["ap75"] = _mean(100 * counts.quality_at(75))
    return values


@dataclass(frozen=True)
class _Groups:
    """Which channels (K,) are of which group after a step; the background is in none."""

    old: NDArray[np.bool_] | None
    new: NDArray[np.bool_] | None
    """These two are None where a step learns all classes anew."""
    all: NDArray[np.bool_]

    @classmethod
    def of(cls, step: StepRecord, protocol: ProtocolCard) -> _Groups:
        labels = np.asarray(step.channels)
        known = (labels != BACKGROUND) | (not protocol.background)
        if protocol.is_domain_incremental:
            return cls(None, None, known)
        first = np.isin(labels, protocol.steps[0].classes)
        return cls(known & first, known & ~first, known)

    def means(self, quality: NDArray) -> dict[str, float | None]:
        groups = {"old": self.old, "new": self.new, "all": self.all}
        return {name: None if who is None else _mean(quality[who]) for name, who in groups.items()}


def _forgetting(record: Record, steps: Sequence[Values], qualities: Sequence[NDArray]) -> float | None:
    """Points lost since the best earlier step: mean over the foreground classes learnt before the last step.

    Negative where the classes got better. Domain-incremental: the loss of `all` instead. None for one step.
    """
    protocol = record.protocol
    if len(steps) == 1:
        return None
    if protocol.is_domain_incremental:
        history = np.asarray([[step["all"]] for step in steps], dtype=np.float64)
    else:
        history = np.full((len(steps), len(protocol.class_names)), np.nan)
        for step, quality in zip(record.steps, qualities, strict=True):
            history[step.index, step.channels] = quality
        if protocol.background:
            history[:, BACKGROUND] = np.nan
    return _mean(np.fmax.reduce(history[:-1]) - history[-1])


def _by_label(step: StepRecord, quality: NDArray) -> dict[int, float | None]:
    """(K,) of one value a channel, NaN where undefined -> the same by label id, in channel order."""
    values = [None if math.isnan(value) else value for value in quality.tolist()]
    return dict(zip(step.channels, values, strict=True))


def _mean(values: NDArray | Sequence[float | None]) -> float | None:
    """The mean of what is defined: neither NaN nor None."""
    array = np.asarray(values, dtype=np.float64)
    defined = array[~np.isnan(array)].tolist()
    return math.fsum(defined) / len(defined) if defined else None
