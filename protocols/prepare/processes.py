"""The same work on many files, in several processes."""

from __future__ import annotations

import multiprocessing
import signal
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from itertools import repeat
from typing import Any


def in_processes(
    work: Callable[..., Any], items: Sequence[Any], *arguments: Any, workers: int
) -> Iterator[Any]:
    """work(item, *arguments) of each item, in order. Processes only where there is enough to do."""
    workers = min(workers, len(items) // 16)
    if workers < 2:
        yield from (work(item, *arguments) for item in items)
        return
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(workers, mp_context=context, initializer=_leave_interrupts)
    try:
        yield from pool.map(work, items, *(repeat(argument) for argument in arguments), chunksize=4)
    except BrokenProcessPool:
        raise ValueError(
            "a worker process was killed, perhaps for want of memory: run the same command with --workers 1"
        ) from None
    finally:
        pool.shutdown(cancel_futures=True)


def _leave_interrupts() -> None:
    """Ctrl-C is the parent's business."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
