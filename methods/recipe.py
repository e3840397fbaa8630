"""The numbers of a training run. A scale is nothing but another set of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from protocols.short_edge import ShortEdgeCrop
from protocols.transforms import BoxCrop


@dataclass(frozen=True)
class Recipe:
    """Network, schedule and optimiser; a family of methods adds what its network and its papers need.

    `later_*` is what steps after the first use.
    """

    positive: ClassVar[tuple[str, ...]] = ("crop", "batch", "lr", "later_lr")
    not_negative: ClassVar[tuple[str, ...]] = (
        "epochs",
        "later_epochs",
        "iterations",
        "later_iterations",
        "weight_decay",
        "warmup_iterations",
        "clip_norm",
    )

    backbone: str = "resnet101"
    weights: str = ""
    """File with the backbone's ImageNet weights; empty: random initialisation."""
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

    optimizer: str = "sgd"
    """ "sgd" (with `momentum`) or "adamw"."""
    lr: float = 0.01
    later_lr: float = 0.001
    backbone_lr_factor: float = 1.0
    momentum: float = 0.9
    nesterov: bool = True
    weight_decay: float = 1e-4
    poly_power: float = 0.9
    """lr (1 - iteration / iterations) ** poly_power."""
    lr_drops: tuple[float, ...] = ()
    """Where given, instead of the polynomial: a tenth of the learning rate from these shares of a step on."""
    later_lr_drops: tuple[float, ...] = ()
    warmup_iterations: int = 0
    """First iterations of a step, over which the learning rate rises from a millionth of what it would be."""
    clip_norm: float = 0.0
    """Largest norm of all gradients together; 0: no limit."""
    amp: bool = True
    """bfloat16 autocast where there is a GPU; the official code uses fp16 (apex O1) or fp32."""
    source: str = ""
    """Where the schedule comes from; changes nothing."""

    def __post_init__(self) -> None:
        for name in self.positive:
            if getattr(self, name) <= 0:
                raise ValueError(f"recipe: {name} = {getattr(self, name)} must be above 0")
        for name in self.not_negative:
            if getattr(self, name) < 0:
                raise ValueError(f"recipe: {name} = {getattr(self, name)} must not be negative")
        if self.optimizer not in OPTIMIZERS:
            raise ValueError(f"recipe: optimizer = {self.optimizer!r} must be one of {', '.join(OPTIMIZERS)}")

    def augmentation(self) -> BoxCrop | ShortEdgeCrop:
        """How a training crop is cut from an image."""
        return BoxCrop(self.crop, self.area_factor)

    def at_step(self, index: int) -> StepRecipe:
        """The part of the recipe that one step uses."""
        if index == 0:
            return StepRecipe(self.epochs, self.iterations, self.lr, self.lr_drops)
        return StepRecipe(self.later_epochs, self.later_iterations, self.later_lr, self.later_lr_drops)


OPTIMIZERS = ("sgd", "adamw")
PER_STEP = {"epochs", "iterations", "lr", "lr_drops"}
"""What the first step and the later ones have apart: the latter as `later_<name>`."""


@dataclass(frozen=True)
class StepRecipe:
    """How long one step trains, and how fast."""

    epochs: int
    iterations: int
    lr: float
    lr_drops: tuple[float, ...] = ()

    def total_iterations(self, batches_per_epoch: int) -> int:
        return self.iterations or self.epochs * batches_per_epoch
