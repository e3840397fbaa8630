"""Sigmoid focal loss of queries: every class of every query is a decision of its own."""

from __future__ import annotations

import torch
import torch.nn.functional as F
import torchvision.ops
from torch import Tensor

ALPHA, GAMMA = 0.25, 2.0


def focal_classification(logits: Tensor, classes: Tensor, num_targets: float) -> Tensor:
    """Focal loss summed over images, queries and classes, over `num_targets`: a scalar.

    logits (B, Q, K); classes int64 (B, Q), K where a query has no object, so that its target is all zeros.
    Source: SimCIS modeling/criterion.py@SetCriterion.loss_labels, α 0.25, γ 2 (Lin et al., ICCV 2017).
    """
    targets = F.one_hot(classes, logits.shape[-1] + 1)[..., :-1].to(logits)
    loss: Tensor = torchvision.ops.sigmoid_focal_loss(logits, targets, ALPHA, GAMMA, reduction="sum")
    return loss / num_targets


def focal_class_cost(logits: Tensor, classes: Tensor) -> Tensor:
    """What it costs to match each query with each target: logits (Q, K), classes int64 (N,) -> (Q, N).

    The loss of the class as a positive less its loss as a negative, without the constant parts.
    Source: SimCIS modeling/matcher.py@HungarianMatcher.memory_efficient_forward.
    """
    probabilities = logits[:, classes].sigmoid()
    positive = ALPHA * (1 - probabilities) ** GAMMA * -(probabilities + 1e-8).log()
    negative = (1 - ALPHA) * probabilities**GAMMA * -(1 - probabilities + 1e-8).log()
    return positive - negative


def normalised_score(logits: Tensor, temperature: float = 0.06) -> Tensor:
    """(..., K) logits -> (...) highest softmax over the classes' sigmoids at a low temperature, in 0..1.

    Sharper than a sigmoid, and so used where masks compete for pixels.
    Source: SimCIS maskformer_model.py@MaskFormer.panoptic_inference, `T = 0.06`.
    """
    return torch.softmax(logits.sigmoid() / temperature, dim=-1).amax(dim=-1)
