"""Random brightness, contrast, saturation and hue, as OpenCV computes them on 8-bit images.

The order and the ranges are those of SSD (detectron2 `projects/PointRend/point_rend/color_augmentation.py`).
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

Pixels = NDArray[np.uint8]
"""(H, W, 3) RGB."""


def jitter(image: Pixels, random: np.random.Generator) -> Pixels:
    """Brightness, then contrast before or after saturation and hue; each with probability one half."""
    if _half(random):
        image = scaled(image, shift=random.uniform(-32, 32))
    contrast_first = _half(random)
    if contrast_first:
        image = _contrast(image, random)
    if _half(random):
        hue, saturation, value = to_hsv(image)
        image = to_rgb(hue, scaled(saturation, factor=random.uniform(0.5, 1.5)), value)
    if _half(random):
        hue, saturation, value = to_hsv(image)
        turned = (hue.astype(np.int16) + int(random.integers(-18, 19))) % 180
        image = to_rgb(turned.astype(np.uint8), saturation, value)
    return image if contrast_first else _contrast(image, random)


def _contrast(image: Pixels, random: np.random.Generator) -> Pixels:
    return scaled(image, factor=random.uniform(0.5, 1.5)) if _half(random) else image


def _half(random: np.random.Generator) -> bool:
    return bool(random.random() < 0.5)


def scaled(values: NDArray[np.uint8], factor: float = 1.0, shift: float = 0.0) -> NDArray[np.uint8]:
    """values * factor + shift, cut to 0..255 and rounded down. By table: there are only 256 values."""
    table = np.arange(256, dtype=np.float32) * np.float32(factor) + np.float32(shift)
    return table.clip(0, 255).astype(np.uint8)[values]


def to_hsv(image: Pixels) -> tuple[NDArray[np.uint8], NDArray[np.uint8], NDArray[np.uint8]]:
    """Hue in 0..179, saturation and value in 0..255, each uint8 (H, W), as OpenCV's RGB2HSV."""
    red, green, blue = (image[..., i] for i in range(3))
    value = np.maximum(np.maximum(red, green), blue)
    spread = value - np.minimum(np.minimum(red, green), blue)
    highest = np.where(value == red, 0, np.where(value == green, 1, 2)).astype(np.int32)
    first = np.where(highest == 0, green, np.where(highest == 1, blue, red)).astype(np.int32)
    second = np.where(highest == 0, blue, np.where(highest == 1, red, green))
    saturations, hues = _hsv_tables()
    difference = first - second + 255
    return (
        hues.take((highest * 511 + difference) * 256 + spread),
        saturations.take(value.astype(np.int32) * 256 + spread),
        value,
    )


def to_rgb(hue: NDArray[np.uint8], saturation: NDArray[np.uint8], value: NDArray[np.uint8]) -> Pixels:
    """The inverse, rounded down as OpenCV's HSV2RGB does.

    One value in twenty thousand is one less or more than OpenCV's where that uses fused multiply-add.
    """
    s = saturation.astype(np.float32) * np.float32(1 / 255)
    v = value.astype(np.float32) * np.float32(1 / 255)
    channels = [(v * (1 - s * _DEPTHS[i].take(hue))) * np.float32(255) for i in range(3)]
    return np.stack(channels, axis=-1).astype(np.uint8)


@lru_cache
def _hsv_tables() -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Saturation by (value, spread) and hue by (highest channel, difference of the others + 255, spread).

    In fixed point with 12 bits (OpenCV `imgproc/src/color_hsv.simd.hpp@RGB2HSV_b`). Both flat.
    """
    spread, counted = np.arange(256), np.arange(1.0, 256.0)
    per_value, per_spread = np.zeros((2, 256), dtype=np.int64)
    per_value[1:] = np.rint((255 << 12) / counted)
    per_spread[1:] = np.rint((180 << 12) / (6 * counted))
    saturations = (spread * per_value[:, None] + 2048) >> 12
    difference = np.arange(-255, 256)[:, None] + 2 * spread * np.arange(3)[:, None, None]
    hues = (difference * per_spread + 2048) >> 12
    hues += 180 * (hues < 0)
    return saturations.astype(np.uint8).ravel(), hues.astype(np.uint8).ravel()


def _depths() -> NDArray[np.float32]:
    """(3, 180): by how much of the saturation R, G and B lie below the value at each hue."""
    turns = np.arange(180, dtype=np.float32) * np.float32(6 / 180)
    sector = np.floor(turns).astype(np.int64)
    part = turns - sector.astype(np.float32)
    levels = np.stack([np.zeros_like(part), np.ones_like(part), part, 1 - part])
    order = np.array([[0, 3, 1], [2, 0, 1], [1, 0, 3], [1, 2, 0], [3, 1, 0], [0, 1, 2]])
    return np.take_along_axis(levels, order[sector].T, axis=0)


_DEPTHS = _depths()
