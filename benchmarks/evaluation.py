"""Semantic evaluation: one confusion matrix over all test images (PLOP `metrics/stream_metrics.py`)."""

from __future__ import annotations

import torch
from torch import Tensor

from methods.method import Method
from protocols.loading import StepData
from reports.record import ClassCounts


def confusion_matrix(labels: Tensor, predictions: Tensor, num_classes: int) -> Tensor:
    """Pixels by (ground truth, prediction), int64 (num_classes, num_classes).

    Labels outside 0..num_classes-1, such as 255, do not count. Both inputs: integers of the same shape.
    """
    valid = (labels >= 0) & (labels < num_classes)
    pairs = labels[valid] * num_classes + predictions[valid]
    return torch.bincount(pairs, minlength=num_classes**2).reshape(num_classes, num_classes)


def class_counts(confusion: Tensor) -> ClassCounts:
    """What a record keeps: any grouping of classes can be derived from it later."""
    return ClassCounts(
        intersection=tuple(confusion.diagonal().tolist()),
        ground_truth=tuple(confusion.sum(dim=1).tolist()),
        prediction=tuple(confusion.sum(dim=0).tolist()),
    )


@torch.no_grad()
def evaluate(method: Method, data: StepData, num_classes: int) -> Tensor:
    """Predict every test image once; the confusion matrix, int64 (num_classes, num_classes) on the CPU."""
    method.network.eval()
    total = torch.zeros(num_classes, num_classes, dtype=torch.int64, device=data.device)
    for batch in data.test_batches():
        total += confusion_matrix(batch.labels, method.predict(batch.images), num_classes)
    return total.cpu()
