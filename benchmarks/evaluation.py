"""What a trained step says of its test images, counted by the metric of the protocol's task."""

from __future__ import annotations

import torch
from torch import Tensor

from benchmarks.metrics.instance import MaskAP
from benchmarks.metrics.panoptic import PanopticQuality
from benchmarks.metrics.semantic import ConfusionMatrix
from methods.method import Method
from methods.predictions import InstancePrediction, PanopticPrediction
from protocols.loading import StepData, TestImage

Metric = ConfusionMatrix | PanopticQuality | MaskAP


@torch.no_grad()
def evaluate(method: Method, data: StepData) -> Metric:
    """Predict every test image once, whole or as a centre crop, as the method's family is published.

    Several processes each predict their share of the images, and all get the counts of one process.
    """
    metric = _of_share(method, data)
    metric.join()
    return metric


def _of_share(method: Method, data: StepData) -> Metric:
    method.network.eval()
    protocol = data.protocol
    num_channels = len(protocol.channels(data.index))
    if protocol.task == "panoptic":
        return _of_whole_images(method, data, PanopticQuality(num_channels))
    if protocol.task == "instance":
        return _of_whole_images(method, data, MaskAP(num_channels))
    confusion = ConfusionMatrix(num_channels, protocol.background, data.device)
    if method.tests_whole_images:
        return _of_whole_images(method, data, confusion)
    for batch in data.test_batches():
        confusion.update(batch.labels, method.predict(batch.images))
    return confusion


def _of_whole_images(method: Method, data: StepData, metric: Metric) -> Metric:
    for test in data.test_images():
        _count(metric, test, method.predict_image(test.image, test.size))
    return metric


def _count(metric: Metric, test: TestImage, found: Tensor | PanopticPrediction | InstancePrediction) -> None:
    if isinstance(metric, ConfusionMatrix):
        assert isinstance(found, Tensor) and test.labels is not None
        metric.update(test.labels, found)
        return
    assert test.segments is not None and test.channels is not None
    if isinstance(metric, PanopticQuality):
        assert isinstance(found, PanopticPrediction)
        metric.update(test.segments, test.channels, found)
    else:
        assert isinstance(found, InstancePrediction)
        metric.update(test.segments, test.channels, found)
