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
    if method.tests_whole_images:
        for image in data.test_images():
            found = method.predict_image(image.image, image.size)
            assert isinstance(found, Tensor) and image.labels is not None
            total.update(image.labels, found)
        return total
    for batch in data.test_batches():
        total.update(batch.labels, method.predict(batch.images))
    return total
