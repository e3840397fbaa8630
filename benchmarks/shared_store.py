"""The store of a command that runs in several processes: the first one reads and writes, the others are told.

So they agree on what is there, whatever their file systems show them at that moment, and no other machine
needs to see the folder.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch.distributed as dist
from torch import Tensor

from benchmarks.locks import Holder
from benchmarks.processes import told, told_tensors
from benchmarks.store import Checkpoint, FinishedStep, Store


class SharedStore(Store):
    """All processes call each method together, except `save_checkpoint`, which is the first one's alone."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.own = Store(folder)

    @contextmanager
    def claimed(self, key: str, waits: Callable[[Holder], None]) -> Iterator[bool]:
        with ExitStack() as stack:
            yield told(lambda: stack.enter_context(self.own.claimed(key, waits)))

    def has(self, key: str) -> bool:
        return told(lambda: self.own.has(key))

    def finished(self, key: str) -> FinishedStep:
        return FinishedStep.from_json(told(lambda: asdict(self.own.finished(key))))

    def tensors(self, key: str) -> dict[str, Tensor]:
        return told_tensors(lambda: self.own.tensors(key))

    def save(self, *contents: Any) -> None:
        told(lambda: self.own.save(*contents))

    def save_checkpoint(self, key: str, checkpoint: Checkpoint) -> None:
        self.own.save_checkpoint(key, checkpoint)

    def checkpoint(self, key: str) -> Checkpoint | None:
        found = self.own.checkpoint(key) if dist.get_rank() == 0 else None
        progress = told(lambda: found.progress if found else None)
        if progress is None:
            return None
        return Checkpoint(told_tensors(lambda: found.tensors if found else {}), progress)
