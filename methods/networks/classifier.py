"""The classifier that grows: one 1×1 convolution a step."""

from collections.abc import Sequence
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class IncrementalClassifier(nn.ModuleList):
    """(B, C, h, w) features -> (B, K, h, w) logits, channels in the order of the steps.

    Parameters are `{t}.weight` (K_t, C, 1, 1) and `{t}.bias` (K_t,), with torch's default
    initialisation, as in MiB segmentation_module.py@IncrementalSegmentationModule.
    """

    def __init__(self, in_channels: int, classes_per_step: Sequence[int]) -> None:
        """`classes_per_step`: one number or more, each positive; the first counts the background, if any."""
        super().__init__()
        self.in_channels = in_channels
        for num_classes in classes_per_step:
            self.grow(num_classes)
        if len(self) == 0:
            raise ValueError("a classifier needs the number of classes of at least one step")

    @property
    def steps(self) -> list[nn.Conv2d]:
        return cast(list[nn.Conv2d], list(self))

    @property
    def classes_per_step(self) -> list[int]:
        return [conv.out_channels for conv in self.steps]

    @property
    def num_classes(self) -> int:
        return sum(self.classes_per_step)

    def grow(self, num_classes: int) -> None:
        """Appends a step with `num_classes` randomly initialised channels; ValueError if there are none."""
        if num_classes < 1:
            raise ValueError(f"a step needs at least one class, got {num_classes}")
        conv = nn.Conv2d(self.in_channels, num_classes, 1)
        self.append(conv.to(self.steps[0].weight) if len(self) else conv)

    @torch.no_grad()
    def init_from_background(self, weights_only: bool = False) -> None:
        """Starts the N classes of the newest step as shares of the background, channel 0 of step 0.

        Their weights become w₀[0]; their biases, and b₀[0] itself, become b₀[0] − ln(N + 1). MiB
        section 3.3 and segmentation_module.py@init_new_classifier. `weights_only` leaves all biases:
        RCIL on VOC and ADE. Raises ValueError before the classifier has grown.
        """
        if len(self) < 2:
            raise ValueError("there is no new step to initialise: call grow() first")
        first, newest = self.steps[0], self.steps[-1]
        assert first.bias is not None and newest.bias is not None
        newest.weight.copy_(first.weight[:1].expand_as(newest.weight))
        if not weights_only:
            shared = first.bias[0] - torch.tensor(newest.out_channels + 1.0).log()
            newest.bias.copy_(shared)
            first.bias[0] = shared

    def forward(self, features: Tensor) -> Tensor:
        # One product for all steps: ten small ones take several times as long.
        weight = torch.cat([conv.weight for conv in self.steps])
        bias = torch.cat([cast(Tensor, conv.bias) for conv in self.steps])
        return F.conv2d(features, weight, bias)
