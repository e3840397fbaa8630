"""The class head that grows: one linear layer a step."""

from __future__ import annotations

from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class GrowingClassHead(nn.ModuleList):
    """(..., C) -> (..., K + 1) logits, classes in the order of the steps, "no object" (∅) always last.

    The first layer has the classes of the first step and ∅, later ones the classes of theirs; all start
    from torch's default. Source: BalConpas, mask2former_transformer_decoder.py, `class_embeds`.
    """

    def __init__(self, width: int, num_classes: int) -> None:
        super().__init__([nn.Linear(width, _positive(num_classes) + 1)])

    @property
    def steps(self) -> list[nn.Linear]:
        return cast(list[nn.Linear], list(self))

    @property
    def num_classes(self) -> int:
        """Without ∅."""
        return sum(layer.out_features for layer in self.steps) - 1

    def grow(self, num_classes: int) -> None:
        """Appends a step with `num_classes` randomly initialised classes; ValueError if there are none."""
        first = self.steps[0]
        self.append(nn.Linear(first.in_features, _positive(num_classes)).to(first.weight))

    def forward(self, x: Tensor) -> Tensor:
        first, *later = self.steps
        # One product for all steps: ten small ones take several times as long.
        weight = torch.cat([first.weight[:-1], *(layer.weight for layer in later), first.weight[-1:]])
        bias = torch.cat([first.bias[:-1], *(layer.bias for layer in later), first.bias[-1:]])
        return F.linear(x, weight, bias)


def _positive(num_classes: int) -> int:
    if num_classes < 1:
        raise ValueError(f"a step needs at least one class, got {num_classes}")
    return num_classes
