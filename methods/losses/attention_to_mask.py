"""Losses of SegViT: one query a class, so that nothing is matched.

S predictions, B images, C classes, K = C or 1 (one "present" for all classes), N pairs of an image and a
class that it shows. Every loss is given for each prediction, (S,): their sum is minimised.
Source: SegViT `losses/atm_loss.py`, `losses/criterion.py`.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from methods.losses.set_prediction import soft_dice_loss
from methods.networks.segmenter import upsample
from ops.processes import mean_number
from protocols.protocol import IGNORE

ABSENT_WEIGHT = 0.1


def classes_shown(labels: Tensor, num_classes: int) -> Tensor:
    """bool (B, C): which classes lie somewhere in the labels, int64 (B, H, W) in 0..C-1 or 255."""
    found = torch.zeros(len(labels), IGNORE + 1, dtype=torch.bool, device=labels.device)
    return found.scatter_(1, labels.flatten(1), True)[:, :num_classes]


def presence_loss(logits: Tensor, shown: Tensor) -> Tensor:
    """(S,) cross-entropy of (S, B, C, K + 1) logits: the own class where `shown` (B, C), else "absent", last.

    A mean weighted by 1 and by `ABSENT_WEIGHT` for "absent".
    """
    absent = logits.shape[-1] - 1
    own = torch.arange(shown.shape[1], device=shown.device) if absent > 1 else 0
    targets = torch.where(shown, own, absent)
    nll = F.cross_entropy(logits.flatten(0, 2), targets.expand(logits.shape[:3]).flatten(), reduction="none")
    weights = nll.new_full(shown.shape, ABSENT_WEIGHT).masked_fill_(shown, 1.0)
    return (nll.view(logits.shape[:3]) * weights).sum((1, 2)) / weights.sum()


def mask_losses(masks: Tensor, labels: Tensor, shown: Tensor) -> tuple[Tensor, Tensor]:
    """Focal (α 0.25, γ 2) and dice loss of the masks (S, B, C, h, w) of the classes shown: two (S,).

    Summed over the pairs and divided by N, at least 1: with several processes its mean over them.
    The masks are resized to the labels, int64 (B, H, W). Pixels without a label, padding included, count as
    negatives of every class: the official `valid` mask is not used.
    """
    image, number = shown.nonzero(as_tuple=True)
    num_pairs = max(mean_number(len(image)), 1)
    if not len(image):
        return (zero := masks.flatten(1).sum(1) * 0.0), zero
    logits = upsample(masks[:, image, number], *labels.shape[1:]).flatten(2)
    targets = (labels[image] == number[:, None, None]).flatten(1).to(logits).expand_as(logits)
    inside = logits.sigmoid()
    cross = F.binary_cross_entropy_with_logits(logits, targets, weight=0.75 - 0.5 * targets, reduction="none")
    # One minus the probability of what is true is the distance to it.
    focal = (cross * (inside - targets).square()).mean(2)
    return focal.sum(1) / num_pairs, soft_dice_loss(inside, targets).sum(1) / num_pairs
