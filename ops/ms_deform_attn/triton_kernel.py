"""The GPU kernels, in Triton: nothing to build, any GPU that Triton knows. Not measured on a GPU yet.

One program works on a block of queries of one image and head, with their D channels side by side. Sums are
float32, or float64 for float64 values. The gradient of value is added by atomics into a wider buffer, or,
under `torch.use_deterministic_algorithms(True)`, by sorting the corners by pixel and adding up each pixel's.
With TRITON_INTERPRET=1 everything runs on a CPU, slowly: so it is tested without a GPU.
"""

from __future__ import annotations

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from ops.ms_deform_attn.arguments import Arguments

BLOCK_Q = 16
"""Queries a program: 16 rows of 32 channels are two warps' registers. Chosen, not tuned."""


@triton.jit
def _items(Q, M: tl.constexpr, BLOCK_Q: tl.constexpr):
    """The program's queries: which rows of (N·Q), which items of (N·Q·M), and which of them there are."""
    query = tl.program_id(0) * BLOCK_Q + tl.arange(0, BLOCK_Q)
    row = tl.program_id(2).to(tl.int64) * Q + query
    return row, row * M + tl.program_id(1), query < Q


@triton.jit
def _softmax_of(weights, item, mask, K: tl.constexpr):
    """The greatest logit of each item and the sum of exponentials."""
    greatest = tl.load(weights + item * K, mask=mask, other=0.0)
    for k in range(1, K):
        greatest = tl.maximum(greatest, tl.load(weights + item * K + k, mask=mask, other=0.0))
    total = greatest * 0
    for k in range(K):
        total += tl.exp(tl.load(weights + item * K + k, mask=mask, other=0.0) - greatest)
    return greatest, total


@triton.jit
def _weight(weights, item, k, mask, softmax, K: tl.constexpr, R: tl.constexpr):
    """Of point k of each item."""
    a = tl.load(weights + item * K + k, mask=mask, other=0.0)
    if R > 0:
        a = tl.exp(a - softmax[0]) / softmax[1]
    return a


@triton.jit
def _place(points, shapes, reference, item, row, level, k, mask, K: tl.constexpr, L: tl.constexpr,
           P: tl.constexpr, R: tl.constexpr, ACC: tl.constexpr):  # fmt: skip
    """Point k of each item: its top left corner, how far it lies right of and below that, whether it is
    inside the level, the level's size, and what a raw unit is in pixels."""
    height = tl.load(shapes + 2 * level).to(tl.int32)
    width = tl.load(shapes + 2 * level + 1).to(tl.int32)
    raw_x = tl.load(points + (item * K + k) * 2, mask=mask, other=-10.0)
    raw_y = tl.load(points + (item * K + k) * 2 + 1, mask=mask, other=-10.0)
    if R == 0:
        scale_x = width.to(ACC) + raw_x * 0
        scale_y = height.to(ACC) + raw_y * 0
        x = raw_x * scale_x - 0.5
        y = raw_y * scale_y - 0.5
    else:
        at = reference + (row * L + level) * R
        centre_x = tl.load(at, mask=mask, other=0.0) * width.to(ACC) - 0.5
        centre_y = tl.load(at + 1, mask=mask, other=0.0) * height.to(ACC) - 0.5
        scale_x = raw_x * 0 + 1
        scale_y = raw_y * 0 + 1
        if R == 4:
            scale_x = tl.load(at + 2, mask=mask, other=0.0) * width.to(ACC) / (2 * P)
            scale_y = tl.load(at + 3, mask=mask, other=0.0) * height.to(ACC) / (2 * P)
        x = centre_x + raw_x * scale_x
        y = centre_y + raw_y * scale_y
    inside = (x > -1) & (x < width) & (y > -1) & (y < height) & mask  # false for NaN
    x = tl.where(inside, x, 0.0)
    y = tl.where(inside, y, 0.0)
    left = tl.floor(x)
    top = tl.floor(y)
    corner_x = left.to(tl.int32)
    corner_y = top.to(tl.int32)
    return corner_x, corner_y, x - left, y - top, inside, height, width, scale_x, scale_y


