"""Set prediction where the masks of an image's queries share its pixels, by a softmax over the queries.

L predictions, B images, Q queries, K classes, M matched pairs, P points. Masks are log-probabilities
(L, B, Q, h, w) of `log_masks`. All functions follow fcdl94/CoMFormer@640496b with `SOFTMASK True`.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from methods.losses.matching import Matching, assign, padded_size
from methods.losses.point_sampling import Draw, point_sample, sample_binary, uncertain_points
from methods.losses.set_prediction import soft_dice_loss
from methods.networks.mask2former.decoder import mask_logits
from protocols.segments import Segments


def log_masks(embeddings: Tensor, features: Tensor) -> Tensor:
    """(L, B, Q, D) mask embeddings and features (B, D, h, w) -> (L, B, Q, h, w), a distribution over Q."""
    return mask_logits(embeddings, features).log_softmax(dim=2)


def harmonic_costs(probabilities: Tensor, masks: Tensor, labels: Tensor) -> Tensor:
    """What it costs to match each pair: −2pd / (p + d), (..., Q, N).

    p: probabilities (..., Q, N) of the targets' classes. d: dice coefficients of masks (..., Q, P) and labels
    (..., N, P), both in 0..1. No weights. Source: mask2former/modeling/matcher.py@SoftmaxMatcher.
    """
    both = masks.sum(-1, keepdim=True) + labels.sum(-1)[..., None, :]
    dice = (2 * masks @ labels.transpose(-1, -2) + 1) / (both + 1)
    return -2 * probabilities * dice / (probabilities + dice)


@torch.no_grad()
def match_soft_masks(
    logits: Tensor, masks: Tensor, targets: Sequence[Segments], num_points: int, draw: Draw = torch.rand
) -> Matching:
    """Pairs of least `harmonic_costs`; logits (L, B, Q, K + 1). Draws once: (B, L, num_points, 2)."""
    layers, images = logits.shape[:2]
    points = draw(images, layers, num_points, 2, device=masks.device)
    costs = []
    for image, target in enumerate(targets):
        sampled = point_sample(masks[:, image].exp(), points[image])
        labels = sample_binary(target.masks, points[image].view(-1, 2), padded_size(masks))
        labels = labels.view(-1, layers, num_points).transpose(0, 1)
        probabilities = logits[:, image].float().softmax(dim=-1)[..., target.classes]
        costs.append(harmonic_costs(probabilities, sampled, labels))
    return assign(costs)


def soft_mask_losses(
    masks: Tensor,
    targets: Sequence[Segments],
    matching: Matching,
    divisor: float,
    num_points: int,
    draw: Draw = torch.rand,
) -> tuple[Tensor, Tensor]:
    """Cross-entropy and dice loss at uncertain points of the matched masks, summed and divided: two (L,).

    Of the cross-entropy only the points inside the target count: the softmax sees to the others. Uncertain is
    a probability near one half. Draws twice, as `mask_losses`.
    Source: continual/method_wrapper/set_criterion.py@SoftmaxKDSetCriterion.loss_masks.
    """
    layers = torch.arange(len(masks), device=masks.device)[:, None]
    chosen = masks[layers, matching.images, matching.queries].flatten(0, 1)  # (L · M, h, w)
    if not len(chosen):
        return (zero := masks.flatten(1).sum(1) * 0.0), zero
    points = uncertain_points(chosen.detach().exp(), num_points, draw=draw, boundary=0.5)
    labels = sample_binary(
        torch.cat([target.masks for target in targets]),
        points,
        padded_size(masks),
        matching.targets.flatten(),
    )
    both = torch.stack([chosen, chosen.exp()], dim=1)
    log_probabilities, probabilities = point_sample(both, points).unbind(dim=1)
    losses = -(log_probabilities * labels).mean(-1), soft_dice_loss(probabilities, labels)
    cross_entropy, dice = (loss.view(len(masks), -1).sum(1) / divisor for loss in losses)
    return cross_entropy, dice
