"""Random pairs of true and predicted panoptic segments, and their matches by the definition, slowly."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from benchmarks.metrics.panoptic import Matches
from protocols.segments import SegmentMap

NUM_CHANNELS = 5
Case = tuple[SegmentMap, NDArray[np.int64], NDArray[np.int32], NDArray[np.int64]]
"""The truth, its channels, the predicted ids and their channels."""


def random_pair(seed: int, size: tuple[int, int] = (40, 48), segments: int = 12, found: float = 0.9) -> Case:
    """Cells around random points; the prediction moves the points a little, and errs in some classes.

    About a sixth of the true cells are void, a sixth crowds and a sixth of a class not learnt yet.
    """
    random = np.random.default_rng(seed)
    points = random.uniform(0, 1, (segments, 2)) * size
    channels = random.integers(0, NUM_CHANNELS, segments)
    kind = random.integers(0, 6, segments)
    moved = points + random.normal(0, random.uniform(0, 6), points.shape)
    guessed = np.where(
        random.uniform(size=segments) < 0.8, channels, random.integers(0, NUM_CHANNELS, segments)
    )
    truth_ids, kept = _numbered(_nearest(points, size), kind != 0)
    truth = SegmentMap(truth_ids, (channels + 1)[kept].astype(np.uint8), (kind == 1)[kept])
    predicted_ids, predicted = _numbered(_nearest(moved, size), random.uniform(size=segments) < found)
    return truth, np.where(kind == 2, -1, channels)[kept], predicted_ids, guessed[predicted]


def slow_matches(
    truth: SegmentMap,
    truth_channels: NDArray[np.int64],
    predicted_ids: NDArray[np.int32],
    predicted_channels: NDArray[np.int64],
    num_channels: int,
) -> Matches:
    """Panoptic quality as Kirillov et al. define it, one segment after the other, with masks."""
    result = Matches(*(np.zeros(num_channels, np.int64) for _ in range(3)), np.zeros(num_channels))
    targets = {n: c for n, c in enumerate(truth_channels.tolist(), 1) if c >= 0}
    missed = {n for n in targets if not truth.crowd[n - 1]}
    void = truth.ids == 0
    for p, channel in enumerate(predicted_channels.tolist(), 1):
        mask = predicted_ids == p
        hit = False
        for n, target in targets.items():
            true = truth.ids == n
            iou = (mask & true).sum() / ((mask & ~void) | true).sum()
            if target == channel and not truth.crowd[n - 1] and iou > 0.5:
                hit = True
                missed.remove(n)
                result.true_positives[channel] += 1
                result.iou_sum[channel] += iou
        crowds = [n for n, target in targets.items() if target == channel and truth.crowd[n - 1]]
        excused = void | (truth.ids == crowds[-1]) if crowds else void
        if not hit and (mask & excused).sum() <= mask.sum() / 2:
            result.false_positives[channel] += 1
    for n in missed:
        result.false_negatives[targets[n]] += 1
    return result


def _nearest(points: NDArray[np.float64], size: tuple[int, int]) -> NDArray[np.int64]:
    """(H, W) number of the point that is nearest to each pixel."""
    grid = np.stack(np.meshgrid(*map(np.arange, size), indexing="ij"), axis=-1)
    distance = ((grid[:, :, None] - points) ** 2).sum(axis=-1)
    return distance.argmin(axis=-1)


def _numbered(
    cells: NDArray[np.int64], wanted: NDArray[np.bool_]
) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
    """Ids 1..N of the wanted cells that have a pixel, 0 elsewhere; and which cells these are."""
    kept = np.intersect1d(np.flatnonzero(wanted), cells)
    ids = np.zeros(len(wanted), np.int32)
    ids[kept] = np.arange(1, len(kept) + 1)
    return ids[cells], kept
