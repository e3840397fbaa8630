"""Mask2Former: backbone, pixel decoder, and a predictor on top."""

from __future__ import annotations

from typing import ClassVar, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from methods.networks.mask2former.backbone import build_backbone
from methods.networks.mask2former.config import Mask2FormerConfig
from methods.networks.mask2former.decoder import Mask2FormerOutput, MaskedDecoder
from methods.networks.mask2former.pixel_decoder import PixelDecoder, Pixels

DIVISOR = 32


def pad_to_multiple(images: Tensor, divisor: int = DIVISOR) -> Tensor:
    """(B, 3, H, W) -> the same with zeros to the right and below, until sides are multiples of `divisor`."""
    height, width = images.shape[-2:]
    return F.pad(images, (0, -width % divisor, 0, -height % divisor))


class PixelNetwork(nn.Module):
    """Backbone and pixel decoder: what all networks of the family share.

    `backbone` has torchvision's parameter names, and `pixel_mean` and `pixel_std` to normalise images with;
    `pixel_decoder` has the official names.
    """

    def __init__(self, config: Mask2FormerConfig) -> None:
        super().__init__()
        self.config = config
        self.backbone = build_backbone(config.backbone, config.train_backbone_norm)
        self.pixel_decoder = PixelDecoder(self.backbone.out_channels, config)

    def pixels(self, images: Tensor) -> Pixels:
        """(B, 3, H, W) normalised images of any size, which are padded -> `Pixels`."""
        images = pad_to_multiple(images)
        if images.device.type == "cpu":
            images = images.contiguous(memory_format=torch.channels_last)
        return cast(Pixels, self.pixel_decoder(self.backbone(images)))


class Mask2Former(PixelNetwork):
    """(B, 3, H, W) normalised images -> `Mask2FormerOutput`, whose masks cover the padded images.

    Source: Mask2Former and BalConpas, maskformer_model.py.
    """

    decoder: ClassVar[type[MaskedDecoder]] = MaskedDecoder

    def __init__(self, config: Mask2FormerConfig, num_classes: int) -> None:
        """`num_classes` of the first step, ∅ not counted."""
        super().__init__(config)
        self.predictor = self.decoder(config, num_classes)

    @property
    def num_classes(self) -> int:
        """Classes of all steps so far, ∅ not counted."""
        return self.predictor.class_embeds.num_classes

    def grow(self, num_classes: int) -> None:
        """Adds classes, before ∅; ValueError if there are none."""
        self.predictor.class_embeds.grow(num_classes)

    def forward(self, images: Tensor) -> Mask2FormerOutput:
        return cast(Mask2FormerOutput, self.predictor(self.pixels(images)))
