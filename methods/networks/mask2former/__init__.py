"""Mask2Former, for semantic, panoptic and instance segmentation, with a class head that grows."""

from methods.networks.mask2former.config import MINI, PAPER, Mask2FormerConfig
from methods.networks.mask2former.decoder import Mask2FormerOutput
from methods.networks.mask2former.network import Mask2Former, PixelNetwork

__all__ = ["MINI", "PAPER", "Mask2Former", "Mask2FormerConfig", "Mask2FormerOutput", "PixelNetwork"]
