"""The training loop of one step, which can be killed at any point and goes on with the same bits."""

from __future__ import annotations

import itertools
import math
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from benchmarks.gradients import average_gradients, mean_losses
from benchmarks.processes import assert_alike
from benchmarks.stopping import Interrupted, asked_to_stop, stop_waits
from benchmarks.store import Checkpoint
from methods.method import Method
from methods.recipe import Recipe, StepRecipe
from protocols.loading import Batch, StepData, derive_seed
from protocols.protocol import Step
from protocols.shares import WHOLE, Share

RECENT = 50
"""Iterations over which the reported losses are averaged."""


def poly_lr(lr: float, iteration: int, total: int, power: float) -> float:
    """Learning rate at an iteration: MiB `utils/scheduler.py@PolyLR`, restarted at every step."""
    return float(lr * (1 - iteration / total) ** power)


def step_lr(lr: float, iteration: int, total: int, drops: Sequence[float]) -> float:
    """A tenth from each of the shares `drops` (0..1) of the step on: detectron2 `WarmupMultiStepLR`."""
    return float(lr * 0.1 ** sum(iteration >= round(drop * total) for drop in drops))


def warmup_factor(iteration: int, warmup: int) -> float:
    """Rises from 1e-6 to 1, on top of the schedule: mmcv 1.4.4 `LrUpdaterHook.get_warmup_lr`, linear."""
    return 1 - (1 - iteration / warmup) * (1 - 1e-6) if iteration < warmup else 1.0


@dataclass
class Progress:
    """How far a step has come; what a checkpoint keeps besides tensors."""

    iteration: int = 0
    seconds: float = 0.0
    recent: deque[dict[str, float]] = field(default_factory=lambda: deque(maxlen=RECENT))

    def mean_losses(self) -> dict[str, float]:
        """Each loss over the recent iterations in which it was given."""
        values: dict[str, list[float]] = {}
        for losses in self.recent:
            for name, value in losses.items():
                values.setdefault(name, []).append(value)
        return {name: sum(v) / len(v) for name, v in values.items()}


