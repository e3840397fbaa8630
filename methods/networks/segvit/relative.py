"""BEiT's relative positions: a learned bias of the attention for every offset between two patches."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from methods.networks.segvit.tokens import Grid, resize_table

NUM_CLASS_TOKEN_ENTRIES = 3
"""From the class token, to it, and from it to itself: the last rows of a table."""


def num_offsets(grid: Grid) -> Grid:
    return 2 * grid[0] - 1, 2 * grid[1] - 1


def offset_index(grid: Grid, device: torch.device | None = None) -> Tensor:
    """int64 (1 + h w, 1 + h w): the row of the table for each pair, the class token first.

    Source: BEiT `modeling_finetune.py@Attention`; the same in mmsegmentation and timm.
    """
    rows, columns = num_offsets(grid)
    y, x = torch.meshgrid(*(torch.arange(n, device=device) for n in grid), indexing="ij")
    y, x = y.flatten(), x.flatten()
    down = y[:, None] - y + grid[0] - 1
    right = x[:, None] - x + grid[1] - 1
    index = torch.empty(len(y) + 1, len(y) + 1, dtype=torch.int64, device=device)
    index[1:, 1:] = down * columns + right
    index[0, :], index[:, 0], index[0, 0] = rows * columns, rows * columns + 1, rows * columns + 2
    return index


class RelativePositions(nn.Module):
    """One table (offsets + 3, heads) a block, made for `own`; interpolated on other grids."""

    def __init__(self, depth: int, num_heads: int, own: Grid) -> None:
        super().__init__()
        self.own = own
        rows, columns = num_offsets(own)
        shape = rows * columns + NUM_CLASS_TOKEN_ENTRIES, num_heads
        self.tables = nn.ParameterList(torch.zeros(shape) for _ in range(depth))

    def forward(self, block: int, grid: Grid) -> Tensor:
        """(heads, 1 + h w, 1 + h w)."""
        table = self.tables[block]
        offsets, rest = table[:-NUM_CLASS_TOKEN_ENTRIES], table[-NUM_CLASS_TOKEN_ENTRIES:]
        table = torch.cat([resize_table(offsets, num_offsets(self.own), num_offsets(grid)), rest])
        return table[offset_index(grid, table.device)].permute(2, 0, 1)
