"""Distillation of what the old network says of its queries."""

from __future__ import annotations

import torch
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


def adaptive_distillation(logits: Tensor, old_logits: Tensor, gamma: float = 2.0) -> Tensor:
    """KL divergence of queries' classes in which the old ∅ may have become a new class: a scalar.

    logits (B, Q, K + 1), old_logits (B, Q, O + 1) with O ≤ K, ∅ last. The probabilities of the new classes
    and of ∅ are summed before they are compared with the old ∅. A query weighs (1 − π)^γ, π being its old
    probability of ∅; the weights are divided by their sum. Source: CoMFormer, section "adaptive
    distillation"; continual/method_wrapper/loss.py@unbiased_knowledge_distillation_loss with `reweight`.
    """
    num_old = old_logits.shape[-1] - 1
    merged = [logits[..., :num_old], logits[..., num_old:].logsumexp(dim=-1, keepdim=True)]
    new, old = torch.cat(merged, dim=-1).log_softmax(dim=-1), old_logits.log_softmax(dim=-1)
    divergence = F.kl_div(new, old, reduction="none", log_target=True).sum(dim=-1)
    weights = (1 - old[..., -1].exp()) ** gamma
    # Officially NaN where the old network is sure of ∅ everywhere.
    return (weights * divergence).sum() / weights.sum().clamp(min=torch.finfo(weights.dtype).tiny)
