"""Segments: what panoptic and instance protocols have instead of a class a pixel."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:  # processes that only read files start without torch
    from torch import Tensor

from protocols.protocol import IGNORE

NOT_LEARNT = -1
"""At test the channel of a segment whose class is not learnt yet."""


@dataclass(frozen=True, eq=False)
class SegmentMap:
    """The segments of one image as they lie on disk; no two of them overlap."""

    ids: npt.NDArray[np.int32]
    """(H, W): n in 1..N where segment n lies, 0 where there is none (void)."""
    labels: npt.NDArray[np.uint8]
    """(N,) label id (1..K) of segment n at position n - 1."""
    crowd: npt.NDArray[np.bool_]
    """(N,) whether the segment is a group that nobody took apart."""


@dataclass(frozen=True, eq=False)
class Segments:
    """What a network is to find in one training image: a set of masks, each with its class."""

    classes: Tensor
    """int64 (N,) in 0..K-1: position among the classes, background not counted."""
    masks: Tensor
    """bool (N, H, W); a mask may be empty (its segment fell outside the crop)."""


def segments_of_labels(labels: Tensor, background: bool) -> list[Segments]:
    """One segment for each class that an image shows, as Mask2Former learns semantic segmentation.

    labels: int64 (B, H, W), channel index or 255 (in no segment). With `background` channel 0 is in no
    segment either, and class c is channel c + 1. Source: Mask2Former
    `mask_former_semantic_dataset_mapper.py`.
    """
    segments = []
    for image in labels:
        channels = image.unique()
        channels = channels[(channels != IGNORE) & (channels >= int(background))]
        segments.append(Segments(channels - int(background), image == channels[:, None, None]))
    return segments
