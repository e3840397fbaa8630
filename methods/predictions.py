"""What a network says of one whole image, at the size of the photograph."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True, eq=False)
class PanopticPrediction:
    """Segments that do not overlap."""

    ids: Tensor
    """int32 (H, W): n in 1..N where segment n lies, 0 where there is none (void)."""
    channels: Tensor
    """int64 (N,) channel index of segment n at position n - 1."""


@dataclass(frozen=True, eq=False)
class InstancePrediction:
    """Scored masks, which may overlap."""

    masks: Tensor
    """bool (N, H, W)."""
    channels: Tensor
    """int64 (N,) channel index."""
    scores: Tensor
    """float32 (N,), higher is surer."""
