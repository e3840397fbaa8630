"""Where the synthetic stand-ins lie on disk and which classes each of their images holds.

Every writer follows the folders, file names and PNG encodings of the real archive, so that the stand-in is
read by the reader of the real data set. `synthetic.py` draws the scenes that are written here.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from protocols.datasets.ade import STUFF_IDS, THING_IDS
from protocols.datasets.cityscapes import CITIES
from protocols.datasets.voc import palette as voc_palette
from protocols.prepare.ade_segments import Record, annotate, instance_file, panoptic_file

SPLIT_CITIES = {"train": CITIES[:18], "val": CITIES[18:]}
CITYSCAPES_IGNORED = (0, 1, 2, 3, 4, 5, 6, 9, 10, 14, 15, 16, 18, 29, 30)
"""Raw label ids without a train id."""


class Hand(NamedTuple):
    """The raw label ids that one image is asked to show; an id may occur twice."""

    regions: tuple[int, ...]
    objects: tuple[int, ...]


class Scene(NamedTuple):
    """One drawn image; instance n (1, 2, ...) belongs to the class `labels[instances == n]`."""

    image: NDArray[np.uint8]
    """(H, W, 3) RGB."""
    labels: NDArray[np.uint8]
    """(H, W) raw label ids as in the data set's own PNG files."""
    instances: NDArray[np.uint8]
    """(H, W), 0 where there is no object."""


@dataclass(frozen=True)
class Layout:
    """One data set: its classes as raw label ids, the sizes of its stand-in, and its writers."""

    top: str
    """The data set's top folder below the root, where the marker lies."""
    regions: tuple[int, ...]
    """Classes drawn as large regions (stuff)."""
    objects: tuple[int, ...]
    """Classes drawn as overlapping shapes (things)."""
    clutter: tuple[int, ...]
    """Raw ids of what is in no class; painted as grey clutter."""
    train: int
    val: int
    heights: tuple[int, int]
    """Smallest and largest height in pixels, both included."""
    widths: tuple[int, int]
    num_regions: tuple[int, int]
    """Fewest and most regions an image, both included."""
    num_objects: tuple[int, int]
    write: Callable[[Path, str, int, Scene], Any]
    """(top folder, "train" or "val", index, scene): writes the files of one image."""
    write_lists: Callable[[Path, str, list[Any]], None] = lambda top, split, images: None
    """(top folder, split, what `write` returned for its images): writes the files about all of them."""

    @property
    def classes(self) -> tuple[int, ...]:
        return tuple(sorted(self.regions + self.objects))


def _save(image: Image.Image, path: Path, palette: bytes = b"") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    if palette:
        image.putpalette(palette)
    if path.suffix == ".jpg":
        image.save(path, quality=95, subsampling=0)  # 4:4:4 keeps one-pixel colour patterns
    else:
        image.save(path)


def _voc_stem(split: str, index: int) -> str:
    return f"{'2011' if split == 'train' else '2012'}_{index + 1:06d}"


