"""Draws a synthetic stand-in for a data set that is not on disk, in the data set's own layout.

Each class is a texture (a pair of colours and a pattern) that a network of half a million parameters tells
apart after a minute on two cores. Same version, same sizes: the same bytes, whatever the number of workers.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import shutil
import sys
import tempfile
import zlib
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from protocols.datasets.cityscapes import CITIES
from protocols.datasets.dataset import STANDIN_MARKER
from protocols.datasets.synthetic_layouts import LAYOUTS, Hand, Layout, Scene, city_of, deal_hands

VERSION = 2
"""Part of the marker: raise it whenever a written byte changes."""
_SEED = 1
"""Part of every seed: raise it whenever the photographs or labels change."""

Floats = NDArray[np.float32]


class Texture(NamedTuple):
    ground: Floats
    """(3,) sRGB in 0..1 of about two thirds of the pixels."""
    accent: Floats
    """(3,) sRGB in 0..1 of the other third."""
    pattern: str
    """How the accent lies on the ground."""


PATTERNS = ("rows", "columns", "diagonals", "checks", "dots", "rings", "speckle")
"""A horizontal flip turns none into another."""


def _spread_colours(count: int) -> NDArray[np.float64]:
    """(count, 3) sRGB in 0..1, each as far as possible from the others; none is grey, as the clutter is.

    Spread in sRGB, not in a perceptual space: it is what the network sees.
    """
    plastic = 1.2207440846057596  # the R3 low-discrepancy sequence of Roberts (2018)
    points = (0.5 + np.arange(1, 6001)[:, None] / plastic ** np.arange(1, 4)) % 1.0
    rgb = 0.04 + 0.92 * points[np.ptp(points, axis=1) > 0.25]
    chosen, nearest = [0], np.full(len(rgb), np.inf)
    while len(chosen) < count:
        nearest = np.minimum(nearest, ((rgb - rgb[chosen[-1]]) ** 2).sum(axis=1))
        chosen.append(int(nearest.argmax()))
    return rgb[chosen]


@lru_cache
def textures(count: int) -> tuple[Texture, ...]:
    """One texture a class. Neighbours in colour get different patterns.

    The order is shuffled at the end, because the colours found last lie closest to others: otherwise the
    classes of the last steps would be the hardest.
    """
    rgb = _spread_colours(count)
    patterns: list[int] = []
    for i in range(count):
        near = np.exp(-np.sqrt(((rgb[:i] - rgb[i]) ** 2).sum(axis=1)) / 0.1) + 0.01
        patterns.append(int(np.bincount(np.array(patterns, int), near, minlength=len(PATTERNS)).argmin()))
    towards_middle = np.where(rgb.mean(axis=1, keepdims=True) < 0.5, 1, -1)
    ground, accent = ((rgb + s * towards_middle).clip(0, 1).astype(np.float32) for s in (-0.06, 0.12))
    order = np.random.default_rng([_SEED, count]).permutation(count)
    return tuple(Texture(ground[i], accent[i], PATTERNS[patterns[i]]) for i in order)


def _accents(pattern: str, y: Floats, x: Floats, rng: np.random.Generator) -> Floats:
    """(H, W) in 0..1: how much of the accent each pixel has, a third on average; the phase is random."""
    turn = np.float32(2 * np.pi / rng.uniform(6, 8))
    a, b = rng.uniform(0, 2 * np.pi, 2).astype(np.float32)
    if pattern == "rows":
        wave = np.sin(turn * y + a) - 0.5 + 0 * x
    elif pattern == "columns":
        wave = np.sin(turn * x + a) - 0.5 + 0 * y
    elif pattern == "diagonals":
        wave = np.sin(turn * 0.7071 * (x + y) + a) - 0.5
    elif pattern == "checks":
        wave = 2 * np.sin(0.7 * turn * x + a) * np.sin(0.7 * turn * y + b) - 0.4
    elif pattern == "dots":
        wave = np.cos(turn * x + a) + np.cos(turn * y + b) - 0.6
    elif pattern == "rings":
        wave = np.sin(turn * np.hypot(y - 5 * a, x - 5 * b)) - 0.5
    else:
        grid = rng.uniform(-2, 1, (y.size // 3 + 1, x.size // 3 + 1)).astype(np.float32)
        wave = grid.repeat(3, 0).repeat(3, 1)[: y.size, : x.size]
    return (0.5 + 1.5 * wave).clip(0, 1)


def _paint(texture: Texture, y: Floats, x: Floats, rng: np.random.Generator) -> Floats:
    """(H, W, 3) in 0..1: the texture with a random phase and brightness."""
    accents = _accents(texture.pattern, y, x, rng)[..., None]
    brightness = np.float32(rng.uniform(0.97, 1.03))
    return brightness * (texture.ground + accents * (texture.accent - texture.ground))


def _paint_clutter(y: Floats, x: Floats, rng: np.random.Generator) -> Floats:
    """(H, W, 3) in 0..1: grey blocks of several sizes, what belongs to no class."""
    grey = np.full((y.size, x.size), rng.uniform(0.35, 0.65), np.float32)
    for cell in (16, 7, 3):
        grid = rng.normal(0, 0.07, (y.size // cell + 1, x.size // cell + 1)).astype(np.float32)
        grey += grid.repeat(cell, 0).repeat(cell, 1)[: y.size, : x.size]
    return np.broadcast_to(grey[..., None], (*grey.shape, 3))


def _split_into_regions(count: int, y: Floats, x: Floats, rng: np.random.Generator) -> NDArray[np.int64]:
    """(H, W) in 0..count-1: smooth bands, none of them smaller than 0.6/count of the image."""
    angle = rng.uniform(0, 2 * np.pi)
    field = np.cos(angle) * y + np.sin(angle) * x
    for _ in range(2):
        ky, kx, phase = rng.uniform([-0.1, -0.1, 0], [0.1, 0.1, 6.3])
        field = field + 8 * np.sin(ky * y + kx * x + phase)
    shares = rng.uniform(0.6, 1.4, count)
    cuts = np.quantile(field, np.cumsum(shares / shares.sum())[:-1])
    return np.digitize(field, cuts)


def _shape(size: float, y: Floats, x: Floats, rng: np.random.Generator) -> Floats:
    """(H, W) a distance that is below 1 inside an ellipse, rectangle or convex polygon of radius `size`."""
    angle, aspect = rng.uniform(0, np.pi), rng.uniform(0.7, 1.4)
    dy = y - rng.uniform(0.1, 0.9) * y.size
    dx = x - rng.uniform(0.1, 0.9) * x.size
    u = (np.cos(angle) * dx + np.sin(angle) * dy) / (size * aspect)
    v = (np.cos(angle) * dy - np.sin(angle) * dx) * aspect / size
    kind = rng.integers(3)
    if kind == 0:
        return np.hypot(u, v)
    if kind == 1:
        return np.maximum(np.abs(u), np.abs(v)) / 0.9
    corners = int(rng.integers(3, 7))
    turns = 2 * np.pi * (np.arange(corners) + rng.uniform(-0.25, 0.25, corners)) / corners
    sides = np.cos(turns)[:, None, None] * u + np.sin(turns)[:, None, None] * v
    return sides.max(axis=0) / 0.75


def _city_light(city: str) -> tuple[Floats, Floats]:
    """Gain (3,) and offset (3,) of a city's light.

    The hue of the cast drifts with the domain id, so that each domain-incremental step brings light
    that was not seen before and drives the network away from the old cities.
    """
    index = CITIES.index(city)
    hue = 2 * np.pi * index / len(CITIES)
    cast = np.cos(hue - 2 * np.pi / 3 * np.arange(3))
    gain = (0.62, 0.8, 0.7)[index % 3] * (1 + 0.35 * cast)
    return gain.astype(np.float32), (0.06 + 0.06 * cast).astype(np.float32)


def draw_scene(layout: Layout, hand: Hand, rng: np.random.Generator, city: str = "") -> Scene:
    """Paint clutter, the regions of `hand` over it, then its objects from the largest to the smallest.

    With a `city` the image is seen in that city's light.
    """
    height = int(rng.integers(layout.heights[0], layout.heights[1] + 1))
    width = int(rng.integers(layout.widths[0], layout.widths[1] + 1))
    y = np.arange(height, dtype=np.float32)[:, None]
    x = np.arange(width, dtype=np.float32)[None]
    texture_of = dict(zip(layout.classes, textures(len(layout.classes)), strict=True))
    image = np.array(_paint_clutter(y, x, rng))
    labels = np.full((height, width), layout.clutter[0], np.uint8)
    instances = np.zeros((height, width), np.uint8)
    if hand.regions:
        covered = _split_into_regions(len(hand.regions), y, x, rng)
        for i, label in enumerate(hand.regions):
            image[covered == i] = _paint(texture_of[label], y, x, rng)[covered == i]
            labels[covered == i] = label
        if rng.uniform() < 0.5:
            inside = _shape(rng.uniform(0.15, 0.3) * height, y, x, rng) < 1
            image[inside] = _paint_clutter(y, x, rng)[inside]
            labels[inside] = rng.choice(layout.clutter)
    sizes = np.sort(rng.uniform(0.17, 0.34, len(hand.objects)))[::-1] * height
    for number, (label, size) in enumerate(zip(hand.objects, sizes, strict=True), start=1):
        distance = _shape(size, y, x, rng)
        inside = distance < 1
        painted = _paint(texture_of[label], y, x, rng) * np.where(distance > 0.94, 0.85, 1.0)[..., None]
        image[inside] = painted[inside]  # the dark rim sets touching objects of one class apart
        labels[inside], instances[inside] = label, number
    image += rng.normal(0, 0.02, image.shape).astype(np.float32)
    if city:
        gain, offset = _city_light(city)
        image = image * gain + offset
    return Scene((255 * image.clip(0, 1)).astype(np.uint8), labels, instances)


def _draw_image(key: str, top: Path, split: str, index: int, hand: Hand) -> Any:
    """Draw and write one image; seeded by its own place, so that any worker draws the same bytes.

    Returns what its layout says of it in the files about the whole split.
    """
    layout = LAYOUTS[key]
    rng = np.random.default_rng([_SEED, zlib.crc32(key.encode()), ("train", "val").index(split), index])
    city = city_of(split, index) if key == "cityscapes" else ""
    return layout.write(top, split, index, draw_scene(layout, hand, rng, city))


def plan(key: str, split: str, num_images: int) -> list[Hand]:
    """The classes that each image of a split will show: what `draw_standin` draws, without drawing."""
    rng = np.random.default_rng([_SEED, zlib.crc32(key.encode()), 2 + ("train", "val").index(split)])
    return deal_hands(LAYOUTS[key], num_images, rng)


def _draw_all(key: str, top: Path, sizes: dict[str, int], workers: int) -> None:
    for split, size in sizes.items():
        LAYOUTS[key].write_lists(top, split, _draw_split(key, top, split, size, workers))


def _draw_split(key: str, top: Path, split: str, size: int, workers: int) -> list[Any]:
    jobs = [(key, top, split, i, hand) for i, hand in enumerate(plan(key, split, size))]
    columns = list(zip(*jobs, strict=True))
    drawn = []
    name = f"drawing the {key} stand-in, {split}"
    with tqdm(total=len(jobs), desc=name, unit="image", disable=None) as progress:
        if workers == 1:
            for job in jobs:
                drawn.append(_draw_image(*job))
                progress.update()
            return drawn
        # Fork where it is safe: spawned workers would import the caller's main module, and torch with it.
        context = multiprocessing.get_context("fork" if sys.platform == "linux" else "spawn")
        with ProcessPoolExecutor(workers, mp_context=context) as pool:
            for image in pool.map(_draw_image, *columns, chunksize=32):
                drawn.append(image)
                progress.update()
    return drawn


def read_marker(folder: Path) -> dict[str, object] | None:
    """What the stand-in in `folder` says of itself; None for real data, or where there is nothing."""
    try:
        marker: dict[str, object] = json.loads((folder / STANDIN_MARKER).read_text())
    except (FileNotFoundError, NotADirectoryError):
        return None
    return marker


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Hold the lock file: a second process waits, a killed one releases it."""
    with path.open("w") as file:
        if sys.platform != "win32":
            import fcntl

            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _draw_and_install(key: str, final: Path, sizes: dict[str, int], workers: int) -> None:
    """Draw beside `final` and rename in place, so that a half-written folder never has its name."""
    prefix = f".standin-{key}-"
    for leftover in final.parent.glob(f"{prefix}*"):  # of a killed process: we hold the lock
        shutil.rmtree(leftover)
    scratch = Path(tempfile.mkdtemp(prefix=prefix, dir=final.parent))
    try:
        top = scratch / "new"
        top.mkdir()
        _draw_all(key, top, sizes, workers)
        marker = {"standin": key, "version": VERSION, **sizes}
        (top / STANDIN_MARKER).write_text(json.dumps(marker, indent=2) + "\n")
        if final.exists():
            final.rename(scratch / "old")
        top.rename(final)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def draw_standin(
    key: str, root: Path, *, train: int | None = None, val: int | None = None, workers: int | None = None
) -> Path:
    """Draw the stand-in of `key` ("voc", "ade", "cityscapes") below `root`; return its top folder.

    `train` and `val` are numbers of images (default: the layout's). Nothing is drawn where the marker of
    the same version and sizes stands. A folder without a marker may be the user's real data: never touched.
    """
    layout = LAYOUTS[key]
    sizes = {"train": layout.train if train is None else train, "val": layout.val if val is None else val}
    final = root / layout.top
    wanted = {"standin": key, "version": VERSION, **sizes}
    try:
        if read_marker(final) == wanted:
            return final
        final.parent.mkdir(parents=True, exist_ok=True)
        with _locked(final.parent / f".{key}-standin.lock"):
            found = read_marker(final)
            if found is None and final.exists() and any(final.iterdir()):
                raise ValueError(
                    f"{final} is not a stand-in: complete the data set there, or remove the folder"
                )
            if found != wanted:
                workers = workers or min(os.cpu_count() or 1, 16, 1 + sum(sizes.values()) // 64)
                _draw_and_install(key, final, sizes, workers)
    except OSError as error:
        raise ValueError(
            f"cannot draw the {key} stand-in below {root} ({error}): choose another data root"
        ) from error
    return final
