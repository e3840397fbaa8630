"""The attention layer around the operator, with the official parameter names and initial values."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from ops.ms_deform_attn import naive
from ops.ms_deform_attn.arguments import Shapes, as_shapes
from ops.ms_deform_attn.op import ms_deform_attn, ms_deform_attn_offsets


class MSDeformAttn(nn.Module):
    """Projections of value, offsets and weights, the operator, and the projection of its result.

    With `fused` (the default) softmax and location arithmetic happen inside the operator: equal to the
    official module up to rounding. Without, it is the official module step by step.
    Raises ValueError where `d_model` is not a multiple of `n_heads`.
    Source: Mask2Former, modeling/pixel_decoder/ops/modules/ms_deform_attn.py.
    """

    def __init__(
        self, d_model: int = 256, n_levels: int = 4, n_heads: int = 8, n_points: int = 4, fused: bool = True
    ) -> None:
        super().__init__()
        if d_model % n_heads:
            raise ValueError(f"d_model must be a multiple of n_heads, got {d_model} and {n_heads}")
        self.d_model, self.n_levels, self.n_heads, self.n_points = d_model, n_levels, n_heads, n_points
        self.fused = fused
        self.sampling_offsets = nn.Linear(d_model, n_heads * n_levels * n_points * 2)
        self.attention_weights = nn.Linear(d_model, n_heads * n_levels * n_points)
        self.value_proj = nn.Linear(d_model, d_model)
        self.output_proj = nn.Linear(d_model, d_model)
        self._reset_parameters()

    def _reset_parameters(self) -> None:
        nn.init.zeros_(self.sampling_offsets.weight)
        angles = torch.arange(self.n_heads, dtype=torch.float32) * (2.0 * math.pi / self.n_heads)
        ring = torch.stack([angles.cos(), angles.sin()], -1)
        ring = ring / ring.abs().max(-1, keepdim=True)[0]
        steps = torch.arange(1, self.n_points + 1, dtype=torch.float32)
        # The k-th point lies k pixels out in its head's direction.
        offsets = ring[:, None, None] * steps[:, None]
        with torch.no_grad():
            self.sampling_offsets.bias.copy_(offsets.expand(-1, self.n_levels, -1, -1).reshape(-1))
        nn.init.zeros_(self.attention_weights.weight)
        nn.init.zeros_(self.attention_weights.bias)
        for projection in (self.value_proj, self.output_proj):
            nn.init.xavier_uniform_(projection.weight)
            nn.init.zeros_(projection.bias)

    def forward(
        self,
        query: Tensor,
        reference_points: Tensor,
        input_flatten: Tensor,
        input_spatial_shapes: Shapes,
        input_level_start_index: Tensor,
        input_padding_mask: Tensor | None = None,
    ) -> Tensor:
        """query (N, Q, C); reference_points (N, Q, L, 2 or 4) in 0..1; input_flatten (N, S, C);
        input_padding_mask (N, S) bool, true where value is 0. Result (N, Q, C). Raises as the operator does.
        """
        images, queries, _ = query.shape
        value = self.value_proj(input_flatten)
        if input_padding_mask is not None:
            value = value.masked_fill(input_padding_mask[..., None], 0.0)
        value = value.unflatten(-1, (self.n_heads, self.d_model // self.n_heads))
        points = (images, queries, self.n_heads, self.n_levels, self.n_points)
        offsets = self.sampling_offsets(query).view(*points, 2)
        logits = self.attention_weights(query).view(points)
        shapes = as_shapes(input_spatial_shapes, value.device)
        if self.fused:
            out = ms_deform_attn_offsets(
                value, shapes, input_level_start_index, reference_points, offsets, logits
            )
        else:
            locations = naive.locations_of(reference_points, offsets, shapes)
            weights = naive.weights_of(logits)
            out = ms_deform_attn(value, shapes, input_level_start_index, locations, weights)
        return self.output_proj(out)
