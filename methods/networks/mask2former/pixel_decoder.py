"""The pixel decoder: multi-scale deformable attention over three levels, then one step up to stride 4."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from methods.networks.mask2former.config import Mask2FormerConfig
from methods.networks.mask2former.position import sine_positions
from ops.ms_deform_attn import MSDeformAttn

Sizes = list[tuple[int, int]]


@dataclass(frozen=True, eq=False)
class Pixels:
    """What the pixel decoder gives, all float32.

    `mask_features` (B, mask_dim, H/4, W/4); `levels`, three of (B, H_l·W_l, hidden), of strides 32, 16
    and 8, and `sizes`, their (H_l, W_l).
    """

    mask_features: Tensor
    levels: list[Tensor]
    sizes: Sizes


class ConvNorm(nn.Conv2d):
    """A convolution without bias and its group normalisation, `norm`."""

    def __init__(self, in_channels: int, out_channels: int, kernel: int, groups: int) -> None:
        super().__init__(in_channels, out_channels, kernel, padding=kernel // 2, bias=False)
        self.norm = nn.GroupNorm(groups, out_channels)
        nn.init.kaiming_uniform_(self.weight, a=1)

    def forward(self, x: Tensor) -> Tensor:
        return cast(Tensor, self.norm(super().forward(x)))


class EncoderLayer(nn.Module):
    """Deformable self-attention and a feed-forward network, normalised after each sum."""

    def __init__(self, config: Mask2FormerConfig, num_levels: int) -> None:
        super().__init__()
        width = config.hidden
        self.self_attn = MSDeformAttn(width, num_levels, config.num_heads, config.encoder_points)
        self.norm1 = nn.LayerNorm(width)
        self.linear1 = nn.Linear(width, config.encoder_ffn)
        self.linear2 = nn.Linear(config.encoder_ffn, width)
        self.norm2 = nn.LayerNorm(width)
        nn.init.xavier_uniform_(self.linear1.weight)
        nn.init.xavier_uniform_(self.linear2.weight)

    def forward(
        self, x: Tensor, positions: Tensor, references: Tensor, shapes: Tensor, starts: Tensor
    ) -> Tensor:
        x = self.norm1(x + self.self_attn(x + positions, references, x, shapes, starts))
        return cast(Tensor, self.norm2(x + self.linear2(F.relu_(self.linear1(x)))))


class Encoder(nn.Module):
    """The encoder layers, and an embedding of the level (the official `transformer`)."""

    def __init__(self, config: Mask2FormerConfig, num_levels: int) -> None:
        super().__init__()
        self.level_embed = nn.Parameter(torch.randn(num_levels, config.hidden))
        self.encoder = nn.ModuleDict(
            {"layers": nn.ModuleList(EncoderLayer(config, num_levels) for _ in range(config.encoder_layers))}
        )

    def forward(self, levels: Sequence[Tensor], sizes: Sizes) -> tuple[Tensor, ...]:
        """(B, H_l·W_l, C) of each level -> the same, each having seen all."""
        x, device = torch.cat(list(levels), dim=1), levels[0].device
        positions = torch.cat(
            [
                sine_positions(*size, x.shape[2], device) + self.level_embed[level]
                for level, size in enumerate(sizes)
            ]
        )
        references = torch.cat([pixel_centres(*size, device) for size in sizes])
        references = references[None, :, None].expand(x.shape[0], -1, len(sizes), -1)
        lengths = [height * width for height, width in sizes]
        shapes = torch.tensor(sizes, device=device)
        starts = torch.tensor([sum(lengths[:level]) for level in range(len(sizes))], device=device)
        for layer in cast(nn.ModuleList, self.encoder["layers"]):
            x = layer(x, positions, references, shapes, starts)
        return x.split(lengths, dim=1)


class PixelDecoder(nn.Module):
    """Maps of strides 4, 8, 16, 32 -> `Pixels`. Computes in float32, under autocast too.

    Source: Mask2Former, modeling/pixel_decoder/msdeformattn.py (dropout 0); parameters are named so.
    """

    def __init__(self, in_channels: Sequence[int], config: Mask2FormerConfig) -> None:
        super().__init__()
        width, groups = config.hidden, config.norm_groups
        self.input_proj = nn.ModuleList(
            nn.Sequential(nn.Conv2d(channels, width, 1), nn.GroupNorm(groups, width))
            for channels in reversed(in_channels[1:])
        )
        for conv, _ in cast(list[tuple[nn.Conv2d, nn.Module]], self.input_proj):
            nn.init.xavier_uniform_(conv.weight)
            nn.init.zeros_(cast(Tensor, conv.bias))
        self.transformer = Encoder(config, num_levels=len(self.input_proj))
        self.adapter_1 = ConvNorm(in_channels[0], width, 1, groups)
        self.layer_1 = ConvNorm(width, width, 3, groups)
        self.mask_features = nn.Conv2d(width, config.mask_dim, 1)
        nn.init.kaiming_uniform_(self.mask_features.weight, a=1)
        nn.init.zeros_(cast(Tensor, self.mask_features.bias))

    def forward(self, maps: Sequence[Tensor]) -> Pixels:
        with torch.autocast(maps[0].device.type, enabled=False):
            return self._decode([m if m.dtype == torch.float64 else m.float() for m in maps])

    def _decode(self, maps: Sequence[Tensor]) -> Pixels:
        projected = [project(m) for project, m in zip(self.input_proj, reversed(maps[1:]), strict=True)]
        sizes = [(m.shape[2], m.shape[3]) for m in projected]
        levels = self.transformer([m.flatten(2).transpose(1, 2) for m in projected], sizes)
        finest = levels[-1].transpose(1, 2).unflatten(2, sizes[-1])
        # The official comment says nearest; the code is bilinear.
        finest = F.interpolate(finest, size=maps[0].shape[2:], mode="bilinear", align_corners=False)
        x = F.relu_(self.layer_1(self.adapter_1(maps[0]) + finest))
        return Pixels(self.mask_features(x), list(levels), sizes)


def pixel_centres(height: int, width: int, device: torch.device) -> Tensor:
    """(height · width, 2): (x, y) of each pixel's centre in 0..1."""
    y = (torch.arange(height, dtype=torch.float32, device=device) + 0.5) / height
    x = (torch.arange(width, dtype=torch.float32, device=device) + 0.5) / width
    return torch.stack([x.expand(height, -1), y[:, None].expand(-1, width)], dim=-1).flatten(0, 1)
