"""Where it runs."""

from __future__ import annotations

import os

import torch

from benchmarks.cores import cores
from benchmarks.malloc import keep_freed_memory
from benchmarks.place import ALONE, Place


def choose_device(asked: str | None, deterministic: bool, place: Place = ALONE) -> torch.device:
    """The asked device, or a GPU where there is one; each process of a machine has its own.

    Raises ValueError where the asked one is missing.
    """
    if asked == "cuda" and not torch.cuda.is_available():
        raise ValueError("--device cuda: torch finds no GPU on this machine; use --device cpu")
    device = torch.device(asked or ("cuda" if torch.cuda.is_available() else "cpu"))
    if device.type == "cuda" and place.processes > 1:
        if place.local_rank >= torch.cuda.device_count():
            raise ValueError(
                f"torchrun: more processes on this machine than its {torch.cuda.device_count()} GPUs; "
                "lower --nproc-per-node, or give --device cpu"
            )
        device = torch.device("cuda", place.local_rank)
        torch.cuda.set_device(device)
    if device.type == "cpu":
        keep_freed_memory()
    if deterministic and device.type == "cuda":
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        torch.backends.cudnn.benchmark = False
        torch.use_deterministic_algorithms(True)
    return device


def choose_workers(asked: int | None, device: torch.device, place: Place = ALONE) -> int:
    """Loader processes, of each process. On the CPU they would only take cores from the training."""
    if asked is not None and asked < 0:
        raise ValueError(f"--workers {asked}: must be 0 or more")
    if asked is not None:
        return asked
    return min(8, max(1, cores() // place.local_processes)) if device.type == "cuda" else 0
