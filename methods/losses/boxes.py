"""Boxes of masks and their losses. A box is (centre x, centre y, width, height), relative to the image."""

from __future__ import annotations

import torch
from torch import Tensor


def boxes_of_masks(masks: Tensor) -> Tensor:
    """bool (N, H, W) -> float32 (N, 4): the tight box of each mask in 0..1, all zeros for an empty mask.

    Source: SimCIS maskformer_model.py@MaskFormer.prepare_targets, detectron2 BitMasks.get_bounding_boxes.
    """
    spans = [_span(masks.any(dim=axis)) for axis in (1, 2)]  # x, then y
    centres = [(first + last) / 2 / size for first, last, size in spans]
    sizes = [(last - first) / size for first, last, size in spans]
    return torch.stack(centres + sizes, dim=1)


def _span(occupied: Tensor) -> tuple[Tensor, Tensor, int]:
    """bool (N, L) -> float32 (N,) first and one past the last place, both 0 where there is none; and L."""
    size, places = occupied.shape[1], occupied.float()
    if not size or not len(occupied):
        return places.new_zeros(len(occupied)), places.new_zeros(len(occupied)), max(size, 1)
    found = occupied.any(dim=1)
    first = places.argmax(dim=1) * found
    last = (size - places.flip(1).argmax(dim=1)) * found
    return first.float(), last.float(), size


def corners(boxes: Tensor) -> Tensor:
    """(..., 4) centre and size -> (..., 4) left, top, right, bottom."""
    centre, half = boxes[..., :2], boxes[..., 2:] / 2
    return torch.cat([centre - half, centre + half], dim=-1)


def generalized_iou(boxes: Tensor, others: Tensor) -> Tensor:
    """Generalised IoU of boxes (..., 4) with others (..., 4), broadcast against each other: (...).

    1e-6 in both denominators keeps empty boxes finite. In (-1, 1].
    Source: SimCIS utils/box_ops.py@generalized_box_iou.
    """
    boxes, others = corners(boxes), corners(others)
    inter = _area(torch.max(boxes[..., :2], others[..., :2]), torch.min(boxes[..., 2:], others[..., 2:]))
    hull = _area(torch.min(boxes[..., :2], others[..., :2]), torch.max(boxes[..., 2:], others[..., 2:]))
    union = _area(boxes[..., :2], boxes[..., 2:]) + _area(others[..., :2], others[..., 2:]) - inter
    return inter / (union + 1e-6) - (hull - union) / (hull + 1e-6)


def _area(top_left: Tensor, bottom_right: Tensor) -> Tensor:
    return (bottom_right - top_left).clamp(min=0).prod(dim=-1)


def box_losses(boxes: Tensor, targets: Tensor, divisor: float) -> tuple[Tensor, Tensor]:
    """L1 and generalised-IoU loss of M matched pairs of L predictions, summed and divided: two (L,).

    boxes and targets (L, M, 4). Source: SimCIS modeling/criterion.py@SetCriterion.loss_bboxes_panoptic.
    """
    distances = (boxes - targets).abs().sum((1, 2))
    return distances / divisor, (1 - generalized_iou(boxes, targets)).sum(1) / divisor


def box_costs(boxes: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """L1 distance and negative generalised IoU of every pair, each (..., Q, N).

    boxes (..., Q, 4), targets (N, 4). Source: SimCIS modeling/matcher.py.
    """
    pairs = boxes[..., None, :]
    return (pairs - targets).abs().sum(-1), -generalized_iou(pairs, targets)
