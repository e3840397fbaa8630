"""Attention to mask: what a class token attends to is the mask of its class."""

from __future__ import annotations

from typing import cast

import torch.nn.functional as F
from torch import Tensor, nn


class MaskAttention(nn.Module):
    """Cross-attention whose scaled products, averaged over the heads, are mask logits.

    Source: SegViT `atm_head.py@Attention`.
    """

    def __init__(self, width: int, num_heads: int, dropout: float) -> None:
        super().__init__()
        self.num_heads, self.dropout = num_heads, dropout
        self.q, self.k, self.v, self.proj = (nn.Linear(width, width) for _ in range(4))

    def forward(self, tokens: Tensor, features: Tensor) -> tuple[Tensor, Tensor]:
        """(B, C, D) and (B, L, D) -> (B, C, D) and mask logits (B, C, L), before softmax and dropout."""
        query, key, value = self.q(tokens), self.k(features), self.v(features)
        rate = self.dropout if self.training else 0.0
        q, k, v = (self._split(x) for x in (query, key, value))
        mixed = F.scaled_dot_product_attention(q, k, v, dropout_p=rate)
        # The mean over heads of products of parts is the product of the whole over their number.
        scale = (query.shape[2] / self.num_heads) ** -0.5 / self.num_heads
        return self.proj(mixed.transpose(1, 2).flatten(2)), (query * scale) @ key.transpose(1, 2)

    def _split(self, x: Tensor) -> Tensor:
        return x.unflatten(2, (self.num_heads, -1)).transpose(1, 2)


class ATMLayer(nn.Module):
    """Class tokens look at each other (version 1 alone) and at the features; each sum is normalised.

    Source: SegViT `atm_head.py@TPN_DecoderLayer`; without self-attention CIT `atm_headv2.py`.
    """

    def __init__(self, width: int, num_heads: int, dropout: float, self_attention: bool) -> None:
        super().__init__()
        self.self_attn = None
        if self_attention:
            self.self_attn = nn.MultiheadAttention(width, num_heads, dropout=dropout, batch_first=True)
            self.norm1 = nn.LayerNorm(width)
        self.multihead_attn = MaskAttention(width, num_heads, dropout)
        self.norm2 = nn.LayerNorm(width)
        self.linear1 = nn.Linear(width, 4 * width)
        self.linear2 = nn.Linear(4 * width, width)
        self.norm3 = nn.LayerNorm(width)
        self.dropout = nn.Dropout(dropout)

    def forward(self, tokens: Tensor, features: Tensor) -> tuple[Tensor, Tensor]:
        """(B, C, D) and (B, L, D) -> tokens (B, C, D) and mask logits (B, C, L)."""
        drop = self.dropout
        if self.self_attn is not None:
            exchanged, _ = self.self_attn(tokens, tokens, tokens, need_weights=False)
            tokens = self.norm1(tokens + drop(exchanged))
        attended, masks = self.multihead_attn(tokens, features)
        tokens = self.norm2(tokens + drop(attended))
        changed = self.linear2(drop(F.relu(self.linear1(tokens))))
        return cast(Tensor, self.norm3(tokens + drop(changed))), masks


class Projection(nn.Module):
    """Features of the encoder -> normalised ones as wide as the class tokens."""

    def __init__(self, in_width: int, width: int) -> None:
        super().__init__()
        self.linear = nn.Linear(in_width, width)
        self.norm = nn.LayerNorm(width)

    def forward(self, features: Tensor) -> Tensor:
        return cast(Tensor, self.norm(self.linear(features)))
