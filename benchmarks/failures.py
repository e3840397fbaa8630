"""What a failed row says: the error in one line, and where the machine was too small, a remedy."""

from __future__ import annotations

import torch

REMEDIES = {
    "GPU": "use smaller batches or crops (--set recipe.batch=N changes the result), or a larger GPU",
    "loader": "start fewer loader processes (--workers 0 needs the least)",
    "memory": "start fewer runs side by side (--jobs 1) or loader processes (--workers 0), or use smaller "
    "batches or crops (--set recipe.batch=N changes the result)",
}
_NO_MEMORY = ("can't allocate memory", "not enough memory", "Cannot allocate memory", "std::bad_alloc")
_NO_GPU_MEMORY = ("CUDA out of memory", "CUDA error: out of memory", "CUBLAS_STATUS_ALLOC_FAILED")
_LOADER_ENDED = ("is killed by signal", "exited unexpectedly", "unable to open shared memory object")


def reason_of(error: BaseException) -> str:
    """The error in one line; that of a loader process is the last line of the text that it sent."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    if lines and lines[0].startswith("Caught "):
        lines = lines[-1:]
    elif lines:
        lines = [f"{type(error).__name__}: {lines[0]}"]
    said = lines[0] if lines else type(error).__name__
    short_of = _short_of(error)
    if not short_of:
        return said
    what = "a loader process was ended, as where memory is short" if short_of == "loader" else "out of memory"
    return f"{what}: {said}; {REMEDIES[short_of]}"


def _short_of(error: BaseException) -> str:
    """Which memory was too small, a key of REMEDIES; empty for any other error."""
    text = str(error)
    if isinstance(error, torch.OutOfMemoryError) or any(part in text for part in _NO_GPU_MEMORY):
        return "GPU"
    if isinstance(error, MemoryError):
        return "memory"
    if isinstance(error, (RuntimeError, OSError)):
        if any(part in text for part in _LOADER_ENDED):
            return "loader"
        if any(part in text for part in _NO_MEMORY):
            return "memory"
    return ""
