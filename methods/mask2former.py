"""What the methods on Mask2Former share, and those of them whose class head grows."""

from __future__ import annotations

import copy
from abc import abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from methods.losses.balanced_classification import balanced_class_loss
from methods.losses.matching import Matching, match, padded_size
from methods.losses.set_prediction import class_loss, mask_losses, num_masks, target_classes
from methods.mask2former_recipe import SCALES, Mask2FormerRecipe
from methods.method import Method
from methods.networks.backbones import load_backbone_weights
from methods.networks.mask2former.checkpoints import adapt_official_state
from methods.networks.mask2former.decoder import Mask2FormerOutput
from methods.networks.mask2former.inference import (
    confident_queries,
    instance_prediction,
    panoptic_prediction,
    resize_logits,
    semantic_scores,
)
from methods.networks.mask2former.network import Mask2Former, PixelNetwork
from methods.networks.norm import freeze_batch_norm
from methods.predictions import InstancePrediction, PanopticPrediction
from protocols.loading import Batch, StepData
from protocols.protocol import Protocol, Step
from protocols.segments import Segments, segments_of_labels

MASK_WEIGHT, DICE_WEIGHT = 5.0, 5.0
"""Of the costs and of the losses: Mask2Former `config.py@add_maskformer2_config` and its YAML files."""
NORMS = (nn.modules.batchnorm._BatchNorm, nn.GroupNorm, nn.LayerNorm)


class SetPredictionMethod(Method):
    """A method whose network finds a set of segments, each with its class.

    Subclasses make the network and write both losses and the prediction. The network has no background
    class: its class c is channel c + 1 where the protocol has a background, else channel c.
    """

    family = "mask2former"
    tests_whole_images = True
    keeps_teacher: ClassVar[bool] = False
    """Whether the network after the previous step is kept, frozen, as `self.teacher`."""

    recipe: Mask2FormerRecipe
    network: PixelNetwork
    teacher: PixelNetwork | None = None

    @classmethod
    def default_recipe(cls, protocol: Protocol, scale: str) -> Mask2FormerRecipe:
        return SCALES[scale](protocol)

    def build(self, protocol: Protocol) -> None:
        self.protocol = protocol
        self.network = self.make_network(protocol)
        backbone = self.network.backbone
        self.pixel_statistics = backbone.pixel_mean, backbone.pixel_std
        if self.recipe.weights:
            load_backbone_weights(backbone, self.recipe.weights)

    @abstractmethod
    def make_network(self, protocol: Protocol) -> PixelNetwork:
        """The network of the first step, randomly initialised."""

    def begin_step(self, step: Step, data: StepData) -> None:
        self.step = step
        self.teacher = None
        if step.index == 0:
            return
        if not self.recipe.train_backbone_norm:
            freeze_batch_norm(self.network.backbone)
        if self.keeps_teacher:
            self.teacher = copy.deepcopy(self.network).eval().requires_grad_(False)
        self.grow_to(step)
        self.begin_later_step(step, data)

    def begin_later_step(self, step: Step, data: StepData) -> None:
        """What a method prepares before each step after the first; the class head has grown already."""

    @property
    def num_old_classes(self) -> int:
        """Classes learnt before this step."""
        return len(self.step.old_classes)

    def targets(self, batch: Batch) -> Sequence[Segments]:
        """What each image shows: its segments, or in the semantic task one segment a class."""
        if batch.segments is not None:
            return batch.segments
        return segments_of_labels(batch.labels, self.protocol.background)

    def shows_other_steps(self, targets: Sequence[Segments]) -> Tensor:
        """bool (B,): whether an image has a label that is not of this step, as one of the memory has.

        Source: BalConpas criterion.py@SetCriterion.forward, `memory_part`.
        """
        old = 0 if self.protocol.is_domain_incremental else self.num_old_classes
        end = old + len(self.step.classes)
        return torch.stack([((t.classes < old) | (t.classes >= end)).any() for t in targets])

    def mask_losses(
        self, output: Mask2FormerOutput, targets: Sequence[Segments], matching: Matching
    ) -> tuple[Tensor, Tensor]:
        """Cross-entropy and dice loss of the matched masks of all predictions, weighted and summed."""
        masks, dice = mask_losses(
            output.mask_embeddings,
            output.mask_features,
            targets,
            matching,
            num_masks(targets),
            self.recipe.num_points,
        )
        return MASK_WEIGHT * masks.sum(), DICE_WEIGHT * dice.sum()

    @torch.no_grad()
    def teacher_output(self, images: Tensor) -> Any:
        """What the network after the previous step says of the same augmented batch."""
        assert self.teacher is not None, "set keeps_teacher in the method's class"
        return self.teacher(images)

    @property
    def class_labels(self) -> tuple[int, ...]:
        """The label id of each class of the network."""
        return self.protocol.channels(self.step.index)[int(self.protocol.background) :]

    def is_thing(self, device: torch.device) -> Tensor:
        """bool (K,): whether a class is countable."""
        return torch.tensor([label in self.protocol.things for label in self.class_labels], device=device)

    def official_tensors(self, step: Step, state: dict[str, Tensor]) -> dict[str, Tensor]:
        """`model` of a checkpoint of Mask2Former or of a method on it."""
        return adapt_official_state(state)

    def restore(self, step: Step, tensors: dict[str, Tensor]) -> None:
        self.step = step
        self.grow_to(step)
        self.network.load_state_dict(tensors)

    def parameter_groups(self, lr: float) -> list[dict[str, Any]]:
        """Slower backbone; no decay for normalisation and embeddings: BalConpas `build_optimizer`."""
        return self.slow_and_plain_groups(
            lr, "backbone", lambda name, module: isinstance(module, (*NORMS, nn.Embedding))
        )


