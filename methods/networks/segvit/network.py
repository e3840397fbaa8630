"""SegViT: a plain vision transformer with one head, or with one head a step."""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn

from methods.networks.segvit.config import SegViTConfig
from methods.networks.segvit.encoder import PlainViT
from methods.networks.segvit.head import ClassHead, HeadOutput, build_head
from methods.networks.segvit.tokens import Tokens


class SegViT(nn.Module):
    """(B, 3, H, W) normalised images -> what the newest head says of its classes.

    A part of which nothing is trained stays in eval mode, so that neither dropout nor stochastic depth
    disturbs it, unless it is `noisy_when_frozen`.
    """

    noisy_when_frozen = False

    def __init__(self, config: SegViTConfig, num_classes: int) -> None:
        """`num_classes` of the first step."""
        super().__init__()
        self.config = config
        self.encoder = PlainViT(config.encoder, config.crop, config.init_deviation)
        self.heads = nn.ModuleList([build_head(config, num_classes)])

    @property
    def newest(self) -> ClassHead:
        return cast(ClassHead, self.heads[-1])

    @property
    def num_classes(self) -> int:
        """Of all heads together."""
        return sum(cast(ClassHead, head).num_classes for head in self.heads)

    def add_head(self, num_classes: int) -> None:
        """A head of its own for further classes."""
        device = next(self.parameters()).device
        self.heads.append(build_head(self.config, num_classes).to(device))

    def features(self, images: Tensor) -> list[Tokens]:
        return cast(list[Tokens], self.encoder(images))

    def forward(self, images: Tensor) -> HeadOutput:
        return cast(HeadOutput, self.newest(self.features(images)))

    def scores(self, images: Tensor) -> Tensor:
        """(B, K, H, W) of the classes of all heads, side by side; they are independent of each other."""
        features, patch = self.features(images), self.config.encoder.patch
        height, width = (patch * side for side in features[0].grid)
        maps = torch.cat([head(features).scores(height, width) for head in self.heads], dim=1)
        return maps[..., : images.shape[2], : images.shape[3]]

    def train(self, mode: bool = True) -> SegViT:
        super().train(mode)
        for part in (self.encoder, *self.heads):
            learns = any(parameter.requires_grad for parameter in part.parameters())
            part.train(mode and (learns or self.noisy_when_frozen))
        return self
