"""Colours as OpenCV computes them on 8-bit images."""

from __future__ import annotations

import numpy as np
import pytest

from protocols.colours import jitter, scaled, to_hsv, to_rgb

INDEX = np.arange(96 * 96)
WEIGHTS = (INDEX % 251 + 1).reshape(96, 96)
IMAGE = (np.stack([37 * INDEX, 101 * INDEX + INDEX // 256, 59 * INDEX + INDEX // 97], -1) % 256).astype(
    np.uint8
)
IMAGE = IMAGE.reshape(96, 96, 3)


def weighed(channels: list[np.ndarray]) -> list[int]:
    return [int((channel.astype(np.int64) * WEIGHTS).sum()) for channel in channels]


def test_hue_saturation_and_value_are_those_of_opencv() -> None:
    """cv2 4.10.0 `cvtColor(..., COLOR_RGB2HSV)`; on all 2^24 colours nothing differs."""
    assert weighed(list(to_hsv(IMAGE))) == [103007344, 196757974, 220975346]


def test_back_to_rgb_is_that_of_opencv() -> None:
    """cv2 4.10.0 `cvtColor(..., COLOR_HSV2RGB)`; of all 180 * 2^16 * 3 values 1758 differ by one."""
    hue, saturation = INDEX * 7 % 180, (INDEX * 11 + INDEX // 180) % 256
    value = (INDEX * 29 + INDEX // 256) % 256
    image = to_rgb(*(part.reshape(96, 96).astype(np.uint8) for part in (hue, saturation, value)))
    assert weighed(list(np.moveaxis(image, -1, 0))) == [110237477, 109913950, 109796908]


def test_scaling_cuts_and_rounds_down() -> None:
    values = np.array([0, 100, 101, 200], np.uint8)
    assert scaled(values, factor=1.5).tolist() == [0, 150, 151, 255]
    assert scaled(values, shift=-100.5).tolist() == [0, 0, 0, 99]


def test_everything_random_is_the_generators() -> None:
    images = [jitter(IMAGE, np.random.default_rng(seed)) for seed in (3, 3, 4)]
    assert np.array_equal(images[0], images[1])
    assert not np.array_equal(images[0], images[2])


@pytest.mark.parametrize("seed", range(40))
def test_no_colour_is_made_of_grey(seed: int) -> None:
    grey = np.repeat(np.arange(256, dtype=np.uint8)[:, None, None], 3, axis=2)
    changed = jitter(grey, np.random.default_rng(seed))
    assert (np.ptp(changed, axis=2) == 0).all()
    assert (np.diff(changed[:, 0, 0].astype(int)) >= 0).all()
