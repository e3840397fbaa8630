"""ADE20K scene parsing (MIT SceneParse150): 20210 training and 2000 validation images, 150 classes."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

import numpy as np
import numpy.typing as npt
from pycocotools import mask as coco_mask

from protocols.datasets.dataset import Dataset, Sample, identity_lut
from protocols.datasets.files import list_folder, open_id_mask, open_mask
from protocols.datasets.segment_table import SegmentTable, read_instances, read_panoptic
from protocols.segments import SegmentMap

# Label ids 1..150 in order; * marks a thing (Mask2Former `register_ade20k_panoptic.py`).
_CLASSES = """
wall; building; sky; floor; tree; ceiling; road; bed*; window*; grass; cabinet*; sidewalk; person*;
earth; door*; table*; mountain; plant; curtain*; chair*; car*; water; painting*; sofa*; shelf*; house;
sea; mirror*; rug; field; armchair*; seat*; fence*; desk*; rock; wardrobe*; lamp*; tub*; rail*;
cushion*; base; box*; column*; signboard*; chest of drawers*; counter*; sand; sink*; skyscraper;
fireplace*; refrigerator*; grandstand; path; stairs*; runway; case*; pool table*; pillow*; screen door*;
stairway; river; bridge; bookcase*; blind; coffee table*; toilet*; flower*; book*; hill; bench*;
countertop*; stove*; palm*; kitchen island*; computer*; swivel chair*; boat*; bar; arcade machine*;
hovel; bus*; towel*; light*; truck*; tower; chandelier*; awning*; street lamp*; booth*; tv*; plane*;
dirt track; clothes*; pole*; land; bannister*; escalator; ottoman*; bottle*; buffet; poster; stage;
van*; ship*; fountain*; conveyer belt; canopy; washer*; plaything*; pool; stool*; barrel*; basket*;
falls; tent; bag*; minibike*; cradle; oven*; ball*; food*; step*; tank; trade name*; microwave*; pot*;
animal*; bicycle*; lake; dishwasher*; screen*; blanket; sculpture*; hood*; sconce*; vase*;
traffic light*; tray*; trash can*; fan*; pier; crt screen; plate*; monitor*; bulletin board*; shower;
radiator*; glass*; clock*; flag*
"""
_MARKED = tuple(" ".join(name.split()) for name in _CLASSES.split(";"))
CLASS_NAMES = ("unlabelled", *(name.removesuffix("*") for name in _MARKED))
THING_IDS = tuple(i for i, name in enumerate(_MARKED, start=1) if name.endswith("*"))
STUFF_IDS = tuple(i for i, name in enumerate(_MARKED, start=1) if not name.endswith("*"))

FOLDERS = {"train": "training", "val": "validation"}
_SPLITS = {folder: split for split, folder in FOLDERS.items()}


class Ade(Dataset):
    """`ADEChallengeData2016/{images,annotations}/{training,validation}`; order: file names, sorted.

    The files hold label ids: 0 for everything outside the 150 classes ("other objects"). Segments lie as
    Mask2Former's scripts write them, `ade20k_panoptic_{train,val}` (PNG and JSON) and
    `ade20k_instance_{train,val}.json`; `run_benchmark.py prepare ade20k` writes them too.
    """

    key: ClassVar[str] = "ade"
    title: ClassVar[str] = "ADE20K"
    official_sizes: ClassVar[dict[str, int]] = {"train": 20210, "val": 2000}
    tasks: ClassVar[tuple[str, ...]] = ("semantic", "panoptic", "instance")
    things: ClassVar[frozenset[int]] = frozenset(THING_IDS)
    class_names = CLASS_NAMES

    @classmethod
    def candidates(cls, root: Path) -> tuple[Path, ...]:
        return root, root / "ADEChallengeData2016"

    @classmethod
    def is_here(cls, folder: Path) -> bool:
        return any((folder / "annotations" / name).is_dir() for name in FOLDERS.values())

    @classmethod
    def layout(cls) -> str:
        return "ADEChallengeData2016/annotations/training and validation"

    def list_samples(self, split: str) -> tuple[Sample, ...]:
        masks = list_folder(
            self.root / "annotations" / FOLDERS[split], ".png", f"the {split} masks of ADE20K"
        )
        images = self.root / "images" / FOLDERS[split]
        return tuple(Sample(images / f"{mask.stem}.jpg", mask) for mask in masks)

    def raw_to_label(self) -> npt.NDArray[np.int16]:
        return _LUT

    def list_segments(self, split: str, task: str) -> SegmentTable:
        path = self.root / f"ade20k_{task}_{split}.json"
        if not path.is_file():
            raise FileNotFoundError(
                f"{path}: the {task} annotations of ADE20K are missing: "
                f"run `python run_benchmark.py prepare ade20k --data-root {self.root.parent}`"
            )
        read = read_panoptic if task == "panoptic" else read_instances
        return read(path, len(CLASS_NAMES) - 1)

    def read_segments(self, sample: Sample, task: str) -> SegmentMap:
        split = _SPLITS[sample.mask.parent.name]
        table = self.segment_table(split, task)
        here = table.segments_of(sample.mask.stem)
        if task == "panoptic":
            path = self.root / f"ade20k_panoptic_{split}" / f"{sample.mask.stem}.png"
            ids = _numbered(path, open_id_mask(path), table.ids[here])
        else:
            ids = _drawn(table, here, sample)
        return SegmentMap(ids, table.labels[here], table.crowd[here])


def _numbered(
    path: Path, values: npt.NDArray[np.int32], known: npt.NDArray[np.int64]
) -> npt.NDArray[np.int32]:
    """(H, W): n + 1 where `values` is known[n], 0 where it is 0. ValueError for any other value."""
    order = np.concatenate([[0], known]).argsort(kind="stable")
    ascending = np.concatenate([[0], known])[order]
    places = np.searchsorted(ascending, values).clip(max=len(known))
    if not np.array_equal(ascending[places], values):
        unknown = values[ascending[places] != values][0]
        raise ValueError(
            f"{path}: segment id {unknown} is not in the JSON file: prepare the panoptic annotations again"
        )
    return order.astype(np.int32)[places]


def _drawn(table: SegmentTable, here: slice, sample: Sample) -> npt.NDArray[np.int32]:
    """(H, W) from run lengths; an image without any segment is opened for its size."""
    assert table.masks is not None
    if here.start == here.stop:
        width, height = open_mask(sample.mask).size
        return np.zeros((height, width), dtype=np.int32)
    ids = np.zeros(table.masks.sizes[here.start], dtype=np.int32)
    for number, place in enumerate(range(here.start, here.stop), start=1):
        try:
            ids[coco_mask.decode(table.masks[place]).astype(bool)] = number
        except (ValueError, IndexError) as error:
            raise ValueError(
                f"{table.path}: a mask of {sample.mask.stem} is damaged ({error}): prepare the data set again"
            ) from None
    return ids


_LUT = identity_lut(len(CLASS_NAMES) - 1)
