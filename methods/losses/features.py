"""What the distillations of feature maps share."""

from __future__ import annotations

import math

import torch
from torch import Tensor


def fold_new_channels(logits: Tensor, num_old_channels: int) -> Tensor:
    """(B, K, h, w) -> (B, O, h, w): the raw logits of the new channels are added to the background's.

    For O = K the logits themselves. Raises ValueError unless 1 ≤ O ≤ K.
    Source: PLOP train.py@features_distillation, `extra_channels: "sum"`; RCIL train.py has the same.
    """
    num_channels = logits.shape[1]
    if not 1 <= num_old_channels <= num_channels:
        raise ValueError(f"{num_old_channels} old channels among {num_channels}: must lie in between")
    if num_old_channels == num_channels:
        return logits
    background = logits[:, :1] + logits[:, num_old_channels:].sum(dim=1, keepdim=True)
    return torch.cat([background, logits[:, 1:num_old_channels]], dim=1)


def schedule(num_channels: int, num_new_classes: int) -> float:
    """√(K / N), the weight of the distillation of features: PLOP train.py@features_distillation."""
    return math.sqrt(num_channels / num_new_classes)


def squares(features: Tensor) -> Tensor:
    """Elementwise squares, of half-precision maps in float32: a sum of them overflows or loses its digits."""
    wide = features if features.dtype == torch.float64 else features.float()
    return wide.square()