def _object_borders(instances: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """(H, W), true on the one-pixel line between objects and between an object and the background."""
    border = np.zeros(instances.shape, bool)
    border[:, 1:] |= instances[:, 1:] != instances[:, :-1]
    border[1:] |= instances[1:] != instances[:-1]
    return border


def _write_voc(top: Path, split: str, index: int, scene: Scene) -> str:
    """Returns the file stem."""
    stem = _voc_stem(split, index)
    border = _object_borders(scene.instances)
    labels = Image.fromarray(np.where(border, np.uint8(255), scene.labels))
    instances = Image.fromarray(np.where(border, np.uint8(255), scene.instances))
    _save(Image.fromarray(scene.image), top / f"JPEGImages/{stem}.jpg")
    _save(labels, top / f"SegmentationClassAug/{stem}.png", voc_palette())
    if split == "val" or index % 2 == 0:  # the real archive annotates only `train` and `val` itself
        _save(labels, top / f"SegmentationClass/{stem}.png", voc_palette())
        _save(instances, top / f"SegmentationObject/{stem}.png", voc_palette())
    return stem


def _write_voc_lists(top: Path, split: str, stems: list[str]) -> None:
    """`train_aug` names image and mask, as in the archive of the augmented masks; the others name stems."""
    lists = {"val": stems}
    if split == "train":
        pairs = [f"/JPEGImages/{stem}.jpg /SegmentationClassAug/{stem}.png" for stem in stems]
        lists = {"train_aug": pairs, "train": stems[::2]}
    folder = top / "ImageSets/Segmentation"
    folder.mkdir(parents=True, exist_ok=True)
    for name, lines in lists.items():
        (folder / f"{name}.txt").write_text("".join(f"{line}\n" for line in lines))


def _ade_categories() -> NDArray[np.uint8]:
    """(256,) raw label id -> instance category: 1..100 for the things in ascending order, 0 for the rest."""
    table = np.zeros(256, np.uint8)
    table[list(THING_IDS)] = np.arange(1, 101)
    return table


def _write_ade(top: Path, split: str, index: int, scene: Scene) -> Record:
    stem = f"ADE_{split}_{index + 1:08d}"
    folder = "training" if split == "train" else "validation"
    category = _ade_categories()[scene.labels] * (scene.instances > 0)
    instance = np.stack([category, scene.instances, np.zeros_like(category)], axis=-1)
    _save(Image.fromarray(scene.image), top / f"images/{folder}/{stem}.jpg")
    _save(Image.fromarray(scene.labels), top / f"annotations/{folder}/{stem}.png")
    _save(Image.fromarray(instance), top / f"annotations_instance/{folder}/{stem}.png")
    colours, panoptic, instances = annotate(scene.labels, instance)
    _save(Image.fromarray(colours), top / f"ade20k_panoptic_{split}/{stem}.png")
    return Record(stem, scene.labels.shape[1], scene.labels.shape[0], panoptic, instances)


def _write_ade_files(top: Path, split: str, records: list[Record]) -> None:
    for task, content in (("panoptic", panoptic_file(records)), ("instance", instance_file(records))):
        (top / f"ade20k_{task}_{split}.json").write_text(json.dumps(content, separators=(",", ":")))


def city_of(split: str, index: int) -> str:
    return SPLIT_CITIES[split][index % len(SPLIT_CITIES[split])]


def _write_cityscapes(top: Path, split: str, index: int, scene: Scene) -> None:
    city, sequence = city_of(split, index), index // len(SPLIT_CITIES[split])
    stem = f"{split}/{city}/{city}_{sequence:06d}_000019"
    ids = scene.labels.astype(np.uint16)
    has_instances = (ids >= 24) & (ids <= 33) & (scene.instances > 0)
    instance_ids = np.where(has_instances, ids * 1000 + scene.instances, ids).astype(np.uint16)
    _save(Image.fromarray(scene.image), top / f"leftImg8bit/{stem}_leftImg8bit.png")
    _save(Image.fromarray(scene.labels), top / f"gtFine/{stem}_gtFine_labelIds.png")
    _save(Image.fromarray(instance_ids), top / f"gtFine/{stem}_gtFine_instanceIds.png")


LAYOUTS = {
    "voc": Layout(
        top="VOCdevkit/VOC2012",
        regions=(),
        objects=tuple(range(1, 21)),
        clutter=(0,),
        train=1000,
        val=200,
        heights=(64, 80),
        widths=(64, 80),
        num_regions=(0, 0),
        num_objects=(1, 4),
        write=_write_voc,
        write_lists=_write_voc_lists,
    ),
    "ade": Layout(
        top="ADEChallengeData2016",
        regions=STUFF_IDS,
        objects=THING_IDS,
        clutter=(0,),
        train=2400,
        val=300,
        heights=(64, 80),
        widths=(64, 80),
        num_regions=(1, 3),
        num_objects=(2, 4),
        write=_write_ade,
        write_lists=_write_ade_files,
    ),
    "cityscapes": Layout(
        top="cityscapes",
        regions=(7, 8, 11, 12, 13, 21, 22, 23),
        objects=(17, 19, 20, 24, 25, 26, 27, 28, 31, 32, 33),
        clutter=CITYSCAPES_IGNORED,
        train=450,
        val=60,
        heights=(64, 64),
        widths=(128, 128),
        num_regions=(2, 4),
        num_objects=(2, 6),
        write=_write_cityscapes,
    ),
}


def _quotas(num_classes: int, total: int) -> NDArray[np.int64]:
    """(num_classes,) how often each class is shown, about 1:2.5 between the rarest and the most frequent.

    Sixty per cent of the cards are shared evenly, so that the rarest class can still be learnt and tested.
    The rank of a class is a golden-ratio permutation of its id: every step has rare and frequent classes, and
    what a table shows about old and new classes is not confounded with their frequency.
    """
    rank = np.argsort(np.argsort(np.arange(num_classes) * 0.6180339887 % 1.0)) / max(num_classes - 1, 1)
    share = 0.6 / num_classes + 0.4 * 16.0**-rank / (16.0**-rank).sum()
    upper = np.floor(np.cumsum(share) * total + 1e-6).astype(np.int64)
    return np.diff(upper, prepend=0)


def _deal(
    classes: tuple[int, ...], sizes: NDArray[np.int64], num_near: int, rng: np.random.Generator
) -> list[tuple[int, ...]]:
    """Deal class cards to images of `sizes` (N,) cards; the first `num_near` images get neighbouring ids."""
    if not classes:
        return [()] * len(sizes)
    cards = np.repeat(classes, _quotas(len(classes), int(sizes.sum())))
    rng.shuffle(cards)
    near = int(sizes[:num_near].sum())
    nearness = cards[:near] + rng.uniform(0.0, 0.15 * max(classes), near)
    cards[:near] = cards[:near][np.argsort(nearness)]
    hands = np.split(cards, np.cumsum(sizes)[:-1])
    return [tuple(int(card) for card in hand) for hand in hands]


def deal_hands(layout: Layout, num_images: int, rng: np.random.Generator) -> list[Hand]:
    """The classes of each image, dealt from a deck with a fixed number of cards a class.

    In 60 per cent of the images classes of all ids meet, so that old, current and future classes appear
    together. The others hold neighbouring ids only: the disjoint setting needs images without any future
    class at every step.
    """
    num_near = round(0.4 * num_images)
    region_sizes = rng.integers(layout.num_regions[0], layout.num_regions[1] + 1, num_images)
    object_sizes = rng.integers(layout.num_objects[0], layout.num_objects[1] + 1, num_images)
    regions = _deal(layout.regions, region_sizes, num_near, rng)
    objects = _deal(layout.objects, object_sizes, num_near, rng)
    return [Hand(regions[i], objects[i]) for i in rng.permutation(num_images)]
