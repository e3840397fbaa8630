"""What scored masks say of an image: Q queries, K classes, masks as logits at the size of the photograph.

Source of all rules: BalConpas, maskformer_model.py (section 2.5 of Mask2Former's paper and its code).
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from methods.predictions import InstancePrediction, PanopticPrediction


def resize_logits(
    maps: Tensor, padded: tuple[int, int], image: tuple[int, int], size: tuple[int, int]
) -> Tensor:
    """(Q, h, w) mask logits of the network -> (Q, *size): to the `padded` size that the network saw, cut to
    the `image` in it, to the photograph's `size`; bilinear both times, as officially."""
    if not len(maps):  # torch refuses to resize nothing
        return maps.new_zeros(0, *size)
    maps = F.interpolate(maps[None].float(), size=padded, mode="bilinear", align_corners=False)
    maps = maps[..., : image[0], : image[1]]
    return F.interpolate(maps, size=size, mode="bilinear", align_corners=False)[0]


def semantic_scores(logits: Tensor, masks: Tensor) -> Tensor:
    """(Q, K + 1) class logits and (Q, H, W) mask logits -> (K, H, W) scores of the classes."""
    classes = logits.float().softmax(dim=-1)[:, :-1]
    return (classes.T @ masks.float().sigmoid().flatten(1)).unflatten(1, masks.shape[1:])


def confident_queries(logits: Tensor, threshold: float) -> tuple[Tensor, Tensor, Tensor]:
    """Index of the queries that panoptic prediction looks at, with their scores and classes, each (N,).

    Those whose likeliest class of (Q, K + 1) logits is not ∅ and above `threshold`. Only their masks need be
    resized.
    """
    scores, classes = logits.float().softmax(dim=-1).max(dim=-1)
    index = ((classes != logits.shape[-1] - 1) & (scores > threshold)).nonzero()[:, 0]
    return index, scores[index], classes[index]


def panoptic_prediction(
    scores: Tensor, classes: Tensor, masks: Tensor, is_thing: Tensor, overlap_threshold: float = 0.8
) -> PanopticPrediction:
    """`disjoint_segments` of the `confident_queries`: scores and classes (N,), mask logits (N, H, W)."""
    return disjoint_segments(scores, classes, masks.float().sigmoid(), is_thing, overlap_threshold)


def disjoint_segments(
    scores: Tensor, classes: Tensor, masks: Tensor, is_thing: Tensor, overlap_threshold: float
) -> PanopticPrediction:
    """Segments of queries with scores and classes (N,) and masks σ (N, H, W) in 0..1.

    is_thing bool (K,). A pixel belongs to the query of the largest score · σ(mask); a query counts if that
    leaves it `overlap_threshold` of the pixels where σ ≥ 0.5, and there its segment lies. Stuff of one class
    is one segment.
    """
    num_queries, device = len(classes), classes.device
    if not num_queries:
        nothing = torch.zeros(masks.shape[1:], dtype=torch.int32, device=device)
        return PanopticPrediction(nothing, classes)
    owner = (scores[:, None, None] * masks).argmax(dim=0)
    inside = masks.gather(0, owner[None])[0] >= 0.5
    own_area = owner.flatten().bincount(minlength=num_queries)
    segment_area = owner[inside].bincount(minlength=num_queries)
    whole_area = (masks >= 0.5).sum((1, 2))
    kept = (segment_area > 0) & (own_area.double() / whole_area.clamp(min=1) >= overlap_threshold)

    order = torch.arange(num_queries, device=device)
    same = (classes[:, None] == classes) & ~is_thing[classes] & kept
    first = torch.where(kept & ~is_thing[classes], same.int().argmax(dim=1), order)
    leads = kept & (first == order)
    numbers = torch.where(kept, leads.cumsum(0)[first], 0)
    ids = torch.where(inside, numbers[owner], 0).int()
    return PanopticPrediction(ids, classes[leads])


def instance_prediction(
    logits: Tensor, masks: Tensor, top_k: int = 100, is_thing: Tensor | None = None
) -> InstancePrediction:
    """The `top_k` likeliest of all (query, class) pairs; `is_thing` bool (K,) then drops the other classes.

    logits (Q, K + 1), masks (Q, H, W). A mask is where its logit is positive; its score is the probability
    of the class times the mean σ inside the mask.
    """
    num_classes = logits.shape[-1] - 1
    probabilities = logits.float().softmax(dim=-1)[:, :-1].flatten()
    scores, pairs = probabilities.topk(min(top_k, len(probabilities)), sorted=False)
    if is_thing is not None:
        things = is_thing[pairs % num_classes]
        scores, pairs = scores[things], pairs[things]
    queries, chosen = (pairs // num_classes).unique(return_inverse=True)
    masks = masks[queries].float()
    binary = masks > 0
    quality = (masks.sigmoid() * binary).sum((1, 2)) / (binary.sum((1, 2)) + 1e-6)
    return InstancePrediction(binary[chosen], pairs % num_classes, scores * quality[chosen])
