"""Gradients of several processes as those of one batch."""

from __future__ import annotations

import torch
from torch import nn

from benchmarks.gradients import average_gradients, mean_losses
from tests.pair import Pair


def averaged() -> list[object]:
    """Of four parameters: every process has a gradient, the second one alone, none, every one transposed."""
    rank = torch.distributed.get_rank()
    parameters = [nn.Parameter(torch.zeros(2, 3)) for _ in range(4)]
    parameters[0].grad = torch.full((2, 3), 4.0 + rank)
    if rank:
        parameters[1].grad = torch.ones(2, 3)
    parameters[3].grad = (torch.arange(6.0).view(3, 2) * (1 + rank)).T
    average_gradients(parameters, parts=4)
    return [None if p.grad is None else p.grad.tolist() for p in parameters]


def test_a_parameter_that_no_process_reaches_keeps_no_gradient(pair: Pair) -> None:
    """So that neither momentum nor weight decay move it; in two passes each, hence four parts."""
    transposed = (torch.arange(6.0).view(3, 2).T * 3 / 4).tolist()
    expected = [[[2.25] * 3] * 2, [[0.25] * 3] * 2, None, transposed]
    assert pair.call(averaged) == [expected, expected]


def losses(value: float) -> dict[str, float]:
    rank = torch.distributed.get_rank()
    return mean_losses({"a": torch.tensor(1.0 + rank), "b": torch.tensor(value if rank else 2.0)})


def test_losses_that_one_process_has_not_finite_are_not_finite_in_all(pair: Pair) -> None:
    assert pair.call(losses, 4.0) == [{"a": 1.5, "b": 3.0}] * 2
    for found in pair.call(losses, float("inf")):
        assert found == {"a": 1.5, "b": float("inf")}
