"""Mask AP against pycocotools run directly, and against torchmetrics."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from pycocotools import mask as rle
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from benchmarks.metrics.instance import MaskAP, encoded
from methods.predictions import InstancePrediction
from protocols.segments import SegmentMap
from tests.benchmarks.metrics.panoptic_cases import NUM_CHANNELS, random_pair

Case = tuple[SegmentMap, torch.Tensor, InstancePrediction]
ABSENT = 4
"""The channel that the truth of `cases` never has."""


def case(seed: int) -> Case:
    """Crowds, void and a class not learnt yet in the truth; the predicted masks overlap, scores repeat."""
    truth, channels, predicted_ids, predicted_channels = random_pair(seed)
    random = np.random.default_rng(seed)
    number = np.arange(1, len(predicted_channels) + 1)[:, None, None]
    masks = predicted_ids == number
    masks |= np.roll(masks, 2, axis=2) & (random.uniform(size=(len(masks), 1, 1)) < 0.5)
    twice = np.concatenate([masks, masks[:3]])
    scores = np.round(random.uniform(size=len(twice)), 1).astype(np.float32)
    channels = np.where(channels == ABSENT, 0, channels)
    prediction = InstancePrediction(
        torch.from_numpy(twice),
        torch.from_numpy(np.concatenate([predicted_channels, predicted_channels[:3]])),
        torch.from_numpy(scores),
    )
    return truth, torch.from_numpy(channels), prediction


def cases() -> list[Case]:
    return [case(seed) for seed in range(25)]


def measured(cases: list[Case]) -> MaskAP:
    metric = MaskAP(NUM_CHANNELS)
    for each in cases:
        metric.update(*each)
    return metric


def precision_of_pycocotools(cases: list[Case]) -> np.ndarray:
    """(10, 101, K) of COCOeval on files' content written mask by mask."""
    truth, found = [], []
    for image, (segments, channels, prediction) in enumerate(cases, 1):
        for n, channel in enumerate(channels.tolist(), 1):
            if channel >= 0:
                mask = np.asfortranarray(segments.ids == n, np.uint8)
                row = {"id": len(truth) + 1, "image_id": image, "category_id": channel}
                row |= {"area": int(mask.sum()), "iscrowd": int(segments.crowd[n - 1])}
                truth.append(row | {"segmentation": rle.encode(mask)})
        for mask, channel, score in zip(
            prediction.masks.numpy(), prediction.channels, prediction.scores, strict=True
        ):
            row = {"image_id": image, "category_id": int(channel), "score": float(score)}
            found.append(row | {"segmentation": rle.encode(np.asfortranarray(mask, np.uint8))})
    coco = COCO()
    coco.dataset = {
        "images": [{"id": image, "height": 40, "width": 48} for image in range(1, len(cases) + 1)],
        "annotations": truth,
        "categories": [{"id": channel} for channel in range(NUM_CHANNELS)],
    }
    coco.createIndex()
    evaluation = COCOeval(coco, coco.loadRes(found), "segm")
    evaluation.evaluate()
    evaluation.accumulate()
    return evaluation.eval["precision"][:, :, :, 0, -1]


def test_equal_to_pycocotools(capsys: pytest.CaptureFixture[str]) -> None:
    counts = measured(cases()).counts()
    assert capsys.readouterr().out == ""
    precision = precision_of_pycocotools(cases())
    assert (precision[:, :, ABSENT] == -1).all() and (precision[:, :, :ABSENT] > -1).all()
    learnt = slice(0, ABSENT)
    assert counts.ap[learnt] == tuple(precision[:, :, c].mean() for c in range(ABSENT))
    assert counts.ap50[learnt] == tuple(precision[0, :, c].mean() for c in range(ABSENT))
    assert counts.ap75[learnt] == tuple(precision[5, :, c].mean() for c in range(ABSENT))
    assert counts.ap[ABSENT] is counts.ap50[ABSENT] is counts.ap75[ABSENT] is None
    assert all(0.02 < value < 0.1 for value in precision[:, :, learnt].mean(axis=(0, 1)))
    truth = [(channels[~torch.from_numpy(s.crowd)], s) for s, channels, _ in cases()]
    assert counts.instances == tuple(sum(int((c == k).sum()) for c, _ in truth) for k in range(NUM_CHANNELS))


def test_against_torchmetrics() -> None:
    detection = pytest.importorskip("torchmetrics.detection")
    other = detection.MeanAveragePrecision(iou_type="segm", class_metrics=True)
    for truth, channels, prediction in cases():
        learnt = channels >= 0
        number = torch.arange(1, len(channels) + 1)[learnt, None, None]
        other.update(
            [{"masks": prediction.masks, "labels": prediction.channels, "scores": prediction.scores}],
            [
                {
                    "masks": torch.from_numpy(truth.ids) == number,
                    "labels": channels[learnt],
                    "iscrowd": torch.from_numpy(truth.crowd)[learnt].long(),
                }
            ],
        )
    expected = other.compute()
    ap = np.array([-1 if value is None else value for value in measured(cases()).counts().ap])
    np.testing.assert_allclose(ap, expected["map_per_class"], atol=1e-6)


def test_without_predictions_or_truth() -> None:
    truth, channels, _ = case(0)
    nothing = InstancePrediction(
        torch.zeros(0, *truth.ids.shape, dtype=torch.bool), torch.zeros(0, dtype=torch.int64), torch.zeros(0)
    )
    counts = measured([(truth, channels, nothing)]).counts()
    assert counts.ap == (0.0, 0.0, 0.0, 0.0, None)
    assert all(counts.instances[:ABSENT])
    empty = MaskAP(NUM_CHANNELS).counts()
    assert (empty.ap, empty.instances) == ((None,) * NUM_CHANNELS, (0,) * NUM_CHANNELS)


def test_images_without_a_learnt_instance_are_left_out() -> None:
    truth, channels, prediction = case(0)
    metric = measured([(truth, channels, prediction)])
    before = metric.counts()
    metric.update(truth, torch.full_like(channels, -1), prediction)
    assert metric.counts() == before


def test_encoding() -> None:
    masks = np.random.default_rng(0).uniform(size=(3, 7, 5)) < 0.5
    for mask, run in zip(masks, encoded(masks), strict=True):
        np.testing.assert_array_equal(rle.decode(run), mask)
