"""Focal losses of queries' classes, which are a decision each (sigmoid) or one together (softmax)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
import torchvision.ops
from torch import Tensor

ALPHA, GAMMA = 0.25, 2.0


def focal_classification(logits: Tensor, classes: Tensor, divisor: float) -> Tensor:
    """(L,) focal losses of L predictions, summed over images, queries and classes, and divided.

    logits (L, B, Q, K); classes int64 (L, B, Q), K where a query has no object, so that its target is all
    zeros. Source: SimCIS modeling/criterion.py@SetCriterion.loss_labels, α 0.25, γ 2.
    """
    targets = F.one_hot(classes, logits.shape[-1] + 1)[..., :-1].to(logits)
    losses: Tensor = torchvision.ops.sigmoid_focal_loss(logits, targets, ALPHA, GAMMA)
    return losses.sum((1, 2, 3)) / divisor


def focal_class_cost(logits: Tensor, classes: Tensor) -> Tensor:
    """(..., Q, K) logits and int64 (N,) classes -> (..., Q, N), what it costs to match each pair.

    The loss of the class as a positive less its loss as a negative.
    Source: SimCIS modeling/matcher.py@HungarianMatcher.memory_efficient_forward.
    """
    probabilities = logits[..., classes].sigmoid()
    positive = ALPHA * (1 - probabilities) ** GAMMA * -(probabilities + 1e-8).log()
    negative = (1 - ALPHA) * probabilities**GAMMA * -(1 - probabilities + 1e-8).log()
    return positive - negative


def mean_focal_classification(
    logits: Tensor, classes: Tensor, alpha: float = 5.0, gamma: float = 1.0, scale: float = 50.0
) -> Tensor:
    """(L,) means over images, queries and all K + 1 classes: ∅, class K, is one that is decided on too.

    logits (L, B, Q, K + 1); classes int64 (L, B, Q). α weighs everything alike.
    Source: ECLIPSE continual/method_wrapper/loss.py@sigmoid_focal_loss, whose last line is `scale`.
    """
    targets = F.one_hot(classes, logits.shape[-1]).to(logits)
    losses: Tensor = torchvision.ops.sigmoid_focal_loss(logits, targets, alpha=-1, gamma=gamma)
    return scale * alpha * losses.mean((1, 2, 3))


def softmax_focal_classification(
    logits: Tensor, classes: Tensor, alpha: float = 5.0, gamma: float = 1.0
) -> Tensor:
    """(L,) means over images and queries of α (1 − e^−ce)^γ ce, ce being the cross-entropy.

    logits (L, B, Q, K + 1); classes int64 (L, B, Q), K where a query has no object, which weighs as much as
    any class. Source: CoMFormer continual/method_wrapper/loss.py@focal_loss.
    """
    nll = F.cross_entropy(logits.float().flatten(0, 2), classes.flatten(), reduction="none")
    losses = alpha * (1 - torch.exp(-nll)) ** gamma * nll
    return losses.view_as(classes).mean((1, 2))


def normalised_score(logits: Tensor, temperature: float = 0.06) -> Tensor:
    """(..., K) logits -> (...) highest softmax over the classes' sigmoids at a low temperature, in 0..1.

    Sharper than a sigmoid, and so used where masks compete for pixels.
    Source: SimCIS maskformer_model.py@MaskFormer.panoptic_inference, `T = 0.06`.
    """
    return torch.softmax(logits.sigmoid() / temperature, dim=-1).amax(dim=-1)
