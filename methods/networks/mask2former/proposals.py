"""Boxes of SimCIS's decoder: one proposed at each place of the maps, and the position code of any box."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from methods.networks.mask2former.pixel_decoder import Sizes, pixel_centres

EDGE = 0.01
"""Proposals outside EDGE..1 - EDGE, in any of their four numbers, do not count."""


def propose_boxes(sizes: Sizes, device: torch.device) -> tuple[Tensor, Tensor]:
    """One box a place: its logits (S, 4), infinite where it does not count, and whether it does, (S, 1).

    Boxes are 0.05 wide on the first level and twice as wide on each next one. The levels come from coarse to
    fine, so the coarsest map gets the smallest boxes, the other way round than in Deformable DETR.
    Source: SimCIS modeling/transformer_decoder/utils/utils.py@gen_encoder_output_proposals_p.
    """
    boxes = []
    for level, size in enumerate(sizes):
        centres = pixel_centres(*size, device)
        boxes.append(torch.cat([centres, torch.full_like(centres, 0.05 * 2**level)], dim=1))
    proposed = torch.cat(boxes)
    counts = ((proposed > EDGE) & (proposed < 1 - EDGE)).all(dim=1, keepdim=True)
    return (proposed / (1 - proposed)).log().masked_fill(~counts, math.inf), counts


def inverse_sigmoid(x: Tensor, eps: float = 1e-5) -> Tensor:
    """The logit of x in 0..1, finite at the ends: utils.py@inverse_sigmoid."""
    return (x.clamp(min=eps) / (1 - x).clamp(min=eps)).log()


def box_positions(boxes: Tensor, channels: int) -> Tensor:
    """(..., 4) boxes in 0..1 -> (..., 4 · channels): y, x, width and height, sine and cosine interleaved.

    Source: mask2former_transformer_decoder.py@_gen_sineembed_for_position.
    """
    exponents = torch.arange(channels, dtype=torch.float32, device=boxes.device) // 2 * 2 / channels
    values = boxes[..., [1, 0, 2, 3]] * (2 * math.pi)
    angles = values[..., None] / 10000**exponents
    return torch.stack([angles[..., 0::2].sin(), angles[..., 1::2].cos()], dim=-1).flatten(-3)
