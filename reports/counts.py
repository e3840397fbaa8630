"""What a test set says about each class: one type a task, each enough to derive any group of classes later.

All three name their `task`, which is how a reader of JSON tells them apart, and give `quality()`: the task's
measure of each channel (IoU, PQ or AP), in 0..1, NaN where it is not defined.
"""

from __future__ import annotations

import operator
from dataclasses import dataclass
from functools import lru_cache
from typing import ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from reports.codec import FieldError

REMEDY = "correct it or rerun the benchmark"


@dataclass(frozen=True)
class SemanticCounts:
    """Pixels over a test set, one entry an output channel."""

    intersection: tuple[int, ...]
    """Pixels where prediction and ground truth are both this channel."""
    ground_truth: tuple[int, ...]
    prediction: tuple[int, ...]
    """Predicted pixels, those whose ground truth is ignored (255) not counted."""
    prediction_on_background: tuple[int, ...] | None = None
    """The part of `prediction` whose ground truth is the background, channel 0. None in a protocol without
    background, and in records of schema 1."""
    unassigned: tuple[int, ...] | None = None
    """The part of `ground_truth` that was predicted as background. None where the one above is."""
    task: Literal["semantic"] = "semantic"
    metric: ClassVar[str] = "mIoU"

    def __post_init__(self) -> None:
        _check_columns(self, "intersection", "ground_truth", "prediction")
        _check_part(self, "intersection", "ground_truth")
        _check_part(self, "intersection", "prediction")
        if (self.prediction_on_background is None) != (self.unassigned is None):
            raise FieldError("unassigned", f"give it and prediction_on_background, or neither; {REMEDY}")
        if self.unassigned is not None:
            _check_columns(self, "intersection", "prediction_on_background", "unassigned")
            _check_part(self, "prediction_on_background", "prediction")
            _check_part(self, "unassigned", "ground_truth")

    @classmethod
    def from_confusion(cls, confusion: NDArray[np.int64], background: bool) -> SemanticCounts:
        """From a confusion matrix (K, K) of pixels, rows ground truth, columns prediction.

        `background`: channel 0 is the background, no class.
        """
        return cls(
            intersection=_whole(np.diagonal(confusion)),
            ground_truth=_whole(confusion.sum(axis=1)),
            prediction=_whole(confusion.sum(axis=0)),
            prediction_on_background=_whole(confusion[0]) if background else None,
            unassigned=_whole(confusion[:, 0]) if background else None,
        )

    @property
    def num_channels(self) -> int:
        return len(self.intersection)

    def quality(self) -> NDArray[np.float64]:
        """IoU of each channel (K,); NaN where the ground truth has no pixel."""
        return _iou(*map(_floats, (self.intersection, self.ground_truth, self.prediction)))

    def labelled_iou(self, assigned_only: bool = False) -> NDArray[np.float64] | None:
        """IoU (K,) over the pixels whose ground truth is a class learnt so far; the background's is NaN.

        `assigned_only` leaves out, besides, the pixels that were predicted as background. None where the
        counts do not tell. Source: BalConpas `continual/evaluator.py@SemSegEvaluator`; with `assigned_only`
        SimCIS's, which cuts the row of the pixels that no query claims out of its confusion matrix.
        """
        if self.unassigned is None or self.prediction_on_background is None:
            return None
        truth = _floats(self.ground_truth) - (_floats(self.unassigned) if assigned_only else 0)
        predicted = _floats(self.prediction) - _floats(self.prediction_on_background)
        iou = _iou(_floats(self.intersection), truth, predicted)
        iou[0] = np.nan
        return iou

    def overall_accuracy(self) -> float:
        """Share of the pixels that are right, in 0..1; NaN where there is no pixel."""
        pixels = sum(self.ground_truth)
        return sum(self.intersection) / pixels if pixels else float("nan")

    def mean_accuracy(self) -> float:
        """Mean over the channels with ground truth of the share that is found, in 0..1."""
        truth = np.asarray(self.ground_truth, dtype=np.float64)
        accuracy = np.asarray(self.intersection) / (truth + 1e-6)
        return float(accuracy[truth > 0].mean())

    def frequency_weighted_iou(self) -> float:
        """IoU of each channel weighted by its share of the ground truth, in 0..1."""
        truth = np.asarray(self.ground_truth, dtype=np.float64)
        return float(np.nansum(self.quality() * truth) / truth.sum())


