"""SimCIS's memory of queries: features of earlier classes that are shown to the classifier again.

Source: SimCIS section 3.4; maskformer_model.py@MaskFormer.forward ("store fake query"),
mask2former_transformer_decoder.py@MultiScaleMaskedTransformerDecoder.forward ("get fake query").
"""

from __future__ import annotations

import torch
from torch import Tensor


class QueryBank:
    """The last `capacity` query features of each class; randomness comes from torch's CPU generator."""

    def __init__(self, num_classes: int, capacity: int, channels: int) -> None:
        self.features = torch.zeros(num_classes, capacity, channels)
        """float32 (K, L, C); only the first `filled()[k]` of class k mean anything."""
        self.added = torch.zeros(num_classes, dtype=torch.int64)
        """(K,) how many were ever added; the next one goes to this place, modulo the capacity."""

    def add(self, classes: Tensor, features: Tensor) -> None:
        """Store features (N, C) under their classes, int64 (N,), in order; the oldest of a class give way."""
        classes, order = classes.cpu().sort(stable=True)
        features = features.detach().float().cpu()[order]
        counts = torch.bincount(classes, minlength=len(self.added))
        rank = torch.arange(len(classes)) - (counts.cumsum(0) - counts)[classes]
        capacity = self.features.shape[1]
        kept = rank >= counts[classes] - capacity  # more of one class than it holds: the last ones stay
        place = (self.added[classes] + rank) % capacity
        self.features[classes[kept], place[kept]] = features[kept]
        self.added += counts

    def filled(self) -> Tensor:
        """int64 (K,): how many features of each class there are."""
        return self.added.clamp(max=self.features.shape[1])

    def draw(self, weights: Tensor, number: int) -> tuple[Tensor, Tensor]:
        """Classes int64 (number,) by `weights` (O,), and one stored feature of each, float32 (number, C).

        Classes of which nothing is stored are left out, where the official code fails; if that leaves none,
        both results are empty.
        """
        filled = self.filled()[: len(weights)]
        weights = weights.cpu() * (filled > 0)
        if not weights.any():
            return self.added.new_zeros(0), self.features.new_zeros(0, self.features.shape[2])
        classes = torch.multinomial(weights, number, replacement=True)
        places = (torch.rand(number) * filled[classes]).long()
        return classes, self.features[classes, places]

    def tensors(self) -> dict[str, Tensor]:
        """What a later step, or the same step after a kill, needs."""
        return {"features": self.features, "added": self.added}

    def restore(self, tensors: dict[str, Tensor]) -> None:
        """Undo `tensors`. Raises RuntimeError for another shape."""
        self.features.copy_(tensors["features"])
        self.added.copy_(tensors["added"])


def sampling_weights(counts: Tensor, alpha: float) -> Tensor:
    """How often each old class is drawn: (Σ(σ + 1) / (σ + 1))^α for its σ pseudo-labels, (O,) -> (O,).

    Rare classes are drawn more often. The paper (equation 9) has no + 1 and always α = 1/2.
    Source: mask2former_transformer_decoder.py@MultiScaleMaskedTransformerDecoder.__init__, `psd_dis`.
    """
    smoothed = counts.double() + 1
    return ((smoothed.sum() / smoothed) ** alpha).float()
