"""Class loss that keeps "no object" balanced when replayed images, labelled in part, are in the batch."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def balanced_class_loss(
    logits: Tensor, classes: Tensor, num_matched: Tensor, replayed: Tensor, no_object_weight: float = 0.1
) -> Tensor:
    """(L,) cross-entropy of (L, B, Q, K + 1) logits against (L, B, Q) classes, ∅ being class K.

    num_matched int64 (B,): queries of each image that have a target; replayed bool (B,). ∅ weighs nothing in
    replayed images, where unlabelled objects may lie, and so much more in the others that its share of the
    whole stays: the divisor is that of the plain loss, Σ matched + `no_object_weight` · Σ unmatched. Without
    replayed images this is the plain weighted mean.
    Source: BalConpas section "balanced anti-misguidance losses"; criterion.py@SetCriterion.loss_labels.
    """
    num_queries, no_object = logits.shape[2], logits.shape[3] - 1
    unmatched = num_queries - num_matched
    regular = torch.where(replayed, 0, unmatched).sum()
    # With no unmatched query in regular images the weight is never used.
    weight = no_object_weight * unmatched.sum() / regular.clamp(min=1)
    nll = F.cross_entropy(logits.float().flatten(0, 2), classes.flatten(), reduction="none")
    empty_weights = torch.where(replayed, 0.0, weight)[:, None]
    weights = torch.where(classes == no_object, empty_weights, 1.0)
    divisor = num_matched.sum() + no_object_weight * unmatched.sum()
    return (nll.view_as(weights) * weights).sum((1, 2)) / divisor
