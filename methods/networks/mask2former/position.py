"""Sine positions."""

from __future__ import annotations

import math

import torch
from torch import Tensor


def sine_positions(height: int, width: int, channels: int, device: torch.device | None = None) -> Tensor:
    """(height · width, channels) float32, rows in row-major order; `channels` is a multiple of 4.

    The first half of the channels codes the row, the second half the column, sine and cosine interleaved.
    Source: Mask2Former, modeling/transformer_decoder/position_encoding.py, normalised.
    """
    rows = _coded(height, channels // 2, device)[:, None].expand(-1, width, -1)
    columns = _coded(width, channels // 2, device)[None].expand(height, -1, -1)
    return torch.cat([rows, columns], dim=-1).flatten(0, 1)


def _coded(size: int, channels: int, device: torch.device | None) -> Tensor:
    """(size, channels): place 1..size, as a share of 2π, at wavelengths from 2π to 10000·2π."""
    places = torch.arange(1, size + 1, dtype=torch.float32, device=device)
    places = places / (size + 1e-6) * (2 * math.pi)
    exponents = torch.arange(channels, dtype=torch.float32, device=device)
    angles = places[:, None] / 10000 ** (2 * (exponents // 2) / channels)
    return torch.stack([angles[:, 0::2].sin(), angles[:, 1::2].cos()], dim=-1).flatten(1)
