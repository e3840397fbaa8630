"""From what was asked for to the runs: protocols x methods x seeds, with data, recipe and settings."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from benchmarks import fingerprint
from benchmarks.checkpoints import CheckpointFile, check_for_run
from benchmarks.configure import configure
from benchmarks.cores import cores
from benchmarks.place import ALONE, Place
from benchmarks.run import Run
from benchmarks.settings import Setting, suggest
from methods.method import MethodClass
from methods.registry import builtin_methods, find_methods
from protocols import names
from protocols.card import card, card_text
from protocols.custom import load_toml
from protocols.datasets import Dataset, find, open_dataset
from protocols.datasets.synthetic import draw_standin
from protocols.protocol import Protocol
from protocols.shares import Share, divided
from protocols.splits import StepSamples, check_steps, step_samples

DEFAULT_DATA = Path("data")


@dataclass(frozen=True, eq=False)
class Benchmark:
    """A protocol with its data: the stage on which methods are compared."""

    protocol: Protocol
    dataset: Dataset
    cache: Path
    recipe: dict[str, Any] = field(default_factory=dict)
    """The `[recipe]` table of a user's protocol, for the network that the task's baselines use; its
    `[recipe.<network>]` tables are for the others."""
    methods: dict[str, dict[str, Any]] = field(default_factory=dict)
    """Its `[methods.<name>]` tables: hyperparameters of single methods."""

    @cached_property
    def samples(self) -> list[StepSamples]:
        """Of every step. Raises ValueError where a step has none, or a file is missing."""
        return self._checked(self.protocol)

    @cached_property
    def joint_samples(self) -> list[StepSamples]:
        return self._checked(self.protocol.joint())

    def own_recipe(self, family: str) -> dict[str, Any]:
        """What the user's protocol sets for the methods of a family."""
        if family == self._first_family():
            return {name: value for name, value in self.recipe.items() if not isinstance(value, dict)}
        return dict(self.recipe.get(family, {}))

    def _first_family(self) -> str:
        return find_methods("finetune", self.protocol.task)[0].family

    def _checked(self, protocol: Protocol) -> list[StepSamples]:
        samples = step_samples(protocol, self.dataset, self.cache, cores())
        check_steps(protocol, samples)
        return samples


def open_benchmark(name: str, task: str, data_root: Path | None, runs: Path) -> Benchmark:
    """Find the data of a protocol, named or written in a TOML file; draw the stand-in where there is none.

    Raises ValueError or FileNotFoundError, in one line with the remedy, on an unknown name, and on data
    that a given `data_root` should hold and does not.
    """
    cache = runs / "cache"
    if name.endswith(".toml"):
        own = load_toml(Path(name), data_root)
        return Benchmark(own.protocol, own.dataset, cache, own.recipe, own.methods)
    protocol = names.parse(name, task)
    dataset = _at_hand(protocol.dataset, data_root)
    if dataset is None:
        dataset = open_dataset(protocol.dataset, draw_standin(protocol.dataset, runs / "standin"))
    return Benchmark(protocol, dataset, cache)


def _at_hand(key: str, data_root: Path | None) -> Dataset | None:
    """The data set in the given folder, or in the default one where it is there."""
    return open_dataset(key, data_root) if data_root is not None else find(key, DEFAULT_DATA)


def open_protocol(
    name: str, task: str, data_root: Path | None, method: MethodClass
) -> tuple[Protocol, dict[str, Any], dict[str, dict[str, Any]]]:
    """A protocol without data, and what a user's own sets for a method's family and for single methods."""
    if not name.endswith(".toml"):
        return names.parse(name, task), {}, {}
    own = load_toml(Path(name), data_root)
    benchmark = Benchmark(own.protocol, own.dataset, Path(), own.recipe, own.methods)
    return own.protocol, benchmark.own_recipe(method.family), own.methods


def make_run(
    benchmark: Benchmark,
    method: MethodClass,
    scale: str,
    seed: int,
    settings: Sequence[Setting],
    device: str = "cpu",
    checkpoints: Sequence[CheckpointFile] = (),
    evaluates_only: bool = False,
    place: Place = ALONE,
    batch_per_device: int | None = None,
) -> Run:
    """One cell of the grid, of whose batches a device sees at most `batch_per_device` images at once.

    Raises ValueError on a setting that the method does not know, for checkpoints that are not of this
    protocol and method, and for a batch that the processes cannot share.
    """
    protocol = benchmark.protocol
    own_recipe = benchmark.own_recipe(method.family)
    setup = configure(protocol, own_recipe, benchmark.methods, method, scale, settings)
    overrides = setup.overrides | _named(checkpoints)
    joint = method.trains_jointly
    trained = protocol.joint() if joint else protocol
    return Run(
        name=_row_name(method.key, overrides),
        asked=protocol,
        protocol=trained,
        dataset=benchmark.dataset,
        samples=benchmark.joint_samples if joint else benchmark.samples,
        method=method,
        hyperparameters=setup.hyperparameters,
        recipe=setup.recipe,
        overrides=overrides,
        scale="custom" if own_recipe else scale,
        seed=seed,
        device=device,
        checkpoints=check_for_run(checkpoints, trained, method, evaluates_only),
        evaluates_only=evaluates_only,
        share=_share(method.key, setup.recipe.batch, place, batch_per_device),
    )


def _share(key: str, batch: int, place: Place, batch_per_device: int | None) -> Share:
    try:
        return divided(batch, place.rank, place.processes, batch_per_device)
    except ValueError as error:
        raise ValueError(f"{key}: {error}") from None


def _named(checkpoints: Sequence[CheckpointFile]) -> dict[str, Any]:
    """What a row's name says of the checkpoints that a run starts from."""
    if not checkpoints:
        return {}
    together = fingerprint.of_settings([file.sha256 for file in checkpoints])
    several = f"{len(checkpoints)} files.{together[:8]}"
    absent = sum(len(file.card.incomplete) for file in checkpoints)
    name = several if len(checkpoints) > 1 else checkpoints[0].name
    return {"checkpoint": name} | ({"random_parameters": absent} if absent else {})


def reject_unknown_methods(benchmark: Benchmark, chosen: Sequence[MethodClass]) -> None:
    """Raises ValueError for a `[methods.<name>]` table that no method of ours, or of this run, would read."""
    known = {*builtin_methods(), *(method.key for method in chosen)}
    for name in benchmark.methods:
        if name not in known:
            raise ValueError(
                f"[methods.{name}] of {benchmark.protocol.name}: no method {name!r}; {suggest(name, known)}"
            )


def _row_name(key: str, overrides: dict[str, Any]) -> str:
    """ "mib", or "mib[kd_weight=100]" where something was set."""
    if not overrides:
        return key
    return f"{key}[{','.join(f'{name}={value}' for name, value in sorted(overrides.items()))}]"


def open_card(name: str, task: str, data_root: Path | None, runs: Path) -> tuple[dict[str, Any], str]:
    """A protocol's card as data and as text; image counts only where its data are at hand."""
    dataset: Dataset | None
    if name.endswith(".toml"):
        own = load_toml(Path(name), data_root)
        protocol, dataset = own.protocol, own.dataset
    else:
        protocol = names.parse(name, task)
        dataset = _at_hand(protocol.dataset, data_root)
    samples = None
    if dataset is not None:
        samples = step_samples(protocol, dataset, runs / "cache", cores())
    return card(protocol, samples), card_text(protocol, samples)
