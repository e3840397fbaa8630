"""Tokens that lie on a grid."""

from __future__ import annotations

from typing import NamedTuple

import torch.nn.functional as F
from torch import Tensor

Grid = tuple[int, int]


class Tokens(NamedTuple):
    """A feature map, row by row."""

    values: Tensor
    """(B, h w, C)."""
    grid: Grid
    """(h, w)."""


def resize_table(table: Tensor, own: Grid, grid: Grid) -> Tensor:
    """One embedding a place, (h w, C), made for `own`, -> (h' w', C) for `grid`; bicubic."""
    if own == grid:
        return table
    square = table.T.unflatten(1, own)[None]
    return F.interpolate(square, grid, mode="bicubic", align_corners=False)[0].flatten(1).T
