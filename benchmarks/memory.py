"""Peak memory of one step."""

from __future__ import annotations

import gc
import resource
import sys
from pathlib import Path

import torch

from benchmarks.malloc import give_back_freed_memory


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
            give_back_freed_memory()
            _reset_high_water_mark()

    def megabytes(self) -> float:
        """In 10^6 bytes."""
        if self.device.type == "cuda":
            return torch.cuda.max_memory_allocated(self.device) / 1e6
        return _resident_peak_kilobytes() * 1024 / 1e6


def release_memory(device: torch.device) -> None:
    """What a run that failed holds in circles of references, for the next one."""
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()
    give_back_freed_memory()


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
