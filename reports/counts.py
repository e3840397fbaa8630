"""What a test set says about each class: three pixel counts."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from reports.codec import FieldError


@dataclass(frozen=True)
class ClassCounts:
    """Pixels over a test set, one entry an output channel: enough to derive any grouping of IoU later."""

    intersection: tuple[int, ...]
    """Pixels where prediction and ground truth are both this channel."""
    ground_truth: tuple[int, ...]
    prediction: tuple[int, ...]
    """Predicted pixels, those whose ground truth is ignored (255) not counted."""

    def __post_init__(self) -> None:
        for name in ("intersection", "ground_truth", "prediction"):
            counts = getattr(self, name)
            if len(counts) != len(self.intersection):
                wanted = f"as many as intersection has ({len(self.intersection)})"
                raise FieldError(
                    name, f"{len(counts)} counts, expected {wanted}; correct it or rerun the benchmark"
                )
            if counts and min(counts) < 0:
                position = next(index for index, count in enumerate(counts) if count < 0)
                problem = (
                    f"{counts[position]} is negative, expected pixels >= 0; correct it or rerun the benchmark"
                )
                raise FieldError(f"{name}[{position}]", problem)
        for position, both in enumerate(self.intersection):
            most = min(self.ground_truth[position], self.prediction[position])
            if both > most:
                problem = (
                    f"{both} exceeds the {most} pixels of ground_truth or prediction; correct it or rerun"
                )
                raise FieldError(f"intersection[{position}]", problem)

    @classmethod
    def from_confusion(cls, confusion: NDArray[np.int64]) -> ClassCounts:
        """From a confusion matrix (K, K) of pixels, rows ground truth, columns prediction."""
        columns = (np.diagonal(confusion), confusion.sum(axis=1), confusion.sum(axis=0))
        return cls(*(tuple(int(count) for count in column) for column in columns))

    def iou(self) -> NDArray[np.float64]:
        """IoU of each channel (K,), in 0..1; NaN where the ground truth has no pixel.

        Source: MiB, PLOP `metrics/stream_metrics.py`, its 1e-6 included.
        """
        both, truth, predicted = (
            np.asarray(counts, dtype=np.float64)
            for counts in (self.intersection, self.ground_truth, self.prediction)
        )
        iou = both / (truth + predicted - both + 1e-6)
        return np.where(truth > 0, iou, np.nan)

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
        return float(np.nansum(self.iou() * truth) / truth.sum())
