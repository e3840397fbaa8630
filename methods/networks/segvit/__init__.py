"""SegViT and SegViTv2: a plain vision transformer and heads whose attention is the mask."""

from methods.networks.segvit.config import ENCODERS, SegViTConfig
from methods.networks.segvit.head import HeadOutput
from methods.networks.segvit.network import SegViT

__all__ = ["ENCODERS", "HeadOutput", "SegViT", "SegViTConfig"]
