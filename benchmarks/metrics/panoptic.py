"""Panoptic quality, as in panopticapi `evaluation.py@pq_compute_single_core`.

A predicted and a true segment of one class match where their IoU exceeds a half; no two pairs can then share
a segment. Nothing here loops over segments: one count of the pairs of ids says all there is to know.
"""

from __future__ import annotations

from dataclasses import astuple, dataclass

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from benchmarks.processes import interleaved
from methods.predictions import PanopticPrediction
from protocols.segments import NOT_LEARNT, SegmentMap
from reports.record import PanopticCounts


@dataclass(frozen=True, eq=False)
class Matches:
    """What one image says of each channel (K,)."""

    true_positives: NDArray[np.int64]
    false_positives: NDArray[np.int64]
    false_negatives: NDArray[np.int64]
    iou_sum: NDArray[np.float64]

    @classmethod
    def none(cls, num_channels: int) -> Matches:
        zeros = np.zeros(num_channels, dtype=np.int64)
        return cls(zeros, zeros, zeros, np.zeros(num_channels))

    def __add__(self, other: Matches) -> Matches:
        return Matches(
            self.true_positives + other.true_positives,
            self.false_positives + other.false_positives,
            self.false_negatives + other.false_negatives,
            self.iou_sum + other.iou_sum,
        )

    def to_json(self) -> list[list[float]]:
        return [values.tolist() for values in astuple(self)]

    @classmethod
    def from_json(cls, values: list[list[float]]) -> Matches:
        true_positives, false_positives, false_negatives = (np.array(v, dtype=np.int64) for v in values[:3])
        return cls(true_positives, false_positives, false_negatives, np.array(values[3], dtype=np.float64))


def match_segments(
    truth: SegmentMap,
    truth_channels: NDArray[np.int64],
    predicted_ids: NDArray[np.int32],
    predicted_channels: NDArray[np.int64],
    num_channels: int,
    truth_areas: NDArray[np.int64] | None = None,
) -> Matches:
    """Match the segments of one image.

    Args:
        truth: the true segments; id 0 is void.
        truth_channels: (N,) channel of each, or -1 for a class not learnt yet: nothing is missed there, but
            its pixels are not void, so that what is predicted on them is wrong, as in BalConpas's evaluator.
        predicted_ids: (H, W) 0 where nothing is predicted, else n in 1..P.
        predicted_channels: (P,) in 0..num_channels-1.
        truth_areas: (N,) the areas that the annotations state; counted where not given.

    A predicted segment is no false positive where more than half of it lies on void and on the crowd of its
    class; if there are several, on the last one, as in the official code.
    """
    num_truth, num_predicted = len(truth_channels), len(predicted_channels)
    shape = (num_truth + 1, num_predicted + 1)
    pairs = truth.ids.astype(np.intp) * shape[1] + predicted_ids
    pixels = np.bincount(pairs.ravel(), minlength=shape[0] * shape[1]).reshape(shape)
    void, overlap, areas = pixels[0, 1:], pixels[1:, 1:], pixels[:, 1:].sum(axis=0)
    if truth_areas is None:
        truth_areas = pixels[1:].sum(axis=1)

    is_target = (truth_channels != NOT_LEARNT) & ~truth.crowd
    union = areas + truth_areas[:, None] - overlap - void
    same_class = is_target[:, None] & (truth_channels[:, None] == predicted_channels)
    iou = np.divide(overlap, union, out=np.zeros(overlap.shape), where=same_class & (overlap > 0))
    true, predicted = np.nonzero(iou > 0.5)

    crowd_of_channel = np.full(num_channels, -1)
    is_crowd = np.flatnonzero(truth.crowd & (truth_channels != NOT_LEARNT))
    crowd_of_channel[truth_channels[is_crowd]] = is_crowd
    crowd = crowd_of_channel[predicted_channels]
    excused = void + np.where(crowd >= 0, overlap[crowd, np.arange(num_predicted)], 0) if num_truth else void

    is_wrong = (areas > 0) & ~(2 * excused > areas)
    is_wrong[predicted] = False
    is_target[true] = False
    hits = predicted_channels[predicted]
    return Matches(
        true_positives=np.bincount(hits, minlength=num_channels),
        false_positives=np.bincount(predicted_channels[is_wrong], minlength=num_channels),
        false_negatives=np.bincount(truth_channels[is_target], minlength=num_channels),
        iou_sum=np.bincount(hits, weights=iou[true, predicted], minlength=num_channels).astype(np.float64),
    )


class PanopticQuality:
    """Gathers the matches of a test set.

    An image without a segment of a learnt class is left out, as in the test files of BalConpas
    (`continual/prepare_datasets.py@image_filter_pan`).
    """

    def __init__(self, num_channels: int) -> None:
        self.num_channels = num_channels
        self.images: list[Matches] = []
        """Of each test image, in order: sums of IoUs depend on it in their last bits."""

    def update(self, truth: SegmentMap, truth_channels: Tensor, prediction: PanopticPrediction) -> None:
        """One image; `truth_channels` int64 (N,), -1 for a class not learnt yet."""
        channels = truth_channels.cpu().numpy()
        if not (channels != NOT_LEARNT).any():
            self.images.append(Matches.none(self.num_channels))
            return
        found = match_segments(
            truth,
            channels,
            prediction.ids.cpu().numpy(),
            prediction.channels.cpu().numpy(),
            self.num_channels,
        )
        self.images.append(found)

    def join(self) -> None:
        """Put the images of the other processes, which tested every n-th, in between."""
        self.images = [Matches.from_json(found) for found in interleaved([m.to_json() for m in self.images])]

    def tensors(self) -> dict[str, Tensor]:
        """Nothing is finer than the counts."""
        return {}

    def counts(self) -> PanopticCounts:
        total = Matches.none(self.num_channels)
        for found in self.images:
            total += found
        return PanopticCounts(
            tuple(total.true_positives.tolist()),
            tuple(total.false_positives.tolist()),
            tuple(total.false_negatives.tolist()),
            tuple(total.iou_sum.tolist()),
        )
