"""Two slow references: the definition as a scalar loop, and the composition by `grid_sample` that others run.

Shapes as in `op.py`. Neither is ever chosen where a kernel can run; the second is the fallback.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

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
    """One `grid_sample` a level and a weighted sum, as the official fallback does. (N, Q, M·D), value's dtype.

    Differentiable by autograd. The planes of a level are made contiguous first: at N = 1 the official
    reshape is a strided view, and sampling it is up to 1.8 times slower. Locations that are not finite add
    nothing, as in the kernels (`grid_sample` itself would return NaN).
    Source: facebookresearch/Mask2Former, ms_deform_attn_func.py@ms_deform_attn_core_pytorch.
    """
    images, _, heads, channels = value.shape
    _, queries, _, levels, points, _ = locations.shape
    if not levels * points * value.numel() * queries:
        nothing = (locations.sum() + weights.sum() + value.sum()) * 0
        return value.new_zeros(images, queries, heads * channels) + nothing.to(value.dtype)
    accumulate = torch.float64 if value.dtype == torch.float64 else torch.float32
    finite = locations.isfinite().all(-1)
    grid = torch.where(finite.unsqueeze(-1), locations, 3.0).to(accumulate) * 2 - 1
    grid = grid.clamp(-1e6, 1e6)  # far outside either way; beyond 2^31 pixels grid_sample's integers overflow
    share = torch.where(finite, weights, 0).to(accumulate)
    out = 0
    for level, (height, width) in enumerate(shapes):
        start = starts[level]
        planes = value[:, start : start + height * width].permute(0, 2, 3, 1).to(accumulate)
        planes = planes.reshape(images * heads, channels, height, width).contiguous()
        where = grid[:, :, :, level].transpose(1, 2).flatten(0, 1)  # (N·M, Q, P, 2)
        rows = F.grid_sample(planes, where, mode="bilinear", padding_mode="zeros", align_corners=False)
        of_level = share[:, :, :, level].transpose(1, 2).reshape(images * heads, 1, queries, points)
        out = out + (rows * of_level).sum(-1)
    assert isinstance(out, Tensor)
    return out.view(images, heads * channels, queries).transpose(1, 2).contiguous().to(value.dtype)


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