class StepTrainer:
    """Trains `method` for one step: the recipe's optimiser and schedule, autocast on a GPU."""

    def __init__(
        self,
        method: Method,
        recipe: Recipe,
        step: StepRecipe,
        iterations: int,
        device: torch.device,
        share: Share = WHOLE,
        seed: int = 0,
    ) -> None:
        """`share` and `seed` as in the step's data."""
        self.method, self.recipe, self.step = method, recipe, step
        self.iterations, self.device = iterations, device
        self.share, self.seed = share, seed
        self.progress = Progress()
        self.optimizer = make_optimizer(recipe, method.parameter_groups(step.lr))
        self.base_lrs = [group["lr"] for group in self.optimizer.param_groups]

    def train(
        self,
        data: StepData,
        save: Callable[[Checkpoint], None],
        every_seconds: float,
        report: Callable[[Progress], None],
    ) -> None:
        """Run the remaining iterations; checkpoint every so many seconds; report after each iteration.

        Raises FloatingPointError where a loss, gradient or weight is not finite, and Interrupted, after a
        last checkpoint, where a signal asked to stop.
        """
        self.method.network.train()
        last = saved = time.monotonic()
        checked = False
        batches = data.training_batches(self.iterations, first=self.progress.iteration)
        with stop_waits():
            while passes := list(itertools.islice(batches, self.share.passes)):
                with _saying_where(data, self.progress.iteration):
                    self.iterate(*passes)
                if not checked:
                    assert_alike(self.method.tensors())  # early, besides at the end of the step
                    checked = True
                now = time.monotonic()
                self.progress.seconds += now - last
                last = now
                report(self.progress)
                asked = asked_to_stop() if self.share.rank == 0 else None  # the others end with the first
                due = now - saved >= every_seconds and self.progress.iteration < self.iterations
                if (due or asked is not None) and self._weights_are_finite():  # else the next loss says it
                    save(self.checkpoint())
                    last = saved = time.monotonic()
                if asked is not None:
                    done = f"{self.progress.iteration} of {self.iterations}"
                    raise Interrupted(asked, f"step {data.index + 1} is saved at iteration {done}")
        if not self._weights_are_finite():
            with _saying_where(data, self.iterations - 1):
                raise FloatingPointError("weights not finite after the last update")

    def iterate(self, *passes: Batch) -> None:
        """Losses, gradients and one step of the optimiser for this process's passes over one batch.

        Raises FloatingPointError as `train` does.
        """
        progress = self.progress
        for group, lr in zip(self.optimizer.param_groups, self.base_lrs, strict=True):
            group["lr"] = self._lr(lr)
        losses = [self._add_gradients(batch, index) for index, batch in enumerate(passes)]
        if self.share.parts > 1:
            average_gradients(self._parameters(), self.share.parts)
        means = {name: sum(each[name] for each in losses) / len(losses) for name in losses[0]}
        if not math.isfinite(self._clip_gradients()):
            raise FloatingPointError(f"gradients not finite ({_named(means)})")
        self.optimizer.step()
        progress.recent.append(means)
        progress.iteration += 1

    def _add_gradients(self, batch: Batch, index: int) -> dict[str, float]:
        """The losses of one pass, their mean over processes; their gradients go into the parameters'."""
        if self.share.parts > 1:
            # Whichever process has this part of the batch draws the same, after a kill too.
            torch.manual_seed(
                derive_seed(self.seed, "part", self.progress.iteration, self.share.number(index))
            )
        amp = self.recipe.amp and self.device.type == "cuda"
        with torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=amp):
            losses = self.method.training_loss(batch)
        total = torch.stack([loss.float() for loss in losses.values()]).sum()
        values = mean_losses(losses)
        if not math.isfinite(sum(values.values())):
            raise FloatingPointError(f"loss not finite ({_named(values)})")
        if index == 0:
            self.optimizer.zero_grad(set_to_none=True)
        total.backward()
        return values

    def checkpoint(self) -> Checkpoint:
        """Network, optimiser and random state after the iterations so far."""
        tensors = {f"method.{name}": t for name, t in self.method.tensors().items()}
        for i, parameter in enumerate(self._parameters()):
            for name, value in self.optimizer.state.get(parameter, {}).items():
                if value is not None:
                    tensors[f"optimizer.{i}.{name}"] = value
        tensors["rng.cpu"] = torch.get_rng_state()
        if self.device.type == "cuda":
            tensors["rng.cuda"] = torch.cuda.get_rng_state(self.device)
        progress = self.progress
        return Checkpoint(
            tensors,
            {"iteration": progress.iteration, "seconds": progress.seconds, "recent": list(progress.recent)},
        )

    def resume(self, checkpoint: Checkpoint, step: Step) -> None:
        """Go on from a checkpoint of `step`. The method's `begin_step` must have run before."""
        tensors, state = checkpoint.tensors, checkpoint.progress
        self.method.restore(step, _below("method.", tensors))
        for i, parameter in enumerate(self._parameters()):
            for name, value in _below(f"optimizer.{i}.", tensors).items():
                self.optimizer.state[parameter][name] = value.to(parameter.device)
        torch.set_rng_state(tensors["rng.cpu"])
        if self.device.type == "cuda" and "rng.cuda" in tensors:
            torch.cuda.set_rng_state(tensors["rng.cuda"], self.device)
        self.progress = Progress(state["iteration"], state["seconds"], deque(state["recent"], maxlen=RECENT))

    def _lr(self, lr: float) -> float:
        iteration, total = self.progress.iteration, self.iterations
        lr *= warmup_factor(iteration, self.recipe.warmup_iterations)
        if self.step.lr_drops:
            return step_lr(lr, iteration, total, self.step.lr_drops)
        return poly_lr(lr, iteration, total, self.recipe.poly_power)

    def _clip_gradients(self) -> float:
        """The norm of all gradients together, before they are clipped."""
        if self.recipe.clip_norm:
            return float(torch.nn.utils.clip_grad_norm_(self._parameters(), self.recipe.clip_norm))
        gradients = [p.grad for p in self._parameters() if p.grad is not None]
        return float(torch.nn.utils.get_total_norm(gradients))

    def _weights_are_finite(self) -> bool:
        return all(bool(torch.isfinite(p).all()) for p in self._parameters())

    def _parameters(self) -> list[Any]:
        return [p for group in self.optimizer.param_groups for p in group["params"]]


def _named(losses: dict[str, float]) -> str:
    return ", ".join(f"{name} {value:g}" for name, value in losses.items())


@contextmanager
def _saying_where(data: StepData, iteration: int) -> Iterator[None]:
    """Names the step, the iteration and the images of its batch where a number is not finite."""
    try:
        yield
    except FloatingPointError as error:
        images = ", ".join(sample.image.name for sample in data.samples_of_batch(iteration))
        raise FloatingPointError(
            f"step {data.index + 1}, iteration {iteration + 1}: {error}, images {images}; "
            "lower the learning rate, or look at these images and their masks"
        ) from error


def make_optimizer(recipe: Recipe, groups: list[dict[str, Any]]) -> torch.optim.Optimizer:
    """Fused: for ResNet-101 on two cores SGD takes 0.02 s a step instead of 0.11."""
    if recipe.optimizer == "adamw":
        return torch.optim.AdamW(groups, weight_decay=recipe.weight_decay, fused=True)
    return torch.optim.SGD(
        groups,
        momentum=recipe.momentum,
        nesterov=recipe.nesterov and recipe.momentum > 0,
        weight_decay=recipe.weight_decay,
        fused=True,
    )


def _below(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): t for name, t in tensors.items() if name.startswith(prefix)}
