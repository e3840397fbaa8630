"""The grid of runs: one that fails is a row of its own and stops none of the others."""

from __future__ import annotations

import time
import traceback
from dataclasses import dataclass
from pathlib import Path

from benchmarks import records
from benchmarks.progress import Display, RunDisplay
from benchmarks.run import Run, RunOptions, execute
from benchmarks.side_by_side import SideBySide
from benchmarks.store import Store


@dataclass(frozen=True)
class Outcome:
    """How a grid ended."""

    trained: int
    kept: int
    failed: int


def run_grid(
    runs: list[Run], folder: Path, options: RunOptions, side_by_side: SideBySide | None = None
) -> Outcome:
    """Run what has no record yet: in this process, or each in its own."""
    store = Store(folder / "store")
    waiting = [run for run in runs if records.existing(run, folder) is None]
    if side_by_side:
        failed = side_by_side.run_all(waiting)
        return Outcome(trained=len(waiting) - failed, kept=len(runs) - len(waiting), failed=failed)
    failed = 0
    with Display(waiting, store) as display:
        for run in waiting:
            failed += not _run_one(run, folder, store, options, display)
    return Outcome(trained=len(waiting) - failed, kept=len(runs) - len(waiting), failed=failed)


def plan_text(runs: list[Run], folder: Path) -> str:
    """What a grid would do: `--dry-run`."""
    store, lines, planned = Store(folder / "store"), [], set[str]()
    for run in runs:
        if records.existing(run, folder) is not None:
            lines.append(f"{run.asked.name} {run.label}: has its record")
            continue
        for index, key in run.step_keys.items():
            train, test = len(run.samples[index].train), len(run.samples[index].test)
            todo = "to evaluate" if index in run.checkpoints else "to train"
            state = "stored" if store.has(key) else "shared" if key in planned else todo
            planned.add(key)
            lines.append(
                f"{run.asked.name} {run.label} step {index + 1}/{len(run.protocol.steps)}: {state}, "
                f"{run.iterations(index)} iterations, {train} train and {test} test images"
            )
    return "\n".join(lines)


def _run_one(run: Run, folder: Path, store: Store, options: RunOptions, display: Display) -> bool:
    started = time.monotonic()
    try:
        steps, network = execute(run, store, options, RunDisplay(display, run))
        if run.leaves_record:
            records.lay_out_samples(run, store, folder)
            records.save(records.finished_record(run, options.device, steps, network), run, folder)
    # A method's fault, whatever it is, must not stop the others; a user's code may even call exit().
    except (Exception, SystemExit) as error:
        reason = _reason(error)
        log = _write_log(run, folder)
        records.save(records.failed_record(run, options.device, reason), run, folder)
        display.say(f"{run.asked.name} {run.label}: failed: {reason} (traceback in {log})")
        return False
    display.say(f"{run.asked.name} {run.label}: finished in {(time.monotonic() - started) / 60:.1f} min")
    return True


def _reason(error: BaseException) -> str:
    """The error in one line; that of a loader process is the last line of the text it sent."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    if not lines:
        return type(error).__name__
    return lines[-1] if lines[0].startswith("Caught ") else f"{type(error).__name__}: {lines[0]}"


def _write_log(run: Run, folder: Path) -> Path:
    log = folder / "logs" / run.asked.name / records.path_of(run, folder).parent.name / f"seed-{run.seed}.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    log.write_text(traceback.format_exc(), encoding="utf-8")
    return log
