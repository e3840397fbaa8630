"""Augmentation of the Mask2Former family: resize the short side, cut a square, change the colours, flip, pad.

Sources: BalConpas `continual/continual_{panoptic,semantic,instance}_dataset_mapper.py` and detectron2
`data/transforms`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torch.nn.functional import interpolate

from protocols.colours import jitter
from protocols.protocol import IGNORE

PADDING = 128
"""Of the image, before it is normalised. There the labels are 255 and no segment lies."""


def short_edge_size(height: int, width: int, short_side: int, max_side: int) -> tuple[int, int]:
    """Height and width after the short side is made `short_side`, or less where the long one would pass
    `max_side` (detectron2 `ResizeShortestEdge.get_output_shape`)."""
    scale = short_side / min(height, width)
    new_height, new_width = (short_side, scale * width) if height < width else (scale * height, short_side)
    if max(new_height, new_width) > max_side:
        shrink = max_side / max(new_height, new_width)
        new_height, new_width = new_height * shrink, new_width * shrink
    return int(new_height + 0.5), int(new_width + 0.5)


@dataclass(frozen=True)
class ShortEdgeCrop:
    """Makes the short side half to twice as long as `short_side`, and cuts a square that may need padding."""

    crop: int
    """Side of the square."""
    short_side: int
    """Of a test image, and the middle of the training sizes."""
    max_side: int
    """Longest side that a resized image may have; shrinks the short side of narrow ones."""
    side_factor: tuple[float, ...] = (0.5, 2.0)
    """Least and most of what `short_side` is multiplied with in training, in steps of 0.1."""
    jitter: bool = True
    """Whether the colours change."""

    def training_sides(self) -> tuple[int, ...]:
        """The short sides of which one is drawn: 0.5, 0.6, ... 2.0 times `short_side`, sixteen."""
        least, most = (round(10 * factor) for factor in self.side_factor)
        return tuple(int(k * 0.1 * self.short_side) for k in range(least, most + 1))

    def __call__(
        self, image: Image.Image, target: NDArray, seed: int, segments: bool = False
    ) -> tuple[Tensor, Tensor]:
        """Returns a uint8 image (3, crop, crop) and the target (crop, crop), all random by `seed` alone.

        target: uint8 labels (H, W), padded with 255; with `segments`, integer numbers padded with 0.
        """
        random = np.random.default_rng(seed)
        sides = self.training_sides()
        side = sides[int(random.integers(len(sides)))]
        height, width = short_edge_size(image.height, image.width, side, self.max_side)
        rows, columns = min(self.crop, height), min(self.crop, width)
        top = int(random.integers(height - rows + 1))
        left = int(random.integers(width - columns + 1))

        resized = image.resize((width, height), Image.Resampling.BILINEAR)
        pixels = np.asarray(resized)[top : top + rows, left : left + columns]
        if self.jitter:
            pixels = jitter(pixels, random)
        # Detectron2 resizes 8-bit maps by Pillow, but semantic labels, as float64, by torch, whose nearest
        # neighbour lies up to half a pixel away.
        from_rows = nearest(target.shape[0], height, by_pillow=segments)[top : top + rows]
        from_columns = nearest(target.shape[1], width, by_pillow=segments)[left : left + columns]
        target = target[from_rows[:, None], from_columns]
        if random.random() < 0.5:
            pixels, target = pixels[:, ::-1], target[:, ::-1]
        return self._padded(pixels, target, 0 if segments else IGNORE)

    def for_test(self, image: Image.Image) -> Tensor:
        """uint8 (3, h, w): the image with its short side made `short_side`."""
        height, width = short_edge_size(image.height, image.width, self.short_side, self.max_side)
        resized = image.resize((width, height), Image.Resampling.BILINEAR)
        return torch.from_numpy(np.array(resized)).permute(2, 0, 1).contiguous()

    def _padded(self, pixels: NDArray, target: NDArray, fill: int) -> tuple[Tensor, Tensor]:
        """Both at the upper left of a full square."""
        height, width = target.shape
        image = np.full((3, self.crop, self.crop), PADDING, dtype=np.uint8)
        image[:, :height, :width] = np.moveaxis(pixels, -1, 0)
        labels = np.full((self.crop, self.crop), fill, dtype=target.dtype)
        labels[:height, :width] = target
        return torch.from_numpy(image), torch.from_numpy(labels)


def nearest(old: int, new: int, by_pillow: bool) -> NDArray[np.int64]:
    """(new,): which of `old` pixels each new one copies."""
    if by_pillow:
        line = Image.fromarray(np.arange(old, dtype=np.int32)[None])
        return np.asarray(line.resize((new, 1), Image.Resampling.NEAREST))[0].astype(np.int64)
    places = torch.arange(old, dtype=torch.float64)[None, None]
    return interpolate(places, new, mode="nearest")[0, 0].long().numpy()
