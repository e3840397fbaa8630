"""Naive pseudo-labels: where the old network is sure, its classes stand in for the background label."""

from dataclasses import dataclass

import torch
from torch import Tensor

from methods.deeplab import DeepLabMethod
from methods.losses.segmentation import cross_entropy
from methods.method import Info
from protocols.loading import Batch
from protocols.protocol import BACKGROUND


class PseudoLabels(DeepLabMethod):
    key = "pseudo-labels"
    info = Info("Pseudo-labels", provenance="example")
    keeps_teacher = True
    background_initialisation = True

    @dataclass(frozen=True)
    class Hyperparameters:
        threshold: float = 0.7
        """Probability from which the old network is believed, 0..1. Our choice."""

    hyperparameters: Hyperparameters

    def later_loss(self, batch: Batch) -> dict[str, Tensor]:
        labels = self._completed(batch)
        return {"cross_entropy": cross_entropy(self.network(batch.images).logits, labels)}

    def _completed(self, batch: Batch) -> Tensor:
        """The batch's labels (B, H, W) with old classes filled in."""
        probabilities, classes = self.teacher_output(batch.images).logits.softmax(dim=1).max(dim=1)
        sure = probabilities > self.hyperparameters.threshold
        return torch.where((batch.labels == BACKGROUND) & sure, classes, batch.labels)
