"""The processes of one command under `torchrun`: who they are, what one tells the others, how all end.

Whatever they send is a tensor or JSON, never a pickle. The first process alone reads and writes the store,
writes records, and speaks.
"""

from __future__ import annotations

import json
import os
import sys
import threading
import time
from collections.abc import Callable
from datetime import timedelta
from typing import Any, NoReturn, TypeVar

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.rendezvous import rendezvous

from benchmarks.place import EndedByAnother, Place
from ops.processes import gathered, num_processes, of_first_process
from reports.files import CannotWrite

T = TypeVar("T")
LONGEST_WAIT = timedelta(hours=2)
"""For a process that draws a stand-in, reads an index of masks or writes what the others wait for."""
PATIENCE = 30.0
"""Seconds that a process that failed waits for the others to fail too, before it ends them all."""
ENDED = "ended"

_side_channel: list[Any] = []
"""The store in which they met, once connected: it answers also while an exchange hangs."""


def connect(place: Place) -> None:
    """Meet the other processes: over NCCL for tensors on GPUs, over gloo for all others."""
    if place.processes == 1:
        return
    store, rank, size = next(rendezvous("env://", timeout=LONGEST_WAIT))
    backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"
    own = dist.PrefixStore("contiseg", store)  # type: ignore[attr-defined]
    dist.init_process_group(backend, store=own, rank=rank, world_size=size, timeout=LONGEST_WAIT)
    _side_channel[:] = [own]
    _end_with_launcher()


def disconnect() -> None:
    if num_processes() > 1:
        dist.destroy_process_group()


def end_all(line: str) -> NoReturn:
    """Say why, and end this process at once; `torchrun` then ends the others, whatever they wait for."""
    print(line, file=sys.__stderr__, flush=True)
    _side_channel[0].set(ENDED, line)
    os._exit(1)


def told(make: Callable[[], T]) -> T:
    """What the first process makes, anything that JSON can say, for all.

    Raises ValueError in all of them where it raises ValueError or OSError; CannotWrite where it does.
    """
    if num_processes() == 1:
        return make()
    value: Any = None
    if dist.get_rank() == 0:
        try:
            value = {"made": make()}
        except (ValueError, OSError) as error:
            value = {"error": str(error), "cannot write": isinstance(error, CannotWrite)}
    answer = json.loads(_told_bytes(json.dumps(value).encode()))
    if "error" in answer:
        raise (CannotWrite if answer["cannot write"] else ValueError)(answer["error"])
    return answer["made"]


def told_tensors(make: Callable[[], dict[str, Tensor]]) -> dict[str, Tensor]:
    """As `told`, of tensors on the CPU."""
    if num_processes() == 1:
        return make()
    made: dict[str, Tensor] = {}

    def shapes() -> dict[str, Any]:
        made.update(make())
        return {name: [str(t.dtype).removeprefix("torch."), list(t.shape)] for name, t in made.items()}

    return {
        name: of_first_process(made[name] if made else torch.empty(shape, dtype=getattr(torch, dtype)))
        for name, (dtype, shape) in told(shapes).items()
    }


def interleaved(items: list[T]) -> list[T]:
    """Of processes that each had every n-th of some items, anything that JSON can say, all in their order."""
    if num_processes() == 1:
        return items
    mine = torch.frombuffer(bytearray(json.dumps(items).encode()), dtype=torch.uint8)
    lists = [json.loads(_bytes_of(part)) for part in gathered(mine)]
    return [lists[i % len(lists)][i // len(lists)] for i in range(sum(map(len, lists)))]


def first_then_others(make: Callable[[], T]) -> T:
    """Each process makes it, the first one before the others, who find on disk what it has written.

    Where one or more raise ValueError or OSError, one of them says it, and all end: the first process by that
    error, the others by `EndedByAnother`.
    """
    if num_processes() == 1:
        return make()
    first = dist.get_rank() == 0
    error: ValueError | OSError | None = None
    made: list[T] = []
    for turn in (first, not first):
        if turn and not error:
            try:
                made.append(make())
            except (ValueError, OSError) as problem:
                error = problem
        failed = [bool(each) for (each,) in (t.tolist() for t in gathered(torch.tensor([error is not None])))]
        if error and first:
            raise error
        if any(failed):
            if failed.index(True) == dist.get_rank():
                print(f"error: process {dist.get_rank()} alone: {error}", file=sys.__stderr__, flush=True)
            raise EndedByAnother
    return made[0]


def all_failed(name: str, reason: str) -> bool:
    """Whether all processes failed in the run of that name, so that they can go on with the next.

    One that failed by itself leaves the others in the middle of an exchange: nothing but an end helps them.
    """
    if num_processes() == 1:
        return True
    side, end = _side_channel[0], time.monotonic() + PATIENCE
    keys = [f"failed/{name}/{rank}" for rank in range(dist.get_world_size())]
    side.set(keys[dist.get_rank()], reason)
    while time.monotonic() < end:
        if side.check([ENDED]):
            os._exit(1)  # what failed here is that the other process is gone
        if side.check(keys):
            return True
        time.sleep(0.2)
    return False


def assert_alike(tensors: dict[str, Tensor]) -> None:
    """Raises RuntimeError unless all processes have these tensors bit by bit alike."""
    if num_processes() == 1:
        return
    sums = torch.stack([_checksum(tensor) for _, tensor in sorted(tensors.items())])
    first, *others = gathered(sums)
    if any(not torch.equal(first, other) for other in others):
        raise RuntimeError(
            "what the processes have learnt differs: the method does something by itself in each; share it "
            "by ops/processes.py, or run it in one process"
        )


def _checksum(tensor: Tensor) -> Tensor:
    """int64 (): equal for equal bits, and hardly ever for others."""
    data = tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy()
    words = np.frombuffer(data.tobytes() + bytes(-len(data) % 8), dtype=np.int64)
    places = np.arange(1, len(words) + 1, dtype=np.int64) * np.int64(0x9E3779B97F4A7C1)
    with np.errstate(over="ignore"):
        return torch.tensor(int((words * (places | 1)).sum()) if len(words) else 0)


def _told_bytes(data: bytes) -> bytes:
    length = int(of_first_process(torch.tensor([len(data)])))
    buffer = torch.zeros(length, dtype=torch.uint8)
    if dist.get_rank() == 0:
        buffer.copy_(torch.frombuffer(bytearray(data), dtype=torch.uint8))
    return _bytes_of(of_first_process(buffer))


def _bytes_of(tensor: Tensor) -> bytes:
    return tensor.cpu().numpy().tobytes()


def _end_with_launcher() -> None:
    """Stop once `torchrun` is gone, however it ended: nobody else would. A later one resumes the run."""
    launcher = os.getppid()

    def watch() -> None:
        while os.getppid() == launcher:
            time.sleep(0.5)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
