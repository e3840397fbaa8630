"""What one job of a cluster does: the command line of one run, in a process of its own.

submitit pickles the `Job`, a list of words, when it is submitted, and unpickles it on the node: besides the
weights nothing of ours is read so, and nothing that came from elsewhere. When the job's time is nearly up
submitit calls `checkpoint`: the run saves, ends, and the job is queued again.
"""

from __future__ import annotations

import os
import subprocess
from dataclasses import dataclass, field
from typing import Any

from benchmarks.again import command


@dataclass
class Job:
    """One run, to be called on the node."""

    arguments: list[str]
    folder: str
    """Where the command was given: its paths may be relative."""
    environment: dict[str, str] = field(default_factory=dict)
    _process: Any = None

    def __call__(self) -> str:
        """Raises RuntimeError where the run fails, so that the cluster's own books show it."""
        self._process = subprocess.Popen(
            command(self.arguments),
            cwd=self.folder,
            env=os.environ | self.environment,
            stdin=subprocess.PIPE,
        )
        self._wait()
        status = self._process.wait()
        if status:
            raise RuntimeError(f"{self.arguments[-1]}: ended with status {status}")
        return "finished"

    def checkpoint(self) -> Any:
        """Called by submitit, from a signal's handler, while `__call__` waits: make the run save and end."""
        from submitit.helpers import DelayedSubmission

        if self._process is not None:
            self._process.terminate()
            self._wait()
        return DelayedSubmission(Job(self.arguments, self.folder, self.environment))

    def _wait(self) -> None:
        """Not `Popen.wait`, which holds a lock that a handler's second call would wait for, for ever."""
        os.waitid(os.P_PID, self._process.pid, os.WEXITED | os.WNOWAIT)
