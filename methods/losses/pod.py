"""Pooled outputs distillation (POD): the energy of feature maps, pooled along rows and columns."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from methods.losses.features import squares


def local_pod(maps: Tensor, scales: Sequence[int] = (1, 2, 4)) -> Tensor:
    """(B, C, W, W) -> (B, E): means over the rows and over the columns of s×s tiles, for each scale s.

    Tiles have a side of W // s; what remains below and to the right is left out. Where every scale divides
    W, E = 2·C·W·Σs. Linear in `maps`. Raises ValueError for maps that are not square, on which the official
    function takes wrong tiles, and for a scale above W.
    Source: PLOP paper section 3.2; train.py@_local_pod, whose order differs.
    """
    height, width = maps.shape[-2:]
    if height != width or not 1 <= max(scales) <= width:
        raise ValueError(f"local POD at scales {tuple(scales)} needs square maps at least as large, "
                         f"got {height} x {width}")  # fmt: skip
    pooled = [*_strip_means(maps, scales), *_strip_means(maps.transpose(2, 3), scales)]
    return torch.cat([strips.flatten(1) for strips in pooled], dim=1)


def _strip_means(maps: Tensor, scales: Sequence[int]) -> list[Tensor]:
    """(B, C, W, W) -> (B, C, W, s) for each scale s: every row's mean over each of s strips of columns."""
    width, means = maps.shape[3], dict[int, Tensor]()
    for scale in sorted(scales, reverse=True):
        finer = next((s for s in means if s % scale == 0 and width % s == 0), None)
        if finer is not None:  # means of means, which spares a pass over the maps
            means[scale] = means[finer].unflatten(3, (scale, finer // scale)).mean(dim=4)
            continue
        used = width // scale * scale
        means[scale] = maps[..., :used, :used].unflatten(3, (scale, width // scale)).mean(dim=4)
    return list(means.values())


def spatial_pod(maps: Tensor) -> Tensor:
    """(B, C, H, W) -> (B, C·(H + W)): sums over all columns and over all rows.

    Source: PODNet; PLOP train.py@features_distillation, `collapse_channels="spatial"`.
    """
    return torch.cat([maps.sum(dim=3).flatten(1), maps.sum(dim=2).flatten(1)], dim=1)


def pod_distance(old: Tensor, new: Tensor, pool: Callable[[Tensor], Tensor] = local_pod) -> Tensor:
    """Mean over images of the distance between the pooled squares of two maps (B, C, H, W): a scalar.

    Raises ValueError for maps of different shape. Source: PLOP train.py@features_distillation.
    """
    if old.shape != new.shape:
        raise ValueError(f"old maps {tuple(old.shape)} do not go with maps {tuple(new.shape)}")
    # The pooling is linear: the difference is pooled once, in place of both.
    return torch.linalg.vector_norm(pool(squares(new) - squares(old)), dim=1).mean()


def pod_distillation(
    old_maps: Sequence[Tensor],
    new_maps: Sequence[Tensor],
    factors: Sequence[float],
    pool: Callable[[Tensor], Tensor] = local_pod,
) -> Tensor:
    """Mean over the maps of factor times `pod_distance`: a scalar. One factor a map, else ValueError.

    Source: PLOP paper section 3.2; train.py@features_distillation.
    """
    distances = [
        factor * pod_distance(old, new, pool)
        for old, new, factor in zip(old_maps, new_maps, factors, strict=True)
    ]
    return torch.stack(distances).mean()
