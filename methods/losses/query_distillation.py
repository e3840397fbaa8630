"""Distillation of what the old network says of its queries."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor


def selection_consistency(logits: Tensor, old_logits: Tensor, temperature: float = 1.0) -> Tensor:
    """KL divergence from the old to the new class distributions of the same places: a scalar.

    logits and old_logits (B, Q, K). Summed over queries and classes and divided by B alone, without the
    square of the temperature. Source: SimCIS modeling/criterion.py@SetCriterion.loss_knowledge_distillation;
    equation 6 of the paper divides by the queries as well.
    """
    new = F.log_softmax(logits / temperature, dim=-1)
    return F.kl_div(
        new, F.log_softmax(old_logits / temperature, dim=-1), reduction="batchmean", log_target=True
    )
