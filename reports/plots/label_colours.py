"""Label maps as pictures: a fixed colour a label id, borders between segments."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from reports.samples import NOTHING, LabelMap

Pixels = NDArray[np.uint8]
"""(H, W, 3) RGB."""
WHITE = 255


def _voc_colours() -> NDArray[np.uint8]:
    """(256, 3): the bits of the label id, three at a time, from the highest bit of each channel on.

    Source: PASCAL VOC devkit `VOClabelcolormap.m`. But 255 is white here, not cream.
    """
    ids = np.arange(256)
    colours = np.zeros((256, 3), dtype=np.int64)
    for bit in range(8):
        for channel in range(3):
            colours[:, channel] |= (ids >> (3 * bit + channel) & 1) << (7 - bit)
    colours[NOTHING] = WHITE
    return colours.astype(np.uint8)


COLOURS = _voc_colours()


def picture(labels: LabelMap, height: int, width: int) -> Pixels:
    """The map by nearest neighbour at another size; a white line parts segments."""
    rows, columns = (
        (np.arange(new) * 2 + 1) * old // (2 * new)
        for new, old in zip((height, width), labels.labels.shape, strict=True)
    )
    chosen = np.ix_(rows, columns)
    pixels = COLOURS[labels.labels[chosen]]
    if labels.segments is not None:
        pixels[_borders(labels.segments[chosen])] = WHITE
    return pixels


def not_tested(height: int, width: int) -> Pixels:
    """Thin grey diagonals on white."""
    diagonal = (np.arange(height)[:, None] + np.arange(width)) % 8 < 2
    return np.where(diagonal[..., None], 205, WHITE).astype(np.uint8).repeat(3, axis=2)


def _borders(segments: NDArray[np.uint16]) -> NDArray[np.bool_]:
    border = np.zeros(segments.shape, dtype=bool)
    border[:-1] |= segments[:-1] != segments[1:]
    border[:, :-1] |= segments[:, :-1] != segments[:, 1:]
    return border
