"""RCIL's pooled-cube distillation: the energy of feature maps, pooled in space and over channels."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from methods.losses.features import squares


def pooled_cube_space(
    old_maps: Sequence[Tensor],
    new_maps: Sequence[Tensor],
    factors: Sequence[float],
    sizes: Sequence[int] = (4, 8, 12, 16, 20, 24),
) -> Tensor:
    """Mean over maps and window sizes of factor times the distance of the pooled squares: a scalar.

    Pairs of maps (B, C, h, w), one factor a pair; else ValueError. Windows of even size k slide by 1 over the
    map padded by k / 2 zeros, which count in the mean. The distance is the mean over images of the norm.
    Source: RCIL paper section 3.3; train.py@features_distillation_spatial.
    """

    def distance(difference: Tensor) -> Tensor:
        return torch.stack([_mean_norm(_window_means(difference, k)) for k in sizes]).mean()

    return _distillation(old_maps, new_maps, factors, distance)


def pooled_cube_channel(
    old_maps: Sequence[Tensor], new_maps: Sequence[Tensor], factors: Sequence[float], width: int = 3
) -> Tensor:
    """Mean over maps of factor times the distance of the squares pooled over `width` channels: a scalar.

    `width` is odd; all else as in `pooled_cube_space`.
    Source: RCIL paper section 3.3; train.py@features_distillation_channel.
    """

    def distance(difference: Tensor) -> Tensor:
        images, channels = difference.shape[:2]
        lines = difference.reshape(images, 1, channels, -1)
        return _mean_norm(F.avg_pool2d(lines, (width, 1), stride=1, padding=(width // 2, 0)))

    return _distillation(old_maps, new_maps, factors, distance)


def _distillation(
    old_maps: Sequence[Tensor],
    new_maps: Sequence[Tensor],
    factors: Sequence[float],
    distance: Callable[[Tensor], Tensor],
) -> Tensor:
    terms = []
    for old, new, factor in zip(old_maps, new_maps, factors, strict=True):
        if old.shape != new.shape:
            raise ValueError(f"old maps {tuple(old.shape)} do not go with maps {tuple(new.shape)}")
        # The pooling is linear: the difference is pooled once, in place of both.
        terms.append(factor * distance(squares(new) - squares(old)))
    return torch.stack(terms).mean()


def _window_means(maps: Tensor, size: int) -> Tensor:
    # Rows, then columns: size + size additions a window instead of their product.
    rows = F.avg_pool2d(maps, (size, 1), stride=1, padding=(size // 2, 0))
    return F.avg_pool2d(rows, (1, size), stride=1, padding=(0, size // 2))


def _mean_norm(maps: Tensor) -> Tensor:
    return torch.linalg.vector_norm(maps.flatten(1), dim=1).mean()
