"""Who works on which part of a batch: several processes side by side, and passes one after the other."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TypeVar

T = TypeVar("T")


@dataclass(frozen=True)
class Share:
    """One process's part of every batch.

    A pass is a contiguous part of the batch, and each process has a contiguous part of each pass: what is
    learnt in one pass does not depend on the number of processes.
    """

    rank: int = 0
    """This process, 0 to `processes` - 1."""
    processes: int = 1
    passes: int = 1
    """Parts of a batch that are seen one after the other; their gradients add up."""

    @property
    def parts(self) -> int:
        """Of a batch, over all processes and passes."""
        return self.processes * self.passes

    def number(self, index: int) -> int:
        """Which of a batch's `parts` this process has in the pass `index`."""
        return index * self.processes + self.rank

    def of_batch(self, batch: Sequence[T]) -> Iterator[Sequence[T]]:
        """What this process sees of a batch, pass after pass; the batch is a multiple of `parts`."""
        size = len(batch) // self.parts
        for index in range(self.passes):
            start = self.number(index) * size
            yield batch[start : start + size]

    def of_tests(self, items: Sequence[T]) -> Sequence[T]:
        """Every `processes`-th item: each is some process's, and none is two's."""
        return items[self.rank :: self.processes]

    def describe(self, batch: int) -> str:
        """ "24 = 2 processes x 6 images x 2 passes"."""
        factors = [f"{batch // self.parts} images"]
        factors += [f"{self.passes} passes"] if self.passes > 1 else []
        factors = [f"{self.processes} processes", *factors] if self.processes > 1 else factors
        return f"{batch} = {' x '.join(factors)}"


WHOLE = Share()
"""One process that sees each batch at once."""


def divided(batch: int, rank: int, processes: int, at_most: int | None) -> Share:
    """Shares of `batch` images: at most so many on a device at once, in as few passes as can be.

    Raises ValueError where the batch cannot be shared evenly.
    """
    if batch % processes:
        fitting = ", ".join(str(n) for n in range(1, batch + 1) if batch % n == 0)
        raise ValueError(
            f"recipe.batch = {batch} images cannot be shared evenly by {processes} processes; "
            f"start one of {fitting}, or set recipe.batch"
        )
    if at_most is not None and at_most < 1:
        raise ValueError(f"--batch-per-device {at_most}: must be 1 or more")
    per_process = batch // processes
    passes = next(
        n for n in range(1, per_process + 1)
        if per_process % n == 0 and (at_most is None or per_process // n <= at_most)
    )  # fmt: skip
    return Share(rank, processes, passes)
