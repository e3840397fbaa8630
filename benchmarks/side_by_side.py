"""Runs side by side: a process each, on its share of the cores.

Networks of mini scale are too small for two threads to help; two runs of one thread each take half the time.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import IO

from tqdm import tqdm

from benchmarks import records
from benchmarks.again import command, python_path
from benchmarks.bar import Bar
from benchmarks.claims import FAILED, FINISHED, Claims
from benchmarks.cores import cores
from benchmarks.locks import Lock
from benchmarks.place import EndedByAnother
from benchmarks.recording import failed_record
from benchmarks.run import Run, RunOptions, remaining_iterations
from benchmarks.stopping import CANNOT_WRITE, SIGNALS, be_patient
from benchmarks.store import Store

AT_MOST = 4
"""Unless asked for: a run of mini scale takes a gigabyte."""
PATIENCE = 60.0
"""Seconds that a process may take to save."""


def choose_jobs(asked: int | None, runs: Sequence[Run], device: str, processes: int = 1) -> int:
    """How many runs go side by side. By default as many as there are cores, up to four, for several runs of
    mini scale on the CPU; others need the memory, or the GPU, for themselves.

    It depends on what was asked alone, not on what is finished already: the number of threads changes the
    last bits of a result.

    Raises ValueError unless `asked` is above 0, and where several processes of `torchrun` train each run.
    """
    if asked is not None:
        if asked < 1:
            raise ValueError(f"--jobs {asked}: must be 1 or more")
        if asked > 1 < processes:
            raise ValueError(f"--jobs {asked}: under torchrun the runs go one by one; leave it out")
        return asked
    if processes > 1:
        return 1
    if device != "cpu" or any(run.scale != "mini" for run in runs):
        return 1
    return max(1, min(cores(), AT_MOST, len(runs)))


@dataclass
class _Child:
    run: Run
    lock: Lock
    """Held for the child until it takes it itself."""
    process: subprocess.Popen[str]
    echo: threading.Thread


class SideBySide:
    """Starts the same command again for each run, with `--only` to say which."""

    def __init__(self, arguments: Sequence[str], folder: Path, options: RunOptions, jobs: int) -> None:
        self.arguments, self.folder, self.options, self.jobs = list(arguments), folder, options, jobs
        self.store = Store(folder / "store")
        self.ending = False

    def __str__(self) -> str:
        return f"{self.jobs} side by side"

    def run_all(self, waiting: Sequence[Run], claims: Claims) -> tuple[int, int]:
        """How many other runners finished, and how many failed; each leaves its record, as in a grid that
        goes one by one."""
        # Longest first, so that no long one is left alone at the end.
        pending = sorted(waiting, key=lambda run: remaining_iterations([run], self.store), reverse=True)
        finished = failed = 0
        children: list[_Child] = []
        total = remaining_iterations(pending, self.store)
        with Bar(total=total, desc="all runs", unit="it", disable=None) as bar:
            try:
                while pending or children:
                    ended = {other: end for other in pending if (end := claims.outcome(other)) is not None}
                    pending = [other for other in pending if other not in ended]
                    finished += [*ended.values()].count(FINISHED)
                    failed += [*ended.values()].count(FAILED)
                    while len(children) < self.jobs and (taken := self._next(pending, children, claims)):
                        pending.remove(taken[0])
                        children.append(self._start(*taken))
                    if pending and not children:
                        claims.wait(pending, partial(tqdm.write, file=sys.stderr))
                    time.sleep(0.2)
                    unfinished = [*pending, *(child.run for child in children)]
                    bar.update(max(0, total - remaining_iterations(unfinished, self.store) - bar.n))
                    for done in [child for child in children if child.process.poll() is not None]:
                        children.remove(done)
                        failed += not self._succeeded(done)
            finally:
                self._end(children)
        return finished, failed

    def _end(self, children: Sequence[_Child]) -> None:
        """Let each save its state, and wait until all have."""
        self.ending = True
        for child in children:
            child.process.terminate()
        for child in children:
            child.process.wait()
            child.echo.join()
            child.lock.release(done=False)

    def _next(
        self, pending: Sequence[Run], children: Sequence[_Child], claims: Claims
    ) -> tuple[Run, Lock] | None:
        """The first run that needs no step which another one is about to train, here or elsewhere."""
        busy = {key for child in children for key in child.run.missing(self.store)}
        for run in pending:
            if busy.isdisjoint(run.missing(self.store)) and (lock := claims.take(run)) is not None:
                return run, lock
        return None

    def _start(self, run: Run, lock: Lock) -> _Child:
        environment = os.environ | {
            "OMP_NUM_THREADS": str(max(1, cores() // self.jobs)),
            "PYTHONPATH": python_path(),
        }
        process = subprocess.Popen(
            command([*self.arguments, "--only", run.full_name]),
            env=environment,
            stdin=subprocess.PIPE,  # ends with this process, however that ends: `end_with_parent`
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert process.stderr is not None
        echo = threading.Thread(target=self._echo, args=(process.stderr,), daemon=True)
        echo.start()
        return _Child(run, lock, process, echo)

    def _echo(self, lines: IO[str]) -> None:
        for line in lines:
            # What one that is ended has to say of it, such as that its disk is full too, is known.
            if not (self.ending and line.startswith("error: ")):
                tqdm.write(line.rstrip("\n"), file=sys.stderr)

    def _succeeded(self, child: _Child) -> bool:
        child.echo.join()
        run, status = child.run, child.process.returncode
        finished = records.existing(run, self.folder) is not None
        child.lock.release(done=finished)
        if finished:
            return True
        if status == CANNOT_WRITE:
            raise EndedByAnother(status)
        # Killed, or stopped by something that the first process did not meet: it left no record of its own.
        if status not in (0, 1) or not records.path_of(run, self.folder).is_file():
            reason = f"its process ended with status {status}; {_remedy(status)}"
            records.save(failed_record(run, self.options.device, reason), run, self.folder)
            tqdm.write(f"{run.full_name}: failed: {reason}", file=sys.stderr)
        elif status == 0:  # it read the changed files, this process the ones before
            tqdm.write(f"{run.full_name}: files changed meanwhile; give the command again", file=sys.stderr)
        return False


def end_with_parent() -> None:
    """For a process of `--only`: stops it once the one that started it is gone. A later one resumes it."""

    def wait() -> None:
        sys.stdin.read()
        signal.raise_signal(signal.SIGTERM)
        time.sleep(PATIENCE)
        os._exit(1)

    be_patient()
    threading.Thread(target=wait, daemon=True).start()


def _remedy(status: int) -> str:
    if status in (128 + number for number in SIGNALS):
        return "a signal stopped it, the same command goes on with it"
    return "with --jobs 1 less memory is needed"
