"""Distillation of what frozen heads say of their classes: present or not, and where.

S predictions, the last of which counts at test; B images, O old classes. Every loss is given for each
prediction, (S,). Source: CIT `segmenters/encoder_decoder_cl.py@EncoderDecoderCL.loss`.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from methods.networks.segmenter import upsample


def presence_distillation(logits: Tensor, old_logits: Tensor, temperature: float = 1.0) -> Tensor:
    """Mean binary cross-entropy of class logits (S, B, O, 2) against the σ of the old ones, "absent" too."""
    targets = (temperature * old_logits).sigmoid()
    return F.binary_cross_entropy_with_logits(logits, targets, reduction="none").mean((1, 2, 3))


def mask_distillation(masks: Tensor, old_masks: Tensor, labelled: Tensor, temperature: float = 1.0) -> Tensor:
    """Mean binary cross-entropy of mask logits (S, B, O, h, w) against the σ of the old ones.

    Both are resized to `labelled`, bool (B, H, W): there an old mask shall be empty. The last prediction's
    targets are resized before σ, the others' after it, as officially.
    """
    size = (labelled.shape[1], labelled.shape[2])
    losses = []
    for index, (new, old) in enumerate(zip(masks, old_masks, strict=True)):
        if index == len(masks) - 1:
            targets = (temperature * upsample(old, *size)).sigmoid()
        else:
            targets = upsample((temperature * old).sigmoid(), *size)
        targets = targets.masked_fill(labelled[:, None], 0.0)
        losses.append(F.binary_cross_entropy_with_logits(upsample(new, *size), targets))
    return torch.stack(losses)
