"""Scores of whole images: in one piece, or by windows that slide over them."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor


def window_starts(length: int, window: int, stride: int) -> list[int]:
    """Where the windows of one axis begin; the last ends at the border.

    Source: mmsegmentation 0.24.0 `EncoderDecoder.slide_inference`.
    """
    count = max(length - window + stride - 1, 0) // stride + 1
    return [max(min(i * stride, length - window), 0) for i in range(count)]


def slide(scores_of: Callable[[Tensor], Tensor], image: Tensor, window: int, stride: int) -> Tensor:
    """(B, 3, H, W) -> (B, K, H, W): the mean of what `scores_of` gives for the windows over each pixel.

    An axis that is shorter than the window is seen whole. `window` 0: so is all of the image.
    """
    if not window:
        return scores_of(image)
    height, width = image.shape[2:]
    total, hits = None, torch.zeros(height, width, device=image.device)
    for top in window_starts(height, window, stride):
        for left in window_starts(width, window, stride):
            area = (..., slice(top, top + window), slice(left, left + window))
            scores = scores_of(image[area])
            if total is None:
                total = scores.new_zeros(*scores.shape[:2], height, width)
            total[area] += scores
            hits[area] += 1
    assert total is not None
    return total / hits