@triton.jit
def _row(value, starts, level, y, x, inside, height, width, S, M: tl.constexpr, D: tl.constexpr,
         BLOCK_D: tl.constexpr, ACC: tl.constexpr):  # fmt: skip
    """One corner of each item: its D channels, 0 where outside; and where they lie. Nothing beyond the
    image's S pixels is touched, whatever the levels say: they are not read on the host."""
    pixel = tl.load(starts + level) + y.to(tl.int64) * width + x
    there = inside & (x >= 0) & (x < width) & (y >= 0) & (y < height) & (pixel >= 0) & (pixel < S)
    channel = tl.arange(0, BLOCK_D)
    at = ((tl.program_id(2).to(tl.int64) * S + pixel) * M + tl.program_id(1)) * D
    at = at[:, None] + channel[None, :]
    mask = there[:, None] & (channel < D)[None, :]
    return tl.load(value + at, mask=mask, other=0.0).to(ACC), at, mask


@triton.jit
def _forward(value, shapes, starts, points, weights, reference, out, S, Q, M: tl.constexpr, D: tl.constexpr,
             L: tl.constexpr, P: tl.constexpr, R: tl.constexpr, BLOCK_Q: tl.constexpr, BLOCK_D: tl.constexpr,
             ACC: tl.constexpr):  # fmt: skip
    K: tl.constexpr = L * P
    row, item, mask = _items(Q, M, BLOCK_Q)
    channel = tl.arange(0, BLOCK_D)
    softmax = (0.0, 1.0)
    if R > 0:
        softmax = _softmax_of(weights, item, mask, K)
    sums = tl.zeros((BLOCK_Q, BLOCK_D), dtype=ACC)
    for level in range(L):
        for p in range(P):
            k = level * P + p
            x, y, along, down, inside, height, width, _, _ = _place(
                points, shapes, reference, item, row, level, k, mask, K, L, P, R, ACC
            )
            a = tl.where(inside, _weight(weights, item, k, mask, softmax, K, R), 0.0)
            v00, _, _ = _row(value, starts, level, y, x, inside, height, width, S, M, D, BLOCK_D, ACC)
            v01, _, _ = _row(value, starts, level, y, x + 1, inside, height, width, S, M, D, BLOCK_D, ACC)
            v10, _, _ = _row(value, starts, level, y + 1, x, inside, height, width, S, M, D, BLOCK_D, ACC)
            v11, _, _ = _row(value, starts, level, y + 1, x + 1, inside, height, width, S, M, D, BLOCK_D, ACC)
            sums += (a * (1 - down) * (1 - along))[:, None] * v00 + (a * (1 - down) * along)[:, None] * v01
            sums += (a * down * (1 - along))[:, None] * v10 + (a * down * along)[:, None] * v11
    at = (item * D)[:, None] + channel[None, :]
    tl.store(out + at, sums.to(out.dtype.element_ty), mask=mask[:, None] & (channel < D)[None, :])


