"""From one record to the numbers that papers print: old, new, all, average over steps, forgetting.

All values are per cent (0..100), forgetting in points; None where a value is not defined. Every mean is over
the classes for which the task's quality is defined: those with ground truth in the test set, for panoptic
quality those with any segment, true or predicted (panopticapi `evaluation.py@pq_average`).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

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
    protocol = record.protocol
    known = tuple(measure_step(step, protocol) for step in record.steps)
    unmeasured = len(protocol.steps) - len(known)
    histories = tuple(quality_by_label(step) for step in record.steps)
    averaged = {name: name.replace("all", "average") for name in known[-1] if name in AVERAGED}
    return Measures(
        steps=(None,) * unmeasured + known,
        averages={
            average: None if record.is_offline else _mean(step[name] for step in known)
            for name, average in averaged.items()
        },
        forgetting=None if record.is_offline else _forgetting(protocol, known, histories),
        histories=({},) * unmeasured + histories,
    )


AVERAGED = ("all", "all_labelled", "all_assigned")


def quality_by_label(step: StepRecord) -> dict[int, float | None]:
    """IoU, PQ or AP in per cent by label id, in channel order; None for a class where it is not defined."""
    return _by_label(step, step.counts.quality())


def measure_step(step: StepRecord, protocol: ProtocolCard) -> Values:
    """The groups of classes after one step, and what else the task tells.

    `old` = the first step's classes, `new` = those of all later steps so far. `old` and `all` count the
    background where the protocol does, all other groups never. In a domain-incremental protocol each step
    learns all classes anew, so a split by class says nothing: its `old` and `new` are None.
    """
    quality = quality_by_label(step)
    groups = _Groups.of(step, protocol)
    background = [label for label in quality if label not in groups.all]
    by_class = not protocol.is_domain_incremental
    values = {
        "old": _mean(quality[label] for label in background + groups.old) if by_class else None,
        "new": _mean(quality[label] for label in groups.new),
        "all": _mean(quality.values()),
    }
    counts = step.counts
    if isinstance(counts, SemanticCounts):
        values |= {f"{name}_no_background": groups.means(quality)[name] for name in ("old", "all")}
        if protocol.zero_is_unlabelled:
            for suffix, assigned_only in (("labelled", False), ("assigned", True)):
                iou = counts.labelled_iou(assigned_only)
                means = groups.means({} if iou is None else _by_label(step, iou))
                values |= {f"{name}_{suffix}": mean for name, mean in means.items()}
    elif isinstance(counts, PanopticCounts):
        things = set(protocol.things)
        values |= {
            "sq": _mean(_by_label(step, counts.segmentation_quality()).values()),
            "rq": _mean(_by_label(step, counts.recognition_quality()).values()),
            "things": _mean(value for label, value in quality.items() if label in things),
            "stuff": _mean(value for label, value in quality.items() if label not in things),
        }
    elif isinstance(counts, InstanceCounts):
        values["ap50"] = _mean(_by_label(step, counts.quality_at(50)).values())
        values["ap75"] = _mean(_by_label(step, counts.quality_at(75)).values())
    return values


@dataclass(frozen=True)
class _Groups:
    """Label ids known after a step, the background in none of them."""

    old: list[int]
    new: list[int]
    all: list[int]

    @classmethod
    def of(cls, step: StepRecord, protocol: ProtocolCard) -> _Groups:
        known = [label for label in step.channels if label != BACKGROUND or not protocol.background]
        if protocol.is_domain_incremental:
            return cls([], [], known)
        first = set(protocol.steps[0].classes)
        old = [label for label in known if label in first]
        return cls(old, [label for label in known if label not in first], known)

    def means(self, quality: Mapping[int, float | None]) -> dict[str, float | None]:
        groups = {"old": self.old, "new": self.new, "all": self.all}
        return {name: _mean(quality.get(label) for label in labels) for name, labels in groups.items()}


def _forgetting(
    protocol: ProtocolCard, steps: Sequence[Values], histories: Sequence[Mapping[int, float | None]]
) -> float | None:
    """Points lost since the best earlier step: mean over the foreground classes learnt before the last step.

    Negative where the classes got better. Domain-incremental: the loss of `all` instead. None for one step.
    """
    if protocol.is_domain_incremental:
        return _lost([step["all"] for step in steps])
    labels = dict.fromkeys(label for history in histories[:-1] for label in history)
    foreground = [label for label in labels if label != BACKGROUND or not protocol.background]
    return _mean(_lost([history.get(label) for history in histories]) for label in foreground)


def _lost(series: list[float | None]) -> float | None:
    earlier = [value for value in series[:-1] if value is not None]
    return max(earlier) - series[-1] if earlier and series[-1] is not None else None


def _by_label(step: StepRecord, quality: NDArray) -> dict[int, float | None]:
    """(K,) of one value a channel, NaN where undefined -> per cent by label id."""
    values = (100 * quality).tolist()
    return {
        label: None if math.isnan(value) else value
        for label, value in zip(step.channels, values, strict=True)
    }


def _mean(values: Iterable[float | None]) -> float | None:
    defined = [value for value in values if value is not None]
    return math.fsum(defined) / len(defined) if defined else None
