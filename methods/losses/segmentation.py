"""Classification losses of continual segmentation, averaged over all pixels, the ignored ones included."""

import torch
import torch.nn.functional as F
from torch import Tensor

from protocols.protocol import IGNORE


def cross_entropy(logits: Tensor, labels: Tensor, pixel_weights: Tensor | None = None) -> Tensor:
    """Softmax cross-entropy: a scalar, 0 where every label is 255.

    logits (B, K, H, W) floating; labels (B, H, W) integers in 0..K-1, or 255, which adds 0 to the sum and 1
    to the count. `pixel_weights` multiply the loss of each pixel before the mean (PLOP's ν): anything that
    broadcasts to (B, H, W). torch raises IndexError or RuntimeError for other labels or shapes.
    Source: MiB train.py@Trainer.train, CrossEntropyLoss(ignore_index=255, reduction="none") and then mean.
    """
    if pixel_weights is None and not torch.are_deterministic_algorithms_enabled():
        return F.cross_entropy(logits, labels.long(), ignore_index=IGNORE, reduction="sum") / labels.numel()
    # Per pixel: torch's summing kernel has no deterministic version on a GPU.
    per_pixel = F.cross_entropy(logits, labels.long(), ignore_index=IGNORE, reduction="none")
    return (per_pixel if pixel_weights is None else per_pixel * pixel_weights.to(per_pixel.dtype)).mean()


def unbiased_cross_entropy(logits: Tensor, labels: Tensor, num_old_channels: int) -> Tensor:
    """Cross-entropy in which "background" stands for any of the old classes: a scalar.

    Channels 0..O-1 (O = `num_old_channels`) are merged into one probability, which is the target of every
    label below O. Shapes, ignored pixels and the mean as in `cross_entropy`, which this is for O ≤ 1.
    Raises ValueError unless 0 ≤ O ≤ K.
    Source: MiB paper section 3.2, equations 5 and 6; utils/loss.py@UnbiasedCrossEntropy.
    """
    num_channels = logits.shape[1]
    if not 0 <= num_old_channels <= num_channels:
        raise ValueError(f"{num_old_channels} old channels among {num_channels}: must lie in between")
    if num_old_channels <= 1:
        return cross_entropy(logits, labels)
    old, new = logits.split([num_old_channels, num_channels - num_old_channels], dim=1)
    # The merged channel has the probability of its parts, and the softmax over (merged, new) is the paper's.
    merged = torch.cat([old.logsumexp(dim=1, keepdim=True), new], dim=1)
    shifted = (labels.long() - (num_old_channels - 1)).clamp(min=0)
    return cross_entropy(merged, shifted.masked_fill(labels == IGNORE, IGNORE))


def binary_cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """One sigmoid cross-entropy a channel, summed over channels: a scalar.

    Shapes, ignored pixels and the mean as in `cross_entropy`: an ignored pixel adds nothing in any channel.
    Source: LwF-MC, MiB utils/loss.py@BCEWithLogitsLossWithIgnoreIndex(reduction="none") and then mean.
    """
    return ((sigmoid_entropy(logits) - label_logits(logits, labels)) * (labels != IGNORE)).mean()


def sigmoid_entropy(logits: Tensor) -> Tensor:
    """(B, K, H, W) -> (B, H, W): the binary cross-entropy of all channels against targets of 0."""
    return -F.logsigmoid(-logits).sum(dim=1)


def label_logits(logits: Tensor, labels: Tensor) -> Tensor:
    """The logit (B, H, W) of each pixel's label; 0 where it is ignored."""
    ignored = labels == IGNORE
    chosen = logits.gather(1, labels.long().masked_fill(ignored, 0)[:, None])[:, 0]
    return chosen.masked_fill(ignored, 0.0)


def focal_cross_entropy(
    logits: Tensor, labels: Tensor, gamma: float = 2.0, first_focal_channel: int = 0
) -> Tensor:
    """Cross-entropy times (1 - p)^γ, p being the probability of the label: a scalar, for ablations.

    Labels below `first_focal_channel` keep the plain loss. Shapes, ignored pixels and the mean as in
    `cross_entropy`. Source: PLOP utils/loss.py@FocalLoss and, with a first channel, @FocalLossNew.
    """
    per_pixel = F.cross_entropy(logits, labels.long(), ignore_index=IGNORE, reduction="none")
    focus = (1 - (-per_pixel).exp()) ** gamma
    return torch.where(labels >= first_focal_channel, focus * per_pixel, per_pixel).mean()
