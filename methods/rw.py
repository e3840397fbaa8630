"""RW: "Riemannian Walk for Incremental Learning", ECCV 2018, as in MiB."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from methods.importance import ImportanceMethod
from methods.losses.importance import riemannian_score
from methods.method import Info
from protocols.loading import StepData
from protocols.protocol import Step


class RW(ImportanceMethod):
    """Importance is EWC's Fisher matrix plus a path integral by the distance in distributions."""

    key = "rw"
    info = Info(
        "RW",
        venue="ECCV",
        year=2018,
        provenance="port of fcdl94/MiB@1c58983",
        url="https://arxiv.org/abs/1801.10112",
    )
    first_step = "rw cross-entropy"
    first_step_hyperparameters = ("alpha", "iterations")
    accumulated = ("fisher", "score")

    @dataclass(frozen=True)
    class Hyperparameters:
        weight: float = 100.0
        """Factor of the penalty: MiB `argparser.py@modify_command_options`, RW."""
        alpha: float = 0.9
        """Share of the newest squared gradient in the Fisher matrix: MiB `argparser.py`, `--reg_alpha`."""
        iterations: int = 10
        """Iterations between two updates of the score: `--reg_iterations`."""
        normalise: bool = True
        """Whether both parts of the importance are brought into 0..1: `--reg_no_normalize` is off."""

        def __post_init__(self) -> None:
            if self.iterations < 1:
                raise ValueError(f"rw: iterations = {self.iterations} must be at least 1")

    hyperparameters: Hyperparameters

    def observe(self, gradients: dict[str, Tensor]) -> None:
        count = self.statistics["count"]
        number = int(count.get("iterations", 0))
        count["iterations"] = torch.tensor(number + 1)
        if number % self.hyperparameters.iterations == 0:
            self._update_path(gradients)
        self.average_fisher(gradients, self.hyperparameters.alpha)

    def _update_path(self, gradients: dict[str, Tensor]) -> None:
        # One gradient stands for the whole way since the last update: MiB utils/regularizer.py@RW.update.
        parameters, path, previous = self.parameters(), self.statistics["path"], self.statistics["previous"]
        fisher = self.statistics["fisher"]
        for name, gradient in gradients.items():
            if name in previous:
                gained = riemannian_score(gradient, previous[name], parameters[name], fisher[name])
                path[name] = path[name] + gained
            else:
                path[name] = torch.zeros_like(gradient)
        self.statistics["previous"] = {name: parameters[name].clone() for name in gradients}

    def end_step(self, step: Step, data: StepData) -> None:
        score = self.statistics["score"]
        for name, path in self.statistics["path"].items():
            gained = path.clamp(min=0)
            # Averaged with what earlier steps left: MiB utils/regularizer.py@RW.get_score.
            score[name] = 0.5 * (gained + score[name]) if name in score else gained
        super().end_step(step, data)
