"""What SimCIS's queries, whose classes are each a decision of its own, say of an image.

Source: SimCIS maskformer_model.py@MaskFormer.forward, panoptic_inference, semantic_inference.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from methods.losses.focal import normalised_score
from methods.predictions import PanopticPrediction


def likely_queries(
    logits: Tensor, threshold: float, sharp: bool = True, except_class: int | None = None
) -> tuple[Tensor, Tensor, Tensor]:
    """Index of the queries whose likeliest class of (Q, K) logits has a probability above `threshold`, the
    scores with which their masks compete, and their classes, each (N,).

    The scores are the probabilities, or with `sharp` the `normalised_score`s. Queries whose likeliest class
    is `except_class` are left out: officially the number of classes learnt so far, which is taken for ∅ but
    is the first class of the next step.
    """
    probabilities, classes = logits.float().sigmoid().max(dim=-1)
    likely = probabilities > threshold
    if except_class is not None:
        likely &= classes != except_class
    index = likely.nonzero()[:, 0]
    scores = normalised_score(logits[index].float()) if sharp else probabilities[index]
    return index, scores, classes[index]


def assigned_classes(
    scores: Tensor, classes: Tensor, masks: Tensor, nothing: int, overlap_threshold: float = 0.8
) -> Tensor:
    """int64 (H, W): the class that the `likely_queries` give each pixel, `nothing` where they give none.

    scores and classes (N,), mask logits (N, H, W). A pixel belongs to the query of the largest
    score · σ(mask), and gets its class if σ ≥ 0.5; a query counts if its pixels and those where its σ ≥ 0.5
    are not fewer than `overlap_threshold` of each other.
    """
    if not len(classes):
        return torch.full(masks.shape[1:], nothing, device=masks.device)
    masks = masks.float().sigmoid()
    owner = (scores[:, None, None] * masks).argmax(dim=0)
    inside = masks.gather(0, owner[None])[0] >= 0.5
    own_area = owner.flatten().bincount(minlength=len(classes)).double()
    whole_area = (masks >= 0.5).sum((1, 2)).double()
    kept = torch.minimum(own_area, whole_area) >= overlap_threshold * torch.maximum(own_area, whole_area)
    return torch.where(inside & kept[owner], classes[owner], nothing)


def resize_classes(classes: Tensor, size: tuple[int, int]) -> Tensor:
    """int64 (h, w) -> `size`: the class with the largest share of each pixel, by bilinear weights."""
    present = classes.unique()
    shares = F.interpolate((classes == present[:, None, None])[None].float(), size, mode="bilinear")[0]
    return present[shares.argmax(dim=0)]


def learnt_segments(prediction: PanopticPrediction, num_channels: int) -> PanopticPrediction:
    """Without the segments of classes not learnt yet, whose places become void."""
    learnt = prediction.channels < num_channels
    numbers = torch.where(learnt, learnt.cumsum(0), 0)
    ids = torch.cat([numbers.new_zeros(1), numbers])[prediction.ids.long()]
    return PanopticPrediction(ids.int(), prediction.channels[learnt])
