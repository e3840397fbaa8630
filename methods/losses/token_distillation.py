"""Distillation of the decoder's queries."""

from __future__ import annotations

from torch import Tensor

from methods.losses.features import squares


def token_distillation(tokens: Tensor, old_tokens: Tensor, chosen: Tensor) -> Tensor:
    """(L,) mean squared distance of (L, B, Q, C) tokens over the `chosen` queries, bool (B, Q), and channels.

    Zero, with gradients of zero, if none is chosen; there the official code gives NaN and stops.
    Source: BalConpas section "past-class backtrace distillation"; criterion.py@SetCriterion.forward.
    """
    distances = squares(tokens - old_tokens).mean(dim=-1)
    return (distances * chosen).sum((1, 2)) / chosen.sum().clamp(min=1)
