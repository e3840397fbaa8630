"""The definition of activated batch normalisation, in plain autograd: what every kernel is tested against."""

import torch
import torch.nn.functional as F
from torch import Tensor


def naive_abn(
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
    """y = act((x − μ) / √(σ² + ε) · (|γ| + ε) + β), with running statistics updated in place when training.

    Same arguments, shapes and result as `ops.inplace_abn.function.inplace_abn`.
    Source: mapillary/inplace_abn 1.1.0, functions.py@InPlaceABN and src/inplace_abn_cpu.cpp@forward_cpu.
    """
    per_channel = [1, -1] + [1] * (x.dim() - 2)
    mean, var = running_mean, running_var
    if training:
        axes = [0, *range(2, x.dim())]
        mean = x.mean(axes)
        var = (x - mean.view(per_channel)).square().mean(axes)
        count = x.numel() // x.shape[1]
        with torch.no_grad():
            running_mean.lerp_(mean, momentum)
            running_var.lerp_(var * count / (count - 1), momentum)

    # |γ| whose slope at γ = 0 is +1, as the official backward has it; `abs` would give 0 there.
    scale = torch.where(weight < 0, -weight, weight) + eps
    x_hat = (x - mean.view(per_channel)) / (var.view(per_channel) + eps).sqrt()
    z = x_hat * scale.view(per_channel) + bias.view(per_channel)
    return z if activation == "identity" else F.leaky_relu(z, activation_param)
