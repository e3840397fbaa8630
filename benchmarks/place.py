"""Where this process stands among those of `torchrun`; apart from `processes`, which imports torch."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path


class EndedByAnother(Exception):
    """Another process has said why all of them end."""

    def __init__(self, status: int = 2) -> None:
        super().__init__(status)
        self.status = status


@dataclass(frozen=True)
class Place:
    rank: int = 0
    local_rank: int = 0
    """Among the processes of this machine."""
    processes: int = 1
    local_processes: int = 1

    @classmethod
    def from_environment(cls) -> Place:
        """As `torchrun` says; alone without it."""
        names = {"RANK": "0", "LOCAL_RANK": "0", "WORLD_SIZE": "1", "LOCAL_WORLD_SIZE": "1"}
        return cls(*(int(os.environ.get(name, alone)) for name, alone in names.items()))


ALONE = Place()


@contextmanager
def only_first_speaks() -> Iterator[None]:
    """What all processes say alike is said once: nothing of the others reaches the terminal."""
    if os.environ.get("RANK", "0") == "0":
        yield
        return
    with Path(os.devnull).open("w") as nowhere, redirect_stdout(nowhere), redirect_stderr(nowhere):
        yield
