"""Which query stands for which target: pairs of least total cost, for all images and predictions at once.

L predictions (one a decoder layer, say), B images, Q queries, N_b targets of image b, P points.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from methods.losses.point_sampling import Draw, sample_binary, sample_features
from protocols.segments import Segments


@dataclass(frozen=True, eq=False)
class Matching:
    """M matched pairs of each prediction, image after image, within an image in the order of the queries."""

    images: Tensor
    """int64 (M,), the same for all predictions."""
    queries: Tensor
    """int64 (L, M) in 0..Q-1."""
    targets: Tensor
    """int64 (L, M): position in the targets of all images, one image after the other."""
    counts: tuple[int, ...]
    """Pairs of each image, min(Q, N_b); their sum is M."""

    def targets_in_image(self, num_targets: Sequence[int]) -> Tensor:
        """int64 (L, M): position among the targets of the image; `num_targets` N_b of each image."""
        first = torch.tensor([0, *num_targets[:-1]], device=self.targets.device).cumsum(0)
        return self.targets - first[self.images]


def class_cost(logits: Tensor, classes: Tensor) -> Tensor:
    """(..., Q, K + 1) logits and int64 (N,) classes -> (..., Q, N): −softmax at the class of each target."""
    return -logits.softmax(dim=-1)[..., classes]


def mask_costs(logits: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Mean binary cross-entropy and dice loss of every pair, each (..., Q, N).

    logits (..., Q, P) and labels (..., N, P) in 0..1, float32, at the same points.
    Source: Mask2Former, modeling/matcher.py@batch_sigmoid_ce_loss, batch_dice_loss.
    """
    transposed = labels.transpose(-1, -2)
    # -t log σ(x) - (1 - t) log(1 - σ(x)) = log(1 + eˣ) - x t: one product instead of two.
    cross_entropy = F.softplus(logits).sum(-1, keepdim=True) - logits @ transposed
    probabilities = logits.sigmoid()
    both = probabilities.sum(-1, keepdim=True) + labels.sum(-1)[..., None, :]
    dice = 1 - (2 * (probabilities @ transposed) + 1) / (both + 1)
    return cross_entropy / logits.shape[-1], dice


def padded_size(features: Tensor) -> tuple[int, int]:
    """Of the images that the network saw, of which its features (..., h, w) have a quarter of the size."""
    return 4 * features.shape[-2], 4 * features.shape[-1]


def assign(costs: Sequence[Tensor]) -> Matching:
    """Pairs of least cost of (L, Q, N_b) matrices, one for each image. They reach the host in one transfer.

    Raises ValueError for costs that are not finite: the network has diverged.
    """
    device, layers = costs[0].device, len(costs[0])
    on_host = torch.cat([cost.detach().float().flatten() for cost in costs]).cpu()
    if not on_host.isfinite().all():
        raise ValueError("matching costs are not finite: the network has diverged; lower the learning rate")
    sizes = [cost.numel() for cost in costs]
    pairs: list[list[Tensor]] = [[] for _ in range(layers)]
    first = 0
    for cost, values in zip(costs, on_host.split(sizes), strict=True):
        for layer, matrix in enumerate(values.view(cost.shape).numpy()):
            queries, columns = (torch.from_numpy(index) for index in linear_sum_assignment(matrix))
            pairs[layer].append(torch.stack([queries, columns + first]))
        first += cost.shape[2]
    counts = tuple(min(cost.shape[1:]) for cost in costs)
    images = torch.arange(len(costs)).repeat_interleave(torch.tensor(counts)).to(device)
    queries, targets = torch.stack([torch.cat(of, dim=1) for of in pairs], dim=1).to(device)
    return Matching(images, queries, targets, counts)


@torch.no_grad()
def point_costs(embeddings: Tensor, features: Tensor, masks: Tensor, points: Tensor) -> tuple[Tensor, Tensor]:
    """`mask_costs` of one image's predictions: two of (L, Q, N).

    embeddings (L, Q, D) and features (D, h, w), whose products are the mask logits; masks bool (N, H, W);
    points (L, P, 2), for each prediction its own. Sampling is linear, so the features are sampled, not the
    masks of all queries.
    """
    layers, num_points = points.shape[:2]
    sampled = sample_features(features, points.view(-1, 2)).view(layers, num_points, -1)
    labels = sample_binary(masks, points.view(-1, 2), padded_size(features))
    labels = labels.view(-1, layers, num_points).transpose(0, 1)
    with torch.autocast(features.device.type, enabled=False):
        return mask_costs(embeddings.to(features.dtype) @ sampled.transpose(1, 2), labels)


@torch.no_grad()
def match(
    logits: Tensor,
    embeddings: Tensor,
    features: Tensor,
    targets: Sequence[Segments],
    num_points: int = 12544,
    weights: tuple[float, float, float] = (2.0, 5.0, 5.0),
    draw: Draw = torch.rand,
    cost_of_class: Callable[[Tensor, Tensor], Tensor] = class_cost,
    further_costs: Sequence[Tensor] = (),
) -> Matching:
    """The matching of Mask2Former: `weights` of class, mask and dice costs.

    logits (L, B, Q, K + 1), embeddings (L, B, Q, D), features (B, D, h, w); the masks of all targets have
    one size, that of the images before they were padded. `cost_of_class` stands in for `class_cost`;
    `further_costs`, for each image (L, Q, N_b), are added. Draws once: (B, L, num_points, 2).
    Source: Mask2Former, modeling/matcher.py.
    """
    of_class, of_mask, of_dice = weights
    layers, images = logits.shape[:2]
    points = draw(images, layers, num_points, 2, device=features.device)
    costs = []
    for image, target in enumerate(targets):
        masks, dice = point_costs(embeddings[:, image], features[image], target.masks, points[image])
        classes = cost_of_class(logits[:, image].float(), target.classes)
        costs.append(of_mask * masks + of_class * classes + of_dice * dice)
    if further_costs:
        costs = [cost + further for cost, further in zip(costs, further_costs, strict=True)]
    return assign(costs)
