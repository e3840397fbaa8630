"""What a trained step says of its test images, counted by the metric of the protocol's task."""

from __future__ import annotations

import torch
from torch import Tensor

from benchmarks.metrics.semantic import ConfusionMatrix
from methods.method import Method
from protocols.loading import StepData


@torch.no_grad()
def evaluate(method: Method, data: StepData, num_classes: int, background: bool) -> ConfusionMatrix:
    """Predict every test image once. `background`: channel 0 of the `num_classes` is the background."""
    method.network.eval()
    total = ConfusionMatrix(num_classes, background, data.device)
    for batch in data.test_batches():
        if method.tests_whole_images:
            size = (batch.labels.shape[1], batch.labels.shape[2])
            for labels, image in zip(batch.labels, batch.images, strict=True):
                found = method.predict_image(image[None], size)
                assert isinstance(found, Tensor)
                total.update(labels, found)
        else:
            total.update(batch.labels, method.predict(batch.images))
    return total
