"""Which run a runner takes next, among runners that share a folder: none is trained twice."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks import records
from benchmarks.locks import POLL, Holder, Lock
from benchmarks.run import Run
from benchmarks.store import Store

FINISHED, FAILED, MINE = "finished", "failed", "mine"


class Claims:
    """The runs that this runner was asked for, and what others have made of them since it started."""

    def __init__(self, runs: Sequence[Run], folder: Path) -> None:
        self.folder, self.store = folder, Store(folder / "store")
        self.first_seen = {run: _stamp(records.path_of(run, folder)) for run in runs}
        self.lock: Lock | None = None
        """Of the run that is this runner's now."""
        self._told: set[str] = set()

    def next(self, pending: Sequence[Run], say: Callable[[str], None]) -> tuple[int, str] | None:
        """A place in `pending`, and whether that run was FINISHED or FAILED by another runner, or is MINE.

        None, after a while, where others are at all of them; `say` is told whom one waits for.
        """
        for place, run in enumerate(pending):
            if (ended := self.outcome(run)) is not None:
                return place, ended
        for place, run in enumerate(pending):
            self.lock = self.take(run)
            if self.lock is not None:
                return place, MINE
        self.wait(pending, say)
        return None

    def take(self, run: Run) -> Lock | None:
        """The right to run it; None where somebody else has that, or has ended it."""
        if self.held_by(run) is not None:
            return None
        lock = self.store.locks.take(lock_name(run), {"run": run.full_name})
        if lock is not None and self.outcome(run) is not None:  # ended between the look and the lock
            lock.release(done=False)
            return None
        return lock

    def release(self, run: Run) -> None:
        """After a run that was MINE."""
        if self.lock is not None:
            self.lock.release(done=records.existing(run, self.folder) is not None)
            self.lock = None

    def note(self, note: Mapping[str, Any]) -> None:
        """What others may know of the run that is MINE."""
        if self.lock is not None:
            self.lock.note(note)

    def outcome(self, run: Run) -> str | None:
        """Whether another runner FINISHED it or saw it FAIL since this one started; None while it is open."""
        path = records.path_of(run, self.folder)
        if _stamp(path) == self.first_seen[run]:
            return None
        if records.existing(run, self.folder) is not None:
            return FINISHED
        return FAILED if records.failure(run, self.folder) is not None else None

    def held_by(self, run: Run) -> Holder | None:
        """Who keeps this runner from it: who has it, or trains the step that it would begin with."""
        holder = self.store.locks.holder(lock_name(run))
        first = next(iter(run.missing(self.store)), None)
        return holder or (self.store.locks.holder(first) if first else None)

    def wait(self, pending: Sequence[Run], say: Callable[[str], None]) -> None:
        """A little; whom one waits for is said once."""
        for run in pending:
            holder = self.held_by(run)
            if holder is not None and str(holder) not in self._told:
                self._told.add(str(holder))
                say(f"{run.full_name}: waits for {holder}, which is at {holder.note.get('run', 'it')}")
                break
        time.sleep(POLL)


def lock_name(run: Run) -> str:
    """Two rows may have the same steps, hence the same key: each leaves a record of its own."""
    return hashlib.sha256(f"{run.key} {run.full_name}".encode()).hexdigest()[:32]


def _stamp(path: Path) -> tuple[int, int] | None:
    """Changes whenever the file is written; records are replaced, never changed."""
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_ino, status.st_mtime_ns
