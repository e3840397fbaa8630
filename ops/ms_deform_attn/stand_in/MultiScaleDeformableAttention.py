"""Stands in for the compiled extension of this name: put this folder on PYTHONPATH, and the clone's root.

The official repositories (Deformable DETR, Mask2Former and those built on them) then run unchanged on our
kernels, CPU included. `im2col_step`, which only cuts the batch there, is accepted and ignored.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ops.ms_deform_attn import ms_deform_attn


def ms_deform_attn_forward(
    value: Tensor,
    value_spatial_shapes: Tensor,
    value_level_start_index: Tensor,
    sampling_locations: Tensor,
    attention_weights: Tensor,
    im2col_step: int = 64,
) -> Tensor:
    """(N, Q, M·D); shapes as in `ops.ms_deform_attn.op`."""
    return ms_deform_attn(
        value, value_spatial_shapes, value_level_start_index, sampling_locations, attention_weights
    )


def ms_deform_attn_backward(
    value: Tensor,
    value_spatial_shapes: Tensor,
    value_level_start_index: Tensor,
    sampling_locations: Tensor,
    attention_weights: Tensor,
    grad_output: Tensor,
    im2col_step: int = 64,
) -> list[Tensor]:
    """Gradients of value, locations and weights."""
    return list(
        torch.ops.contiseg.ms_deform_attn_backward(
            grad_output,
            [True, True, True],
            value,
            value_spatial_shapes,
            value_level_start_index,
            sampling_locations,
            attention_weights,
        )
    )
