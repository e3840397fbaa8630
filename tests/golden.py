"""Closed-form tensors, on which the official functions were once run for the golden values of the tests."""

import torch
from torch import Tensor


def wave(shape: tuple[int, ...], a: float, b: float, s: float) -> Tensor:
    """float64 tensor of that shape whose i-th value in C order is s·sin(a·i + b)."""
    index = torch.arange(torch.Size(shape).numel(), dtype=torch.float64)
    return (s * torch.sin(a * index + b)).view(shape)


def base_case() -> tuple[Tensor, Tensor, Tensor]:
    """Logits (2, 7, 6, 5), old logits (2, 4, 6, 5) and labels (2, 6, 5) in 0..6 and 255."""
    labels = (5 * torch.arange(60)) % 8
    labels[labels == 7] = 255
    return wave((2, 7, 6, 5), 0.7, 0.3, 2), wave((2, 4, 6, 5), 1.1, -0.2, 2), labels.view(2, 6, 5)


def scatter(shape: tuple[int, ...], seed: int) -> Tensor:
    """float64 tensor of values in [-1, 1) that look random and are integer arithmetic."""
    index = torch.arange(torch.Size(shape).numel(), dtype=torch.int64)
    mixed = (index * index * 40503 + index * 2654435761 + (seed + 1) * 362437) & 0xFFFFFFFF
    mixed = ((mixed ^ (mixed >> 15)) * 2246822519) & 0xFFFFFFFF
    return ((mixed >> 8).double() / 2**23 - 1).view(shape)