@dataclass(frozen=True)
class PanopticCounts:
    """Segments over a test set, one entry an output channel."""

    true_positives: tuple[int, ...]
    """Pairs of a predicted and a true segment whose IoU exceeds a half."""
    false_positives: tuple[int, ...]
    false_negatives: tuple[int, ...]
    iou_sum: tuple[float, ...]
    """Sum of the IoU of the true positives."""
    task: Literal["panoptic"] = "panoptic"
    metric: ClassVar[str] = "PQ"

    def __post_init__(self) -> None:
        columns = ("true_positives", "false_positives", "false_negatives", "iou_sum")
        _check_columns(self, *columns)
        _check_part(self, "iou_sum", "true_positives", slack=1e-9)

    @property
    def num_channels(self) -> int:
        return len(self.true_positives)

    def quality(self) -> NDArray[np.float64]:
        """PQ of each channel (K,); NaN for a class without any segment, true or predicted."""
        return _ratio(np.asarray(self.iou_sum), self._segments())

    def segmentation_quality(self) -> NDArray[np.float64]:
        """SQ (K,), the mean IoU of the true positives; 0 where there is none, NaN where PQ is NaN."""
        hits = np.asarray(self.true_positives, dtype=np.float64)
        quality = np.asarray(self.iou_sum) / np.maximum(hits, 1)
        return np.where(self._segments() > 0, quality, np.nan)

    def recognition_quality(self) -> NDArray[np.float64]:
        """RQ (K,), the F1 score of the segments; NaN where PQ is NaN."""
        return _ratio(np.asarray(self.true_positives, dtype=np.float64), self._segments())

    def _segments(self) -> NDArray[np.float64]:
        missed = np.asarray(self.false_positives) + np.asarray(self.false_negatives)
        return np.asarray(self.true_positives) + 0.5 * missed


@dataclass(frozen=True)
class InstanceCounts:
    """COCO mask AP over a test set, one entry an output channel, in 0..1; None without ground truth."""

    ap: tuple[float | None, ...]
    """Mean over the IoU thresholds .50:.05:.95."""
    ap50: tuple[float | None, ...]
    ap75: tuple[float | None, ...]
    instances: tuple[int, ...]
    """True instances, crowds not counted."""
    task: Literal["instance"] = "instance"
    metric: ClassVar[str] = "AP"

    def __post_init__(self) -> None:
        _check_columns(self, "ap", "ap50", "ap75", "instances")
        for name in ("ap", "ap50", "ap75"):
            for position, value in enumerate(getattr(self, name)):
                if value is not None and value > 1:
                    raise FieldError(f"{name}[{position}]", f"{value} is above 1; {REMEDY}")

    @property
    def num_channels(self) -> int:
        return len(self.ap)

    def quality(self) -> NDArray[np.float64]:
        """AP of each channel (K,); NaN where the ground truth has no instance."""
        return _or_nan(self.ap)

    def quality_at(self, threshold: Literal[50, 75]) -> NDArray[np.float64]:
        """AP (K,) at one IoU threshold in per cent; NaN where the ground truth has no instance."""
        return _or_nan(self.ap50 if threshold == 50 else self.ap75)


Counts = SemanticCounts | PanopticCounts | InstanceCounts


def _iou(
    hits: NDArray[np.float64], truth: NDArray[np.float64], predicted: NDArray[np.float64]
) -> NDArray[np.float64]:
    """NaN where the truth has no pixel. Source: MiB, PLOP `metrics/stream_metrics.py`, its 1e-6 included."""
    return np.where(truth > 0, hits / (truth + predicted - hits + 1e-6), np.nan)


@lru_cache(maxsize=8)
def _floats(column: tuple[int, ...]) -> NDArray[np.float64]:
    """The last few are kept: each is in several measures of a step, and is made slower than it is used."""
    array = np.asarray(column, dtype=np.float64)
    array.setflags(write=False)
    return array


def _whole(values: NDArray[np.int64]) -> tuple[int, ...]:
    return tuple(int(value) for value in values)


def _ratio(over: NDArray[np.float64], under: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.divide(over, under, out=np.full(len(under), np.nan), where=under > 0)


def _or_nan(values: tuple[float | None, ...]) -> NDArray[np.float64]:
    return np.asarray([np.nan if value is None else value for value in values], dtype=np.float64)


def _check_columns(counts: object, first: str, *others: str) -> None:
    """Raise `FieldError` unless these fields are as long as the first and nowhere negative."""
    length = len(getattr(counts, first))
    for name in (first, *others):
        values = getattr(counts, name)
        if len(values) != length:
            wanted = f"as many as {first} has ({length})"
            raise FieldError(name, f"{len(values)} counts, expected {wanted}; {REMEDY}")
        known = [value for value in values if value is not None] if None in values else values
        lowest = min(known, default=0)
        if lowest < 0:
            problem = f"{lowest} is negative, expected a number >= 0; {REMEDY}"
            raise FieldError(f"{name}[{values.index(lowest)}]", problem)


def _check_part(counts: object, part: str, whole: str, slack: float = 0) -> None:
    values, wholes = getattr(counts, part), getattr(counts, whole)
    most = [value + slack * value for value in wholes] if slack else wholes
    if any(map(operator.gt, values, most)):
        position = next(i for i, (value, limit) in enumerate(zip(values, most, strict=True)) if value > limit)
        problem = f"{values[position]} exceeds the {wholes[position]} of {whole}; {REMEDY}"
        raise FieldError(f"{part}[{position}]", problem)