@triton.jit
def _backward(grad_out, value, shapes, starts, points, weights, reference, grad_value, grad_points,
              grad_weights, S, Q, M: tl.constexpr, D: tl.constexpr, L: tl.constexpr, P: tl.constexpr,
              R: tl.constexpr, BLOCK_Q: tl.constexpr, BLOCK_D: tl.constexpr, ACC: tl.constexpr,
              ADDS: tl.constexpr):  # fmt: skip
    K: tl.constexpr = L * P
    row, item, mask = _items(Q, M, BLOCK_Q)
    channel = tl.arange(0, BLOCK_D)
    at = (item * D)[:, None] + channel[None, :]
    g = tl.load(grad_out + at, mask=mask[:, None] & (channel < D)[None, :], other=0.0).to(ACC)
    softmax = (0.0, 1.0)
    if R > 0:
        softmax = _softmax_of(weights, item, mask, K)
        mean = softmax[0] * 0
    for level in range(L):
        for p in range(P):
            k = level * P + p
            x, y, along, down, inside, height, width, scale_x, scale_y = _place(
                points, shapes, reference, item, row, level, k, mask, K, L, P, R, ACC
            )
            a = _weight(weights, item, k, mask, softmax, K, R)
            v00, at00, m00 = _row(value, starts, level, y, x, inside, height, width, S, M, D, BLOCK_D, ACC)
            v01, at01, m01 = _row(
                value, starts, level, y, x + 1, inside, height, width, S, M, D, BLOCK_D, ACC
            )
            v10, at10, m10 = _row(
                value, starts, level, y + 1, x, inside, height, width, S, M, D, BLOCK_D, ACC
            )
            v11, at11, m11 = _row(
                value, starts, level, y + 1, x + 1, inside, height, width, S, M, D, BLOCK_D, ACC
            )
            s00 = tl.sum(g * v00, axis=1)
            s01 = tl.sum(g * v01, axis=1)
            s10 = tl.sum(g * v10, axis=1)
            s11 = tl.sum(g * v11, axis=1)
            of_weight = (1 - down) * ((1 - along) * s00 + along * s01)
            of_weight += down * ((1 - along) * s10 + along * s11)
            of_x = a * scale_x * ((1 - down) * (s01 - s00) + down * (s11 - s10))
            of_y = a * scale_y * ((1 - along) * (s10 - s00) + along * (s11 - s01))
            to = (item * K + k) * 2
            tl.store(grad_points + to, tl.where(inside, of_x, 0.0), mask=mask)
            tl.store(grad_points + to + 1, tl.where(inside, of_y, 0.0), mask=mask)
            tl.store(grad_weights + item * K + k, of_weight, mask=mask)
            if R > 0:
                mean += a * of_weight
            if ADDS:
                a = tl.where(inside, a, 0.0)
                share = a * (1 - down)
                tl.atomic_add(grad_value + at00, (share * (1 - along))[:, None] * g, m00, sem="relaxed")
                tl.atomic_add(grad_value + at01, (share * along)[:, None] * g, m01, sem="relaxed")
                share = a * down
                tl.atomic_add(grad_value + at10, (share * (1 - along))[:, None] * g, m10, sem="relaxed")
                tl.atomic_add(grad_value + at11, (share * along)[:, None] * g, m11, sem="relaxed")
    if R > 0:  # of the softmax: d logit = a (d a - sum of a d a)
        for k in range(K):
            a = _weight(weights, item, k, mask, softmax, K, R)
            of_weight = tl.load(grad_weights + item * K + k, mask=mask, other=0.0)
            tl.store(grad_weights + item * K + k, a * (of_weight - mean), mask=mask)


@triton.jit
def _sum_segments(grad_out, ends, rows, shares, grad_value, segments, D: tl.constexpr, BLOCK_D: tl.constexpr,
                  ACC: tl.constexpr):  # fmt: skip
    """grad_value[segment] = sum of share · grad_out[row] over the segment's corners, in their order."""
    segment = tl.program_id(0)
    channel = tl.arange(0, BLOCK_D)
    begin = tl.load(ends + segment - 1, mask=segment > 0, other=0)
    end = tl.load(ends + segment)
    sums = tl.zeros((BLOCK_D,), dtype=ACC)
    for i in range(begin, end):
        row = tl.load(rows + i)
        sums += tl.load(shares + i) * tl.load(grad_out + row * D + channel, mask=channel < D, other=0.0).to(
            ACC
        )
    tl.store(grad_value + segment.to(tl.int64) * D + channel, sums, mask=channel < D)


def _sizes(given: Arguments) -> dict[str, Any]:
    _, _, heads, channels = given.value.shape
    return {
        "M": heads,
        "D": channels,
        "L": given.points.shape[3],
        "P": given.points.shape[4],
        "R": 0 if given.reference is None else given.reference.shape[-1],
        "BLOCK_Q": BLOCK_Q,
        "BLOCK_D": triton.next_power_of_2(channels),
        "ACC": tl.float64 if given.value.dtype == torch.float64 else tl.float32,
    }


def _launch(
    kernel: Any, inputs: tuple[Tensor, ...], outputs: tuple[Tensor, ...], given: Arguments, **more: bool
) -> None:
    images, pixels, heads, _ = given.value.shape
    queries = given.points.shape[1]
    # Without a reference its pointer is not read.
    inputs = (*inputs, *given[:5], given.points if given.reference is None else given.reference)
    grid = (triton.cdiv(queries, BLOCK_Q), heads, images)
    kernel[grid](*inputs, *outputs, pixels, queries, **_sizes(given), **more)


