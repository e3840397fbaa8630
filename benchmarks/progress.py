"""What a person sees while a grid runs: bars with ETA on a terminal, one line a step in a log file."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from benchmarks.bar import Bar
from benchmarks.execute import Network
from benchmarks.locks import Holder
from benchmarks.recording import statistics_note
from benchmarks.run import Run, remaining_iterations
from benchmarks.store import Store
from benchmarks.training import Progress
from reports.record import Counts, SemanticCounts


class Display:
    """Two bars: the whole grid in iterations, and the step in training."""

    def __init__(self, runs: list[Run], store: Store) -> None:
        total = remaining_iterations(runs, store)
        # disable=None: bars on a terminal only.
        self.total = Bar(total=total, desc="all runs", unit="it", disable=None, position=0)
        self.step: Bar | None = None
        self.current: tuple[Run, int] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._close_step()
        self.total.close()

    def iterated(self, run: Run, index: int, progress: Progress) -> None:
        """Called after each iteration."""
        if self.current != (run, index):
            self._open_step(run, index, progress)
        assert self.step is not None
        self.step.update(progress.iteration - self.step.n)
        self.total.update(1)
        if progress.iteration % 10 == 0 or progress.iteration == self.step.total:
            self.step.set_postfix_str(" ".join(f"{k} {v:.3f}" for k, v in progress.mean_losses().items()))

    def finished(self, run: Run, index: int, counts: Counts) -> None:
        """Called after each step."""
        text = f"{_label(run, index)}: {counts.metric} {100 * _mean(counts.quality()):.1f}"
        if isinstance(counts, SemanticCounts):
            text += f", pixel accuracy {100 * counts.overall_accuracy():.1f}"
        self.say(text)

    def say(self, line: str) -> None:
        """A line above the bars."""
        self._close_step()
        with suppress(BrokenPipeError):  # `... 2>&1 | head` has read enough; the training goes on
            tqdm.write(line, file=sys.stderr)

    def _open_step(self, run: Run, index: int, progress: Progress) -> None:
        self._close_step()
        if progress.iteration > 1:
            self.say(f"{_label(run, index)}: goes on after iteration {progress.iteration - 1}")
        self.current = (run, index)
        self.step = Bar(
            total=run.iterations(index),
            initial=progress.iteration - 1,
            desc=_label(run, index),
            unit="it",
            disable=None,
            position=1,
            leave=False,
        )
        # A step that goes on where it was killed has done part of the work already.
        self.total.update(progress.iteration - 1)

    def _close_step(self) -> None:
        if self.step is not None:
            self.step.close()
        self.step = self.current = None


@dataclass(frozen=True)
class RunDisplay:
    """The display as one run sees it: `benchmarks.execute.Watch`."""

    display: Display
    run: Run
    note: Callable[[Mapping[str, Any]], None]
    """Tells other runners how far this one has come."""

    def begun(self, network: Network) -> None:
        if note := statistics_note(self.run, network):
            self.display.say(f"{self.run.full_name}: note: {note}")

    def iterated(self, index: int, progress: Progress) -> None:
        self.display.iterated(self.run, index, progress)
        self.note(
            {
                "run": self.run.full_name,
                "step": index + 1,
                "steps": len(self.run.protocol.steps),
                "iteration": progress.iteration,
                "iterations": self.run.iterations(index),
            }
        )

    def finished(self, index: int, counts: Counts) -> None:
        self.display.finished(self.run, index, counts)

    def waits(self, index: int, holder: Holder) -> None:
        self.display.say(f"{_label(self.run, index)}: waits for {holder}, which is at it")


def _mean(quality: NDArray[np.float64]) -> float:
    """Over the channels where it is defined; NaN where it nowhere is."""
    return float(np.nanmean(quality)) if np.isfinite(quality).any() else float("nan")


def _label(run: Run, index: int) -> str:
    return f"{run.full_name} step {index + 1}/{len(run.protocol.steps)}"
