"""Layers of the transformer decoder: each adds to its input and normalises the sum."""

from __future__ import annotations

from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Attention(nn.Module):
    """Multi-head attention, batch first, with the parameters of `nn.MultiheadAttention`."""

    def __init__(self, width: int, num_heads: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.in_proj_weight = nn.Parameter(torch.empty(3 * width, width))
        self.in_proj_bias = nn.Parameter(torch.zeros(3 * width))
        self.out_proj = nn.Linear(width, width)
        nn.init.xavier_uniform_(self.in_proj_weight)
        nn.init.xavier_uniform_(self.out_proj.weight)
        nn.init.zeros_(self.out_proj.bias)

    def forward(self, query: Tensor, key: Tensor, value: Tensor, allowed: Tensor | None = None) -> Tensor:
        """query (B, Q, C), key and value (B, S, C); allowed (B, Q, S) bool: where a query may look."""
        parts = zip(
            (query, key, value), self.in_proj_weight.chunk(3), self.in_proj_bias.chunk(3), strict=True
        )
        q, k, v = (
            F.linear(x, weight, bias).unflatten(2, (self.num_heads, -1)).transpose(1, 2)
            for x, weight, bias in parts
        )
        mask = None if allowed is None else allowed[:, None]
        attended = F.scaled_dot_product_attention(q, k, v, attn_mask=mask)
        return cast(Tensor, self.out_proj(attended.transpose(1, 2).flatten(2)))


class CrossAttentionLayer(nn.Module):
    def __init__(self, width: int, num_heads: int) -> None:
        super().__init__()
        self.multihead_attn = Attention(width, num_heads)
        self.norm = nn.LayerNorm(width)

    def forward(
        self, x: Tensor, query_positions: Tensor, keys: Tensor, values: Tensor, allowed: Tensor | None = None
    ) -> Tensor:
        """x and its positions (B, Q, C); keys (values with their positions) and values (B, S, C)."""
        return cast(Tensor, self.norm(x + self.multihead_attn(x + query_positions, keys, values, allowed)))


class SelfAttentionLayer(nn.Module):
    def __init__(self, width: int, num_heads: int) -> None:
        super().__init__()
        self.self_attn = Attention(width, num_heads)
        self.norm = nn.LayerNorm(width)

    def forward(self, x: Tensor, query_positions: Tensor) -> Tensor:
        placed = x + query_positions
        return cast(Tensor, self.norm(x + self.self_attn(placed, placed, x)))


class FFNLayer(nn.Module):
    def __init__(self, width: int, inner: int) -> None:
        super().__init__()
        self.linear1 = nn.Linear(width, inner)
        self.linear2 = nn.Linear(inner, width)
        self.norm = nn.LayerNorm(width)
        nn.init.xavier_uniform_(self.linear1.weight)
        nn.init.xavier_uniform_(self.linear2.weight)

    def forward(self, x: Tensor) -> Tensor:
        return cast(Tensor, self.norm(x + self.linear2(F.relu_(self.linear1(x)))))


class MLP(nn.Module):
    """Linear layers of the given widths with ReLU between them; torch's default initialisation."""

    def __init__(self, *widths: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList(map(nn.Linear, widths[:-1], widths[1:]))

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.layers[:-1]:
            x = F.relu_(layer(x))
        return cast(Tensor, self.layers[-1](x))
