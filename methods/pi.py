"""PI: "Continual Learning Through Synaptic Intelligence", ICML 2017, as in MiB."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from methods.importance import ImportanceMethod
from methods.losses.importance import path_importance, path_integral
from methods.method import Info
from protocols.loading import StepData
from protocols.protocol import Step


class PI(ImportanceMethod):
    """Importance is a parameter's share in the loss's fall, by the square of how far it went."""

    key = "pi"
    info = Info(
        "PI",
        venue="ICML",
        year=2017,
        provenance="port of fcdl94/MiB@1c58983",
        url="https://arxiv.org/abs/1703.04200",
    )
    first_step = "pi cross-entropy"
    accumulated = ("score",)

    @dataclass(frozen=True)
    class Hyperparameters:
        weight: float = 500.0
        """Factor of the penalty: MiB `argparser.py@modify_command_options`, PI."""
        normalise: bool = True
        """Whether each parameter's importance is brought into 0..1: `--reg_no_normalize` is off."""

    hyperparameters: Hyperparameters

    def observe(self, gradients: dict[str, Tensor]) -> None:
        parameters, path, previous = self.parameters(), self.statistics["path"], self.statistics["previous"]
        for name, gradient in gradients.items():
            if name in previous:
                path[name] = path[name] + path_integral(gradient, previous[name], parameters[name])
            else:
                path[name] = torch.zeros_like(gradient)
        self.statistics["previous"] = {name: parameters[name].clone() for name in gradients}

    def end_step(self, step: Step, data: StepData) -> None:
        parameters, score = self.parameters(), self.statistics["score"]
        for name, path in self.statistics["path"].items():
            gained = path_importance(path, self.start[name], parameters[name])
            # Raw scores add up over the steps: MiB utils/regularizer.py@PI.get.
            score[name] = score[name] + gained if name in score else gained
        super().end_step(step, data)
