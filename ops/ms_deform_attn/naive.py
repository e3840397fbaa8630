"""Two slow references: the definition as a scalar loop, and the composition by `grid_sample` that others run.

Shapes as in `op.py`. Neither is ever chosen where a kernel can run; the second is the fallback.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor


def by_loops(
    value: Tensor, shapes: Sequence[Sequence[int]], starts: Sequence[int], locations: Tensor, weights: Tensor
) -> Tensor:
    """Section 1.2 of README.md, one number at a time. float64 (N, Q, M·D), whatever the inputs are.

    Not differentiable; a location that is NaN or infinite adds nothing.
    """
    value, locations, weights = (t.detach().double().cpu() for t in (value, locations, weights))
    images, _, heads, channels = value.shape
    _, queries, _, levels, points, _ = locations.shape
    out = torch.zeros(images, queries, heads, channels, dtype=torch.float64)
    for n in range(images):
        for q in range(queries):
            for m in range(heads):
                for level in range(levels):
                    height, width = shapes[level]
                    for p in range(points):
                        u, v = locations[n, q, m, level, p].tolist()
                        x, y = u * width - 0.5, v * height - 0.5
                        if not (-1 < x < width and -1 < y < height):
                            continue
                        left, top = math.floor(x), math.floor(y)
                        for row, across in ((top, 1 - (y - top)), (top + 1, y - top)):
                            for column, along in ((left, 1 - (x - left)), (left + 1, x - left)):
                                if 0 <= row < height and 0 <= column < width:
                                    pixel = starts[level] + row * width + column
                                    share = weights[n, q, m, level, p] * across * along
                                    out[n, q, m] += share * value[n, pixel, m]
    return out.flatten(2)


def by_grid_sample(
    value: Tensor, shapes: Sequence[Sequence[int]], starts: Sequence[int], locations: Tensor, weights: Tensor
) -> Tensor:
    """One `grid_sample` a level and a weighted sum, as in the official fallback: (N, Q, M·D), value's type.

    Differentiable by autograd. The planes of a level are made contiguous first: at N = 1 the official
    reshape is a strided view, and sampling it is up to 1.8 times slower. Locations that are not finite add
    nothing, as in the kernels (`grid_sample` itself would return NaN).
    Source: facebookresearch/Mask2Former, ms_deform_attn_func.py@ms_deform_attn_core_pytorch.
    """
    images, _, heads, channels = value.shape
    queries = locations.shape[1]
    out = value.new_zeros(images * heads, channels, queries, dtype=accumulation(value))
    if value.numel() and locations.numel():
        for planes, grid, share in _levels(value, shapes, starts, locations, weights):
            rows = F.grid_sample(planes, grid, mode="bilinear", padding_mode="zeros", align_corners=False)
            out = out + (rows * share).sum(-1)
    return out.view(images, heads * channels, queries).transpose(1, 2).contiguous().to(value.dtype)


def grid_sample_gradients(
    grad_output: Tensor,
    value: Tensor,
    shapes: Sequence[Sequence[int]],
    starts: Sequence[int],
    locations: Tensor,
    weights: Tensor,
) -> tuple[Tensor, Tensor, Tensor]:
    """The gradients of `by_grid_sample` in value, locations and weights, where autograd cannot record it."""
    images, _, heads, channels = value.shape
    queries = locations.shape[1]
    wide = accumulation(value)
    of_value = torch.zeros_like(value, dtype=wide, memory_format=torch.contiguous_format)
    of_locations, of_weights = torch.zeros_like(locations, dtype=wide), torch.zeros_like(weights, dtype=wide)
    if not (value.numel() and locations.numel()):
        return of_value.to(value.dtype), of_locations, of_weights
    finite = locations.isfinite().all(-1)
    grad = grad_output.to(wide).transpose(1, 2).reshape(images * heads, channels, queries, 1)
    for level, (planes, grid, share) in enumerate(_levels(value, shapes, starts, locations, weights)):
        rows = F.grid_sample(planes, grid, mode="bilinear", padding_mode="zeros", align_corners=False)
        of_share = (grad * rows).sum(1).view(images, heads, queries, -1).transpose(1, 2)
        of_weights[:, :, :, level] = of_share * finite[:, :, :, level]
        of_planes, of_grid = torch.ops.aten.grid_sampler_2d_backward(
            (grad * share).contiguous(), planes, grid.contiguous(), 0, 0, False, [True, True]
        )
        of_grid = 2 * of_grid.view(images, heads, queries, -1, 2).transpose(1, 2)
        of_locations[:, :, :, level] = of_grid * finite[:, :, :, level, :, None]
        pixels = of_planes.view(images, heads, channels, -1).permute(0, 3, 1, 2)
        of_value[:, starts[level] : starts[level] + pixels.shape[1]] = pixels
    return of_value.to(value.dtype), of_locations, of_weights


def accumulation(value: Tensor) -> torch.dtype:
    """The type of sums, locations and weights for values of a type."""
    return torch.float64 if value.dtype == torch.float64 else torch.float32


def _levels(
    value: Tensor, shapes: Sequence[Sequence[int]], starts: Sequence[int], locations: Tensor, weights: Tensor
) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """Of each level the planes (N·M, D, H, W), the grid (N·M, Q, P, 2) and the weights (N·M, 1, Q, P)."""
    images, _, heads, channels = value.shape
    wide = accumulation(value)
    finite = locations.isfinite().all(-1)
    # Far outside either way: beyond 2^31 pixels grid_sample's own integers overflow.
    grids = torch.where(finite.unsqueeze(-1), locations, 3.0).to(wide).clamp(-1e5, 1e5) * 2 - 1
    shares = torch.where(finite, weights, 0).to(wide)
    for level, (height, width) in enumerate(shapes):
        planes = value[:, starts[level] : starts[level] + height * width].permute(0, 2, 3, 1).to(wide)
        planes = planes.reshape(images * heads, channels, height, width).contiguous()
        grid = grids[:, :, :, level].transpose(1, 2).flatten(0, 1)
        yield planes, grid, shares[:, :, :, level].transpose(1, 2).flatten(0, 1).unsqueeze(1)


def locations_of(reference: Tensor, offsets: Tensor, shapes: Tensor) -> Tensor:
    """Sampling locations from reference points (N, Q, L, 2) or boxes (N, Q, L, 4) and raw offsets.

    (N, Q, M, L, P, 2), normalised. Offsets are pixels for points, and for boxes halves of the box a P-th.
    `shapes` (L, 2) holds (H, W). Source: Mask2Former, modeling/pixel_decoder/ops/modules/ms_deform_attn.py.
    """
    centre = reference[:, :, None, :, None, :2]
    if reference.shape[-1] == 4:
        return centre + offsets / offsets.shape[-2] * reference[:, :, None, :, None, 2:] * 0.5
    return centre + offsets / shapes.flip(-1).to(offsets.dtype)[None, None, None, :, None, :]


def weights_of(logits: Tensor) -> Tensor:
    """Attention weights (N, Q, M, L, P) from logits: one softmax over the L·P points of a query and head."""
    return logits.flatten(-2).softmax(-1).view_as(logits)
