"""The grid of runs: one that fails is a row of its own and stops none of the others."""

from __future__ import annotations

import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from benchmarks import records
from benchmarks.claims import FAILED, FINISHED, MINE, Claims
from benchmarks.cost import cost_text
from benchmarks.execute import execute
from benchmarks.failures import reason_of
from benchmarks.memory import release_memory
from benchmarks.processes import all_failed, end_all, first_then_others, told
from benchmarks.progress import Display, RunDisplay
from benchmarks.recording import failed_record, finished_record
from benchmarks.run import Run, RunOptions
from benchmarks.shared_store import SharedStore
from benchmarks.stopping import Interrupted
from benchmarks.store import Store
from ops.processes import num_processes
from reports.files import CannotWrite, write_text
from reports.record import Record


@dataclass(frozen=True)
class Outcome:
    """How a grid ended."""

    trained: int
    kept: int
    failed: int


class Launcher(Protocol):
    """Runs each in a process of its own: `SideBySide` on this machine, `Cluster` as jobs."""

    def run_all(self, waiting: Sequence[Run], claims: Claims) -> tuple[int, int]:
        """How many other runners finished, and how many failed."""


def run_grid(runs: list[Run], folder: Path, options: RunOptions, launcher: Launcher | None = None) -> Outcome:
    """Run what has no record yet: in this process, or each in its own. Others may be at it too."""
    _reject_other_data(runs)
    waiting = missing(runs, folder)
    claims = Claims(waiting, folder)
    if launcher:
        finished, failed = launcher.run_all(waiting, claims)
    else:
        finished, failed = _one_by_one(waiting, folder, options, claims)
    trained = len(waiting) - finished - failed
    return Outcome(trained=trained, kept=len(runs) - len(waiting) + finished, failed=failed)


def missing(runs: Sequence[Run], folder: Path) -> list[Run]:
    """Those without a finished record."""
    places = told(lambda: [i for i, run in enumerate(runs) if records.existing(run, folder) is None])
    return [runs[i] for i in places]


def _one_by_one(waiting: Sequence[Run], folder: Path, options: RunOptions, claims: Claims) -> tuple[int, int]:
    """How many other runners finished, and how many failed."""
    pending, finished, failed = list(waiting), 0, 0
    store = SharedStore(folder / "store") if num_processes() > 1 else Store(folder / "store")
    with Display(pending, Store(store.folder)) as display:
        while pending:
            turn = told(lambda: claims.next(pending, display.say))
            if turn is None:
                continue
            place, whose = turn
            run = pending.pop(place)
            finished += whose == FINISHED
            failed += whose == FAILED
            if whose == MINE:
                try:
                    succeeded = _run_one(run, folder, store, options, RunDisplay(display, run, claims.note))
                finally:
                    claims.release(run)
                if not succeeded:
                    failed += 1
                    release_memory(options.device)
    return finished, failed


def _reject_other_data(runs: Sequence[Run]) -> None:
    """Ends all where the data of some process, perhaps on another machine, are not the first one's."""
    if num_processes() == 1:
        return
    keys = told(lambda: [run.key for run in runs])

    def compare() -> None:
        for run, key in zip(runs, keys, strict=True):
            if run.key != key:
                where = f"{run.full_name}: {run.dataset.root}"
                raise ValueError(f"{where}: not the data of the first process; copy them from there")

    first_then_others(compare)


def plan_text(runs: list[Run], folder: Path) -> str:
    """What a grid would do, step by step and in all: `--dry-run`."""
    store, lines, planned = Store(folder / "store"), [], set[str]()
    for run in runs:
        if records.existing(run, folder) is not None:
            lines.append(f"{run.full_name}: has its record")
            continue
        for index, key in run.step_keys.items():
            train, test = len(run.samples[index].train), len(run.samples[index].test)
            todo = "to evaluate" if index in run.checkpoints else "to train"
            state = "stored" if store.has(key) else "shared" if key in planned else todo
            planned.add(key)
            lines.append(
                f"{run.full_name} step {index + 1}/{len(run.protocol.steps)}: {state}, "
                f"{run.iterations(index)} iterations, {train} train and {test} test images"
            )
    return "\n".join([*lines, cost_text(runs, store)])


def _run_one(run: Run, folder: Path, store: Store, options: RunOptions, watch: RunDisplay) -> bool:
    started, display = time.monotonic(), watch.display
    try:
        steps, network = execute(run, store, options, watch)
        if run.leaves_record:
            told(lambda: _write(run, folder, finished_record(run, options.device, steps, network)))
    except Interrupted as stop:
        display.say(f"{run.full_name}: stopped; {stop or 'its last checkpoint stands'}")
        raise
    except CannotWrite:  # what can be written no longer is no method's fault, and no other run could go on
        raise
    # A method's fault, whatever it is, must not stop the others; a user's code may even call exit().
    except (Exception, SystemExit) as error:
        _note_failure(run, folder, options, reason_of(error), display.say)
        return False
    display.say(f"{run.full_name}: finished in {(time.monotonic() - started) / 60:.1f} min")
    return True


def _write(run: Run, folder: Path, record: Record) -> None:
    records.lay_out_samples(run, Store(folder / "store"), folder)
    records.save(record, run, folder)


def _note_failure(
    run: Run, folder: Path, options: RunOptions, reason: str, say: Callable[[str], None]
) -> None:
    """Record and log; by the first of several processes, unless this one failed alone: that ends them all."""
    alone = not all_failed(run.full_name, reason)
    if run.share.rank and not alone:
        return
    log = _write_log(run, folder)
    if records.existing(run, folder) is None:  # else another runner took over meanwhile, and finished it
        records.save(failed_record(run, options.device, reason), run, folder)
    where = f" in process {run.share.rank} of {run.share.processes} alone" if alone else ""
    line = f"{run.full_name}: failed{where}: {reason} (traceback in {log})"
    if alone:
        end_all(f"{line}; the others cannot go on: start the command again")
    say(line)


def _write_log(run: Run, folder: Path) -> Path:
    log = folder / "logs" / run.place.with_suffix(".log")
    write_text(log, traceback.format_exc())
    return log
