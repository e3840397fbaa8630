"""The operators' arguments, and what is wrong with a call, in one line, before any memory is touched."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from ops.ms_deform_attn.naive import accumulation

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


class Arguments(NamedTuple):
    """What both operators take, in the order of their schemas; shapes as in `op.py`.

    With a reference `points` are offsets and `weights` logits; without, they are locations and weights.
    """

    value: Tensor
    shapes: Tensor
    starts: Tensor
    points: Tensor
    weights: Tensor
    reference: Tensor | None = None

    @property
    def empty(self) -> bool:
        """Whether nothing is added up: the result is 0, and so are all gradients."""
        return not (self.value.numel() and self.points.numel())

    @property
    def output_shape(self) -> tuple[int, int, int]:
        images, _, heads, channels = self.value.shape
        return images, self.points.shape[1], heads * channels

    def prepared(self) -> Arguments:
        """As kernels take them: contiguous, locations and weights of the accumulation type."""
        wide = accumulation(self.value)
        return Arguments(
            self.value.contiguous(),
            self.shapes.long().contiguous(),
            self.starts.long().contiguous(),
            self.points.to(wide).contiguous(),
            self.weights.to(wide).contiguous(),
            None if self.reference is None else self.reference.to(wide).contiguous(),
        )

    def check(self) -> None:
        """Ranks, sizes, types and devices: nothing that reads a number. Raises TypeError, ValueError."""
        value, shapes, starts, points, weights, reference = self
        names = ("sampling_locations", "attention_weights")
        if reference is not None:
            names = ("sampling_offsets", "attention_logits")
        floats = {"value": (value, 4), names[0]: (points, 6), names[1]: (weights, 5)}
        if reference is not None:
            floats["reference_points"] = (reference, 4)
        for name, (tensor, rank) in floats.items():
            _check_float(name, tensor, value.device)
            if tensor.ndim != rank:
                raise ValueError(f"{name} must have {rank} dimensions, got shape {tuple(tensor.shape)}")
        for name, index in (("spatial_shapes", shapes), ("level_start_index", starts)):
            if index.dtype not in (torch.int64, torch.int32):
                raise TypeError(f"{name} must be int64 or int32, got {index.dtype}")
            _check_device(name, index, value.device)
        images, _, heads, channels = value.shape
        _, queries, _, levels, number, _ = points.shape
        if channels == 0 or heads == 0:
            raise ValueError(
                f"value has {heads} heads of {channels} channels: there must be at least one of each"
            )
        _check_shape(names[0], points, (images, queries, heads, levels, number, 2))
        _check_shape(names[1], weights, (images, queries, heads, levels, number))
        _check_shape("spatial_shapes", shapes, (levels, 2))
        _check_shape("level_start_index", starts, (levels,))
        if reference is not None:
            size = 4 if reference.shape[-1] == 4 else 2
            _check_shape("reference_points", reference, (images, queries, levels, size))

    def check_backward(self, grad_output: Tensor, needs: Sequence[bool]) -> None:
        """As `check`, for the gradient of the result and which of three gradients are needed."""
        self.check()
        _check_float("grad_output", grad_output, self.value.device)
        _check_shape("grad_output", grad_output, self.output_shape)
        if len(needs) != 3:
            raise ValueError(f"needs must say yes or no for 3 gradients, got {len(needs)}")

    def check_levels(self) -> None:
        """Every level inside value, none over another: reads the numbers. Raises ValueError.

        Levels may lie apart; where they follow each other without a gap they must fill value.
        """
        pixels, shapes, starts = self.value.shape[1], self.shapes.tolist(), self.starts.tolist()
        if pixels >= 2**31:
            raise ValueError(f"value has {pixels} pixels an image: 2^31 or more are not supported")
        for level, ((height, width), start) in enumerate(zip(shapes, starts, strict=True)):
            # A level without pixels is one of nothing else: there is no value then.
            if height < 0 or width < 0 or (pixels and not height * width):
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


def _check_float(name: str, tensor: Tensor, device: torch.device) -> None:
    if tensor.dtype not in FLOATING:
        raise TypeError(f"{name} must be float32, float64, float16 or bfloat16, got {tensor.dtype}")
    _check_device(name, tensor, device)


def _check_device(name: str, tensor: Tensor, device: torch.device) -> None:
    if tensor.device != device:
        raise ValueError(f"{name} is on {tensor.device}, value on {device}")


def _check_shape(name: str, tensor: Tensor, shape: tuple[int, ...]) -> None:
    if tuple(tensor.shape) != shape:
        raise ValueError(f"{name} must be {tuple(shape)} to go with the others, got {tuple(tensor.shape)}")
