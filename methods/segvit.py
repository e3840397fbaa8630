"""What the SegViT methods share: network, losses, prediction."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from methods.losses.attention_to_mask import classes_shown, mask_losses, presence_loss
from methods.method import Method, split_off
from methods.networks.segmenter import upsample
from methods.networks.segvit import HeadOutput, SegViT
from methods.networks.segvit.checkpoints import adapt_official_state, load_encoder_weights
from methods.networks.segvit.inference import slide
from methods.segvit_recipe import SCALES, SegViTRecipe
from protocols.loading import Batch, StepData
from protocols.protocol import IGNORE, Protocol, Step

TEACHERS = "teachers."
MASK_WEIGHT = 20.0
"""Of the focal loss; classes and dice have 1. SegViT `losses/atm_loss.py`."""


class SegViTMethod(Method):
    """A method on a plain vision transformer whose heads have one query a class.

    The first step is SegViT's own training for all of them. The network has no background class: class c of
    all its heads together is channel c + 1 where the protocol has a background, else channel c.
    """

    first_step: ClassVar[str] = "segvit attention to mask"
    family = "segvit"
    carried = (TEACHERS,)
    network_name = "SegViT"
    tests_whole_images = True

    recipe: SegViTRecipe
    network: SegViT

    def __init__(self, hyperparameters: Any, recipe: SegViTRecipe) -> None:
        super().__init__(hyperparameters, recipe)
        self.teachers = nn.ModuleList()
        """Frozen heads that a method keeps from earlier steps; part of its tensors."""
        self.check()

    def check(self) -> None:
        """Raises ValueError where hyperparameters and recipe do not go together."""

    @classmethod
    def default_recipe(cls, protocol: Protocol, scale: str) -> SegViTRecipe:
        return SCALES[scale](protocol)

    def build(self, protocol: Protocol) -> None:
        self.protocol = protocol
        self.network = SegViT(self.recipe.network(), len(protocol.steps[0].classes))
        self.pixel_statistics = self.network.encoder.config.statistics
        if self.recipe.weights:
            load_encoder_weights(self.network.encoder, self.recipe.weights)

    def begin_step(self, step: Step, data: StepData) -> None:
        self.step = step
        if step.index:
            self.begin_later_step(step)

    def begin_later_step(self, step: Step) -> None:
        """Add the step's classes, and freeze what shall not change.

        Without an override the only head gets further tokens and everything goes on learning.
        """
        if not self.protocol.is_domain_incremental:
            self.network.newest.grow(len(step.classes))

    def first_step_loss(self, batch: Batch) -> dict[str, Tensor]:
        output = self.network(batch.images)
        return self.losses(output, self.class_numbers(batch.labels))

    @property
    def num_old_classes(self) -> int:
        """Classes that the network has from earlier steps."""
        return 0 if self.protocol.is_domain_incremental else len(self.step.old_classes)

    def class_numbers(self, labels: Tensor, num_old: int = 0) -> Tensor:
        """Channel indices (B, H, W) -> numbers of classes, 255 for the background.

        They count from the class `num_old` on; those before it become 255 too.
        """
        first = int(self.protocol.background) + num_old
        return torch.where((labels >= first) & (labels != IGNORE), labels - first, IGNORE)

    def losses(self, output: HeadOutput, labels: Tensor) -> dict[str, Tensor]:
        """Presence, focal and dice loss of all predictions, weighted and summed over them."""
        shown = classes_shown(labels, output.masks.shape[2])
        focal, dice = mask_losses(output.masks, labels, shown)
        return {
            "presence": presence_loss(output.logits, shown).sum(),
            "mask": MASK_WEIGHT * focal.sum(),
            "dice": dice.sum(),
        }

    def predict_image(self, image: Tensor, size: tuple[int, int]) -> Tensor:
        recipe = self.recipe
        scores = slide(self.network.scores, image, recipe.test_window, recipe.test_stride)
        return upsample(scores, *size)[0].argmax(dim=0) + int(self.protocol.background)

    def grow_to(self, step: Step) -> None:
        for earlier in self.protocol.steps[1 : step.index + 1]:
            if self.network.num_classes < len(earlier.old_classes) + len(earlier.classes):
                self.begin_later_step(earlier)

    def official_tensors(self, step: Step, state: dict[str, Tensor]) -> dict[str, Tensor]:
        """`state_dict` of a checkpoint of SegViT, plain or shrunk, or of CIT."""
        return adapt_official_state(self.network, state)

    def restore(self, step: Step, tensors: dict[str, Tensor]) -> None:
        self.step = step
        self.grow_to(step)
        network, kept = split_off(tensors, TEACHERS)
        self.teachers.load_state_dict(kept)
        self.network.load_state_dict(network)

    def tensors(self) -> dict[str, Tensor]:
        kept = {f"{TEACHERS}{name}": tensor for name, tensor in self.teachers.state_dict().items()}
        return {**super().tensors(), **kept}

    def parameter_groups(self, lr: float) -> list[dict[str, Any]]:
        """Slower encoder; no decay for its normalisation alone.

        Source: what mmcv makes of SegViT's `paramwise_cfg`, where "head" wins over "norm".
        """
        return self.slow_and_plain_groups(
            lr,
            "encoder",
            lambda name, module: name.startswith("encoder") and isinstance(module, nn.LayerNorm),
        )
