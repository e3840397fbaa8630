"""Slurm: what `--slurm key=value` may say, and what its own commands tell of jobs."""

from __future__ import annotations

import getpass
import re
import shlex
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

TIME = re.compile(r"(?:(?P<days>\d+)-)?(?P<first>\d+)(?::(?P<second>\d+))?(?::(?P<third>\d+))?")
HELP = """\
--slurm KEY=VALUE, repeated:
  time=4:00:00     of one job, as sbatch takes it; a run that needs longer is queued again (default: 4 hours)
  gpus=1           of each job (default: 1, and 0 with --device cpu)
  cpus=8           of each job (default: 8 with a GPU, else 1); with --device cpu also its threads
  mem=32G          of each job (default: the cluster's)
  array=8          at most so many jobs of an array at once (default: 256)
  grace=120        seconds before the end of its time in which a run saves (default: 120)
  timeouts=100     so often a run is queued again after a time-out (default: 100)
  setup=COMMAND    a line for the job's shell before it starts, such as "module load cuda"; may be repeated
  any other        goes to sbatch: partition, account, qos, constraint, nodelist, exclude, mail-user ...
"""


@dataclass(frozen=True)
class SlurmOptions:
    """What each job asks for."""

    minutes: int = 240
    gpus: int = 0
    cpus: int = 1
    mem: str = ""
    array: int = 256
    grace: int = 120
    """Seconds between the signal and the end of the job's time."""
    timeouts: int = 100
    setup: tuple[str, ...] = ()
    others: dict[str, str] = field(default_factory=dict)
    """For sbatch as they are."""

    @classmethod
    def parse(cls, texts: Sequence[str], device: str) -> SlurmOptions:
        """Of the texts of `--slurm`. Raises ValueError naming the one that is wrong."""
        options = cls(gpus=1, cpus=8) if device == "cuda" else cls()
        for text in texts:
            key, equals, value = text.partition("=")
            key = key.strip().lstrip("-")
            if not (equals and key and value):
                raise ValueError(f"--slurm {text!r}: write key=value, such as partition=gpu or time=4:00:00")
            options = options._with(key, value.strip())
        if options.gpus > 1:
            raise ValueError(f"--slurm gpus={options.gpus}: a run takes one GPU; more runs go side by side")
        if (options.gpus > 0) != (device == "cuda"):
            raise ValueError(f"--slurm gpus={options.gpus}: does not go with --device {device}")
        if options.grace >= 60 * options.minutes:
            raise ValueError(f"--slurm grace={options.grace}: must be less than the job's time")
        return options

    def _with(self, key: str, value: str) -> SlurmOptions:
        if key == "time":
            return replace(self, minutes=minutes(value))
        if key in ("gpus", "cpus", "array", "grace", "timeouts"):
            least = 0 if key in ("gpus", "timeouts") else 1
            if not value.isdigit() or int(value) < least:
                raise ValueError(f"--slurm {key}={value}: must be a whole number from {least} on")
            number: dict[str, Any] = {key: int(value)}
            return replace(self, **number)
        if key == "mem":
            return replace(self, mem=value)
        if key == "setup":
            return replace(self, setup=(*self.setup, value))
        return replace(self, others={**self.others, key: value})

    def for_submitit(self, paths: str) -> dict[str, Any]:
        """The parameters of submitit's executor for Slurm; `paths`: for PYTHONPATH."""
        more = {"requeue": True, **({"mem": self.mem} if self.mem else {}), **self.others}
        return {
            "time": self.minutes,
            "cpus_per_task": self.cpus,
            **({"gpus_per_node": self.gpus} if self.gpus else {}),
            "array_parallelism": self.array,
            "signal_delay_s": self.grace,
            "setup": [f"export PYTHONPATH={shlex.quote(paths)}", *self.setup],
            "additional_parameters": more,
        }


def minutes(text: str) -> int:
    """A time of Slurm in whole minutes, at least 1: "minutes", "minutes:seconds", "hours:minutes:seconds" or
    "days-hours[:minutes[:seconds]]". Raises ValueError on anything else.
    """
    match = TIME.fullmatch(text)
    if match is None:
        raise ValueError(f"--slurm time={text}: write minutes, or [days-]hours:minutes:seconds")
    days, first, second, third = (int(match[n] or 0) for n in ("days", "first", "second", "third"))
    if match["days"] is not None or match["third"] is not None:
        seconds = ((days * 24 + first) * 60 + second) * 60 + third
    else:
        seconds = first * 60 + second
    return max(1, -(-seconds // 60))


def jobs_in_queue() -> set[str] | None:
    """The user's jobs that wait or run, each of an array by itself; None where Slurm cannot be asked."""
    lines = _said(["squeue", "--user", getpass.getuser(), "--noheader", "--array", "--format=%i"])
    return None if lines is None else set(lines)


def why_ended(job: str) -> str:
    """What Slurm says of a job that is over, in a few words; it forgets after some minutes."""
    text = " ".join(_said(["scontrol", "show", "job", "--oneliner", job]) or [])
    words = dict(re.findall(r"\b(JobState|Reason|ExitCode|NodeList)=(\S+)", text))
    if not words:
        return "Slurm knows it no more (cancelled, or its node failed?)"
    reason = words.get("Reason", "None")
    where = words.get("NodeList", "(null)")
    return (
        words["JobState"]
        + (f", {reason}" if reason != "None" else "")
        + (f", on {where}" if where != "(null)" else "")
    )


def _said(command: list[str]) -> list[str] | None:
    """The lines that it printed; None where it is missing or fails, as while the controller restarts."""
    if shutil.which(command[0]) is None:
        return None
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.split("\n")[:-1]
