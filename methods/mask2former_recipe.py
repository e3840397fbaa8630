"""The schedules of the Mask2Former methods: the published ones, and one for two CPU cores."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields, replace
from typing import ClassVar

from methods.networks.mask2former.config import MINI, Mask2FormerConfig
from methods.networks.mask2former.network import DIVISOR
from methods.recipe import Recipe
from protocols.protocol import Protocol
from protocols.short_edge import ShortEdgeCrop


@dataclass(frozen=True)
class Mask2FormerRecipe(Mask2FormerConfig, Recipe):
    """The sizes of the network, and how it is trained; each can be set.

    The defaults are those of facebookresearch/Mask2Former@9b0651c and jinpeng0528/BalConpas@3b76142.

    Sources: `configs/ade20k/panoptic-segmentation/maskformer2_R50_bs16_160k.yaml`, BalConpas `configs`, its
    `scripts` and `continual/trainer.py@build_optimizer`.
    """

    positive: ClassVar[tuple[str, ...]] = (
        *Recipe.positive,
        "short_side",
        "max_side",
        "num_points",
        "class_weight",
    )

    class_weight: float = 2.0
    """Of the cost of a wrong class in matching, and of the loss of classes; masks and dice have 5 each."""
    object_threshold: float = 0.8
    """Least score of a panoptic segment."""
    overlap_threshold: float = 0.8
    """Least share of the pixels of a panoptic segment that others must leave it."""

    crop: int = 640
    """Side of the training crops."""
    short_side: int = 640
    """Of a test image, and the middle of the training sizes."""
    side_factor: tuple[float, ...] = (0.5, 2.0)
    """Least and most short side of a training image, relative to `short_side`, in steps of 0.1."""
    jitter: bool = True
    """Whether the colours of training images change."""
    max_side: int = 2560
    """Longest side that an image may have."""
    batch: int = 8
    iterations: int = 160_000
    optimizer: str = "adamw"
    lr: float = 1e-4
    later_lr: float = 5e-5
    backbone_lr_factor: float = 0.1
    weight_decay: float = 0.05
    clip_norm: float = 0.01

    def __post_init__(self) -> None:
        Recipe.__post_init__(self)
        Mask2FormerConfig.__post_init__(self)
        if self.crop % DIVISOR:
            raise ValueError(f"recipe: crop = {self.crop} must be a multiple of {DIVISOR}")

    def augmentation(self) -> ShortEdgeCrop:
        return ShortEdgeCrop(self.crop, self.short_side, self.max_side, self.side_factor, self.jitter)

    def network(self) -> Mask2FormerConfig:
        """The sizes of the network alone."""
        names = [field.name for field in fields(Mask2FormerConfig)]
        return Mask2FormerConfig(**{name: getattr(self, name) for name in names})


def paper(protocol: Protocol) -> Mask2FormerRecipe:
    """The published configuration: ResNet-50 at 640 pixels; for the semantic task ResNet-101 at 512.

    After the first step 1000 iterations for each class: BalConpas `scripts`.
    """
    per_step = len(protocol.steps[-1].classes)
    semantic = protocol.task == "semantic"
    side = 512 if semantic else 640
    return Mask2FormerRecipe(
        backbone="resnet101" if semantic else "resnet50",
        train_backbone_norm=semantic,
        crop=side,
        short_side=side,
        max_side=4 * side,
        later_iterations=1000 * per_step,
        source="BalConpas scripts",
    )


def mini(protocol: Protocol) -> Mask2FormerRecipe:
    """Minutes on two CPU cores: a small network on small images; same code, same losses.

    The numbers were chosen on the stand-in; they have no published source.
    """
    return Mask2FormerRecipe(
        **asdict(replace(MINI, num_queries=20, encoder_layers=1, num_points=112)),
        # With 2, queries swap classes from one iteration to the next: learning takes three times as long.
        class_weight=25.0,
        object_threshold=0.5,
        crop=64,
        short_side=64,
        max_side=256,
        side_factor=(1.0, 1.2),
        jitter=False,
        batch=16,
        iterations=900,
        later_iterations=100 if protocol.task == "semantic" else 140,
        lr=3e-3,
        later_lr=1e-3,
        backbone_lr_factor=1.0,
        clip_norm=0.1,
        amp=False,
        source="ours, chosen on the stand-in",
    )


SCALES = {"paper": paper, "mini": mini}
