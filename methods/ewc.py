"""EWC: "Overcoming catastrophic forgetting in neural networks", PNAS 2017, as in MiB."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from methods.importance import ImportanceMethod
from methods.method import Info


class EWC(ImportanceMethod):
    """Importance is a moving average of squared gradients, taken while training: the online Fisher matrix."""

    key = "ewc"
    info = Info(
        "EWC",
        venue="PNAS",
        year=2017,
        provenance="port of fcdl94/MiB@1c58983",
        url="https://arxiv.org/abs/1612.00796",
    )
    first_step = "ewc cross-entropy"
    first_step_hyperparameters = ("alpha",)
    accumulated = ("fisher",)

    @dataclass(frozen=True)
    class Hyperparameters:
        weight: float = 500.0
        """Factor of the penalty: MiB `argparser.py@modify_command_options`, EWC."""
        alpha: float = 0.9
        """Share of the newest squared gradient in the Fisher matrix: MiB `argparser.py`, `--reg_alpha`."""
        normalise: bool = True
        """Whether each parameter's importance is brought into 0..1: `--reg_no_normalize` is off."""

    hyperparameters: Hyperparameters

    def observe(self, gradients: dict[str, Tensor]) -> None:
        self.average_fisher(gradients, self.hyperparameters.alpha)
