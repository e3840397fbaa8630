"""The sizes of the network. A scale is nothing but another set of them."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Mask2FormerConfig:
    """The defaults are the published ones: Mask2Former and BalConpas on ADE20K with ResNet-50
    (configs/ade20k/panoptic-segmentation/maskformer2_R50_bs16_160k.yaml)."""

    backbone: str = "resnet50"
    """A key of `backbone.BACKBONES`."""
    train_backbone_norm: bool = False
    """Ordinary trainable batch normalisation in a ResNet, as in BalConpas with ResNet-101; else frozen. The
    methods freeze that of any other body, too, from the second step on."""
    hidden: int = 256
    mask_dim: int = 256
    num_queries: int = 100
    num_heads: int = 8
    norm_groups: int = 32
    """Groups of the pixel decoder's group normalisation."""

    encoder_layers: int = 6
    encoder_ffn: int = 1024
    encoder_points: int = 4
    decoder_layers: int = 9
    """Official `DEC_LAYERS` counts the prediction before the first layer too: 10."""
    decoder_ffn: int = 2048

    num_points: int = 12544
    """Points at which matching and losses compare masks (`TRAIN_NUM_POINTS`)."""

    def __post_init__(self) -> None:
        """Raises ValueError for sizes that do not fit together."""
        for name in ("num_queries", "decoder_layers", "encoder_layers", "encoder_points"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        for divisor in (4, self.num_heads, self.norm_groups):
            if self.hidden % divisor:
                raise ValueError(f"hidden must be a multiple of {divisor}, got {self.hidden}")


PAPER = Mask2FormerConfig()
MINI = Mask2FormerConfig(
    backbone="mini",
    hidden=64,
    mask_dim=64,
    num_queries=40,
    num_heads=4,
    norm_groups=16,
    encoder_layers=2,
    encoder_ffn=128,
    decoder_layers=3,
    decoder_ffn=128,
    num_points=1024,
)
"""Minutes on two cores."""
