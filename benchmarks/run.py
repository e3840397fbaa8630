"""One run: a protocol, a method and a seed, step after step, into one record."""

from __future__ import annotations

import dataclasses
import math
import time
import typing
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial
from pathlib import Path
from typing import Any, NamedTuple

import torch

from benchmarks import fingerprint
from benchmarks.checkpoints import CheckpointFile, restore
from benchmarks.evaluation import evaluate
from benchmarks.locks import Holder
from benchmarks.memory import PeakMemory
from benchmarks.processes import assert_alike
from benchmarks.samples import choose_samples, predict_samples
from benchmarks.store import FinishedStep, Store
from benchmarks.training import Progress, StepTrainer
from methods.method import Method, MethodClass
from methods.networks.norm import has_batch_statistics, synchronise_batch_norm
from methods.recipe import PER_STEP, Recipe
from methods.registry import source_of
from ops.processes import gathered
from protocols.datasets import Dataset, Sample
from protocols.datasets.dataset import SPLITS
from protocols.labels import test_lut, training_lut
from protocols.loading import StepData, batches_per_epoch, derive_seed
from protocols.protocol import Protocol
from protocols.shares import WHOLE, Share
from protocols.splits import StepSamples
from reports.record import Counts
from reports.samples import folder_of

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
    batch_statistics: bool
    """Whether some layer normalises by the statistics of its batch while it trains the first step."""


class Watch(typing.Protocol):
    """Who is told how a run goes."""

    def begun(self, network: Network) -> None:
        """After the network was built."""

    def iterated(self, index: int, progress: Progress) -> None:
        """After each iteration of the step `index`."""

    def finished(self, index: int, counts: Counts) -> None:
        """After the step `index` was trained and tested."""

    def waits(self, index: int, holder: Holder) -> None:
        """When another runner is at the step `index`, which this run needs too."""


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
    checkpoints: Mapping[int, CheckpointFile] = field(default_factory=dict)
    """Steps that are not trained but read from a file."""
    evaluates_only: bool = False
    """Whether the run consists of these steps alone."""
    share: Share = WHOLE
    """How each batch is divided. The bits depend on it, and where something is normalised by the images
    that are seen at once, the result does."""

    @property
    def label(self) -> str:
        """As a step says who trained it: without the protocol, since several may share it."""
        return f"{self.name}/seed-{self.seed}"

    @property
    def full_name(self) -> str:
        """What people read, and what `--only` takes."""
        return f"{self.asked.name} {self.label}"

    @property
    def place(self) -> Path:
        """Where its files lie below the folder of their kind, without an ending."""
        return Path(self.asked.name, folder_of(self.name), f"seed-{self.seed}")

    def iterations(self, index: int) -> int:
        if index in self.checkpoints:
            return 0
        per_epoch = batches_per_epoch(len(self.samples[index].train), self.recipe.batch)
        return self.recipe.at_step(index).total_iterations(per_epoch)

    @cached_property
    def step_keys(self) -> dict[int, str]:
        """The store's key of each step of the run: a hash of everything that its result depends on."""
        keys: dict[int, str] = {}
        parent = ""
        for index in self.checkpoints if self.evaluates_only else range(len(self.protocol.steps)):
            depends = self._depends_on(index, parent)
            if index in self.checkpoints:
                depends = self._of_checkpoint(self.checkpoints[index], depends)
            keys[index] = parent = fingerprint.of_settings(depends)[:32]
        return keys

    @cached_property
    def shown(self) -> dict[str, Sample]:
        """The test images whose predictions are kept, by name."""
        return choose_samples(self.samples[-1].test, self.dataset.root)

    def _of_checkpoint(self, file: CheckpointFile, depends: dict[str, Any]) -> dict[str, Any]:
        """What a step depends on that was not trained here: its file, and how that is evaluated."""
        training = {"parent", "seed", "weights", "schedule", "training labels", "training samples"}
        training |= {"processes", "passes"}
        return {k: v for k, v in depends.items() if k not in training} | {"checkpoint": file.sha256}

    @property
    def leaves_record(self) -> bool:
        """Whether the last step is among them: without it there is nothing final to compare."""
        return set(self.step_keys) in ({self._last}, set(range(self._last + 1)))

    def missing(self, store: Store) -> dict[str, int]:
        """The iterations of the steps that the store does not have yet, by their keys."""
        return {key: self.iterations(i) for i, key in self.step_keys.items() if not store.has(key)}

    @property
    def key(self) -> str:
        return fingerprint.of_settings(
            [[*self.step_keys.values()], self.asked.name, dataclasses.asdict(self.asked)]
        )[:32]

    @property
    def _last(self) -> int:
        return len(self.protocol.steps) - 1

    def _depends_on(self, index: int, parent: str) -> dict[str, Any]:
        samples, recipe = self.samples[index], dataclasses.asdict(self.recipe)
        divided = {"processes": self.share.processes, "passes": self.share.passes}
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
            **(divided if self.share.parts > 1 else {}),
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
    batch_statistics = has_batch_statistics(method.network)
    watch.begun(_network_of(method, batch_statistics))
    for index, key in run.step_keys.items():
        with store.claimed(key, partial(watch.waits, index)) as ours:
            if ours and index in run.checkpoints:
                _read_step(run, index, method, store, options, watch)
            elif ours:
                _train_step(run, index, method, store, options, watch)
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


def _read_step(run: Run, index: int, method: Method, store: Store, options: RunOptions, watch: Watch) -> None:
    """Evaluate a checkpoint as if the step had just been trained."""
    memory = PeakMemory(options.device)
    restore(method, run.protocol.steps[index], run.checkpoints[index])
    method.network.to(options.device)
    data, source = _step_data(run, index, method, options), f"checkpoint {run.checkpoints[index].name}"
    _test_step(run, method, data, store, watch, memory, _Training(source, 0, {}, 0.0))


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
    if run.share.processes > 1:
        synchronise_batch_norm(method.network)
    trainer = StepTrainer(
        method,
        run.recipe,
        run.recipe.at_step(index),
        run.iterations(index),
        options.device,
        run.share,
        data.seed,
    )
    unfinished = store.checkpoint(key)
    if unfinished is not None:
        trainer.resume(unfinished, step)
    trainer.train(
        method.training_data(step, data),
        save=lambda c: store.save_checkpoint(key, c),
        every_seconds=options.checkpoint_seconds if run.share.rank == 0 else math.inf,
        report=lambda progress: watch.iterated(index, progress),
    )
    if run.share.parts > 1:
        torch.manual_seed(derive_seed(run.seed, index, "end"))
    method.end_step(step, data)
    assert_alike(method.tensors())
    progress = trainer.progress
    training = _Training(run.label, trainer.iterations, progress.mean_losses(), progress.seconds)
    _test_step(run, method, data, store, watch, memory, training)


def _test_step(
    run: Run,
    method: Method,
    data: StepData,
    store: Store,
    watch: Watch,
    memory: PeakMemory,
    training: _Training,
) -> None:
    """Evaluate the method as it is after a step, and store it."""
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
    store.save(run.step_keys[data.index], method.tensors(), measured.tensors(), shown, outcome)
    watch.finished(data.index, counts)


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
        share=run.share,
        statistics=method.pixel_statistics,
        seed=derive_seed(run.seed, index, "data"),
        workers=options.workers,
        device=options.device,
        earlier=run.samples[:index] if method.info.replay else (),
    )
