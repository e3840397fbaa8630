"""The augmentation of the Mask2Former family: sizes, crops and what lies outside them."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image
from torch.nn.functional import interpolate

from protocols.short_edge import ShortEdgeCrop, nearest, short_edge_size


@pytest.mark.parametrize(
    ("arguments", "size"),
    [
        ((512, 683, 320, 2560), (320, 427)),
        ((512, 683, 640, 2560), (640, 854)),
        ((683, 512, 1280, 2560), (1708, 1280)),
        ((300, 1600, 1280, 2560), (480, 2560)),
        ((300, 400, 307, 2048), (307, 409)),
        ((500, 364, 704, 2560), (967, 704)),
    ],
)
def test_sizes(arguments: tuple[int, int, int, int], size: tuple[int, int]) -> None:
    """detectron2@02b5c4e `ResizeShortestEdge.get_output_shape`."""
    assert short_edge_size(*arguments) == size


def test_training_sides_are_the_published_ones() -> None:
    assert ShortEdgeCrop(640, 640, 2560).training_sides() == tuple(range(320, 1281, 64))
    assert ShortEdgeCrop(512, 512, 2048).training_sides() == (
        *(256, 307, 358, 409, 460, 512, 563, 614, 665),
        *(716, 768, 819, 870, 921, 972, 1024),
    )


@pytest.mark.parametrize(("height", "width"), [(97, 31), (200, 64), (133, 320)])
def test_nearest_neighbours_are_pillows_or_torchs(height: int, width: int) -> None:
    labels = np.random.default_rng(0).integers(0, 256, (64, 40)).astype(np.uint8)
    by_pillow = np.asarray(Image.fromarray(labels).resize((width, height), Image.Resampling.NEAREST))
    by_torch = interpolate(torch.from_numpy(labels[None, None]).double(), (height, width))[0, 0]
    for expected, pillow in ((by_pillow, True), (by_torch.numpy(), False)):
        rows, columns = nearest(64, height, pillow), nearest(40, width, pillow)
        assert np.array_equal(labels[rows[:, None], columns], expected)


def gradient(height: int, width: int) -> tuple[Image.Image, np.ndarray]:
    """An image whose red says the row and green the column, and its labels: 1 where the pixel is right."""
    rows, columns = np.mgrid[0:height, 0:width]
    pixels = np.stack([2 * rows, 2 * columns, 0 * rows], -1).astype(np.uint8)
    return Image.fromarray(pixels), (columns > width // 2).astype(np.uint8)


def test_crops_are_full_squares_whose_rest_is_padding() -> None:
    image, labels = gradient(40, 60)
    crop = ShortEdgeCrop(crop=64, short_side=40, max_side=160)
    padded = 0
    for seed in range(30):
        pixels, target = crop(image, labels, seed)
        again = crop(image, labels, seed)
        assert torch.equal(pixels, again[0]) and torch.equal(target, again[1])
        assert pixels.shape == (3, 64, 64) and pixels.dtype == torch.uint8
        assert target.shape == (64, 64) and target.dtype == torch.uint8
        inside = target != 255
        height, width = int(inside.any(1).sum()), int(inside.any(0).sum())
        assert inside[:height, :width].all()
        assert min(height, width) == min(64, min(height, width)) >= 20
        assert (pixels[:, ~inside] == 128).all()
        padded += height < 64
    assert 5 < padded < 30


def test_flips_and_colours_leave_labels_in_place() -> None:
    """Where the label is 1 the green value is higher, whatever was drawn; flipped images exist."""
    image, labels = gradient(80, 120)
    crop, flipped = ShortEdgeCrop(crop=60, short_side=80, max_side=400), 0
    for seed in range(40):
        pixels, target = crop(image, labels, seed)
        if (target == 1).sum() > 200 and (target == 0).sum() > 200:
            assert pixels[1][target == 1].float().mean() > pixels[1][target == 0].float().mean()
            columns = torch.arange(60.0).expand(60, 60)
            flipped += bool(columns[target == 1].mean() < columns[target == 0].mean())
    assert 3 < flipped < 30


def test_segments_are_padded_with_zero_and_keep_their_type() -> None:
    image, _ = gradient(40, 60)
    numbers = np.full((40, 60), 300, dtype=np.int16)
    _, target = ShortEdgeCrop(64, 20, 80)(image, numbers, 1, segments=True)
    assert target.dtype == torch.int16
    assert set(target.unique().tolist()) == {0, 300}


def test_test_images_are_whole() -> None:
    image, _ = gradient(40, 60)
    pixels = ShortEdgeCrop(64, 80, 100).for_test(image)
    assert pixels.shape == (3, 67, 100)
    assert np.array_equal(
        pixels.permute(1, 2, 0).numpy(), np.asarray(image.resize((100, 67), Image.Resampling.BILINEAR))
    )
