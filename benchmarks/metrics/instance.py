"""Mask AP of instances by pycocotools: IoU .50:.05:.95, 101 recall points, 100 masks an image, all areas."""

from __future__ import annotations

import io
from contextlib import redirect_stdout
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pycocotools import mask as rle
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval
from torch import Tensor

from benchmarks.processes import interleaved
from methods.predictions import InstancePrediction
from protocols.segments import NOT_LEARNT, SegmentMap
from reports.record import InstanceCounts


class MaskAP:
    """Gathers true and predicted masks of a test set, run-length encoded.

    An image without an instance of a learnt class is left out, as in the test files of BalConpas
    (`continual/prepare_datasets.py@image_filter_inst`).
    """

    def __init__(self, num_channels: int) -> None:
        self.num_channels = num_channels
        self.images: list[dict[str, Any] | None] = []
        """Of each test image, in order: its size, and its true and predicted masks; None for one left out."""

    def update(self, truth: SegmentMap, truth_channels: Tensor, prediction: InstancePrediction) -> None:
        """One image; `truth_channels` int64 (N,), -1 for a class not learnt yet."""
        channels = truth_channels.cpu().numpy()
        learnt = np.flatnonzero(channels != NOT_LEARNT)
        if not len(learnt):
            self.images.append(None)
            return
        height, width = truth.ids.shape
        true_masks = truth.ids == (learnt + 1)[:, None, None]
        crowd = truth.crowd[learnt].astype(int).tolist()
        found, scores = prediction.masks.cpu().numpy(), prediction.scores.tolist()
        self.images.append(
            {
                "height": height,
                "width": width,
                "truth": _rows(true_masks, channels[learnt].tolist(), "iscrowd", crowd),
                "predictions": _rows(found, prediction.channels.tolist(), "score", scores),
            }
        )

    def join(self) -> None:
        """Put the images of the other processes, which tested every n-th, in between."""
        self.images = interleaved(self.images)

    def tensors(self) -> dict[str, Tensor]:
        """Nothing is finer than the counts."""
        return {}

    def counts(self) -> InstanceCounts:
        """AP of each channel; None for a class without true instances."""
        truth = [mask for image in self.images if image for mask in image["truth"]]
        instances = np.bincount(
            [mask["category_id"] for mask in truth if not mask["iscrowd"]], minlength=self.num_channels
        ).astype(np.int64)
        precision = self._precision()
        return InstanceCounts(
            ap=_mean(precision),
            ap50=_mean(precision[:1]),
            ap75=_mean(precision[5:6]),
            instances=tuple(instances.tolist()),
        )

    def _precision(self) -> NDArray[np.float64]:
        """Precision by IoU threshold, recall and channel (10, 101, K); -1 for a class without instances."""
        with redirect_stdout(io.StringIO()):
            evaluation = COCOeval(self._indexed("truth"), self._indexed("predictions"), "segm")
            evaluation.evaluate()
            evaluation.accumulate()
        precision: NDArray[np.float64] = evaluation.eval["precision"]
        return precision[:, :, :, 0, -1]

    def _indexed(self, kind: str) -> COCO:
        """The masks of one kind, numbered from 1 on, as the images are."""
        images: list[dict[str, Any]] = []
        masks: list[dict[str, Any]] = []
        for image in filter(None, self.images):
            images.append({"id": len(images) + 1, "height": image["height"], "width": image["width"]})
            for row in image[kind]:
                masks.append(row | {"id": len(masks) + 1, "image_id": len(images)})
        index = COCO()
        categories = [{"id": channel} for channel in range(self.num_channels)]
        index.dataset = {"images": images, "annotations": masks, "categories": categories}
        index.createIndex()
        return index


def _rows(
    masks: NDArray[np.bool_], channels: list[int], name: str, values: list[Any]
) -> list[dict[str, Any]]:
    runs = encoded(masks)
    return [
        {
            "category_id": channel,
            name: value,
            "segmentation": run | {"counts": run["counts"].decode("ascii")},
            "area": float(area),
        }
        for run, area, channel, value in zip(runs, rle.area(runs), channels, values, strict=True)
    ]


def encoded(masks: NDArray[np.bool_]) -> list[dict[str, Any]]:
    """bool (N, H, W) -> N run-length encodings of pycocotools."""
    runs: list[dict[str, Any]] = rle.encode(np.ascontiguousarray(masks.transpose(0, 2, 1), np.uint8).T)
    return runs


def _mean(precision: NDArray[np.float64]) -> tuple[float | None, ...]:
    """Over thresholds and recalls; None for a class without true instances, whose precision is -1."""
    return tuple(
        float(values.mean()) if len(values := of_class[of_class > -1]) else None
        for of_class in np.moveaxis(precision, -1, 0)
    )
