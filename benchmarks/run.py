"""One run: a protocol, a method and a seed, step after step, into one record."""

from __future__ import annotations

import dataclasses
import time
import typing
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch

from benchmarks import fingerprint
from benchmarks.evaluation import evaluate
from benchmarks.memory import PeakMemory
from benchmarks.samples import choose_samples, predict_samples
from benchmarks.store import FinishedStep, Store
from benchmarks.training import Progress, StepTrainer
from methods.method import Method, MethodClass
from methods.recipe import PER_STEP, Recipe
from methods.registry import source_of
from protocols.datasets import Dataset, Sample
from protocols.datasets.dataset import SPLITS
from protocols.labels import test_lut, training_lut
from protocols.loading import StepData, batches_per_epoch, derive_seed
from protocols.protocol import Protocol
from protocols.splits import StepSamples
from reports.record import Counts

STORE_VERSION = 1
"""Raise it when stored steps stop being what their keys say."""


@dataclass(frozen=True)
class RunOptions:
    """How, not what: nothing here changes a result."""

    device: torch.device
    workers: int = 0
    checkpoint_seconds: float = 60.0


@dataclass(frozen=True)
class Network:
    """What was trained."""

    name: str
    parameters: int
    replay_images: int


class Watch(typing.Protocol):
    """Who is told how a run goes."""

    def iterated(self, index: int, progress: Progress) -> None:
        """After each iteration of the step `index`."""

    def finished(self, index: int, counts: Counts) -> None:
        """After the step `index` was trained and tested."""


@dataclass(frozen=True, eq=False)
class Run:
    """What is to be run. `protocol` is the one that is trained: a single step for a joint method."""

    name: str
    """The row's name: the method's key and what the user set."""
    asked: Protocol
    protocol: Protocol
    dataset: Dataset
    samples: Sequence[StepSamples]
    method: MethodClass
    hyperparameters: Any
    recipe: Recipe
    overrides: dict[str, Any]
    scale: str
    seed: int
    device: str
    """ "cpu" or "cuda": their bits differ, and a record says where its steps were trained."""

    @property
    def label(self) -> str:
        return f"{self.name}/seed-{self.seed}"

    def iterations(self, index: int) -> int:
        per_epoch = batches_per_epoch(len(self.samples[index].train), self.recipe.batch)
        return self.recipe.at_step(index).total_iterations(per_epoch)

    @cached_property
    def step_keys(self) -> list[str]:
        """The store's key of each step: a hash of everything that its result depends on."""
        keys: list[str] = []
        for index in range(len(self.protocol.steps)):
            keys.append(fingerprint.of_settings(self._depends_on(index, keys[-1] if keys else ""))[:32])
        return keys

    @cached_property
    def shown(self) -> dict[str, Sample]:
        """The test images whose predictions are kept, by name."""
        return choose_samples(self.samples[-1].test, self.dataset.root)

    def missing(self, store: Store) -> dict[str, int]:
        """The iterations of the steps that the store does not have yet, by their keys."""
        return {key: self.iterations(i) for i, key in enumerate(self.step_keys) if not store.has(key)}

    @property
    def key(self) -> str:
        return fingerprint.of_settings([self.step_keys, self.asked.name, dataclasses.asdict(self.asked)])[:32]

    @property
    def _last(self) -> int:
        return len(self.protocol.steps) - 1

    def _depends_on(self, index: int, parent: str) -> dict[str, Any]:
        samples, recipe = self.samples[index], dataclasses.asdict(self.recipe)
        schedule = PER_STEP | {f"later_{name}" for name in PER_STEP}
        owner = self.method.first_step_of(self.protocol, self.hyperparameters) if index == 0 else None
        method = owner or self.method
        return {
            "version": STORE_VERSION,
            "device": self.device,
            "parent": parent,
            "seed": self.seed,
            "method": owner.first_step if owner else method.key,
            "hyperparameters": {
                name: value
                for name, value in dataclasses.asdict(self.hyperparameters).items()
                if not owner or name in owner.first_step_hyperparameters
            },
            "code": fingerprint.of_code(source_of(method)),
            "recipe": {
                name: value for name, value in recipe.items() if name not in schedule | {"weights", "source"}
            },
            "weights": fingerprint.of_file(self.recipe.weights),
            "schedule": dataclasses.asdict(self.recipe.at_step(index)),
            "channels": self.protocol.channels(self._last if method.knows_all_classes else index),
            "background": self.protocol.background,
            "raw labels": self.dataset.raw_to_label().tolist(),
            "training labels": training_lut(self.protocol, index).tolist(),
            "test labels": test_lut(self.protocol, index).tolist(),
            "segments": self._segment_files(),
            "training samples": fingerprint.of_samples(samples.train, self.dataset.root),
            "test samples": fingerprint.of_samples(samples.test, self.dataset.root),
        }

    def _segment_files(self) -> list[str]:
        """Hashes of the annotations that panoptic and instance protocols are read from."""
        if not self.protocol.has_segments:
            return []
        tables = [self.dataset.segment_table(split, self.protocol.task) for split in SPLITS]
        return [fingerprint.of_file(str(table.path)) for table in tables]


