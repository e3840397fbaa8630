"""Semantic segmentation: one confusion matrix over all test images (PLOP `metrics/stream_metrics.py`)."""

from __future__ import annotations

import torch
from torch import Tensor

from ops.processes import sum_over_processes
from reports.record import SemanticCounts


def confusion_matrix(labels: Tensor, predictions: Tensor, num_classes: int) -> Tensor:
    """Pixels by (ground truth, prediction), int64 (num_classes, num_classes).

    Labels outside 0..num_classes-1, such as 255, do not count. Both inputs: integers of the same shape.
    """
    valid = (labels >= 0) & (labels < num_classes)
    pairs = labels[valid] * num_classes + predictions[valid]
    return torch.bincount(pairs, minlength=num_classes**2).reshape(num_classes, num_classes)


class ConfusionMatrix:
    """Gathers the confusion matrix of a test set where the predictions are, such as on a GPU."""

    def __init__(self, num_classes: int, background: bool, device: torch.device | str = "cpu") -> None:
        self.num_classes, self.background = num_classes, background
        self.pixels = torch.zeros(num_classes, num_classes, dtype=torch.int64, device=device)

    def update(self, labels: Tensor, predictions: Tensor) -> None:
        """Both int64 of the same shape; `labels` as in `confusion_matrix`."""
        self.pixels += confusion_matrix(labels, predictions, self.num_classes)

    def join(self) -> None:
        """Add what the other processes have counted."""
        (self.pixels,) = sum_over_processes([self.pixels])

    def tensors(self) -> dict[str, Tensor]:
        """What is finer than the counts of a record, kept in the store."""
        return {"confusion": self.pixels}

    def counts(self) -> SemanticCounts:
        return SemanticCounts.from_confusion(self.pixels.cpu().numpy(), self.background)
