"""ECLIPSE: "Efficient Continual Learning in Panoptic Segmentation with Visual Prompt Tuning", CVPR 2024."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import cast

import torch
from torch import Tensor, nn

from methods.losses.focal import mean_focal_classification
from methods.losses.matching import match
from methods.losses.set_prediction import target_classes
from methods.mask2former import DICE_WEIGHT, MASK_WEIGHT
from methods.mask2former_assigned import AssigningMethod
from methods.mask2former_recipe import Mask2FormerRecipe
from methods.method import Info
from methods.networks.mask2former.decoder import Mask2FormerOutput
from methods.networks.mask2former.prompts import PromptedMask2Former, manipulated_logits
from protocols.loading import Batch, StepData
from protocols.protocol import Protocol, Step


class Eclipse(AssigningMethod):
    """No old network, no distillation and no pseudo-labels: what is learnt once is frozen."""

    key = "eclipse"
    info = Info(
        "ECLIPSE",
        venue="CVPR",
        year=2024,
        provenance="port of clovaai/ECLIPSE@9266720",
        url="https://arxiv.org/abs/2403.20126",
        tasks=("semantic", "panoptic"),
    )
    first_step = "eclipse"
    first_step_hyperparameters = ("class_prior", "focal_alpha", "focal_gamma", "focal_scale")
    network_name = "ECLIPSE"

    @dataclass(frozen=True)
    class Hyperparameters:
        """The defaults are those of panoptic 100-10; sources: ECLIPSE `script`."""

        prompts: int = 10
        """For each later step: `num_prompts`."""
        first_delta: float = 0.4
        """δ of the first step's queries, at test: the first of `deltas`."""
        later_delta: float = 0.5
        """δ of the prompts: the others of `deltas`."""
        later_class_weight: float = 10.0
        """`class_weight` of the later steps, in the loss and in matching; the recipe has the first's."""
        focal_alpha: float = 5.0
        """Factor of the focal loss of classes: `mask2former/config.py`, `FOCAL_ALPHA`."""
        focal_gamma: float = 1.0
        """Its exponent: `mask2former/config.py`, `FOCAL_GAMMA`."""
        focal_scale: float = 50.0
        """Another factor: `continual/method_wrapper/loss.py@sigmoid_focal_loss`, fixed."""
        class_prior: float = 0.5
        """Probability of every class before training; 0.5: torch's default, as officially."""

        def __post_init__(self) -> None:
            if self.prompts < 1:
                raise ValueError(f"eclipse: prompts = {self.prompts} must be at least 1")
            if not 0 < self.class_prior < 1:
                raise ValueError(f"eclipse: class_prior = {self.class_prior} must be between 0 and 1")

    hyperparameters: Hyperparameters
    network: PromptedMask2Former

    @classmethod
    def default_hyperparameters(cls, protocol: Protocol, scale: str) -> Hyperparameters:
        published = cls.published_hyperparameters(protocol)
        if scale == "paper":
            return published
        # Ours, chosen on the stand-in. So small a network leaves every class some probability, all together
        # more than 1: ∅ has δ itself, and the published 0.7 would let no new class through.
        deltas = {"first_delta": 0.1, "later_delta": 0.2}
        return replace(published, prompts=10, later_class_weight=25.0, class_prior=0.01, **deltas)

    @classmethod
    def published_hyperparameters(cls, protocol: Protocol) -> Hyperparameters:
        """Of the published division with as many classes a step; δ of the scripts' evaluation."""
        first, per_step = len(protocol.steps[0].classes), len(protocol.steps[-1].classes)
        if protocol.task == "semantic":  # script/ade_ss
            deltas = (0.0, -0.1) if per_step >= 50 else (0.1, 0.7) if per_step >= 10 else (0.1, 0.8)
            return cls.Hyperparameters(per_step, *deltas)
        prompts = max(per_step, 10)  # script/ade_ps
        if per_step >= 50:
            return cls.Hyperparameters(prompts, *((0.5, -0.4) if first <= 50 else (-0.4, -0.6)))
        return cls.Hyperparameters(prompts, 0.4, 0.5 if per_step >= 10 else 0.6)

    @classmethod
    def default_recipe(cls, protocol: Protocol, scale: str) -> Mask2FormerRecipe:
        recipe = super().default_recipe(protocol, scale)
        if scale != "paper":  # ours: few parameters are trained, and without a pass back through the body
            return replace(recipe, later_iterations=2 * recipe.later_iterations, later_lr=5e-3)
        first, per_step = len(protocol.steps[0].classes), len(protocol.steps[-1].classes)
        semantic, few = protocol.task == "semantic", first <= 50
        shorter = not semantic and (first, per_step) in ((100, 10), (100, 50), (50, 20))
        return replace(
            recipe,
            num_queries=50 if few else 100,
            batch=16 if semantic else 8,
            iterations=80_000 if few else 160_000,
            later_iterations=(1600 if shorter else 2400) * per_step,
            later_lr=1e-3 if semantic else 5e-4,
            source="ECLIPSE script",
        )

    def make_network(self, protocol: Protocol) -> PromptedMask2Former:
        network = PromptedMask2Former(self.recipe.network(), len(protocol.steps[0].classes))
        prior = self.hyperparameters.class_prior
        if prior != 0.5:
            last = cast(nn.Linear, network.predictor.class_embed.heads[1].layers[-1])
            nn.init.constant_(last.bias, math.log(prior / (1 - prior)))
        return network

    def grow_to(self, step: Step) -> None:
        """Prompts for each step; in a domain-incremental protocol they have the classes of the first."""
        predictor = self.network.predictor
        for each in self.protocol.steps[len(predictor.group_sizes()) : step.index + 1]:
            predictor.add_prompts(self.hyperparameters.prompts)
            if not self.protocol.is_domain_incremental:
                predictor.class_embed.grow(len(each.classes))

    def begin_later_step(self, step: Step, data: StepData) -> None:
        """Freeze all but the newest prompts, what makes their masks, the newest classes and ∅.

        A frozen layer of ordinary batch normalisation, as semantic segmentation has in the published
        configuration, still gathers statistics. Source: maskformer_model.py@freeze_for_prompt_tuning.
        """
        self.network.requires_grad_(False)
        predictor = self.network.predictor
        newest = [m[-1] for m in (predictor.prompt_feat, predictor.prompt_embed, predictor.prompt_mask_embed)]
        for module in (*newest, predictor.class_embed.heads[0], predictor.class_embed.heads[-1]):
            module.requires_grad_(True)

    def first_step_loss(self, batch: Batch) -> dict[str, Tensor]:
        return self.prompt_losses(self.network(batch.images), batch, self.recipe.class_weight)

    def later_loss(self, batch: Batch) -> dict[str, Tensor]:
        """Of the first and of the final prediction alone: those in between are not supervised."""
        output = self.network(batch.images, newest=True)
        ends = [0, -1]
        output = replace(
            output,
            layer_logits=output.layer_logits[ends],
            mask_embeddings=output.mask_embeddings[ends],
            tokens=output.tokens[ends],
        )
        return self.prompt_losses(output, batch, self.hyperparameters.later_class_weight)

    def prompt_losses(
        self, output: Mask2FormerOutput, batch: Batch, class_weight: float
    ) -> dict[str, Tensor]:
        """Classes, masks and dice of all predictions, weighted and summed over them."""
        targets, logits = self.targets(batch), output.layer_logits
        matching = match(
            logits,
            output.mask_embeddings,
            output.mask_features,
            targets,
            self.recipe.num_points,
            (class_weight, MASK_WEIGHT, DICE_WEIGHT),
        )
        classes = target_classes(matching, targets, logits.shape[2], logits.shape[3] - 1)
        choice = self.hyperparameters
        focal = mean_focal_classification(
            logits, classes, choice.focal_alpha, choice.focal_gamma, choice.focal_scale
        )
        masks, dice = self.mask_losses(output, targets, matching)
        return {"class": class_weight * focal.sum(), "mask": masks, "dice": dice}

    def class_scores(self, logits: Tensor) -> Tensor:
        """Officially ∅ is manipulated as soon as there are prompts."""
        sizes = self.network.predictor.group_sizes()
        if len(sizes) > 1 and not self.protocol.is_domain_incremental:
            per_step = [len(step.classes) for step in self.protocol.steps[: len(sizes)]]
            first, later = self.hyperparameters.first_delta, self.hyperparameters.later_delta
            group_of_query, group_of_class = (
                torch.arange(len(sizes), device=logits.device).repeat_interleave(
                    torch.tensor(number, device=logits.device)
                )
                for number in (sizes, per_step)
            )
            deltas = torch.where(group_of_query == 0, first, later)
            logits = manipulated_logits(logits, group_of_query, group_of_class, deltas)
        return logits.sigmoid()
