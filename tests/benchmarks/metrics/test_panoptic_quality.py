"""Panoptic quality against panopticapi, its definition in plain words, and torchmetrics."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image

from benchmarks.metrics.panoptic import Matches, PanopticQuality, match_segments
from methods.predictions import PanopticPrediction
from protocols.segments import SegmentMap
from tests.benchmarks.metrics.panoptic_cases import NUM_CHANNELS, Case, random_pair, slow_matches


def total(matches: list[Matches]) -> NDArray[np.float64]:
    """(4, K): true positives, false positives, false negatives, sum of IoU."""
    rows = [(m.true_positives, m.false_positives, m.false_negatives, m.iou_sum) for m in matches]
    return np.sum(rows, axis=0)


def test_200_random_pairs_with_void_and_crowds() -> None:
    """Golden totals: panopticapi@7bb4655 `evaluation.py@pq_compute_single_core` on the same pairs as PNGs."""
    cases = [random_pair(seed) for seed in range(200)]
    found = [match_segments(*case, NUM_CHANNELS) for case in cases]
    for case, matches in zip(cases, found, strict=True):
        slow = slow_matches(*case, NUM_CHANNELS)
        np.testing.assert_allclose(total([matches]), total([slow]), rtol=1e-12)
    np.testing.assert_array_equal(total(found)[0], [118, 104, 108, 107, 123])
    np.testing.assert_array_equal(total(found)[1], [201, 207, 213, 226, 212])
    np.testing.assert_array_equal(total(found)[2], [117, 126, 133, 147, 120])
    iou = [89.76808378, 77.36527571, 84.32691906, 84.3940661, 94.86742415]
    np.testing.assert_allclose(total(found)[3], iou, rtol=1e-9)


def test_the_cases_have_what_they_should() -> None:
    cases = [random_pair(seed) for seed in range(200)]
    assert sum((truth.ids == 0).any() for truth, *_ in cases) > 150
    assert sum(truth.crowd.any() for truth, *_ in cases) > 150
    assert sum((channels < 0).any() for _, channels, *_ in cases) > 150
    several = [np.bincount(channels[truth.crowd & (channels >= 0)]) for truth, channels, *_ in cases]
    assert sum(count.max(initial=0) > 1 for count in several) > 20


def test_the_two_coco_samples(shared_data: Callable[[str], Path]) -> None:
    """Golden numbers: panopticapi@7bb4655 `pq_compute_single_core` on the same predictions."""
    folder = shared_data("coco-panoptic-sample")
    cases = [coco_case(folder, stem) for stem in ("000000142238", "000000439180")]
    sums = total([match_segments(*case, 201, areas) for case, areas in cases])
    learnt = np.flatnonzero(sums[:3].any(axis=0))
    golden = {
        1: (14, 14, 12, 8.17074131467071),
        8: (1, 0, 1, 0.6891731112433076),
        19: (7, 4, 4, 4.444780499034008),
        37: (0, 0, 1, 0),
        125: (1, 1, 0, 0.5902572602147438),
        184: (1, 0, 1, 0.907762916912929),
        187: (2, 0, 0, 1.4305065249908695),
        193: (2, 0, 0, 1.5638091142208241),
    }
    assert learnt.tolist() == sorted(golden)
    for category, expected in golden.items():
        np.testing.assert_allclose(sums[:, category], expected, rtol=1e-9)


def coco_case(folder: Path, stem: str) -> tuple[Case, NDArray[np.int64]]:
    """The sample; as prediction its segments moved by (4, 6) pixels, every fifth with the class before it."""
    rows = json.loads((folder / "annotations/panoptic.json").read_text())["annotations"]
    segments = next(row["segments_info"] for row in rows if row["file_name"] == f"{stem}.png")
    colours = np.asarray(Image.open(folder / f"panoptic_png/{stem}.png"), np.int64) @ [1, 256, 256**2]
    ids = np.zeros(colours.shape, np.int32)
    for n, segment in enumerate(segments, 1):
        ids[colours == segment["id"]] = n
    categories = np.array([segment["category_id"] for segment in segments])
    crowd = np.array([bool(segment["iscrowd"]) for segment in segments])
    guessed = np.where(np.arange(len(segments)) % 5 == 4, np.roll(categories, 1), categories)
    truth = SegmentMap(ids, categories.astype(np.uint8), crowd)
    areas = np.array([segment["area"] for segment in segments])
    return (truth, categories, np.roll(ids, (4, 6), (0, 1)), guessed), areas


@pytest.mark.parametrize("seed", range(20))
def test_against_torchmetrics(seed: int) -> None:
    """Without crowds, which it does not know, and unpredicted pixels, which it takes out of the union."""
    torchmetrics = pytest.importorskip("torchmetrics.detection")
    truth, channels, predicted_ids, predicted_channels = random_pair(seed, segments=20, found=1)
    truth = replace(truth, crowd=np.zeros_like(truth.crowd))
    channels = np.where(channels < 0, 0, channels)
    matches = match_segments(truth, channels, predicted_ids, predicted_channels, NUM_CHANNELS)
    other = torchmetrics.PanopticQuality(
        things=set(range(NUM_CHANNELS)),
        stuffs={NUM_CHANNELS},
        allow_unknown_preds_category=True,
        return_sq_and_rq=True,
        return_per_class=True,
    )
    other.update(
        _coloured(predicted_ids, predicted_channels),
        _coloured(truth.ids, channels),
    )
    expected = other.compute().numpy()[:NUM_CHANNELS]
    quality = PanopticQuality(NUM_CHANNELS)
    quality.update(truth, torch.from_numpy(channels), _prediction(predicted_ids, predicted_channels))
    counts = quality.counts()
    ours = [counts.quality(), counts.segmentation_quality(), counts.recognition_quality()]
    np.testing.assert_allclose(np.nan_to_num(np.stack(ours, axis=1)), expected, atol=1e-9)
    assert counts.true_positives == tuple(matches.true_positives.tolist())


def _coloured(ids: NDArray[np.int32], channels: NDArray[np.int64]) -> torch.Tensor:
    """(1, H, W, 2) category and number of each pixel; category 99, unknown, where there is no segment."""
    categories = np.concatenate([[99], channels])
    return torch.from_numpy(np.stack([categories[ids], ids], axis=-1))[None]


def _prediction(ids: NDArray[np.int32], channels: NDArray[np.int64]) -> PanopticPrediction:
    return PanopticPrediction(torch.from_numpy(ids), torch.from_numpy(channels))


def scene(*runs: tuple[int, int]) -> NDArray[np.int32]:
    """(1, W) ids from (id, length) runs."""
    return np.concatenate([np.full(length, number, np.int32) for number, length in runs])[None]


def truth_of(
    ids: NDArray[np.int32], channels: list[int], crowd: list[bool] | None = None
) -> tuple[SegmentMap, NDArray[np.int64]]:
    labels = np.array([max(channel, 0) + 1 for channel in channels], np.uint8)
    is_crowd = np.array(crowd or [False] * len(channels), np.bool_)
    return SegmentMap(ids, labels, is_crowd), np.array(channels, np.int64)


def matched(
    truth: tuple[SegmentMap, NDArray[np.int64]], ids: NDArray[np.int32], channels: list[int]
) -> tuple[list[int], list[int], list[int], list[float]]:
    found = match_segments(*truth, ids, np.array(channels, np.int64), 2)
    return (
        found.true_positives.tolist(),
        found.false_positives.tolist(),
        found.false_negatives.tolist(),
        found.iou_sum.tolist(),
    )


def test_half_is_not_enough() -> None:
    truth = truth_of(scene((1, 10)), [0])
    assert matched(truth, scene((1, 5), (0, 5)), [0]) == ([0, 0], [1, 0], [1, 0], [0, 0])
    assert matched(truth, scene((1, 6), (0, 4)), [0]) == ([1, 0], [0, 0], [0, 0], [0.6, 0])


def test_the_class_must_agree() -> None:
    truth = truth_of(scene((1, 10)), [0])
    assert matched(truth, scene((1, 10)), [1]) == ([0, 0], [0, 1], [1, 0], [0, 0])


def test_void_pixels_leave_the_union_and_excuse_a_prediction_that_lies_mostly_on_them() -> None:
    truth = truth_of(scene((1, 4), (0, 6)), [0])
    assert matched(truth, scene((1, 9), (0, 1)), [0]) == ([1, 0], [0, 0], [0, 0], [1, 0])
    assert matched(truth, scene((0, 4), (1, 6)), [1]) == ([0, 0], [0, 0], [1, 0], [0, 0])
    assert matched(truth, scene((1, 8), (0, 2)), [1]) == ([0, 0], [0, 1], [1, 0], [0, 0])


def test_a_crowd_excuses_its_own_class_and_is_never_missed() -> None:
    truth = truth_of(scene((1, 10)), [0], [True])
    assert matched(truth, scene((1, 10)), [0]) == ([0, 0], [0, 0], [0, 0], [0, 0])
    assert matched(truth, scene((1, 10)), [1]) == ([0, 0], [0, 1], [0, 0], [0, 0])
    assert matched(truth, scene((0, 10)), []) == ([0, 0], [0, 0], [0, 0], [0, 0])


def test_a_class_not_learnt_yet_is_neither_missed_nor_void() -> None:
    truth = truth_of(scene((1, 5), (2, 5)), [0, -1])
    assert matched(truth, scene((1, 5), (2, 5)), [0, 1]) == ([1, 0], [0, 1], [0, 0], [1, 0])
    assert matched(truth, scene((1, 5), (0, 5)), [0]) == ([1, 0], [0, 0], [0, 0], [1, 0])


def test_stated_areas_are_taken_as_they_are() -> None:
    truth, channels = truth_of(scene((1, 6), (0, 4)), [0])
    stated = np.array([8])
    found = match_segments(truth, channels, scene((1, 6), (0, 4)), np.array([0]), 1, stated)
    assert found.iou_sum.tolist() == [0.75]


def test_images_without_a_learnt_segment_are_left_out() -> None:
    quality = PanopticQuality(2)
    everywhere = _prediction(scene((1, 10)), np.array([1]))
    for channels in ([-1], []):
        truth, of_truth = truth_of(scene((len(channels), 10)), channels)
        quality.update(truth, torch.from_numpy(of_truth), everywhere)
    assert quality.counts().false_positives == (0, 0)
    truth, of_truth = truth_of(scene((1, 10)), [0])
    quality.update(truth, torch.from_numpy(of_truth), everywhere)
    assert quality.counts().false_positives == (0, 1)
    assert quality.counts().false_negatives == (1, 0)


def test_nothing_predicted_and_nothing_there() -> None:
    nothing = truth_of(scene((0, 10)), [])
    assert matched(nothing, scene((0, 10)), []) == ([0, 0], [0, 0], [0, 0], [0, 0])
    assert matched(nothing, scene((1, 10)), [1]) == ([0, 0], [0, 0], [0, 0], [0, 0])
