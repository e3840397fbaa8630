"""Peak memory of one step, and how freed memory is kept for the next tensor."""

from __future__ import annotations

import ctypes
import resource
import sys
from pathlib import Path

import torch


class PeakMemory:
    """Largest memory in use since construction.

    On a GPU: what the allocator handed out. On the CPU: the process's resident set; where the kernel lets
    nobody reset its high-water mark (not Linux), the largest since the process started.
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device
        if device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(device)
        else:
            _give_back_freed_memory()
            _reset_high_water_mark()

    def megabytes(self) -> float:
        """In 10^6 bytes."""
        if self.device.type == "cuda":
            return torch.cuda.max_memory_allocated(self.device) / 1e6
        return _resident_peak_kilobytes() * 1024 / 1e6


# glibc's malloc.h
_M_TRIM_THRESHOLD, _M_MMAP_MAX, _M_ARENA_MAX = -1, -4, -8


def keep_freed_memory() -> None:
    """Have malloc keep what is freed, where it is glibc's; elsewhere nothing happens.

    By default every large tensor is mapped from the kernel anew, and the page faults of its first use take
    longer than most elementwise operations on it. Changes no result.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_M_MMAP_MAX, 0)
        mallopt(_M_TRIM_THRESHOLD, 2**31 - 1)
        mallopt(_M_ARENA_MAX, 1)


def _give_back_freed_memory() -> None:
    """So that a step's peak does not count what an earlier one left behind."""
    malloc_trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if malloc_trim is not None:
        malloc_trim(0)


def _reset_high_water_mark() -> None:
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return  # no such file, or not allowed: the peak is then the process's own


def _resident_peak_kilobytes() -> float:
    status = Path("/proc/self/status")
    if status.is_file():
        for line in status.read_text().splitlines():
            if line.startswith("VmHWM:"):
                return float(line.split()[1])
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 1024 if sys.platform == "darwin" else peak
