"""Penalties on moving important parameters, and the statistics of a training that say which are important."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable


def fisher_average(fisher: Tensor, gradient: Tensor, alpha: float) -> Tensor:
    """α·g² + (1 − α)·F: one iteration of the moving average of the Fisher matrix's diagonal; any shape.

    Source: MiB utils/regularizer.py@EWC.update, @RW.update.
    """
    return alpha * gradient.square() + (1 - alpha) * fisher


def path_integral(gradient: Tensor, previous: Tensor, parameter: Tensor) -> Tensor:
    """g·(θ' − θ): by how much the loss fell on the way from θ' to θ, elementwise.

    The gradient is that at the end of the way. Source: MiB utils/regularizer.py@PI.update.
    """
    return gradient * (previous - parameter)


def path_importance(path: Tensor, start: Tensor, parameter: Tensor) -> Tensor:
    """max(Δ / (θ − θ₀)², 0): the whole path integral of a step by the squared distance it led to.

    Source: MiB utils/regularizer.py@PI.get; its 1e-20 is the damping ξ of the PI paper.
    """
    return (path / ((parameter - start).square() + 1e-20)).clamp(min=0)


def riemannian_score(gradient: Tensor, previous: Tensor, parameter: Tensor, fisher: Tensor) -> Tensor:
    """g·(θ' − θ) / (½·F·(θ − θ')² + 1e-8): the path integral by the distance in distributions, elementwise.

    Source: MiB utils/regularizer.py@RW.update.
    """
    distance = 0.5 * fisher * (parameter - previous).square()
    return path_integral(gradient, previous, parameter) / (distance + 1e-8)


def min_max_normalised(importance: Tensor) -> Tensor:
    """The tensor shifted and scaled into 0..1; all 0 where its elements are equal.

    Source: MiB utils/regularizer.py@normalize_fn, applied to each parameter by itself.
    """
    least, most = importance.aminmax()
    return (importance - least) / (most - least + 1e-8)


def quadratic_penalty(
    parameters: Mapping[str, Tensor], anchors: Mapping[str, Tensor], importance: Mapping[str, Tensor]
) -> Tensor:
    """Σ Ω·(θ − θ*)² over all elements of the parameters that `importance` names: a scalar.

    Without the ½ of the EWC paper, as in MiB utils/regularizer.py@EWC.penalty.
    """
    return torch.stack(
        [(omega * (parameters[name] - anchors[name]).square()).sum() for name, omega in importance.items()]
    ).sum()


def carry_gradients(value: Tensor, parameters: Sequence[Tensor], gradients: Sequence[Tensor]) -> Tensor:
    """A scalar equal to `value` whose backward gives the parameters these gradients, times its own; once.

    For whoever needs a loss's gradients before the training loop asks for them: the network is
    differentiated one time only.
    """
    carried: Tensor = _CarriedGradients.apply(value.detach(), *parameters, *gradients)
    return carried


class _CarriedGradients(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, value: Tensor, *parameters_and_gradients: Tensor) -> Tensor:
        ctx.save_for_backward(*parameters_and_gradients[len(parameters_and_gradients) // 2 :])
        return value.clone()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, factor: Tensor) -> tuple[Tensor | None, ...]:
        gradients = ctx.saved_tensors
        return None, *(factor * gradient for gradient in gradients), *[None] * len(gradients)
