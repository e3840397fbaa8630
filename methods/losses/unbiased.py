"""MiB's loss of a later step, on which EWF and SDR build."""

from torch import Tensor

from methods.losses.distillation import knowledge_distillation, unbiased_distillation
from methods.losses.segmentation import cross_entropy, unbiased_cross_entropy


def unbiased_losses(
    logits: Tensor,
    old_logits: Tensor,
    labels: Tensor,
    kd_weight: float,
    kd_alpha: float = 1.0,
    has_background_shift: bool = True,
) -> dict[str, Tensor]:
    """Unbiased cross-entropy and `kd_weight` times the unbiased distillation: two named scalars.

    logits (B, K, H, W), old_logits (B, O, H, W), labels (B, H, W); see the two functions. Where no
    class is new, or none is the background, both are plain, as in PLOP's "MiB" rows on Cityscapes
    (arthurdouillard/CVPR2021_PLOP issues 11 and 24).
    Source: MiB paper section 3.2; train.py@Trainer.train.
    """
    if not has_background_shift:
        return {
            "cross_entropy": cross_entropy(logits, labels),
            "distillation": kd_weight * knowledge_distillation(logits, old_logits, kd_alpha),
        }
    return {
        "unbiased_cross_entropy": unbiased_cross_entropy(logits, labels, old_logits.shape[1]),
        "unbiased_distillation": kd_weight * unbiased_distillation(logits, old_logits, kd_alpha),
    }
