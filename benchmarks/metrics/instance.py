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
        self.images: list[dict[str, Any]] = []
        self.truth: list[dict[str, Any]] = []
        self.predictions: list[dict[str, Any]] = []

    def update(self, truth: SegmentMap, truth_channels: Tensor, prediction: InstancePrediction) -> None:
        """One image; `truth_channels` int64 (N,), -1 for a class not learnt yet."""
        channels = truth_channels.cpu().numpy()
        learnt = np.flatnonzero(channels != NOT_LEARNT)
        if not len(learnt):
            return
        height, width = truth.ids.shape
        self.images.append({"id": len(self.images) + 1, "height": height, "width": width})
        true_masks = truth.ids == (learnt + 1)[:, None, None]
        crowd = truth.crowd[learnt].astype(int).tolist()
        self._append(self.truth, true_masks, channels[learnt].tolist(), "iscrowd", crowd)
        found, scores = prediction.masks.cpu().numpy(), prediction.scores.tolist()
        self._append(self.predictions, found, prediction.channels.tolist(), "score", scores)

    def _append(
        self,
        rows: list[dict[str, Any]],
        masks: NDArray[np.bool_],
        channels: list[int],
        name: str,
        values: list[Any],
    ) -> None:
        runs = encoded(masks)
        for run, area, channel, value in zip(runs, rle.area(runs), channels, values, strict=True):
            row = {"id": len(rows) + 1, "image_id": len(self.images), "category_id": channel, name: value}
            rows.append(row | {"segmentation": run, "area": float(area)})

    def tensors(self) -> dict[str, Tensor]:
        """Nothing is finer than the counts."""
        return {}

    def counts(self) -> InstanceCounts:
        """AP of each channel; None for a class without true instances."""
        instances = np.bincount(
            [mask["category_id"] for mask in self.truth if not mask["iscrowd"]], minlength=self.num_channels
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
            evaluation = COCOeval(self._indexed(self.truth), self._indexed(self.predictions), "segm")
            evaluation.evaluate()
            evaluation.accumulate()
        precision: NDArray[np.float64] = evaluation.eval["precision"]
        return precision[:, :, :, 0, -1]

    def _indexed(self, masks: list[dict[str, Any]]) -> COCO:
        index = COCO()
        categories = [{"id": channel} for channel in range(self.num_channels)]
        index.dataset = {"images": self.images, "annotations": masks, "categories": categories}
        index.createIndex()
        return index


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
