"""The state of every run that was asked of a folder, from its files alone."""

from __future__ import annotations

import json
import time
from collections.abc import Collection, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from benchmarks.asked import Asked, known
from benchmarks.locks import STALE
from benchmarks.store import Store
from reports import record as schema

DONE, RUNNING, QUEUED, WAITING = "done", "running", "queued", "waiting"
STOPPED, FAILED, STALE_RUN, LOST = "stopped", "failed", "stale", "lost"
ORDER = (DONE, RUNNING, QUEUED, WAITING, STOPPED, FAILED, STALE_RUN, LOST)


@dataclass(frozen=True)
class State:
    """What became of a run."""

    run: str
    state: str
    """done; running; stopped: begun, and nobody is at it; queued: a job waits for its turn; waiting: nobody
    has begun; failed; stale: who was at it gives no sign of life; lost: its job is gone without a result."""
    detail: str
    job: str
    log: str


def states(
    folder: Path, queue: Collection[str] | None = None, only: Collection[str] | None = None
) -> list[State]:
    """Of all runs that were asked for, or those of `only`. `queue`: the jobs that the cluster still has;
    None where it cannot be asked."""
    store = Store(folder / "store")
    return [_state(a, folder, store, queue) for a in known(folder) if only is None or a.run in only]


def _state(asked: Asked, folder: Path, store: Store, queue: Collection[str] | None) -> State:
    state, detail = _recorded(asked, folder) or ("", "")
    job, sign = asked.job, store.locks.last_sign(asked.lock)
    if state != DONE and sign is not None:
        holder, written = sign
        job, age = holder.job or job, max(0.0, time.time() - written)
        where = f"{_progress(holder.note)} on {holder}"
        if not holder.is_gone() and age <= STALE:
            state, detail = RUNNING, f"{where}, seen {age:.0f} s ago"
        elif not state:
            gone = "that process is gone" if holder.is_gone() else f"no sign of life for {age / 60:.0f} min"
            state, detail = STALE_RUN, f"{where}: {gone}; the next runner goes on"
    if not state:
        state, detail = _not_begun(asked, store, queue)
    return State(asked.run, state, detail, job, asked.log)


def _recorded(asked: Asked, folder: Path) -> tuple[str, str] | None:
    """From a record of this very run."""
    try:
        record = schema.read(folder / asked.record)
    except ValueError:
        return None
    if record.key != asked.key:
        return None
    if record.finished:
        return DONE, f"{len(record.steps)} steps"
    return FAILED, record.reason


def _progress(note: object) -> str:
    if not isinstance(note, dict) or "step" not in note:
        return "beginning"
    step = f"step {note['step']}/{note['steps']}"
    if note["iteration"] >= note["iterations"]:
        return f"{step}, trained, being tested"
    return f"{step}, iteration {note['iteration']}/{note['iterations']}"


def _not_begun(asked: Asked, store: Store, queue: Collection[str] | None) -> tuple[str, str]:
    reached = _reached(asked, store)
    if asked.job and (queue is None or asked.job in queue):
        return QUEUED, f"{reached}{'; ' if reached else ''}job {asked.job}"
    if asked.job:
        return LOST, f"job {asked.job} left the queue without a result; see {asked.log}, and submit again"
    return (STOPPED, reached) if reached else (WAITING, "")


def _reached(asked: Asked, store: Store) -> str:
    """How far the store has it, "" for not at all."""
    for number, (key, iterations) in enumerate(asked.steps, start=1):
        if store.has(key):
            continue
        if (iteration := store.iteration(key)) is not None:
            return f"step {number}/{len(asked.steps)}, iteration {iteration}/{iterations}"
        return f"step {number}/{len(asked.steps)} is next" if number > 1 else ""
    return "all steps are stored, the record is to be written"


def table(found: Sequence[State]) -> str:
    """For a terminal: a line a run, and the number of each state."""
    width = max((len(each.run) for each in found), default=0)
    lines = [f"{each.run:<{width}}  {each.state:<7}  {each.job:<8}  {each.detail}".rstrip() for each in found]
    counts = {state: [each.state for each in found].count(state) for state in ORDER}
    summary = ", ".join(f"{count} {state}" for state, count in counts.items() if count)
    return "\n".join([*lines, f"{len(found)} runs: {summary}" if found else "Nothing was asked for yet."])


def as_json(found: Sequence[State]) -> str:
    return json.dumps([asdict(each) for each in found], indent=2)
