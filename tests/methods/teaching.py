"""Tiny images whose segments are given, and old networks that are sure of what they see."""

from __future__ import annotations

import torch
from torch import Tensor

from methods.mask2former import Mask2FormerMethod
from protocols.loading import Batch
from protocols.segments import Segments

SIDE = 32


def rectangle(top: int, bottom: int, left: int, right: int) -> Tensor:
    mask = torch.zeros(SIDE, SIDE, dtype=torch.bool)
    mask[top:bottom, left:right] = True
    return mask


def batch(*images: Segments) -> Batch:
    generator = torch.Generator().manual_seed(3)
    pixels = torch.randn(len(images), 3, SIDE, SIDE, generator=generator)
    return Batch(pixels, torch.full((len(images), SIDE, SIDE), 255), list(images))


def teach(method: Mask2FormerMethod, *known: tuple[int, Tensor], elsewhere: float = -9.0) -> None:
    """Lets the old network be sure of these segments in every image, one a query, and of nothing else.

    The mask logits of its other queries are `elsewhere`.
    """
    assert method.teacher is not None
    real = method.teacher.forward

    def forward(images: Tensor) -> object:
        output = real(images)
        num_queries, num_classes = output.logits.shape[1], output.logits.shape[2] - 1
        logits = torch.full_like(output.layer_logits, -9.0)
        logits[..., num_classes] = 0.0
        drawn = torch.full((len(images), num_queries, *output.mask_features.shape[2:]), elsewhere)
        for query, (index, mask) in enumerate(known):
            logits[..., query, index] = 9.0 - query
            drawn[:, query] = torch.where(mask[::4, ::4], 9.0, -9.0)
        output.__dict__["masks"] = drawn  # a cached property
        object.__setattr__(output, "layer_logits", logits)
        return output

    method.teacher.forward = forward  # type: ignore[method-assign]
