"""Augmentation of the SegViT family: resize, cut a square with several classes, flip, change colours, pad.

Sources: mmsegmentation 0.24.0 `datasets/pipelines/transforms.py` and SegViT's `configs`; CIT's are the same.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from protocols.colours import jitter
from protocols.protocol import IGNORE
from protocols.short_edge import ShortEdgeCrop, nearest, short_edge_size

TRIES = 10


@dataclass(frozen=True)
class RatioCrop(ShortEdgeCrop):
    """Any factor of `side_factor`, which `max_side` follows, and squares that show several classes."""

    largest_class: float = 0.75
    """The square is drawn again while one class has this share of its labelled pixels, ten times at most."""
    first_class: int = 0
    """The least label that is a class: 1 where 0 is what no class has, as 255 is."""

    def __call__(
        self, image: Image.Image, target: NDArray, seed: int, segments: bool = False
    ) -> tuple[Tensor, Tensor]:
        """Returns a uint8 image (3, crop, crop) and uint8 labels (crop, crop), all random by `seed` alone."""
        assert not segments, "SegViT learns from labels"
        random = np.random.default_rng(seed)
        least, most = self.side_factor
        ratio = random.uniform(least, most)
        sides = int(ratio * self.short_side), int(ratio * self.max_side)
        height, width = short_edge_size(image.height, image.width, *sides)
        rows, columns = min(self.crop, height), min(self.crop, width)
        from_rows = nearest(target.shape[0], height, by_pillow=False)
        from_columns = nearest(target.shape[1], width, by_pillow=False)
        for _ in range(TRIES):
            top = int(random.integers(height - rows + 1))
            left = int(random.integers(width - columns + 1))
            labels = target[from_rows[top : top + rows, None], from_columns[left : left + columns]]
            if self._is_varied(labels):
                break
        resized = image.resize((width, height), Image.Resampling.BILINEAR)
        pixels = np.asarray(resized)[top : top + rows, left : left + columns]
        if random.random() < 0.5:
            pixels, labels = pixels[:, ::-1], labels[:, ::-1]
        if self.jitter:
            pixels = jitter(pixels, random)
        return self._padded(pixels, labels, IGNORE)

    def _is_varied(self, labels: NDArray) -> bool:
        if self.largest_class >= 1:
            return True
        counts = np.bincount(labels.ravel(), minlength=IGNORE + 1)
        counts[IGNORE] = 0
        counts[: self.first_class] = 0
        return bool((counts > 0).sum() > 1 and counts.max() < self.largest_class * counts.sum())
