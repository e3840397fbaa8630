"""Two processes that wait for functions to call together, so that many tests share their start."""

from __future__ import annotations

import multiprocessing
import os
import socket
import traceback
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any


class Pair:
    """Over gloo, on one thread each."""

    def __init__(self) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        context = multiprocessing.get_context("spawn")
        self.ends, self.processes = [], []
        for rank in range(2):
            mine, its = context.Pipe()
            process = context.Process(target=_serve, args=(its, rank, port), daemon=True)
            process.start()
            self.ends.append(mine)
            self.processes.append(process)

    def call(self, function: Callable[..., Any], *arguments: Any) -> list[Any]:
        """What a function of a test module returns in each process. Raises AssertionError as one of them."""
        for end in self.ends:
            end.send((function, arguments))
        for end in self.ends:
            assert end.poll(120), "a process waits for the other one"
        answers = [end.recv() for end in self.ends]
        for rank, (value, failed) in enumerate(answers):
            assert not failed, f"in process {rank}:\n{value}"
        return [value for value, _ in answers]

    def close(self) -> None:
        for process in self.processes:
            process.terminate()
            process.join()


def _serve(end: Connection, rank: int, port: int) -> None:
    import torch

    from benchmarks.place import Place
    from benchmarks.processes import connect

    torch.set_num_threads(1)
    names = {
        "RANK": rank,
        "LOCAL_RANK": rank,
        "WORLD_SIZE": 2,
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": port,
    }
    os.environ.update({name: str(value) for name, value in names.items()})
    connect(Place.from_environment())
    while True:
        function, arguments = end.recv()
        try:
            end.send((function(*arguments), False))
        except Exception:
            end.send((traceback.format_exc(), True))
