"""Batch statistics over the batches of all processes, and the gradient that goes through them.

Every process calls these together. The maths is in README.md.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from ops.processes import stacked, sum_over_processes


class Statistics(NamedTuple):
    """Of all processes' values together."""

    mean: Tensor
    """(C,), float32 unless the values are float64."""
    var: Tensor
    """(C,), biased."""
    total: Tensor
    """(), values a channel."""


def batch_statistics(x: Tensor) -> Statistics:
    """Of x (B, C, ...), whose B may differ between the processes, of which there are several."""
    values = x.detach() if x.dtype == torch.float64 else x.detach().float()
    var, mean = torch.var_mean(values, [0, *range(2, x.dim())], correction=0)
    count = mean.new_tensor([x.numel() // x.shape[1]])
    parts = stacked(torch.cat([mean, var, count]))
    means, variances, counts = parts[:, : len(mean)], parts[:, len(mean) : -1], parts[:, -1:]
    total = counts.sum()
    mean = (means * counts).sum(0) / total
    var = ((variances + (means - mean).square()) * counts).sum(0) / total
    return Statistics(mean, var, total)


@torch.no_grad()
def update_running(statistics: Statistics, mean: Tensor, var: Tensor, momentum: float) -> None:
    """Move the running statistics (C,) in place, the variance unbiased."""
    count = statistics.total
    mean.lerp_(statistics.mean.to(mean), momentum)
    var.lerp_((statistics.var * (count / (count - 1))).to(var), momentum)


def through_statistics(
    grad_x: Tensor,
    normalised: tuple[Tensor, Tensor, Tensor],
    slope: Tensor,
    sums: tuple[Tensor, Tensor],
    count: Tensor,
) -> Tensor:
    """slope · (dz − Σdz/n − x̂ · Σdz·x̂/n), from slope · dz, which is overwritten; the sums over all processes.

    Args:
        grad_x: slope · dz (B, C, ...).
        normalised: v (B, C, ...), shift (C,) and factor (C,) with x̂ = (v − shift) · factor.
        slope: (C,) derivative of z by x with the statistics held.
        sums: Σdz and Σdz·x̂ of this process, each (C,).
        count: n.
    """
    values, shift, factor = normalised
    grad_sum, product_sum = sum_over_processes([total / count for total in sums])
    per_channel = [1, -1] + [1] * (values.dim() - 2)
    of_value = -slope * product_sum * factor
    constant = -slope * grad_sum - of_value * shift
    grad_x.addcmul_(values, of_value.to(grad_x.dtype).view(per_channel))
    return grad_x.add_(constant.to(grad_x.dtype).view(per_channel))


def synchronised_batch_norm(
    x: Tensor,
    weight: Tensor,
    bias: Tensor,
    running_mean: Tensor,
    running_var: Tensor,
    momentum: float,
    eps: float,
) -> Tensor:
    """Plain batch normalisation of x (B, C, ...) in training: (x − μ) / √(σ² + ε) · γ + β.

    `torch.nn.SyncBatchNorm`, which knows GPUs alone, on every device. Differentiable once.
    """
    y: Tensor = _BatchNorm.apply(x, weight, bias, running_mean, running_var, momentum, eps)
    return y


class _BatchNorm(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        weight: Tensor,
        bias: Tensor,
        running_mean: Tensor,
        running_var: Tensor,
        momentum: float,
        eps: float,
    ) -> Tensor:
        found = batch_statistics(x)
        update_running(found, running_mean, running_var, momentum)
        y, _, _ = torch.native_batch_norm(x, weight, bias, found.mean, found.var, False, 0.0, eps)
        ctx.eps = eps
        ctx.save_for_backward(x, weight, *found)
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_y: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, mean, var, count = ctx.saved_tensors
        inv_std = (var + ctx.eps).rsqrt()
        grad_x, grad_weight, grad_bias = torch.ops.aten.native_batch_norm_backward(
            grad_y, x, weight, mean, var, None, None, False, ctx.eps, [True, True, True]
        )
        sums = grad_bias, grad_weight
        grad_x = through_statistics(grad_x, (x, mean, inv_std), weight * inv_std, sums, count)
        return grad_x, grad_weight, grad_bias, None, None, None, None
