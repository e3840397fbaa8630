"""LwF-MC: "iCaRL", CVPR 2017, without its exemplars, one sigmoid a class, as in MiB."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

from torch import Tensor

from methods.deeplab import DeepLabMethod
from methods.deeplab_recipe import DeepLabRecipe
from methods.losses.distillation import sigmoid_cross_entropy_with_old_targets, sigmoid_distillation
from methods.losses.segmentation import binary_cross_entropy
from methods.method import Info
from protocols.loading import Batch
from protocols.protocol import Protocol


class LwFMC(DeepLabMethod):
    key = "lwf-mc"
    info = Info(
        "LwF-MC",
        venue="CVPR",
        year=2017,
        provenance="port of fcdl94/MiB@1c58983",
        url="https://arxiv.org/abs/1611.07725",
    )
    first_step = "deeplabv3 binary cross-entropy"
    keeps_teacher = True

    @dataclass(frozen=True)
    class Hyperparameters:
        distillation_weight: float = 10.0
        """Factor of the distillation loss: MiB `argparser.py@modify_command_options`, LWF-MC."""
        old_targets: str = "added"
        """ "added": the old network's sigmoids are a loss beside the labels', which say background for the
        old classes (MiB's default, combined). "replaced": they take the place of the labels in the old
        channels (`--icarl_disjoint`), "replaced-but-background": in all of them but channel 0
        (`--icarl_bkg`); then there is no factor."""

        def __post_init__(self) -> None:
            known = ("added", "replaced", "replaced-but-background")
            if self.old_targets not in known:
                raise ValueError(f"lwf-mc: old_targets {self.old_targets!r} is none of {known}")

    hyperparameters: Hyperparameters

    @classmethod
    def default_recipe(cls, protocol: Protocol, scale: str) -> DeepLabRecipe:
        recipe = super().default_recipe(protocol, scale)
        if scale == "paper":
            return recipe
        # The losses are sums over the channels, not one softmax: on 100 classes a third of the rate learns
        # twice as much.
        return dataclasses.replace(recipe, lr=recipe.lr / 3, later_lr=recipe.later_lr / 3)

    def first_step_loss(self, batch: Batch) -> dict[str, Tensor]:
        logits = self.network(batch.images).logits
        return {"binary_cross_entropy": binary_cross_entropy(logits, batch.labels)}

    def later_loss(self, batch: Batch) -> dict[str, Tensor]:
        old_logits = self.teacher_output(batch.images).logits
        logits = self.network(batch.images).logits
        choice = self.hyperparameters
        if choice.old_targets != "added":
            keep_background = choice.old_targets == "replaced-but-background"
            loss = sigmoid_cross_entropy_with_old_targets(logits, batch.labels, old_logits, keep_background)
            return {"binary_cross_entropy": loss}
        return {
            "binary_cross_entropy": binary_cross_entropy(logits, batch.labels),
            "distillation": choice.distillation_weight * sigmoid_distillation(logits, old_logits),
        }
