"""Runs as jobs of a cluster, through submitit: one job a run, each the same command with `--only`.

Of runs that begin with the same step the first is queued at once, the others for when that job has ended:
they would only wait for it, each with a GPU of its own. What makes sure that nothing is trained twice is
the locks of the store, as for any other runners.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tqdm import tqdm

from benchmarks import asked, records
from benchmarks.again import python_path
from benchmarks.claims import Claims
from benchmarks.cluster_job import Job
from benchmarks.recording import failed_record
from benchmarks.run import Run, RunOptions, remaining_iterations
from benchmarks.slurm import SlurmOptions, jobs_in_queue, why_ended
from benchmarks.status import states
from benchmarks.store import Store

LAG = 60.0
"""Seconds until what a job wrote is seen on every machine that shares the folder by NFS (`acdirmax`)."""
INSTALL = 'submitit is not installed; give: pip install -e ".[slurm]"'


@dataclass
class Submitted:
    """A job in the queue, or on a node."""

    run: Run
    id: str
    local: Any = None
    """submitit's job, of the local executor."""
    missing_since: float | None = None


@dataclass
class Cluster:
    """Submits runs and waits for them: what `SideBySide` is to processes of this machine."""

    kind: str
    """"slurm", or "local", which runs the same jobs on this machine, `jobs` at once."""
    arguments: Sequence[str]
    folder: Path
    options: RunOptions
    slurm: SlurmOptions
    jobs: int = 1
    _live: list[Submitted] = field(default_factory=list)

    def __post_init__(self) -> None:
        """Raises ValueError where submitit, or Slurm, is missing."""
        self.store, self.logs = Store(self.folder / "store"), self.folder / "logs" / "slurm"
        try:
            import submitit
        except ImportError as error:
            raise ValueError(f"--executor {self.kind}: {INSTALL}") from error
        if self.kind == "slurm" and jobs_in_queue() is None:
            raise ValueError("--executor slurm: squeue does not answer; submit where Slurm's commands are")
        self.submitit = submitit

    def __str__(self) -> str:
        return "one job a run" if self.kind == "slurm" else f"one job a run, {self.jobs} at once"

    def run_all(self, waiting: Sequence[Run], claims: Claims) -> tuple[int, int]:
        """How many other runners finished, and how many failed. A run that leaves no record has failed."""
        pending = list(waiting)
        if self.kind == "slurm":
            self.submit_all(pending)
            pending.clear()
        try:
            return 0, self._wait(pending, claims)
        except BaseException:
            self._leave()
            raise

    def _wait(self, pending: list[Run], claims: Claims) -> int:
        failed = 0
        everything = [*pending, *(job.run for job in self._live)]
        total = remaining_iterations(everything, self.store)
        with tqdm(total=total, desc="all runs", unit="it", disable=None) as bar:
            while pending or self._live:
                self._start(pending, claims)
                queue = jobs_in_queue() if self.kind == "slurm" else None
                for job in [job for job in self._live if self._has_ended(job, claims, queue)]:
                    self._live.remove(job)
                    failed += not self._succeeded(job, claims)
                unfinished = [*pending, *(job.run for job in self._live)]
                bar.update(total - remaining_iterations(unfinished, self.store) - bar.n)
                bar.set_postfix_str(self._summary(everything) if not bar.disable else "")
                time.sleep(POLL[self.kind])
        return failed

    def _start(self, pending: list[Run], claims: Claims) -> None:
        """The local executor has no queue of its own."""
        while pending and len(self._live) < self.jobs:
            busy = {key for job in self._live for key in job.run.missing(self.store)}
            run = next((run for run in pending if busy.isdisjoint(run.missing(self.store))), None)
            if run is None:
                break
            pending.remove(run)
            self._submit([run])

    def submit_all(self, waiting: Sequence[Run]) -> None:
        """Queue a job for each, but where there is one already, and say how to follow them.

        Raises ValueError where Slurm refuses them.
        """
        queue, before = jobs_in_queue() or set(), {a.run: a.job for a in asked.known(self.folder)}
        new = []
        for run in waiting:
            if (job := before.get(run.full_name, "")) and job in queue:
                print(f"{run.full_name}: is job {job} already", file=sys.stderr)
                self._live.append(Submitted(run, job))
            else:
                new.append(run)
        groups = by_first_step(new, self.store)
        leaders = self._submit([group[0] for group in groups])
        for leader, group in zip(leaders, groups, strict=True):
            self._submit(group[1:], after=leader.id)
        self._say_where()

    def _submit(self, runs: Sequence[Run], after: str = "") -> list[Submitted]:
        if not runs:
            return []
        paths = python_path()
        executor = self._executor(paths, after)
        try:
            with _environment("PYTHONPATH", paths), executor.batch():
                jobs = [executor.submit(self._job(run)) for run in runs]
        except self.submitit.core.utils.FailedJobError as error:
            raise ValueError(f"sbatch refuses the jobs: {_last_line(str(error))}") from error
        submitted = []
        for run, job in zip(runs, jobs, strict=True):
            log = Path(job.paths.stdout).relative_to(self.logs.parents[1].absolute()).as_posix()
            asked.note_job(run, self.folder, job.job_id, log)
            submitted.append(Submitted(run, job.job_id, job if self.kind == "local" else None))
        self._live += submitted
        return submitted

    def _executor(self, paths: str, after: str) -> Any:
        logs = self.logs.absolute()
        if self.kind == "local":
            executor: Any = self.submitit.LocalExecutor(logs, max_num_timeout=self.slurm.timeouts)
            executor.update_parameters(
                timeout_min=self.slurm.minutes,
                signal_delay_s=self.slurm.grace,
                gpus_per_node=self.slurm.gpus,
                stderr_to_stdout=True,
            )
            return executor
        executor = self.submitit.SlurmExecutor(logs, max_num_timeout=self.slurm.timeouts)
        parameters = self.slurm.for_submitit(paths)
        if after:
            asked_for = parameters["additional_parameters"].get("dependency")
            condition = ",".join(filter(None, [asked_for, f"afterany:{after}"]))
            parameters["additional_parameters"] |= {"dependency": condition}
        executor.update_parameters(job_name="contiseg", stderr_to_stdout=True, **parameters)
        return executor

    def _job(self, run: Run) -> Job:
        device = self.options.device.type
        threads = {"OMP_NUM_THREADS": str(self.slurm.cpus)}
        arguments = [*self.arguments, "--device", device, "--only", run.full_name]
        return Job(arguments, str(Path.cwd()), threads)

    def _has_ended(self, job: Submitted, claims: Claims, queue: set[str] | None) -> bool:
        if job.local is not None:
            return bool(job.local.done())
        if claims.outcome(job.run) is not None:
            return True
        if queue is None or job.id in queue:
            job.missing_since = None
            return False
        job.missing_since = job.missing_since or time.monotonic()
        return time.monotonic() - job.missing_since > LAG

    def _succeeded(self, job: Submitted, claims: Claims) -> bool:
        run = job.run
        if records.existing(run, self.folder) is not None:
            tqdm.write(f"{run.full_name}: finished (job {job.id})", file=sys.stderr)
            return True
        if claims.outcome(run) is None:
            why = why_ended(job.id) if self.kind == "slurm" else "its process ended"
            reason = f"job {job.id} left no result: {why}"
            records.save(failed_record(run, self.options.device, reason), run, self.folder)
        recorded = records.failure(run, self.folder)
        tqdm.write(f"{run.full_name}: failed: {recorded} (job {job.id}, log in {self.logs})", file=sys.stderr)
        return False

    def _summary(self, runs: Sequence[Run]) -> str:
        found = [each.state for each in states(self.folder, None, {run.full_name for run in runs})]
        return ", ".join(f"{found.count(state)} {state}" for state in dict.fromkeys(found))

    def _say_where(self) -> None:
        jobs = " ".join(dict.fromkeys(job.id.split("_")[0] for job in self._live))
        if jobs:
            print(
                f"{len(self._live)} jobs: {jobs}; logs in {self.logs}\n"
                f"their state: python run_benchmark.py status --runs {self.folder}\n"
                f"to stop them: scancel {jobs}",
                file=sys.stderr,
            )

    def _leave(self) -> None:
        """Jobs of this machine end with this command; those of the cluster go on."""
        for job in self._live:
            if job.local is not None:
                job.local.cancel()
        if self.kind == "slurm" and self._live:
            print("\nthe jobs go on; the same command waits for them again", file=sys.stderr)


POLL = {"slurm": 10.0, "local": 0.5}


def by_first_step(runs: Sequence[Run], store: Store) -> list[list[Run]]:
    """Groups of runs whose first missing step is the same one."""
    groups: dict[str, list[Run]] = {}
    for run in runs:
        groups.setdefault(next(iter(run.missing(store)), run.full_name), []).append(run)
    return list(groups.values())


@contextmanager
def _environment(name: str, value: str) -> Iterator[None]:
    before = os.environ.get(name)
    os.environ[name] = value
    try:
        yield
    finally:
        if before is None:
            del os.environ[name]
        else:
            os.environ[name] = before


def _last_line(text: str) -> str:
    return next((line.strip() for line in reversed(text.splitlines()) if line.strip()), "it does not say why")
