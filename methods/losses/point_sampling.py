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


def _cells(points: Tensor, height: int, width: int) -> tuple[Tensor, Tensor, Tensor]:
    """Which four pixels lie around each point (..., 2), in maps with a frame of one pixel.

    The index of the upper left one in such a map, (height + 2) · (width + 2) in rows, and the shares of the
    right and of the lower ones, each (...,).
    """
    places = points * points.new_tensor([width, height]) + 0.5
    corners = places.floor()
    column, row = corners.long().unbind(-1)
    right, lower = (places - corners).unbind(-1)
    return row * (width + 2) + column, right, lower


def sample_features(features: Tensor, points: Tensor) -> Tensor:
    """(C, h, w) and points (P, 2) in 0..1 -> (P, C), without gradients: `point_sample` of many channels,
    several times as fast."""
    height, width = features.shape[1:]
    rows = F.pad(features.detach(), (1, 1, 1, 1)).flatten(1).T.contiguous()
    index, right, lower = _cells(points, height, width)
    corners = torch.stack([index, index + 1, index + width + 2, index + width + 3], dim=1)
    shares = [(1 - right) * (1 - lower), right * (1 - lower), (1 - right) * lower, right * lower]
    return F.embedding_bag(corners, rows, per_sample_weights=torch.stack(shares, dim=1), mode="sum")


def sample_binary(masks: Tensor, points: Tensor, size: tuple[int, int], rows: Tensor | None = None) -> Tensor:
    """`point_sample` of bool masks, which are read where they are needed and not copied as floats.

    masks (N, H, W) bool, points in 0..1 of the padded image, which has that `size`. Without `rows`: points
    (P, 2), the same for all masks -> (N, P) float32. With `rows` (M,) int64: points (M, P, 2), those of row
    m in mask `rows[m]` -> (M, P).
    """
    height, width = size
    index, right, lower = _cells(points, height, width)
    padding = (1, 1 + width - masks.shape[2], 1, 1 + height - masks.shape[1])
    flat = F.pad(masks, padding).flatten(1)
    if rows is not None:
        index = index + (rows * flat.shape[1])[:, None]
        flat = flat.flatten()
    # The neighbours of a pixel have its index in the map that begins so much later.
    corners = [
        flat[..., offset:].index_select(-1, index.flatten()).view(*flat.shape[:-1], *index.shape).float()
        for offset in (0, 1, width + 2, width + 3)
    ]
    upper = torch.lerp(corners[0], corners[1], right)
    return upper.lerp_(torch.lerp(corners[2], corners[3], right), lower)


@torch.no_grad()
def uncertain_points(
    logits: Tensor,
    num_points: int,
    oversample_ratio: float = 3.0,
    importance_ratio: float = 0.75,
    draw: Draw = torch.rand,
    boundary: float = 0.0,
) -> Tensor:
    """(N, num_points, 2) points, of which a share of `importance_ratio` lies near the `boundary`.

    logits (N, h, w). Of num_points · oversample_ratio uniform points those with the smallest distance
    are taken; the rest are uniform. Draws twice: (N, oversampled, 2), then (N, rest, 2).
    Source: detectron2, point_features.py@get_uncertain_point_coords_with_randomness.
    """
    masks, device = len(logits), logits.device
    candidates = draw(masks, int(num_points * oversample_ratio), 2, device=device)
    uncertainty = point_sample(logits[:, None], candidates)[:, 0].sub(boundary).abs()
    num_uncertain = int(importance_ratio * num_points)
    chosen = uncertainty.topk(num_uncertain, dim=1, largest=False, sorted=False).indices
    uncertain = candidates.gather(1, chosen[..., None].expand(-1, -1, 2))
    rest = draw(masks, num_points - num_uncertain, 2, device=device)
    return torch.cat([uncertain, rest], dim=1)
