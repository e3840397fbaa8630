"""The schedules of the DeepLabv3 methods: the published ones, and one for two CPU cores."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from methods.recipe import Recipe
from protocols.protocol import Protocol


@dataclass(frozen=True)
class DeepLabRecipe(Recipe):
    """The defaults are the official ones of MiB, PLOP and RCIL.

    Sources: the papers' implementation details and `run.py`, `argparser.py` of fcdl94/MiB@1c58983 and
    arthurdouillard/CVPR2021_PLOP@4b4a060.
    """

    positive: ClassVar[tuple[str, ...]] = (
        *Recipe.positive,
        "output_stride",
        "head_hidden_channels",
        "head_channels",
    )
    not_negative: ClassVar[tuple[str, ...]] = (*Recipe.not_negative, "momentum")

    output_stride: int = 16
    head_hidden_channels: int = 256
    head_channels: int = 256
    dilations: tuple[int, ...] = (6, 12, 18)
    freeze_batch_norm: bool = False
    """Keep statistics and affine of the backbone's normalisation as loaded. Never so in the papers."""


#: Divisions with a script of PLOP's: arthurdouillard/CVPR2021_PLOP@4b4a060, folder `scripts`.
SCRIPTS = {
    "voc-19-1": "voc/plop_19-1.sh",
    "voc-15-5": "voc/plop_15-5.sh",
    "voc-15-1": "voc/plop_15-1.sh",
    "voc-10-1": "voc/plop_10-1.sh",
    "ade-100-50": "ade/plop_ade_100-50.sh",
    "ade-100-10": "ade/plop_ade_100-10.sh",
    "ade-100-5": "ade/plop_ade_100-5.sh",
    "cityscapes-domain-11-1": "cityscapesDomain/plop_cityscapesDomain_11-1.sh",
    "cityscapes-domain-1-1": "cityscapesDomain/plop_cityscapesDomain_1-1.sh",
}


def paper(protocol: Protocol) -> DeepLabRecipe:
    """The published configuration of the DeepLab family, on any division of the three data sets.

    A division without a script (voc-5-3, ade-50-50, cityscapes-domain-11-5 and others) has the schedule of
    its data set; `source` says so.
    """
    source = source_in("PLOP", SCRIPTS, protocol)
    if protocol.dataset == "ade":
        return DeepLabRecipe(epochs=60, later_epochs=60, source=source)
    if protocol.dataset == "cityscapes":
        return DeepLabRecipe(epochs=50, later_epochs=50, source=source)
    # "30 epochs at the first step of 10-1, then 10": PLOP README.
    later = 10 if protocol.is_division("voc-10-1") else 30
    return DeepLabRecipe(epochs=30, later_epochs=later, source=source)


def source_in(repository: str, scripts: Mapping[str, str], protocol: Protocol) -> str:
    """`Recipe.source` of the script of the protocol's division, or of none."""
    script = next((path for division, path in scripts.items() if protocol.is_division(division)), "")
    return f"{repository} scripts/{script}" if script else "no script; as the others of its data set"


def mini(protocol: Protocol) -> DeepLabRecipe:
    """Minutes on two CPU cores: a small backbone on small images; same code, same losses.

    The numbers were chosen on the stand-in; they have no published source.
    """
    return DeepLabRecipe(
        backbone="resnet-mini",
        output_stride=4,
        head_hidden_channels=32,
        head_channels=64,
        dilations=(2, 4, 6),
        crop=32,
        area_factor=(0.8, 1.0),
        batch=16,
        iterations=300,
        later_iterations=30,
        lr=0.3,
        later_lr=0.03,
        amp=False,
        source="ours, chosen on the stand-in",
    )


SCALES = {"paper": paper, "mini": mini}


def kd_weight_at(scale: str, protocol: Protocol) -> float:
    """Factor of a distillation that is divided by its old channels (LwF, ILT): the published 100 at `paper`.

    At other scales it gives every channel the pull that it gives the 16 of VOC 15-1, where it was chosen.
    With 100 itself both methods fall as fine-tuning does on 100 classes.
    """
    return 100.0 if scale == "paper" else 100.0 * len(protocol.channels(0)) / 16
