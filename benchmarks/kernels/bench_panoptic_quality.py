"""Panoptic quality of 100 synthetic 512 x 512 images, beside panopticapi's loop in one process.

`pytest benchmarks/kernels/bench_panoptic_quality.py --benchmark-enable --benchmark-only -n0`; panopticapi is
no dependency of ours, and skipped where it cannot be imported. It reads PNGs: `reading` is how long it takes.
"""

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image
from pytest_benchmark.fixture import BenchmarkFixture

from benchmarks.metrics.panoptic import match_segments
from protocols.segments import SegmentMap

IMAGES, SIDE, SEGMENTS, CHANNELS = 100, 512, 30, 20
PLACES = [1, 256, 256**2]
Pair = tuple[SegmentMap, npt.NDArray[np.int64], npt.NDArray[np.int32], npt.NDArray[np.int64]]


@pytest.fixture(scope="module")
def pairs() -> list[Pair]:
    """Cells around random points; the prediction moves the points a little. Id 0, a 30th, is void."""
    random = np.random.default_rng(0)
    drawn = []
    for _ in range(IMAGES):
        points = random.uniform(0, SIDE, (SEGMENTS, 2))
        truth, predicted = (_cells(points + random.normal(0, far, points.shape)) for far in (0, 10))
        channels = random.integers(0, CHANNELS, SEGMENTS - 1)
        crowd = random.uniform(size=len(channels)) < 0.05
        segments = SegmentMap(truth, (channels + 1).astype(np.uint8), crowd)
        drawn.append((segments, channels, predicted, channels))
    return drawn


def _cells(points: npt.NDArray[np.float64]) -> npt.NDArray[np.int32]:
    rows, columns = ((np.arange(SIDE)[:, None] - along) ** 2 for along in points.T)
    return (rows[:, None] + columns).argmin(axis=-1).astype(np.int32)


@pytest.fixture(scope="module")
def folder(pairs: list[Pair], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`truth/<n>.png` and `predicted/<n>.png`, ids as colours."""
    folder = tmp_path_factory.mktemp("panoptic")
    for name in ("truth", "predicted"):
        (folder / name).mkdir()
    for number, (truth, _, predicted, _) in enumerate(pairs):
        for name, ids in (("truth", truth.ids), ("predicted", predicted)):
            colours = np.stack([ids // place % 256 for place in PLACES], axis=-1).astype(np.uint8)
            Image.fromarray(colours).save(folder / name / f"{number}.png")
    return folder


def ours(pairs: list[Pair]) -> None:
    for pair in pairs:
        match_segments(*pair, CHANNELS)


def reading(folder: Path) -> None:
    """The part of panopticapi's loop that reads, as that reads."""
    for path in folder.rglob("*.png"):
        red, green, blue = np.moveaxis(np.array(Image.open(path), dtype=np.uint32), -1, 0)
        np.asarray(red + 256 * green + 256**2 * blue, dtype=np.int64)


def described(pairs: list[Pair]) -> list[tuple[dict[str, Any], dict[str, Any]]]:
    """The images as panopticapi's JSON has them."""
    images = []
    for number, (truth, channels, predicted, predicted_channels) in enumerate(pairs):
        areas = np.bincount(truth.ids.ravel(), minlength=SEGMENTS)
        true = [
            {"id": n, "category_id": c, "area": areas[n], "iscrowd": int(truth.crowd[n - 1])}
            for n, c in enumerate(channels.tolist(), 1)
        ]
        there = np.unique(predicted)
        found = [
            {"id": n, "category_id": c} for n, c in enumerate(predicted_channels.tolist(), 1) if n in there
        ]
        image = {"image_id": number, "file_name": f"{number}.png"}
        images.append((image | {"segments_info": true}, image | {"segments_info": found}))
    return images


@pytest.mark.parametrize("way", ["ours", "reading", "panopticapi"])
def test_panoptic_quality(benchmark: BenchmarkFixture, way: str, pairs: list[Pair], folder: Path) -> None:
    if way == "ours":
        benchmark.pedantic(ours, (pairs,), rounds=5, warmup_rounds=1)
    elif way == "reading":
        benchmark.pedantic(reading, (folder,), rounds=5, warmup_rounds=1)
    else:
        official = pytest.importorskip("panopticapi.evaluation").pq_compute_single_core
        categories: dict[int, Any] = {channel: {} for channel in range(CHANNELS)}
        arguments = (0, described(pairs), folder / "truth", folder / "predicted", categories)
        benchmark.pedantic(official, arguments, rounds=3, warmup_rounds=1)
