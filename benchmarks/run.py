"""One run, before it is run: a protocol, a method and a seed, and the keys of its steps in the store."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import torch

from benchmarks import fingerprint
from benchmarks.checkpoints import CheckpointFile
from benchmarks.samples import choose_samples
from benchmarks.store import Store
from methods.method import MethodClass
from methods.recipe import PER_STEP, Recipe
from methods.registry import source_of
from protocols.datasets import Dataset, Sample
from protocols.datasets.dataset import SPLITS
from protocols.labels import test_lut, training_lut
from protocols.loading import batches_per_epoch
from protocols.protocol import Protocol
from protocols.shares import WHOLE, Share
from protocols.splits import StepSamples
from reports.samples import folder_of

STORE_VERSION = 1
"""Raise it when stored steps stop being what their keys say."""


@dataclass(frozen=True)
class RunOptions:
    """How, not what: nothing here changes a result."""

    device: torch.device
    workers: int = 0
    checkpoint_seconds: float = 60.0


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
