"""The sizes of encoder and head. A scale is nothing but another set of them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from difflib import get_close_matches

from protocols.transforms import IMAGENET, PixelStatistics

HALF: PixelStatistics = ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
"""Of the AugReg ("jax") weights."""


@dataclass(frozen=True)
class EncoderConfig:
    """A plain vision transformer as mmsegmentation 0.24.0 builds it; flags for what BEiT does otherwise."""

    width: int
    depth: int
    num_heads: int
    taps: tuple[int, ...]
    """Blocks, counted from 0, whose output the head sees."""
    drop_path: float
    """Of the last block; it rises from 0."""
    patch: int = 16
    shrink_at: int | None = None
    """The block that keeps a quarter of the tokens."""
    shrunk: tuple[int, ...] = ()
    """Its number and the taps of the shrunk variant; empty where there is none."""
    statistics: PixelStatistics = HALF
    keeps_class_token: bool = False
    """Whether the blocks see the class token. Else it is dropped before the first, as in mmsegmentation with
    `with_cls_token=False`: it and its position are weights without a gradient."""
    relative_positions: bool = False
    """A bias of the attention instead of embeddings added to the tokens."""
    layer_scale: float = 0.0
    """Initial factor of what a block adds to its input; 0: none."""
    drops_attention: bool = False
    """Whether stochastic depth drops the attention too. mmsegmentation's ViT drops the MLP alone."""


BASE = EncoderConfig(768, 12, 12, taps=(5, 7, 11), drop_path=0.1, shrunk=(6, 5, 11))
LARGE = EncoderConfig(1024, 24, 16, taps=(7, 15, 23), drop_path=0.3, shrunk=(8, 7, 23))
BEIT_BASE = EncoderConfig(
    768,
    12,
    12,
    taps=(5, 7, 11),
    drop_path=0.1,
    statistics=IMAGENET,
    keeps_class_token=True,
    relative_positions=True,
    layer_scale=1e-6,
    drops_attention=True,
)
ENCODERS = {
    "vit-base": BASE,
    "vit-large": LARGE,
    "beitv2-base": BEIT_BASE,
    "beitv2-large": replace(BEIT_BASE, width=1024, depth=24, num_heads=16, taps=LARGE.taps, drop_path=0.2),
    "vit-mini": EncoderConfig(96, 2, 2, taps=(0, 1), drop_path=0.0, patch=8, shrunk=(1, 0, 1)),
}
"""Base and Large as in SegViT's configs, its shrunk Base as in the author's development repository."""


@dataclass(frozen=True)
class SegViTConfig:
    """The defaults are those of SegViTv2's head, as far as it is public (CIT `atm_headv2.py`)."""

    backbone: str = "vit-base"
    """A key of `ENCODERS`."""
    crop: int = 512
    """Side of the images; position tables are made for it."""
    shrinks: bool = False
    """Shrunk encoder, and a head that makes its resolution good again; tied to the crop."""
    self_attention: bool = False
    """Whether class tokens see each other, as in version 1: a new class then changes the old ones' output.
    Version 2 is recalled, and CIT's code says so, to be without."""
    shared_classifier: bool = True
    """One "present or absent" for all classes, as CIT's head has; else a softmax over classes and "absent",
    as in version 1."""
    head_layers: int = 3
    """Of each level."""
    dropout: float = 0.1
    """Of the head."""
    init_deviation: float = 0.02
    """Standard deviation of random weights: too little for a narrow network."""

    def __post_init__(self) -> None:
        """Raises ValueError for a backbone that is unknown, and for sizes that do not fit together."""
        if self.backbone not in ENCODERS:
            near = get_close_matches(self.backbone, ENCODERS, n=2, cutoff=0.4)
            hint = f"did you mean {' or '.join(near)}? " if near else ""
            raise ValueError(f"unknown backbone {self.backbone!r}: {hint}known are {', '.join(ENCODERS)}")
        if self.shrinks and not ENCODERS[self.backbone].shrunk:
            raise ValueError(f"backbone {self.backbone!r} has no shrunk variant; set shrinks = false")
        if self.head_layers < 1:
            raise ValueError(f"head_layers must be at least 1, got {self.head_layers}")

    @property
    def encoder(self) -> EncoderConfig:
        plain = ENCODERS[self.backbone]
        if not self.shrinks:
            return plain
        return replace(plain, shrink_at=plain.shrunk[0], taps=plain.shrunk[1:])

    @property
    def head_width(self) -> int:
        return self.encoder.width // 2
