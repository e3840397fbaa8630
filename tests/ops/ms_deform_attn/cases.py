"""Inputs for the tests of the operator."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from ops.ms_deform_attn import ms_deform_attn, naive


class Case(NamedTuple):
    value: Tensor
    shapes: Tensor
    starts: Tensor
    locations: Tensor
    weights: Tensor

    def leaves(self) -> Case:
        floats = (t.detach().clone().requires_grad_() for t in (self.value, self.locations, self.weights))
        value, locations, weights = floats
        return Case(value, self.shapes, self.starts, locations, weights)

    def to(self, dtype: torch.dtype) -> Case:
        value, locations, weights = (t.to(dtype) for t in (self.value, self.locations, self.weights))
        return Case(value, self.shapes, self.starts, locations, weights)

    @property
    def python(self) -> tuple[Tensor, list[list[int]], list[int], Tensor, Tensor]:
        """As `naive` takes them."""
        return self.value, self.shapes.tolist(), self.starts.tolist(), self.locations, self.weights


def make(
    sizes: Sequence[tuple[int, int]] = ((5, 7), (3, 4), (1, 1)),
    images: int = 2,
    heads: int = 3,
    channels: int = 32,
    queries: int = 11,
    points: int = 4,
    dtype: torch.dtype = torch.float64,
    gap: int = 0,
    seed: int = 0,
) -> Case:
    """Random values; locations in -0.1..1.1, none within 1e-3 of a kink. `gap` pixels precede each level."""
    generator = torch.Generator().manual_seed(seed)
    starts, pixels = [], 0
    for height, width in sizes:
        starts.append(pixels + gap)
        pixels += height * width + gap
    shape = (images, queries, heads, len(sizes), points)
    size = torch.tensor([(w, h) for h, w in sizes], dtype=torch.float64).view(-1, 1, 2)
    pixel = (torch.rand(*shape, 2, generator=generator, dtype=torch.float64) * 1.2 - 0.1) * size - 0.5
    pixel = pixel.floor() + (pixel - pixel.floor()).clamp(1e-3, 1 - 1e-3)
    return Case(
        torch.randn(images, pixels, heads, channels, generator=generator, dtype=torch.float64).to(dtype),
        torch.tensor(sizes, dtype=torch.int64).view(-1, 2),
        torch.tensor(starts, dtype=torch.int64),
        ((pixel + 0.5) / size).to(dtype),
        torch.randn(*shape, generator=generator, dtype=torch.float64).to(dtype),
    )


def gradients(case: Case, grad: Tensor, by_naive: bool = False) -> tuple[Tensor, tuple[Tensor, ...]]:
    leaf = case.leaves()
    out = naive.by_grid_sample(*leaf.python) if by_naive else ms_deform_attn(*leaf)
    return out.detach(), torch.autograd.grad(
        out, (leaf.value, leaf.locations, leaf.weights), grad.to(out.dtype)
    )
