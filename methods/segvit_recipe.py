"""The schedules of the SegViT methods: the published ones, and one for two CPU cores."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import ClassVar

from methods.networks.segvit.config import SegViTConfig
from methods.recipe import Recipe
from protocols.protocol import Protocol
from protocols.ratio_crop import RatioCrop


@dataclass(frozen=True)
class SegViTRecipe(SegViTConfig, Recipe):
    """The sizes of the network, and how it is trained; each can be set.

    The defaults are those of SegViT's Base model on ADE20K, and of CIT where steps are concerned.

    Sources: zbwxp/SegVit@763137e `configs`, its development repository and issue 2 (Base), jinchaogjc/cit
    `config/segvit_v` (80k iterations, then 40k a step, batch 16).
    """

    positive: ClassVar[tuple[str, ...]] = (*Recipe.positive, "short_side", "max_side", "test_stride")
    not_negative: ClassVar[tuple[str, ...]] = (*Recipe.not_negative, "test_window")

    short_side: int = 512
    """Of a test image, and the middle of the training sizes."""
    max_side: int = 2048
    """Longest side that an image may have."""
    side_factor: tuple[float, ...] = (0.5, 2.0)
    """Least and most size of a training image, relative to that of a test image."""
    jitter: bool = True
    """Whether the colours of training images change."""
    largest_class: float = 0.75
    """Share of a training crop's labelled pixels that one class should not reach."""
    first_class: int = 1
    """The least label that is a class: 1 where 0 is the background, else 0."""
    test_window: int = 512
    """Side of the windows that slide over a test image; 0: it is seen whole."""
    test_stride: int = 341
    batch: int = 16
    """SegViT's launchers give 8 or 16, its papers say 16."""
    iterations: int = 80_000
    later_iterations: int = 40_000
    optimizer: str = "adamw"
    lr: float = 2e-4
    """Of the head."""
    later_lr: float = 2e-4
    backbone_lr_factor: float = 0.1
    weight_decay: float = 0.01
    poly_power: float = 1.0
    warmup_iterations: int = 1500
    clip_norm: float = 35.0
    """SegViT's. In CIT the same setting has no effect, because its library ignores it there."""
    amp: bool = False

    def __post_init__(self) -> None:
        Recipe.__post_init__(self)
        SegViTConfig.__post_init__(self)

    def augmentation(self) -> RatioCrop:
        sides = self.crop, self.short_side, self.max_side
        return RatioCrop(*sides, self.side_factor, self.jitter, self.largest_class, self.first_class)

    def network(self) -> SegViTConfig:
        """The sizes of the network alone."""
        return SegViTConfig(**{field.name: getattr(self, field.name) for field in fields(SegViTConfig)})


def paper(protocol: Protocol) -> SegViTRecipe:
    """The configuration that the published numbers are likely to have: no code of SegViTv2 was released."""
    source = "CIT config/segvit_v" if protocol.dataset == "ade" else "as on ADE20K: none published"
    return SegViTRecipe(first_class=int(protocol.background), source=source)


def mini(protocol: Protocol) -> SegViTRecipe:
    """Minutes on two CPU cores: a small encoder on small images; same code, same losses.

    The numbers were chosen on the stand-in; they have no published source.
    """
    return SegViTRecipe(
        backbone="vit-mini",
        head_layers=1,
        dropout=0.0,
        init_deviation=0.11,
        crop=64,
        short_side=64,
        max_side=256,
        side_factor=(1.0, 1.2),
        jitter=False,
        largest_class=1.0,
        first_class=int(protocol.background),
        test_window=0,
        test_stride=1,
        batch=8,
        iterations=900,
        later_iterations=300,
        lr=2e-3,
        later_lr=2e-3,
        backbone_lr_factor=1.0,
        warmup_iterations=50,
        clip_norm=1.0,
        source="ours, chosen on the stand-in",
    )


SCALES = {"paper": paper, "mini": mini}
