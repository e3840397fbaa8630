"""What a grid costs: alone, as published, where every script trains all of its steps, and here, where steps
that depend on the same things are trained once."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from benchmarks.run import Run
from benchmarks.store import Store


@dataclass(frozen=True)
class Amount:
    """Of training."""

    iterations: int = 0
    images: int = 0
    """Seen in batches, each as often as it is."""

    def __add__(self, other: Amount) -> Amount:
        return Amount(self.iterations + other.iterations, self.images + other.images)

    def __sub__(self, other: Amount) -> Amount:
        return Amount(self.iterations - other.iterations, self.images - other.images)

    def __str__(self) -> str:
        return f"{self.iterations:,} iterations, {self.images:,} images"


@dataclass(frozen=True)
class Cost:
    alone: Amount
    """Every run trains all of its steps."""
    shared: Amount
    """Every step is trained once."""
    missing: Amount
    """Of these, what the store does not have yet."""
    trained: int
    """Steps, each once."""
    steps: int
    """Of all runs."""


def cost_of(runs: Iterable[Run], store: Store) -> Cost:
    """Of the whole grid, whether it is finished or not."""
    each = [(key, _amount(run, index)) for run in runs for index, key in run.step_keys.items()]
    once = dict(each)
    return Cost(
        alone=sum((amount for _, amount in each), Amount()),
        shared=sum(once.values(), Amount()),
        missing=sum((amount for key, amount in once.items() if not store.has(key)), Amount()),
        trained=len(once),
        steps=len(each),
    )


def cost_text(runs: list[Run], store: Store) -> str:
    """The last lines of `--dry-run`."""
    cost = cost_of(runs, store)
    saved, alone = cost.alone - cost.shared, cost.alone
    shares = f"{_percent(saved.iterations, alone.iterations)} and {_percent(saved.images, alone.images)}"
    return "\n".join(
        [
            f"every script by itself: {cost.steps} steps, {cost.alone}",
            f"here, each step once:   {cost.trained} steps, {cost.shared}",
            f"sharing saves:          {cost.steps - cost.trained} steps, {saved} ({shares})",
            f"still to be trained:    {cost.missing}",
        ]
    )


def _amount(run: Run, index: int) -> Amount:
    iterations = run.iterations(index)
    return Amount(iterations, iterations * run.recipe.batch)


def _percent(part: int, whole: int) -> str:
    return f"{100 * part / whole:.1f} %" if whole else "0.0 %"
