"""Pseudo-labels of mask classification: segments of the old network where no label covers them."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from protocols.segments import Segments


@torch.no_grad()
def pseudo_segments(
    scores: Tensor,
    classes: Tensor,
    mask_logits: Tensor,
    size: tuple[int, int],
    covered: Tensor | None = None,
    overlap_threshold: float = 0.8,
) -> Segments:
    """What the old network's predictions of one image say, the surest first: masks (N', H, W) of `size`.

    scores and classes (N,) of the queries that say a class, their mask logits (N, h, w), which are resized.
    A pixel belongs to the query of the largest score · σ(mask), if there σ ≥ 0.5 and `covered`, bool (H, W),
    is not set. A query whose pixels are more than `overlap_threshold` of those where its σ ≥ 0.5 is kept.
    Source: BalConpas and SimCIS, maskformer_model.py@MaskFormer.generate_psd_targets; the queries, and for
    SimCIS other scores, come from `forward(psd_label=True)` there.
    """
    if not len(classes):
        return Segments(classes, torch.zeros(0, *size, dtype=torch.bool, device=classes.device))
    scores, order = scores.sort(descending=True, stable=True)
    logits = F.interpolate(mask_logits[order][None].float(), size, mode="bilinear", align_corners=False)[0]
    masks = logits.sigmoid()
    owner = (scores[:, None, None] * masks).argmax(dim=0)
    valid = masks.gather(0, owner[None])[0] >= 0.5
    if covered is not None:
        valid &= ~covered
    owned = (owner == torch.arange(len(order), device=owner.device)[:, None, None]) & valid
    area, whole = owned.sum((1, 2)), (masks >= 0.5).sum((1, 2))
    kept = (area > 0) & (area > overlap_threshold * whole)
    return Segments(classes[order][kept], owned[kept])


@torch.no_grad()
def uncovered_segments(
    scores: Tensor, classes: Tensor, masks: Tensor, covered: Tensor, overlap_threshold: float = 0.5
) -> Segments:
    """What old queries with scores and classes (N,) and masks (N, H, W) in 0..1 say where no label is.

    A pixel that is not `covered`, bool (H, W), belongs to the query of the largest score · mask. A query is
    kept if its pixels, whatever its mask is there, are more than `overlap_threshold` of those where its mask
    is at least one half. Source: CoMFormer continual/method_wrapper/maskformer.py@make_pseudolabels2.
    """
    if not len(classes):
        return Segments(classes, torch.zeros(0, *covered.shape, dtype=torch.bool, device=covered.device))
    owner = (scores[:, None, None] * masks).argmax(dim=0)
    owned = (owner == torch.arange(len(classes), device=owner.device)[:, None, None]) & ~covered
    inside = masks >= 0.5
    segments, area, whole = owned & inside, owned.sum((1, 2)), inside.sum((1, 2))
    kept = segments.any(dim=2).any(dim=1) & (area > overlap_threshold * whole)
    return Segments(classes[kept], segments[kept])


def merge_classes(segments: Segments) -> Segments:
    """One mask a class, in ascending order of the classes.

    Source: SimCIS, the same function with `combine_psdlabel`, for semantic segmentation.
    """
    classes, group = segments.classes.unique(return_inverse=True)
    of_class = group == torch.arange(len(classes), device=group.device)[:, None]  # (classes, N)
    pixels = segments.masks.flatten(1).float()
    return Segments(classes, (of_class.float() @ pixels > 0).unflatten(1, segments.masks.shape[1:]))


def joined(first: Segments, second: Segments) -> Segments:
    """Those of the first, then those of the second."""
    return Segments(torch.cat([first.classes, second.classes]), torch.cat([first.masks, second.masks]))
