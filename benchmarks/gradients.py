"""Gradients and losses of several processes and passes, as those of one batch.

The network is not wrapped in `DistributedDataParallel`: methods call it with arguments of their own, some
differentiate it twice an iteration, freeze parts of it and add to it between steps. What is exchanged is the
same, after the last backward pass instead of during it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from ops.processes import num_processes, sum_over_processes


def average_gradients(parameters: Sequence[nn.Parameter], parts: int) -> None:
    """Divide the gradients, summed over passes already, and now over processes, by the number of both.

    A parameter that no process has a gradient of keeps none, so that the optimiser leaves it alone; where
    only some have one, the others' is zero.
    """
    if num_processes() > 1:
        parameters = _reached_somewhere(parameters)
        for parameter in parameters:
            if parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
        gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
        torch._foreach_copy_(gradients, sum_over_processes(gradients))
    gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
    if gradients:
        torch._foreach_mul_(gradients, 1 / parts)


def mean_losses(losses: Mapping[str, Tensor]) -> dict[str, float]:
    """Each named scalar, its mean over processes."""
    values = torch.stack([loss.detach().double() for loss in losses.values()])
    (sums,) = sum_over_processes([values])
    return {name: total / num_processes() for name, total in zip(losses, sums.tolist(), strict=True)}


def _reached_somewhere(parameters: Sequence[nn.Parameter]) -> list[nn.Parameter]:
    """Those that have a gradient in some process."""
    mine = torch.tensor([parameter.grad is not None for parameter in parameters], dtype=torch.int32)
    (found,) = sum_over_processes([mine])
    return [parameter for parameter, count in zip(parameters, found.tolist(), strict=True) if count]