def forward(*inputs: Any) -> Tensor:
    """As `contiseg_msda::forward`: `Arguments.prepared`."""
    given = Arguments(*inputs)
    out = given.value.new_empty(given.output_shape)
    _launch(_forward, (), (out,), given)
    return out


def backward(
    grad_output: Tensor, needs_value: bool, needs_points: bool, needs_weights: bool, *inputs: Any
) -> tuple[Tensor, ...]:
    """As `contiseg_msda::backward`."""
    given = Arguments(*inputs)
    ordered = torch.are_deterministic_algorithms_enabled()
    adds = needs_value and not ordered
    of_value = given.value.new_zeros(given.value.shape if adds else (0,), dtype=given.points.dtype)
    of_points, of_weights = torch.empty_like(given.points), torch.empty_like(given.weights)
    if adds or needs_points or needs_weights:
        _launch(_backward, (grad_output,), (of_value, of_points, of_weights), given, ADDS=adds)
    if needs_value and ordered:
        of_value = _grad_value_in_order(grad_output, given)
    return (
        of_value.to(given.value.dtype),
        of_points if needs_points else of_points.new_empty(0),
        of_weights if needs_weights else of_weights.new_empty(0),
    )


def _grad_value_in_order(grad_output: Tensor, given: Arguments) -> Tensor:
    """The gradient of value by a stable sort of all corners by pixel: the same bits every time."""
    value, shapes, starts, points, weights, reference = given
    images, pixels, heads, channels = value.shape
    size = shapes.flip(-1)[None, None, None, :, None, :]  # W, H
    if reference is None:
        pixel = points * size - 0.5
    else:
        weights = weights.flatten(-2).softmax(-1).view_as(weights)
        centre = reference[:, :, None, :, None, :2] * size - 0.5
        extent: Tensor | int = 1
        if reference.shape[-1] == 4:
            extent = reference[:, :, None, :, None, 2:] * size / (2 * points.shape[4])
        pixel = centre + points * extent
    inside = ((pixel > -1) & (pixel < size)).all(-1)
    pixel = torch.where(inside[..., None], pixel, 0)
    corner = pixel.floor()
    fraction = pixel - corner
    corner = corner.long()
    item = torch.arange(weights[..., 0, 0].numel(), device=value.device).view(*weights.shape[:3], 1, 1)
    image = torch.arange(images, device=value.device).view(-1, 1, 1, 1, 1)
    head = torch.arange(heads, device=value.device).view(1, 1, -1, 1, 1)
    places, shares = [], []
    for down in (0, 1):
        for along in (0, 1):
            x, y = corner[..., 0] + along, corner[..., 1] + down
            there = inside & (x >= 0) & (x < size[..., 0]) & (y >= 0) & (y < size[..., 1])
            pixel_index = starts[None, None, None, :, None] + y * size[..., 0] + x
            there &= (pixel_index >= 0) & (pixel_index < pixels)
            share_x = fraction[..., 0] if along else 1 - fraction[..., 0]
            share_y = fraction[..., 1] if down else 1 - fraction[..., 1]
            place = image * pixels + pixel_index
            # Corners that are nowhere go behind the last pixel.
            places.append(torch.where(there, place * heads + head, images * pixels * heads).flatten())
            shares.append((weights * share_x * share_y).flatten())
    place, order = torch.cat(places).sort(stable=True)
    rows = item.expand_as(weights).flatten().repeat(4)[order]
    segments = images * pixels * heads
    ends = torch.searchsorted(place, torch.arange(segments, device=value.device), right=True)
    wide = torch.empty_like(value, dtype=points.dtype)
    sizes = _sizes(given)
    _sum_segments[(segments,)](
        grad_output, ends, rows, torch.cat(shares)[order], wide, segments,
        D=channels, BLOCK_D=sizes["BLOCK_D"], ACC=sizes["ACC"],
    )  # fmt: skip
    return wide
