"""Which implementation runs, decided once a device, and why."""

from __future__ import annotations

import functools
import os
import sys
from typing import Literal

import torch

from ops.ms_deform_attn import build

Name = Literal["cpp", "triton", "python"]
_ORDER: dict[str, tuple[Name, ...]] = {"cpu": ("cpp", "python"), "cuda": ("triton", "python")}


def _unavailable(name: Name) -> str:
    """Empty where the backend can run, after loading it; else why not."""
    if name == "cpp":
        try:
            build.load()
        except build.NotAvailable as error:
            return str(error)
    if name == "triton":
        try:
            import triton  # noqa: F401
        except ImportError:
            return "triton is not installed"
    return ""


@functools.cache
def choose(device: str) -> tuple[Name, str]:
    """The backend for a device type ("cpu", "cuda", ...) and the reason, with one warning where it is slow.

    MSDA_BACKEND forces one of cpp, triton, python. Raises ValueError for another name, RuntimeError where
    the forced one cannot run.
    """
    order = _ORDER.get(device, ("python",))
    if device == "cpu" and os.environ.get("TRITON_INTERPRET") == "1":
        order = (*order, "triton")
    forced = os.environ.get("MSDA_BACKEND", "auto")
    if forced != "auto":
        if forced not in ("cpp", "triton", "python"):
            raise ValueError(f"MSDA_BACKEND={forced} is none of auto, cpp, triton, python")
        name: Name = forced  # type: ignore[assignment]
        reason = _unavailable(name) if name in order else f"it does not run on {device}"
        if reason:
            raise RuntimeError(f"MSDA_BACKEND={name} cannot be had: {reason}")
        return name, "forced by MSDA_BACKEND"
    reasons = []
    for name in order:
        reason = _unavailable(name)
        if not reason:
            break
        reasons.append(f"{name}: {reason}")
    if reasons:
        print(
            f"ms_deform_attn: {'; '.join(reasons)}; using the PyTorch path, about 10-60x slower on a CPU. "
            "Mend that, or set MSDA_BACKEND=python to silence this.",
            file=sys.stderr,
            flush=True,
        )
    return name, "; ".join(reasons) or "the first choice"


def backend_info(device: str = "cpu") -> dict[str, str]:
    """What runs on a device type, and why: `backend`, `reason`, `torch`, and for cpp `library` and `isa`."""
    name, reason = choose(device)
    info = {"device": device, "backend": name, "reason": reason, "torch": str(torch.__version__)}
    if name == "cpp":
        library = build.load()
        info |= {"library": str(library), "isa": build.machine_isa()}
    return info
