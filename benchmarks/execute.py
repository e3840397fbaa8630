"""Running one run: step after step is trained and tested, or taken from the store."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple, Protocol

import torch

from benchmarks.checkpoints import restore
from benchmarks.evaluation import evaluate
from benchmarks.locks import Holder
from benchmarks.memory import PeakMemory
from benchmarks.processes import assert_alike
from benchmarks.run import Run, RunOptions
from benchmarks.samples import predict_samples
from benchmarks.store import FinishedStep, Store
from benchmarks.training import Progress, StepTrainer
from methods.method import Method
from methods.networks.norm import has_batch_statistics, synchronise_batch_norm
from ops.processes import gathered
from protocols.loading import StepData, derive_seed
from reports.record import Counts


@dataclass(frozen=True)
class Network:
    """What was trained."""

    name: str
    parameters: int
    replay_images: int
    batch_statistics: bool
    """Whether some layer normalises by the statistics of its batch while it trains the first step."""


class Watch(Protocol):
    """Who is told how a run goes."""

    def begun(self, network: Network) -> None:
        """After the network was built."""

    def iterated(self, index: int, progress: Progress) -> None:
        """After each iteration of the step `index`."""

    def finished(self, index: int, counts: Counts) -> None:
        """After the step `index` was trained and tested."""

    def waits(self, index: int, holder: Holder) -> None:
        """When another runner is at the step `index`, which this run needs too."""


def execute(run: Run, store: Store, options: RunOptions, watch: Watch) -> tuple[list[FinishedStep], Network]:
    """Train and evaluate whatever is not in the store yet.

    Returns each step's outcome, and the network after the last step.
    """
    method = run.method(run.hyperparameters, run.recipe)
    torch.manual_seed(derive_seed(run.seed, "build"))
    method.build(run.protocol)
    method.network.to(options.device)
    batch_statistics = has_batch_statistics(method.network)
    watch.begun(_network_of(method, batch_statistics))
    steps = _Steps(run, method, store, options, watch)
    for index, key in run.step_keys.items():
        with store.claimed(key, partial(watch.waits, index)) as ours:
            if ours and index in run.checkpoints:
                steps.read(index)
            elif ours:
                steps.train(index)
    last = max(run.step_keys)
    method.restore(run.protocol.steps[last], store.tensors(run.step_keys[last]))
    network = _network_of(method, batch_statistics)
    return [store.finished(key) for key in run.step_keys.values()], network


def _network_of(method: Method, batch_statistics: bool) -> Network:
    return Network(
        name=method.network_name or type(method.network).__name__,
        parameters=sum(p.numel() for p in method.network.parameters()),
        replay_images=method.replay_images,
        batch_statistics=batch_statistics,
    )


class _Training(NamedTuple):
    """What a step says of its training."""

    trained_by: str
    iterations: int
    final_loss: dict[str, float]
    train_seconds: float


@dataclass(frozen=True)
class _Steps:
    """The steps of one run, each of which ends with its test and lies in the store then."""

    run: Run
    method: Method
    """In its state after the step that was worked on last."""
    store: Store
    options: RunOptions
    watch: Watch

    def read(self, index: int) -> None:
        """Evaluate a checkpoint as if the step had just been trained."""
        run, method, memory = self.run, self.method, PeakMemory(self.options.device)
        restore(method, run.protocol.steps[index], run.checkpoints[index])
        method.network.to(self.options.device)
        source = f"checkpoint {run.checkpoints[index].name}"
        self._test(self._data(index), memory, _Training(source, 0, {}, 0.0))

    def train(self, index: int) -> None:
        run, method, store, device = self.run, self.method, self.store, self.options.device
        key, step, data = run.step_keys[index], run.protocol.steps[index], self._data(index)
        if index:
            method.restore(run.protocol.steps[index - 1], store.tensors(run.step_keys[index - 1]))
            method.network.to(device)
        torch.manual_seed(derive_seed(run.seed, index, "step"))
        memory = PeakMemory(device)
        method.network.eval()  # the same whether the step before was trained now or came from the store
        method.begin_step(step, data)
        method.network.to(device)
        if run.share.processes > 1:
            synchronise_batch_norm(method.network)
        recipe, iterations = run.recipe.at_step(index), run.iterations(index)
        trainer = StepTrainer(method, run.recipe, recipe, iterations, device, run.share, data.seed)
        unfinished = store.checkpoint(key)
        if unfinished is not None:
            trainer.resume(unfinished, step)
        trainer.train(
            method.training_data(step, data),
            save=lambda c: store.save_checkpoint(key, c),
            every_seconds=self.options.checkpoint_seconds if run.share.rank == 0 else math.inf,
            report=lambda progress: self.watch.iterated(index, progress),
        )
        if run.share.parts > 1:
            torch.manual_seed(derive_seed(run.seed, index, "end"))
        method.end_step(step, data)
        assert_alike(method.tensors())
        progress = trainer.progress
        self._test(data, memory, _Training(run.label, iterations, progress.mean_losses(), progress.seconds))

    def _test(self, data: StepData, memory: PeakMemory, training: _Training) -> None:
        """Evaluate the method as it is after a step, and store it."""
        run, method = self.run, self.method
        started = time.monotonic()
        measured = evaluate(method, data)
        counts = measured.counts()
        outcome = FinishedStep(
            **training._asdict(),
            counts=counts,
            eval_seconds=time.monotonic() - started,
            peak_memory_mb=max(float(each) for each in gathered(torch.tensor([memory.megabytes()]))),
        )
        shown = predict_samples(method, data, run.shown)
        self.store.save(run.step_keys[data.index], method.tensors(), measured.tensors(), shown, outcome)
        self.watch.finished(data.index, counts)

    def _data(self, index: int) -> StepData:
        run, samples = self.run, self.run.samples[index]
        return StepData(
            dataset=run.dataset,
            protocol=run.protocol,
            index=index,
            train=samples.train,
            test=samples.test,
            augmentation=run.recipe.augmentation(),
            batch=run.recipe.batch,
            share=run.share,
            statistics=self.method.pixel_statistics,
            seed=derive_seed(run.seed, index, "data"),
            workers=self.options.workers,
            device=self.options.device,
            earlier=run.samples[:index] if self.method.info.replay else (),
        )
