"""Losses of a set of predicted masks against the targets they were matched with.

L predictions, B images, Q queries, K classes, M matched pairs, N = number of targets. Every loss is given for
each prediction, (L,): deep supervision is their sum.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from methods.losses.matching import Matching, padded_size
from methods.losses.point_sampling import Draw, point_sample, sample_binary, uncertain_points
from ops.processes import mean_number
from protocols.segments import Segments


def num_masks(targets: Sequence[Segments]) -> float:
    """N, by which mask losses are divided: the targets of the batch, their mean over processes, at least 1.

    Source: Mask2Former, modeling/criterion.py@SetCriterion.forward.
    """
    return max(mean_number(sum(len(target.classes) for target in targets)), 1)


def target_classes(
    matching: Matching, targets: Sequence[Segments], num_queries: int, no_object: int
) -> Tensor:
    """int64 (L, B, Q): the class of the matched target of each query, `no_object` where there is none."""
    classes = torch.cat([target.classes for target in targets])
    shape = (len(matching.queries), len(targets), num_queries)
    out = torch.full(shape, no_object, dtype=torch.int64, device=classes.device)
    layers = torch.arange(shape[0], device=classes.device)[:, None]
    out[layers, matching.images, matching.queries] = classes[matching.targets]
    return out


def class_loss(logits: Tensor, classes: Tensor, no_object_weight: float = 0.1) -> Tensor:
    """(L,) weighted mean cross-entropy of (L, B, Q, K + 1) logits; ∅, class K, counts `no_object_weight`.

    Source: Mask2Former, modeling/criterion.py@SetCriterion.loss_labels.
    """
    num_classes = logits.shape[-1] - 1
    nll = F.cross_entropy(logits.float().flatten(0, 2), classes.flatten(), reduction="none")
    weights = torch.where(classes == num_classes, no_object_weight, 1.0)
    return (nll.view_as(weights) * weights).sum((1, 2)) / weights.sum((1, 2))


def matched_masks(embeddings: Tensor, features: Tensor, matching: Matching) -> Tensor:
    """(L, M, h, w) mask logits of the matched queries alone, from (L, B, Q, D) and (B, D, h, w)."""
    layers = torch.arange(len(embeddings), device=embeddings.device)[:, None]
    chosen = embeddings[layers, matching.images, matching.queries]  # (L, M, D)
    with torch.autocast(features.device.type, enabled=False):
        parts = [
            part.to(features.dtype) @ features[image].flatten(1)
            for image, part in enumerate(chosen.split(matching.counts, dim=1))
        ]
    return torch.cat(parts, dim=1).unflatten(2, features.shape[2:])


def binary_cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """(M, P) logits and labels in 0..1 -> (M,) means; criterion.py@sigmoid_ce_loss before its sum."""
    return F.binary_cross_entropy_with_logits(logits, labels, reduction="none").mean(-1)


def dice_loss(logits: Tensor, labels: Tensor) -> Tensor:
    """(M, P) logits and labels in 0..1 -> (M,); criterion.py@dice_loss before its sum."""
    return soft_dice_loss(logits.sigmoid(), labels)


def soft_dice_loss(probabilities: Tensor, labels: Tensor) -> Tensor:
    """(..., P) probabilities and labels in 0..1 -> (...): one less the dice coefficient, each sum plus 1."""
    both = probabilities.sum(-1) + labels.sum(-1)
    return 1 - (2 * (probabilities * labels).sum(-1) + 1) / (both + 1)


def mask_losses(
    embeddings: Tensor,
    features: Tensor,
    targets: Sequence[Segments],
    matching: Matching,
    divisor: float,
    num_points: int = 12544,
    oversample_ratio: float = 3.0,
    importance_ratio: float = 0.75,
    draw: Draw = torch.rand,
) -> tuple[Tensor, Tensor]:
    """Cross-entropy and dice loss at uncertain points of the matched masks, summed and divided: two (L,).

    Draws twice, see `uncertain_points`, with the L · M masks prediction after prediction.
    Source: Mask2Former, modeling/criterion.py@SetCriterion.loss_masks.
    """
    layers = len(embeddings)
    if not sum(matching.counts):
        return (zero := embeddings.flatten(1).sum(1) * 0.0), zero
    logits = matched_masks(embeddings, features, matching).flatten(0, 1)
    points = uncertain_points(logits.detach(), num_points, oversample_ratio, importance_ratio, draw)
    masks = torch.cat([target.masks for target in targets])
    labels = sample_binary(masks, points, padded_size(features), matching.targets.flatten())
    point_logits = point_sample(logits[:, None], points)[:, 0]
    losses = binary_cross_entropy(point_logits, labels), dice_loss(point_logits, labels)
    cross_entropy, dice = (loss.view(layers, -1).sum(1) / divisor for loss in losses)
    return cross_entropy, dice
