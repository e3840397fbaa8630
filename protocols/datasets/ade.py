"""ADE20K scene parsing (MIT SceneParse150): 20210 training and 2000 validation images, 150 classes."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

import numpy as np
import numpy.typing as npt

from protocols.datasets.dataset import Dataset, Sample, identity_lut
from protocols.datasets.files import list_folder

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

_FOLDERS = {"train": "training", "val": "validation"}


class Ade(Dataset):
    """`ADEChallengeData2016/{images,annotations}/{training,validation}`; order: file names, sorted.

    The files hold label ids: 0 for everything outside the 150 classes ("other objects").
    """

    key: ClassVar[str] = "ade"
    title: ClassVar[str] = "ADE20K"
    official_sizes: ClassVar[dict[str, int]] = {"train": 20210, "val": 2000}
    things: ClassVar[frozenset[int]] = frozenset(THING_IDS)
    class_names = CLASS_NAMES

    @classmethod
    def candidates(cls, root: Path) -> tuple[Path, ...]:
        return root, root / "ADEChallengeData2016"

    @classmethod
    def is_here(cls, folder: Path) -> bool:
        return any((folder / "annotations" / name).is_dir() for name in _FOLDERS.values())

    @classmethod
    def layout(cls) -> str:
        return "ADEChallengeData2016/annotations/training and validation"

    def list_samples(self, split: str) -> tuple[Sample, ...]:
        masks = list_folder(
            self.root / "annotations" / _FOLDERS[split], ".png", f"the {split} masks of ADE20K"
        )
        images = self.root / "images" / _FOLDERS[split]
        return tuple(Sample(images / f"{mask.stem}.jpg", mask) for mask in masks)

    def raw_to_label(self) -> npt.NDArray[np.int16]:
        return _LUT


_LUT = identity_lut(len(CLASS_NAMES) - 1)
