"""BalConpas: "Strike a Balance in Continual Panoptic Segmentation", ECCV 2024."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from methods.losses.mask_pseudo_labels import joined, pseudo_segments
from methods.losses.matching import Matching
from methods.losses.token_distillation import token_distillation
from methods.mask2former import Mask2FormerMethod
from methods.method import Info, MethodClass
from methods.networks.mask2former.decoder import Mask2FormerOutput
from methods.networks.mask2former.inference import confident_queries
from methods.replay import class_proportional_memory
from protocols.loading import Batch, ReplaySample, StepData
from protocols.protocol import TASKS, Protocol, Step
from protocols.segments import Segments


class BalConpas(Mask2FormerMethod):
    key = "balconpas"
    info = Info(
        "BalConpas",
        venue="ECCV",
        year=2024,
        provenance="port of jinpeng0528/BalConpas@3b76142",
        url="https://arxiv.org/abs/2407.16354",
        tasks=TASKS,
    )
    first_step = "balconpas, the next class labelled"
    knows_all_classes = True
    keeps_teacher = True

    @dataclass(frozen=True)
    class Hyperparameters:
        token_weight: float = 5.0
        """Factor of the distillation of the decoder's queries: `configs`, `CONT.MED_TOKENS_WEIGHT`."""
        overlap_threshold: float = 0.8
        """Least share of a pseudo-label's pixels that labels and surer ones leave it: `configs`,
        `MODEL.MASK_FORMER.TEST.OVERLAP_THRESHOLD`."""
        next_class_labelled: bool = True
        """Semantic: whether the first class of the next step is labelled already. Known fault of
        `continual/continual_semantic_dataset_mapper.py`, whose upper bound is one too high; images that show
        this class count as replayed, also in the first step."""

    hyperparameters: Hyperparameters

    @classmethod
    def default_hyperparameters(cls, protocol: Protocol, scale: str) -> Hyperparameters:
        """At small scale distillation grows as the recipe's `class_weight` does, to keep its share."""
        values = cls.Hyperparameters()
        return values if scale == "paper" else replace(values, token_weight=60.0)

    @classmethod
    def first_step_of(cls, protocol: Protocol, hyperparameters: Hyperparameters) -> MethodClass | None:
        """The family's, unless the fault changes labels."""
        if _labels_next_class(protocol, hyperparameters):
            return super().first_step_of(protocol, hyperparameters)
        return Mask2FormerMethod

    def training_data(self, step: Step, data: StepData) -> StepData:
        if _labels_next_class(self.protocol, self.hyperparameters):
            data = data.with_next_class()
        return data.with_replay(self.memory(data)) if step.index else data

    def memory(self, data: StepData) -> Sequence[ReplaySample]:
        """Images of earlier steps that are trained on besides those of this step."""
        return ()

    def first_step_loss(self, batch: Batch) -> dict[str, Tensor]:
        if not _labels_next_class(self.protocol, self.hyperparameters):
            return super().first_step_loss(batch)
        output, targets = self.network(batch.images), self.targets(batch)
        matching = self.match(output, targets)
        return self.set_losses(output, targets, matching, self.shows_other_steps(targets))

    def later_loss(self, batch: Batch) -> dict[str, Tensor]:
        labelled, old_output = self.targets(batch), self.teacher_output(batch.images)
        replayed = self.shows_other_steps(labelled)
        is_replayed = replayed.tolist()
        pseudo = self.pseudo_labels(old_output, labelled, is_replayed)
        targets = [
            label if replay else joined(found, label)
            for found, label, replay in zip(pseudo, labelled, is_replayed, strict=True)
        ]
        output = self.network(batch.images)
        matching = self.match(output, targets)
        chosen = self.backtraced(matching, targets, pseudo)
        tokens = token_distillation(output.tokens, old_output.tokens, chosen)
        return {
            **self.set_losses(output, targets, matching, replayed),
            "tokens": self.hyperparameters.token_weight * tokens.sum(),
        }

    def pseudo_labels(
        self, old_output: Mask2FormerOutput, labelled: Sequence[Segments], is_replayed: Sequence[bool]
    ) -> list[Segments]:
        """The old network's segments of each image; labels cover them, except in replayed images.

        Source: maskformer_model.py@MaskFormer.forward(psd_label=True), without a threshold on the score.
        """
        threshold, found = self.hyperparameters.overlap_threshold, []
        for image, (label, replay) in enumerate(zip(labelled, is_replayed, strict=True)):
            index, scores, classes = confident_queries(old_output.logits[image], threshold=0.0)
            masks, covered = old_output.masks[image][index], None if replay else label.masks.any(dim=0)
            size = (label.masks.shape[1], label.masks.shape[2])
            found.append(pseudo_segments(scores, classes, masks, size, covered, threshold))
        return found

    def backtraced(
        self, matching: Matching, targets: Sequence[Segments], pseudo: Sequence[Segments]
    ) -> Tensor:
        """bool (B, Q): queries matched, by the final prediction, with one of the first P targets of their
        image, P being the number of its pseudo-labels, which come first.

        Known fault, kept since the published numbers were made with it: a replayed image has no pseudo-label
        among its targets, and yet its first P labels count. criterion.py@SetCriterion.forward.
        """
        places = matching.targets_in_image([len(target.classes) for target in targets])[-1]
        number = torch.tensor([len(found.classes) for found in pseudo], device=places.device)
        chosen = torch.zeros(len(targets), self.recipe.num_queries, dtype=torch.bool, device=places.device)
        chosen[matching.images, matching.queries[-1]] = places < number[matching.images]
        return chosen


class BalConpasReplay(BalConpas):
    key = "balconpas-r"
    info = replace(BalConpas.info, title="BalConpas-R", replay=True)

    @dataclass(frozen=True)
    class Hyperparameters(BalConpas.Hyperparameters):
        memory: int = 300
        """Images kept: `continual/memory_generator`, `num_selections`."""

        def __post_init__(self) -> None:
            if self.memory < 0:
                raise ValueError(f"memory = {self.memory} images must not be negative")

    hyperparameters: Hyperparameters

    @property
    def replay_images(self) -> int:  # type: ignore[override]
        return self.hyperparameters.memory

    def memory(self, data: StepData) -> Sequence[ReplaySample]:
        capacity = self.hyperparameters.memory
        return class_proportional_memory(self.protocol, data.dataset, data.earlier, capacity)


class BalConpasFixed(BalConpas):
    """BalConpas on the labels of the step alone."""

    key = "balconpas-fixed"
    info = replace(BalConpas.info, title="BalConpas, labels repaired", tasks=("semantic",))

    @classmethod
    def default_hyperparameters(cls, protocol: Protocol, scale: str) -> BalConpas.Hyperparameters:
        return replace(super().default_hyperparameters(protocol, scale), next_class_labelled=False)


def _labels_next_class(protocol: Protocol, hyperparameters: BalConpas.Hyperparameters) -> bool:
    """Whether the published fault changes any label of this protocol."""
    several = len(protocol.steps) > 1 and not protocol.is_domain_incremental
    return hyperparameters.next_class_labelled and protocol.task == "semantic" and several
