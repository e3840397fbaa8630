"""A few test images, and what is true and what a network says of them, for people to look at.

Nobody picks them: of the images tested after the last step they are the four whose names have the lowest
SHA-256. So all methods of a protocol show the same ones, also those that train all steps as one; and all
divisions of the same classes do, such as ade-100-50 and ade-100-10, which share finished steps.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from methods.method import Method
from methods.predictions import InstancePrediction, PanopticPrediction
from protocols.datasets import Dataset, Sample
from protocols.labels import test_lut
from protocols.loading import StepData
from protocols.protocol import Protocol
from protocols.shares import WHOLE
from reports.samples import NOTHING, LabelMap, folder_of

NUM_SAMPLES = 4
SURE = 0.5
"""Instances of a lower score are not shown: detectron2 `demo/demo.py`, --confidence-threshold."""


def choose_samples(tested: Sequence[Sample], root: Path) -> dict[str, Sample]:
    """At most four of `tested`, whatever its order, by the names that they are shown under."""
    ranked = sorted(tested, key=lambda sample: _name_hash(sample, root))
    named: dict[str, Sample] = {}
    for sample in ranked:
        if len(named) < NUM_SAMPLES:
            named.setdefault(folder_of(sample.image.stem), sample)
    return named


def _name_hash(sample: Sample, root: Path) -> str:
    path = sample.image
    name = path.relative_to(root).as_posix() if path.is_relative_to(root) else path.name
    return hashlib.sha256(name.encode()).hexdigest()


@torch.no_grad()
def predict_samples(method: Method, data: StepData, samples: dict[str, Sample]) -> dict[str, LabelMap]:
    """What `method` says of each, whole or as a centre crop: as `benchmarks.evaluation` tests it."""
    method.network.eval()
    few = replace(data, test=tuple(samples.values()), workers=0, share=WHOLE)
    if method.tests_whole_images or data.protocol.has_segments:
        found = [method.predict_image(test.image, test.size) for test in few.test_images()]
    else:
        found = [labels for batch in few.test_batches() for labels in method.predict(batch.images)]
    channels = np.asarray(data.protocol.channels(data.index), dtype=np.uint8)
    return {name: _label_map(each, channels) for name, each in zip(samples, found, strict=True)}


def true_labels(dataset: Dataset, protocol: Protocol, sample: Sample) -> LabelMap:
    """What the test after the last step takes for the truth, at the size of the photograph."""
    last = len(protocol.steps) - 1
    lut = test_lut(protocol, last)
    channels = np.full(256, NOTHING, dtype=np.uint8)
    channels[: len(protocol.channels(last))] = protocol.channels(last)
    if not protocol.has_segments:
        return LabelMap(channels[lut[dataset.read_labels(sample)]])
    segments = dataset.read_segments(sample, protocol.task)
    return _segment_map(segments.ids, channels[lut[segments.labels]])


def _label_map(
    found: Tensor | PanopticPrediction | InstancePrediction, channels: NDArray[np.uint8]
) -> LabelMap:
    """`channels`: the label id of each channel."""
    if isinstance(found, Tensor):
        return LabelMap(channels[found.cpu().numpy()])
    labels = channels[found.channels.cpu().numpy()]
    if isinstance(found, PanopticPrediction):
        return _segment_map(found.ids.cpu().numpy(), labels)
    return _segment_map(_painted(found), labels)


def _painted(found: InstancePrediction) -> NDArray[np.int32]:
    """(H, W): n in 1..N where mask n lies and no surer one does, 0 where there is none that is sure."""
    masks, scores = found.masks.cpu().numpy(), found.scores.cpu().numpy()
    ids = np.zeros(masks.shape[1:], dtype=np.int32)
    for number in scores.argsort(kind="stable"):
        if scores[number] >= SURE:
            ids[masks[number]] = number + 1
    return ids


def _segment_map(ids: NDArray[np.int32], labels: NDArray[np.uint8]) -> LabelMap:
    """`labels` (N,): the label id of each segment, or 255, which makes it none."""
    known = np.concatenate([[NOTHING], labels]).astype(np.uint8)[ids]
    return LabelMap(known, np.where(known == NOTHING, 0, ids).astype(np.uint16))
