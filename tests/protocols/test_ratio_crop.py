from __future__ import annotations

import numpy as np
import torch
from PIL import Image

from protocols.ratio_crop import RatioCrop


def scene() -> tuple[Image.Image, np.ndarray]:
    """80 x 100; a red pixel shows its label, so that image and labels can be compared."""
    labels = np.zeros((80, 100), np.uint8)
    labels[:, 50:], labels[:5] = 100, 255
    return Image.fromarray(np.repeat(labels[..., None], 3, axis=2)), labels


def test_image_and_labels_stay_together() -> None:
    image, labels = scene()
    cut = RatioCrop(48, 64, 256, jitter=False)
    for seed in range(20):
        pixels, target = cut(image, labels, seed)
        assert pixels.shape == (3, 48, 48) and target.shape == (48, 48)
        padding = (pixels[0] == 128) & (target == 255)
        assert ((pixels[0].int() - target.int()).abs() <= 0)[~padding].float().mean() > 0.85


def test_the_seed_decides() -> None:
    image, labels = scene()
    cut = RatioCrop(48, 64, 256)
    one, same, other = (cut(image, labels, seed) for seed in (1, 1, 2))
    assert torch.equal(one[0], same[0]) and torch.equal(one[1], same[1])
    assert not torch.equal(one[0], other[0])


def test_squares_show_several_classes_where_they_can() -> None:
    image, labels = scene()
    strict, free = (RatioCrop(32, 80, 320, (1.0, 1.0), False, share) for share in (0.75, 1.0))
    varied = [[_largest(cut(image, labels, seed)[1]) < 0.75 for seed in range(60)] for cut in (strict, free)]
    assert np.mean(varied[0]) > 0.9 > 0.6 > np.mean(varied[1])


def test_zero_may_be_no_class() -> None:
    image, labels = scene()
    cut = RatioCrop(32, 80, 320, (1.0, 1.0), False, first_class=1)
    assert not cut._is_varied(labels)
    assert RatioCrop(32, 80, 320)._is_varied(labels)
    cut(image, labels, 0)  # ten tries, then what there is


def test_the_longest_side_follows_the_ratio() -> None:
    wide = Image.new("RGB", (400, 20))
    pixels, target = RatioCrop(64, 64, 128, (2.0, 2.0), False)(wide, np.zeros((20, 400), np.uint8), 0)
    assert int((target[:, 0] != 255).sum()) == 13  # 256 pixels long, not 128
    assert pixels.shape == (3, 64, 64)


def _largest(target: torch.Tensor) -> float:
    counts = torch.bincount(target[target != 255].flatten(), minlength=255)
    return float(counts.max() / counts.sum())
