"""What is wrong with a call, in one line, before any memory is touched."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import torch
from torch import Tensor

Shapes = Tensor | Sequence[Sequence[int]]
FLOATING = (torch.float32, torch.float64, torch.float16, torch.bfloat16)


def as_shapes(spatial_shapes: Shapes, device: torch.device) -> Tensor:
    """(L, 2) int64 from a tensor or a list of (H, W). Raises TypeError, ValueError."""
    if not isinstance(spatial_shapes, Tensor):
        spatial_shapes = torch.tensor([tuple(s) for s in spatial_shapes], dtype=torch.int64).view(-1, 2)
    if spatial_shapes.dtype not in (torch.int64, torch.int32):
        raise TypeError(f"spatial_shapes must be int64 or int32, got {spatial_shapes.dtype}")
    if spatial_shapes.ndim != 2 or spatial_shapes.shape[1] != 2:
        raise ValueError(f"spatial_shapes must be (levels, 2), got {tuple(spatial_shapes.shape)}")
    return spatial_shapes.to(device=device, dtype=torch.int64)


def check_tensors(
    value: Tensor,
    spatial_shapes: Tensor,
    level_start_index: Tensor,
    points: Tensor,
    weights: Tensor,
    reference: Tensor | None,
) -> None:
    """Ranks, sizes, types and devices: nothing that reads a number. Raises TypeError, ValueError."""
    names = ("sampling_locations", "attention_weights")
    if reference is not None:
        names = ("sampling_offsets", "attention_logits")
    floats = {"value": (value, 4), names[0]: (points, 6), names[1]: (weights, 5)}
    if reference is not None:
        floats["reference_points"] = (reference, 4)
    for name, (tensor, rank) in floats.items():
        if tensor.dtype not in FLOATING:
            raise TypeError(f"{name} must be float32, float64, float16 or bfloat16, got {tensor.dtype}")
        if tensor.ndim != rank:
            raise ValueError(f"{name} must have {rank} dimensions, got shape {tuple(tensor.shape)}")
    for name, index in (("spatial_shapes", spatial_shapes), ("level_start_index", level_start_index)):
        if index.dtype not in (torch.int64, torch.int32):
            raise TypeError(f"{name} must be int64 or int32, got {index.dtype}")
        floats[name] = (index, index.ndim)
    for name, (tensor, _) in floats.items():
        if tensor.device != value.device:
            raise ValueError(f"{name} is on {tensor.device}, value on {value.device}")
    images, _, heads, channels = value.shape
    _, queries, _, levels, number, _ = points.shape
    if channels == 0 or heads == 0:
        raise ValueError(
            f"value has {heads} heads of {channels} channels: there must be at least one of each"
        )
    expected = {
        names[0]: (points, (images, queries, heads, levels, number, 2)),
        names[1]: (weights, (images, queries, heads, levels, number)),
        "spatial_shapes": (spatial_shapes, (levels, 2)),
        "level_start_index": (level_start_index, (levels,)),
    }
    if reference is not None:
        size = reference.shape[-1] if reference.shape[-1] == 4 else 2
        expected["reference_points"] = (reference, (images, queries, levels, size))
    for name, (tensor, shape) in expected.items():
        if tuple(tensor.shape) != tuple(shape):
            raise ValueError(
                f"{name} must be {tuple(shape)} to go with the others, got {tuple(tensor.shape)}"
            )


def check_levels(shapes: list[list[int]], starts: list[int], pixels: int) -> None:
    """Every level inside value, none over another. Raises ValueError.

    Levels may lie apart; where they follow each other without a gap they must fill value.
    """
    if pixels >= 2**31:
        raise ValueError(f"value has {pixels} pixels an image: 2^31 or more are not supported")
    for level, ((height, width), start) in enumerate(zip(shapes, starts, strict=True)):
        if height < 1 or width < 1:
            raise ValueError(f"spatial_shapes: level {level} is {height} x {width}")
        if start < 0 or start + height * width > pixels:
            raise ValueError(
                f"level {level} of {height} x {width} at {start} reaches beyond value's {pixels} pixels"
            )
    spans = sorted((start, start + h * w) for (h, w), start in zip(shapes, starts, strict=True))
    for (_, end), (start, _) in itertools.pairwise(spans):
        if start < end:
            raise ValueError(f"levels overlap: one ends at {end}, the next starts at {start}")
    area = sum(h * w for h, w in shapes)
    if spans and spans[0][0] == 0 and spans[-1][1] == area != pixels:
        raise ValueError(f"the levels have {area} pixels together, value has {pixels}")