class Mask2FormerMethod(SetPredictionMethod):
    """A method on Mask2Former with one classifier a step (BalConpas `mask2former_transformer_decoder.py`).

    Subclasses write `later_loss`; the first step is plain set prediction for all of them.
    """

    first_step: ClassVar[str] = "mask2former set prediction"
    network_name = "Mask2Former"

    network: Mask2Former
    teacher: Mask2Former | None = None

    def make_network(self, protocol: Protocol) -> Mask2Former:
        return Mask2Former(self.recipe.network(), len(protocol.steps[0].classes))

    def grow_to(self, step: Step) -> None:
        if self.protocol.is_domain_incremental:
            return
        for each in self.protocol.steps[1 : step.index + 1]:
            if self.network.num_classes < len(each.old_classes) + len(each.classes):
                self.network.grow(len(each.classes))

    def first_step_loss(self, batch: Batch) -> dict[str, Tensor]:
        output, targets = self.network(batch.images), self.targets(batch)
        return self.set_losses(output, targets, self.match(output, targets))

    def match(self, output: Mask2FormerOutput, targets: Sequence[Segments]) -> Matching:
        """Pairs of queries and targets for all predictions."""
        return match(
            output.layer_logits,
            output.mask_embeddings,
            output.mask_features,
            targets,
            self.recipe.num_points,
            (self.recipe.class_weight, MASK_WEIGHT, DICE_WEIGHT),
        )

    def set_losses(
        self,
        output: Mask2FormerOutput,
        targets: Sequence[Segments],
        matching: Matching,
        replayed: Tensor | None = None,
    ) -> dict[str, Tensor]:
        """Classes, masks and dice of all predictions, weighted and summed over them.

        With `replayed`, bool (B,), ∅ is balanced between these images and the others.
        """
        masks, dice = self.mask_losses(output, targets, matching)
        logits = output.layer_logits
        classes = target_classes(matching, targets, logits.shape[2], logits.shape[3] - 1)
        if replayed is None:
            of_class = class_loss(logits, classes)
        else:
            num_matched = torch.tensor(matching.counts, device=logits.device)
            of_class = balanced_class_loss(logits, classes, num_matched, replayed)
        return {"class": self.recipe.class_weight * of_class.sum(), "mask": masks, "dice": dice}

    def predict_image(
        self, image: Tensor, size: tuple[int, int]
    ) -> Tensor | PanopticPrediction | InstancePrediction:
        """Semantic scores are resized to the photograph; for the other tasks the masks are."""
        output = self.network(image)
        logits, masks = output.logits[0], output.masks[0]
        seen, padded = (image.shape[2], image.shape[3]), padded_size(masks)
        if self.protocol.task == "semantic":
            scores = semantic_scores(logits, resize_logits(masks, padded, seen, seen))
            return resize_logits(scores, seen, seen, size).argmax(dim=0) + int(self.protocol.background)
        if self.protocol.task == "instance":
            return instance_prediction(logits, resize_logits(masks, padded, seen, size))
        index, scores, classes = confident_queries(logits, self.recipe.object_threshold)
        masks = resize_logits(masks[index], padded, seen, size)
        things = self.is_thing(logits.device)
        return panoptic_prediction(scores, classes, masks, things, self.recipe.overlap_threshold)
