"""What the DeepLabv3 methods share: network, growing classifier, teacher, prediction."""

from __future__ import annotations

import copy
import math
from typing import Any, ClassVar, cast

import torch
from torch import Tensor

from methods.deeplab_recipe import SCALES, DeepLabRecipe
from methods.losses.features import fold_new_channels
from methods.losses.segmentation import cross_entropy
from methods.method import Method
from methods.networks.backbones import Backbone, check_backbone, load_backbone_weights
from methods.networks.deeplab import HeadConfig
from methods.networks.norm import freeze_batch_norm
from methods.networks.segmenter import DeepLabV3, SegmenterOutput, build_deeplab
from protocols.loading import Batch, StepData
from protocols.protocol import Protocol, Step


class DeepLabMethod(Method):
    """A method on DeepLabv3 with one 1x1 classifier a step (MiB `modules/segmentation_module.py`).

    Subclasses write `later_loss`; the first step is plain cross-entropy for all of them.
    """

    first_step: ClassVar[str] = "deeplabv3 cross-entropy"
    family = "deeplabv3"
    network_name = "DeepLabv3"
    keeps_teacher: ClassVar[bool] = False
    """Whether the network after the previous step is kept, frozen, as `self.teacher`."""
    background_initialisation: ClassVar[bool] = False
    """Whether new classifiers start from the background's (MiB section 3.3)."""

    network: DeepLabV3
    teacher: DeepLabV3 | None = None
    num_old_channels: int = 0

    recipe: DeepLabRecipe

    def __init__(self, hyperparameters: Any, recipe: DeepLabRecipe) -> None:
        super().__init__(hyperparameters, recipe)
        check_backbone(recipe.backbone)

    @classmethod
    def default_recipe(cls, protocol: Protocol, scale: str) -> DeepLabRecipe:
        return SCALES[scale](protocol)

    def build(self, protocol: Protocol) -> None:
        recipe = self.recipe
        self.protocol = protocol
        head = HeadConfig(
            recipe.head_hidden_channels,
            recipe.head_channels,
            recipe.dilations,
            pooling_size=math.ceil(recipe.crop / recipe.output_stride),
        )
        self.network = self.make_network(head, len(protocol.channels(0)))
        body = cast(Backbone, self.network.body)
        self.pixel_statistics = body.pixel_mean, body.pixel_std
        if recipe.weights:
            load_backbone_weights(body, recipe.weights)
        if recipe.freeze_batch_norm:
            freeze_batch_norm(self.network.body)

    def make_network(self, head: HeadConfig, num_channels: int) -> DeepLabV3:
        """The network of the first step, randomly initialised."""
        return build_deeplab(self.recipe.backbone, [num_channels], self.recipe.output_stride, head)

    def begin_step(self, step: Step, data: StepData) -> None:
        self.step = step
        self.num_old_channels = self.protocol.num_old_channels(step.index)
        self.teacher = None
        if step.index == 0:
            return
        if self.keeps_teacher:
            # Copied before the background bias is lowered, as the official code loads it.
            self.teacher = copy.deepcopy(self.network).eval().requires_grad_(False)
        self._grow(step)
        self.begin_later_step(step, data)

    def begin_later_step(self, step: Step, data: StepData) -> None:
        """What a method prepares before each step after the first; the classifier has grown already."""

    def end_step(self, step: Step, data: StepData) -> None:
        if step.index > 0:
            self.end_later_step(step, data)

    def end_later_step(self, step: Step, data: StepData) -> None:
        """What a method does with the network trained in a step after the first."""

    def _grow(self, step: Step) -> None:
        if self.protocol.is_domain_incremental:
            return  # one classifier for all domains: PLOP `dataset/cityscapes_domain.py`
        self.network.cls.grow(len(step.classes))
        if self.background_initialisation and self.protocol.background:
            self.network.cls.init_from_background()

    def first_step_loss(self, batch: Batch) -> dict[str, Tensor]:
        return {"cross_entropy": cross_entropy(self.network(batch.images).logits, batch.labels)}

    @torch.no_grad()
    def teacher_output(self, images: Tensor, return_features: bool = False) -> SegmenterOutput:
        """What the network after the previous step says of the same augmented batch; O channels."""
        assert self.teacher is not None, "set keeps_teacher in the method's class"
        output: SegmenterOutput = self.teacher(images, return_features)
        return output

    def as_old_channels(self, logits: Tensor) -> Tensor:
        """(B, K, h, w) -> (B, O, h, w): new channels count as background; without one they are left out."""
        if self.protocol.background:
            return fold_new_channels(logits, self.num_old_channels)
        return logits[:, : self.num_old_channels]

    def predict(self, images: Tensor) -> Tensor:
        return self.network(images).logits.argmax(dim=1)

    def grow_to(self, step: Step) -> None:
        if not self.protocol.is_domain_incremental:
            for earlier in self.protocol.steps[len(self.network.cls) : step.index + 1]:
                self.network.cls.grow(len(earlier.classes))

    def official_tensors(self, step: Step, state: dict[str, Tensor]) -> dict[str, Tensor]:
        """`model_state` of MiB, PLOP and RCIL, whose names are ours."""
        return state

    def restore(self, step: Step, tensors: dict[str, Tensor]) -> None:
        self.grow_to(step)
        self.network.load_state_dict(tensors)

    def parameter_groups(self, lr: float) -> list[dict[str, Any]]:
        """Body, head and classifiers share learning rate and weight decay, normalisation and biases too."""
        body = [p for p in self.network.body.parameters() if p.requires_grad]
        rest = [
            p for p in (*self.network.head.parameters(), *self.network.cls.parameters()) if p.requires_grad
        ]
        return [
            {"params": body, "lr": lr * self.recipe.backbone_lr_factor},
            {"params": rest, "lr": lr},
        ]
