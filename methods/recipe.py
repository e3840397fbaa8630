"""The numbers of a training run. A scale is nothing but another set of them."""

from __future__ import annotations

from dataclasses import dataclass

from protocols.protocol import Protocol


@dataclass(frozen=True)
class Recipe:
    """Network, schedule and optimiser. The defaults are the official ones of MiB, PLOP and RCIL.

    Sources: the papers' implementation details and `run.py`, `argparser.py` of fcdl94/MiB@1c58983 and
    arthurdouillard/CVPR2021_PLOP@4b4a060. `later_*` is what steps after the first use.
    """

    backbone: str = "resnet101"
    weights: str = ""
    """File with the backbone's ImageNet weights; empty: random initialisation."""
    output_stride: int = 16
    head_hidden_channels: int = 256
    head_channels: int = 256
    dilations: tuple[int, ...] = (6, 12, 18)
    freeze_batch_norm: bool = False
    """Keep statistics and affine of the backbone's normalisation as loaded. Never so in the papers."""

    crop: int = 512
    area_factor: tuple[float, ...] = (0.5, 2.0)
    """Least and most area of a training box, relative to the image: no rescaling by 0.5 to 2, since a box
    must fit into the image and factors above 1 can never be accepted. MiB `run.py@get_dataset`."""
    batch: int = 24
    epochs: int = 30
    later_epochs: int = 30
    iterations: int = 0
    """Iterations of the first step; 0: by `epochs`."""
    later_iterations: int = 0

    lr: float = 0.01
    later_lr: float = 0.001
    backbone_lr_factor: float = 1.0
    momentum: float = 0.9
    nesterov: bool = True
    weight_decay: float = 1e-4
    poly_power: float = 0.9
    amp: bool = True
    """bfloat16 autocast where there is a GPU; the official code uses fp16 (apex O1) or fp32."""
    source: str = ""
    """Where the schedule comes from; changes nothing."""

    def __post_init__(self) -> None:
        for name in (
            "crop",
            "batch",
            "output_stride",
            "head_hidden_channels",
            "head_channels",
            "lr",
            "later_lr",
        ):
            if getattr(self, name) <= 0:
                raise ValueError(f"recipe: {name} = {getattr(self, name)} must be above 0")
        for name in ("epochs", "later_epochs", "iterations", "later_iterations", "weight_decay", "momentum"):
            if getattr(self, name) < 0:
                raise ValueError(f"recipe: {name} = {getattr(self, name)} must not be negative")

    def at_step(self, index: int) -> StepRecipe:
        """The part of the recipe that one step uses."""
        if index == 0:
            return StepRecipe(self.epochs, self.iterations, self.lr)
        return StepRecipe(self.later_epochs, self.later_iterations, self.later_lr)


@dataclass(frozen=True)
class StepRecipe:
    """How long one step trains, and how fast."""

    epochs: int
    iterations: int
    lr: float

    def total_iterations(self, batches_per_epoch: int) -> int:
        return self.iterations or self.epochs * batches_per_epoch


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


def paper(protocol: Protocol) -> Recipe:
    """The published configuration of the DeepLab family, on any division of the three data sets.

    A division without a script (voc-5-3, ade-50-50, cityscapes-domain-11-5 and others) has the schedule of
    its data set; `source` says so.
    """
    script = next((path for division, path in SCRIPTS.items() if protocol.is_division(division)), "")
    source = f"PLOP scripts/{script}" if script else "no script; as the others of its data set"
    if protocol.dataset == "ade":
        return Recipe(epochs=60, later_epochs=60, source=source)
    if protocol.dataset == "cityscapes":
        return Recipe(epochs=50, later_epochs=50, source=source)
    # "30 epochs at the first step of 10-1, then 10": PLOP README.
    later = 10 if protocol.is_division("voc-10-1") else 30
    return Recipe(epochs=30, later_epochs=later, source=source)


def mini(protocol: Protocol) -> Recipe:
    """Minutes on two CPU cores: a small backbone on small images; same code, same losses.

    The numbers were chosen on the stand-in; they have no published source.
    """
    return Recipe(
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


def kd_weight_at(scale: str, protocol: Protocol, published: float = 100.0) -> float:
    """Factor of a distillation that is divided by its old channels (LwF, ILT): the published one at `paper`.

    At other scales it gives every channel the pull that 100 gives the 16 of VOC 15-1, where it was chosen.
    With 100 itself both methods fall as fine-tuning does on 100 classes.
    """
    return published if scale == "paper" else published * len(protocol.channels(0)) / 16
