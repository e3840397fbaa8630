"""Classification losses of continual segmentation, averaged over all pixels, the ignored ones included."""

import torch
import torch.nn.functional as F
from torch import Tensor

IGNORE = 255


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
    return per_pixel.mean() if pixel_weights is None else (per_pixel * pixel_weights).mean()


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
