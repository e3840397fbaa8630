"""Distillation of the old network's class probabilities, averaged over all pixels, ignored ones included."""

import torch
import torch.nn.functional as F
from torch import Tensor

from methods.losses.segmentation import label_logits, sigmoid_entropy


def knowledge_distillation(
    logits: Tensor, old_logits: Tensor, alpha: float = 1.0, mask: Tensor | None = None
) -> Tensor:
    """Soft cross-entropy between the old network and the new one's old channels alone: a scalar.

    logits (B, K, H, W); old_logits (B, O, H, W), O ≤ K, multiplied by `alpha` before their softmax; `mask`
    (B, H, W) multiplies the loss of each pixel, the mean staying over all. The sum over
    classes is divided by O.
    Raises ValueError for shapes that do not go together.
    Source: MiB utils/loss.py@KnowledgeDistillationLoss (LwF, ILT).
    """
    _check(logits, old_logits)
    return _soft_cross_entropy(logits[:, : old_logits.shape[1]], old_logits, alpha, mask)


def unbiased_distillation(
    logits: Tensor, old_logits: Tensor, alpha: float = 1.0, mask: Tensor | None = None
) -> Tensor:
    """Distillation in which the old background may have become one of the new classes: a scalar.

    The probabilities of channel 0 and of the new channels O..K-1 are summed before they are compared with the
    old background's; all else as in `knowledge_distillation`, which this is for K = O.
    Source: MiB paper section 3.2, equations 7 and 8; utils/loss.py@UnbiasedKnowledgeDistillationLoss.
    """
    _check(logits, old_logits)
    num_old = old_logits.shape[1]
    background = torch.cat([logits[:, :1], logits[:, num_old:]], dim=1).logsumexp(dim=1, keepdim=True)
    return _soft_cross_entropy(torch.cat([background, logits[:, 1:num_old]], dim=1), old_logits, alpha, mask)


def sigmoid_distillation(logits: Tensor, old_logits: Tensor) -> Tensor:
    """Binary cross-entropy of the old channels against the old sigmoids, summed over channels: a scalar.

    logits (B, K, H, W); old_logits (B, O, H, W), O ≤ K, else ValueError. The mean is over all pixels.
    Source: LwF-MC, MiB train.py@Trainer.train, `n_cl_old * licarl(...)`; PLOP utils/loss.py@BCESigmoid is
    this divided by O.
    """
    _check(logits, old_logits)
    old = logits[:, : old_logits.shape[1]]
    return (sigmoid_entropy(old) - (old * old_logits.sigmoid()).sum(dim=1)).mean()


def sigmoid_cross_entropy_with_old_targets(
    logits: Tensor, labels: Tensor, old_logits: Tensor, keep_background: bool = False
) -> Tensor:
    """Binary cross-entropy summed over channels: old ones follow the old sigmoids, new ones the labels.

    Shapes as in `sigmoid_distillation`, labels (B, H, W) as in `binary_cross_entropy`; but here an ignored
    pixel counts, with targets of 0 in the new channels. With `keep_background` channel 0 follows the labels.
    Source: MiB utils/loss.py@IcarlLoss (`--icarl_disjoint`, `--icarl_bkg`).
    """
    _check(logits, old_logits)
    num_old, first = old_logits.shape[1], int(keep_background)
    distilled = (logits[:, first:num_old] * old_logits[:, first:].sigmoid()).sum(dim=1)
    labelled = labels >= num_old
    if keep_background:
        labelled |= labels == 0
    return (sigmoid_entropy(logits) - distilled - label_logits(logits, labels) * labelled).mean()


def _soft_cross_entropy(logits: Tensor, old_logits: Tensor, alpha: float, mask: Tensor | None) -> Tensor:
    num_old = old_logits.shape[1]
    targets = (old_logits if alpha == 1.0 else old_logits * alpha).softmax(dim=1)
    if mask is None:
        return F.cross_entropy(logits, targets) / num_old
    per_pixel = F.cross_entropy(logits, targets, reduction="none")
    return (per_pixel * mask).mean() / num_old


def _check(logits: Tensor, old_logits: Tensor) -> None:
    new, old = logits.shape, old_logits.shape
    if (new[0], *new[2:]) != (old[0], *old[2:]) or not 1 <= old[1] <= new[1]:
        raise ValueError(f"old logits {tuple(old)} do not go with logits {tuple(new)}")