def remaining_iterations(runs: Iterable[Run], store: Store) -> int:
    """Of all steps that the store does not have; a step that several runs share counts once."""
    missing: dict[str, int] = {}
    for run in runs:
        missing |= run.missing(store)
    return sum(missing.values())


def execute(run: Run, store: Store, options: RunOptions, watch: Watch) -> tuple[list[FinishedStep], Network]:
    """Train and evaluate whatever is not in the store yet.

    Returns each step's outcome, and the network after the last step.
    """
    method = run.method(run.hyperparameters, run.recipe)
    torch.manual_seed(derive_seed(run.seed, "build"))
    method.build(run.protocol)
    method.network.to(options.device)
    for index, key in enumerate(run.step_keys):
        if store.has(key):
            continue
        _train_step(run, index, method, store, options, watch)
    last = len(run.step_keys) - 1
    method.restore(run.protocol.steps[last], store.tensors(run.step_keys[last]))
    network = Network(
        name=method.network_name or type(method.network).__name__,
        parameters=sum(p.numel() for p in method.network.parameters()),
        replay_images=method.replay_images,
    )
    return [store.finished(key) for key in run.step_keys], network


def _train_step(
    run: Run,
    index: int,
    method: Method,
    store: Store,
    options: RunOptions,
    watch: Watch,
) -> None:
    key, step = run.step_keys[index], run.protocol.steps[index]
    data = _step_data(run, index, method, options)
    if index:
        method.restore(run.protocol.steps[index - 1], store.tensors(run.step_keys[index - 1]))
        method.network.to(options.device)
    torch.manual_seed(derive_seed(run.seed, index, "step"))
    memory = PeakMemory(options.device)
    method.network.eval()  # the same whether the step before was trained now or came from the store
    method.begin_step(step, data)
    method.network.to(options.device)
    trainer = StepTrainer(
        method, run.recipe, run.recipe.at_step(index), run.iterations(index), options.device
    )
    checkpoint = store.checkpoint(key)
    if checkpoint is not None:
        trainer.resume(checkpoint, step)
    trainer.train(
        method.training_data(step, data),
        save=lambda c: store.save_checkpoint(key, c),
        every_seconds=options.checkpoint_seconds,
        report=lambda progress: watch.iterated(index, progress),
    )
    method.end_step(step, data)
    started = time.monotonic()
    measured = evaluate(method, data)
    counts = measured.counts()
    outcome = FinishedStep(
        trained_by=run.label,
        iterations=trainer.iterations,
        final_loss=trainer.progress.mean_losses(),
        counts=counts,
        train_seconds=trainer.progress.seconds,
        eval_seconds=time.monotonic() - started,
        peak_memory_mb=memory.megabytes(),
    )
    shown = predict_samples(method, data, run.shown)
    store.save(key, method.tensors(), measured.tensors(), shown, outcome)
    watch.finished(index, counts)


def _step_data(run: Run, index: int, method: Method, options: RunOptions) -> StepData:
    samples = run.samples[index]
    return StepData(
        dataset=run.dataset,
        protocol=run.protocol,
        index=index,
        train=samples.train,
        test=samples.test,
        augmentation=run.recipe.augmentation(),
        batch=run.recipe.batch,
        statistics=method.pixel_statistics,
        seed=derive_seed(run.seed, index, "data"),
        workers=options.workers,
        device=options.device,
        earlier=run.samples[:index] if method.info.replay else (),
    )
