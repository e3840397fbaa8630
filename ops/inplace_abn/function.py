"""Activated batch normalisation whose backward needs the output alone. The maths is in README.md."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from ops.inplace_abn.synchronised import batch_statistics, through_statistics, update_running
from ops.processes import num_processes

ACTIVATIONS = ("leaky_relu", "identity")


def negative_slope(activation: str, activation_param: float) -> float:
    """The slope left of zero that stands for `activation`; 1 is the identity.

    Raises ValueError for an unknown activation, and for a slope that cannot be inverted (≤ 0).
    """
    if activation not in ACTIVATIONS:
        raise ValueError(f"unknown activation {activation!r}: choose one of {', '.join(ACTIVATIONS)}")
    if activation == "identity":
        return 1.0
    if not activation_param > 0:
        raise ValueError(f"activation_param is {activation_param}: leaky ReLU is inverted, so it must be > 0")
    return activation_param


def inplace_abn(
    x: Tensor,
    weight: Tensor,
    bias: Tensor,
    running_mean: Tensor,
    running_var: Tensor,
    training: bool,
    momentum: float = 0.1,
    eps: float = 1e-5,
    activation: str = "leaky_relu",
    activation_param: float = 0.01,
) -> Tensor:
    """y = act((x − μ) / √(σ² + ε) · (|γ| + ε) + β); keeps y and vectors for backward, never x.

    x: (B, C, ...) floating; the result has its shape, dtype and memory format, and x is left as it was.
    weight (γ), bias (β), running_mean, running_var: (C,). With `training` the statistics are the batch's
    (biased variance), of all processes together, and the running ones move by `momentum` in place, the
    variance unbiased.
    Differentiable once, with respect to x, weight and bias, in both modes.
    Raises ValueError where `training` finds one value a channel, and for what `negative_slope` refuses.
    Source: mapillary/inplace_abn 1.1.0, inplace_abn/functions.py@inplace_abn, @inplace_abn_sync.
    """
    slope = negative_slope(activation, activation_param)
    if training and num_processes() == 1 and x.numel() == x.shape[1]:
        raise ValueError(
            f"batch statistics need more than one value a channel, got {tuple(x.shape)}: raise the batch size"
        )
    y: Tensor = _InPlaceABN.apply(x, weight, bias, running_mean, running_var, training, momentum, eps, slope)
    return y


class _InPlaceABN(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        weight: Tensor,
        bias: Tensor,
        running_mean: Tensor,
        running_var: Tensor,
        training: bool,
        momentum: float,
        eps: float,
        slope: float,
    ) -> Tensor:
        scale = weight.abs() + eps
        ctx.count = None
        if training and num_processes() > 1:
            found = batch_statistics(x)
            update_running(found, running_mean, running_var, momentum)
            ctx.count = found.total
            running_mean, running_var, training = found.mean.to(scale), found.var.to(scale), False
        y, _, inv_std = torch.native_batch_norm(
            x, scale, bias, running_mean, running_var, training, momentum, eps
        )
        if not training:
            inv_std = (running_var + eps).rsqrt()
        training = training or ctx.count is not None
        if slope != 1.0:
            F.leaky_relu_(y, slope)

        ctx.training, ctx.eps, ctx.slope = training, eps, slope
        # Frozen and linear: the gradient is one factor a channel, no map is needed at all.
        ctx.needs_output = training or slope != 1.0 or any(ctx.needs_input_grad[1:3])
        ctx.save_for_backward(y if ctx.needs_output else None, weight, bias, inv_std)
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_y: Tensor) -> tuple[Tensor | None, ...]:
        y, weight, bias, inv_std = ctx.saved_tensors
        scale = weight.abs() + ctx.eps
        grad_z = grad_y
        if ctx.slope != 1.0:
            grad_z = torch.ops.aten.leaky_relu_backward(grad_y, y, ctx.slope, True)

        wanted = list(ctx.needs_input_grad[:3])
        if not ctx.training and not any(wanted[1:]):
            factor = (scale * inv_std).to(grad_z.dtype).view(1, -1, *[1] * (grad_z.dim() - 2))
            return (grad_z * factor, *[None] * 8)

        z = y if ctx.slope == 1.0 else F.leaky_relu(y, 1.0 / ctx.slope)
        scale, shift = scale.to(inv_std.dtype), bias.to(inv_std.dtype)
        shared = ctx.count is not None
        grad_x, grad_scale, grad_bias = _batch_norm_backward(
            grad_z,
            z,
            scale,
            shift,
            inv_std,
            ctx.training and not shared,
            [wanted[0], True, True] if shared else wanted,
        )
        if shared and wanted[0]:
            normalised, sums = (z, shift, scale.reciprocal()), (grad_bias, grad_scale)
            grad_x = through_statistics(grad_x, normalised, scale * inv_std, sums, ctx.count)
        grad_weight = torch.where(weight < 0, -grad_scale, grad_scale) if wanted[1] else None
        return (grad_x, grad_weight, grad_bias if wanted[2] else None, *[None] * 6)


def _batch_norm_backward(
    grad_z: Tensor,
    z: Tensor,
    scale: Tensor,
    shift: Tensor,
    inv_std: Tensor,
    training: bool,
    wanted: list[bool],
) -> tuple[Tensor, Tensor, Tensor]:
    """torch's fused backward, told that z is its input: mean β and deviation |γ|+ε turn z back into x̂.

    It multiplies by its own inverse deviation 1/(|γ|+ε) at the end, where (|γ|+ε)/√(σ²+ε) is due; its weight
    makes up for that.
    """
    weight = scale.square() * inv_std
    running_mean, running_var = (None, None) if training else (shift, scale.square())
    save_mean, save_inv_std = (shift, scale.reciprocal()) if training else (None, None)
    return torch.ops.aten.native_batch_norm_backward(
        grad_z, z, weight, running_mean, running_var, save_mean, save_inv_std, training, 0.0, wanted
    )
