"""What EWC, PI and RW share: statistics of the gradients, and a penalty on moving important parameters."""

from __future__ import annotations

from abc import abstractmethod
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor

from methods.deeplab import DeepLabMethod
from methods.deeplab_recipe import DeepLabRecipe
from methods.losses.importance import (
    carry_gradients,
    fisher_average,
    min_max_normalised,
    quadratic_penalty,
)
from methods.method import split_off
from ops.processes import num_processes, sum_over_processes
from protocols.loading import Batch, StepData
from protocols.protocol import Step

PREFIX = "importance."


class ImportanceMethod(DeepLabMethod):
    """Cross-entropy and, after the first step, `weight` · Σ Ω·(θ − θ*)²; θ* is what the step started from.

    Subclasses name what Ω is made of and gather it in `observe`, in every step, the first included. Their
    hyperparameters have `weight` and `normalise`. A parameter that no gradient reaches, frozen or unused,
    has no importance; the official code stops with an error there.
    Source: MiB utils/regularizer.py, train.py@Trainer.train.
    """

    carried = (PREFIX,)
    accumulated: ClassVar[tuple[str, ...]]
    """The statistics that outlive a step; Ω is their sum, each normalised by itself."""

    def __init__(self, hyperparameters: Any, recipe: DeepLabRecipe) -> None:
        super().__init__(hyperparameters, recipe)
        self.statistics: dict[str, dict[str, Tensor]] = defaultdict(dict)
        """Of each kind one tensor a parameter, by its name. Replaced when they change, never written into."""
        self.start: dict[str, Tensor] = {}
        """Every parameter as it was when the step began; new classifiers as they were initialised."""
        self.importance: dict[str, Tensor] = {}
        """Ω, of the parameters that earlier steps trained."""
        self.passed: list[dict[str, Tensor]] = []
        """Gradients of a batch's passes before the last one, whose mean is what is observed."""

    @abstractmethod
    def observe(self, gradients: dict[str, Tensor]) -> None:
        """Update the statistics with the gradients of the cross-entropy alone, before the parameters move.

        They are those of the whole batch: averaged over processes and passes. Officially the first process
        observes what all have averaged: MiB train.py@Trainer.train.
        """

    def begin_step(self, step: Step, data: StepData) -> None:
        old = self.copies()
        super().begin_step(step, data)
        self.start = {**self.copies(), **old}
        # A resumed step is begun from the same tensors, so that neither θ* nor Ω need be in its checkpoint.
        self.importance = self._bounded(self._total_importance()) if step.index else {}

    def training_loss(self, batch: Batch) -> dict[str, Tensor]:
        loss = self.first_step_loss(batch)["cross_entropy"]
        parameters = {name: p for name, p in self.network.named_parameters() if p.requires_grad}
        # Autocast would reach into the backward pass, which the training loop runs outside of it.
        with torch.autocast(batch.images.device.type, enabled=False):
            found = torch.autograd.grad(loss, list(parameters.values()), allow_unused=True)
        gradients = {name: g for name, g in zip(parameters, found, strict=True) if g is not None}
        self.passed.append(gradients)
        if batch.is_last_pass:
            self.observe(_mean_gradients(self.passed))
            self.passed = []
        reached = [parameters[name] for name in gradients]
        losses = {"cross_entropy": carry_gradients(loss, reached, list(gradients.values()))}
        if self.importance:
            penalty = quadratic_penalty(dict(self.network.named_parameters()), self.start, self.importance)
            losses["penalty"] = self.hyperparameters.weight * penalty
        return losses

    def end_step(self, step: Step, data: StepData) -> None:
        kept = {kind: self.statistics[kind] for kind in self.accumulated}
        self.statistics = defaultdict(dict, kept)

    def tensors(self) -> dict[str, Tensor]:
        named = {
            f"{PREFIX}{kind}.{name}": tensor
            for kind, tensors in self.statistics.items()
            for name, tensor in tensors.items()
        }
        return {**super().tensors(), **named}

    def restore(self, step: Step, tensors: dict[str, Tensor]) -> None:
        network, statistics = split_off(tensors, PREFIX)
        super().restore(step, network)
        device = next(self.network.parameters()).device
        self.statistics = defaultdict(dict)
        for name, tensor in statistics.items():
            kind, parameter = name.split(".", 1)
            self.statistics[kind][parameter] = tensor.to(device)

    def lacks(self, step: Step, tensors: Mapping[str, Tensor]) -> str:
        return "" if any(name.startswith(PREFIX) for name in tensors) else "the importance of the parameters"

    def parameters(self) -> dict[str, Tensor]:
        """Every parameter of the network by its name, detached; they change as it trains."""
        return {name: parameter.detach() for name, parameter in self.network.named_parameters()}

    def copies(self) -> dict[str, Tensor]:
        return {name: parameter.clone() for name, parameter in self.parameters().items()}

    def average_fisher(self, gradients: dict[str, Tensor], alpha: float) -> None:
        """Into the statistics named "fisher", which go on from the earlier steps' raw values."""
        fisher = self.statistics["fisher"]
        for name, gradient in gradients.items():
            # 1 before the first gradient, not 0: MiB utils/regularizer.py@EWC.__init__, @RW.__init__.
            history = fisher[name] if name in fisher else torch.ones_like(gradient)
            fisher[name] = fisher_average(history, gradient, alpha)

    def _bounded(self, importance: dict[str, Tensor]) -> dict[str, Tensor]:
        """Ω of at most 1 / (2·lr·weight), where one iteration's pull leads back to θ*.

        A stronger pull overshoots and soon diverges, as the published weights do at the mini scale's learning
        rate. At the published rate they stay within: EWC's and PI's 500 at 0.001 is the bound itself.
        """
        strength = 2 * self.recipe.at_step(self.step.index).lr * self.hyperparameters.weight
        if strength <= 0:
            return importance
        return {name: omega.clamp(max=1 / strength) for name, omega in importance.items()}

    def _total_importance(self) -> dict[str, Tensor]:
        total: dict[str, Tensor] = {}
        for kind in self.accumulated:
            for name, tensor in self.statistics[kind].items():
                part = min_max_normalised(tensor) if self.hyperparameters.normalise else tensor
                total[name] = total[name] + part if name in total else part
        return total


def _mean_gradients(passes: Sequence[Mapping[str, Tensor]]) -> dict[str, Tensor]:
    """Over the passes of this process, and over all processes."""
    total = dict(passes[0])
    for gradients in passes[1:]:
        total = {name: gradient + gradients[name] for name, gradient in total.items()}
    parts = len(passes) * num_processes()
    if parts == 1:
        return total
    sums = sum_over_processes(list(total.values()))
    return {name: gradient / parts for name, gradient in zip(total, sums, strict=True)}
