"""Values of masks at points, and which points to take."""

from __future__ import annotations

from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor


class Draw(Protocol):
    """`torch.rand`, or what stands in for it in a test."""

    def __call__(self, *size: int, device: torch.device | None = None) -> Tensor: ...


def point_sample(maps: Tensor, points: Tensor) -> Tensor:
    """(N, C, h, w) and points (N, P, 2), (x, y) in 0..1 -> (N, C, P): bilinear, zero outside.

    Source: detectron2, projects/point_rend/point_features.py@point_sample with align_corners=False.
    """
    return F.grid_sample(maps, 2.0 * points[:, None] - 1.0, align_corners=False)[:, :, 0]


def sample_binary(masks: Tensor, points: Tensor, rows: Tensor | None = None) -> Tensor:
    """`point_sample` of bool masks, which are read where they are needed and not copied as floats.

    masks (N, H, W) bool. Without `rows`: points (P, 2), the same for all masks -> (N, P) float32. With
    `rows` (M,) int64: points (M, P, 2), those of row m in mask `rows[m]` -> (M, P).
    """
    height, width = masks.shape[1:]
    x, y = (points * points.new_tensor([width, height]) - 0.5).unbind(-1)
    left, top = x.floor(), y.floor()
    right_share, lower_share = x - left, y - top
    flat = masks.flatten(1) if rows is None else masks.flatten()
    first = 0 if rows is None else (rows * (height * width))[:, None]
    out: Tensor | None = None
    for column, across in ((left, 1 - right_share), (left + 1, right_share)):
        across = across * ((column >= 0) & (column < width))
        place = column.clamp(0, width - 1).long() + first
        for row, down in ((top, 1 - lower_share), (top + 1, lower_share)):
            down = down * ((row >= 0) & (row < height))
            index = place + row.clamp(0, height - 1).long() * width
            values = (flat[:, index] if rows is None else flat.take(index)) * (across * down)
            out = values if out is None else out + values
    assert out is not None
    return out


@torch.no_grad()
def uncertain_points(
    logits: Tensor,
    num_points: int,
    oversample_ratio: float = 3.0,
    importance_ratio: float = 0.75,
    draw: Draw = torch.rand,
) -> Tensor:
    """(N, num_points, 2) points, of which a share of `importance_ratio` lies where |logits| is small.

    logits (N, h, w). Of num_points · oversample_ratio uniform points those with the smallest |logit| are
    taken; the rest are uniform. Draws twice: (N, oversampled, 2), then (N, rest, 2).
    Source: detectron2, point_features.py@get_uncertain_point_coords_with_randomness.
    """
    masks, device = len(logits), logits.device
    candidates = draw(masks, int(num_points * oversample_ratio), 2, device=device)
    uncertainty = point_sample(logits[:, None], candidates)[:, 0].abs()
    num_uncertain = int(importance_ratio * num_points)
    chosen = uncertainty.topk(num_uncertain, dim=1, largest=False, sorted=False).indices
    uncertain = candidates.gather(1, chosen[..., None].expand(-1, -1, 2))
    rest = draw(masks, num_points - num_uncertain, 2, device=device)
    return torch.cat([uncertain, rest], dim=1)
