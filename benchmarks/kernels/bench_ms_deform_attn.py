"""Multi-scale deformable attention beside the `grid_sample` composition, interleaved in one process.

    pytest benchmarks/kernels/bench_ms_deform_attn.py --benchmark-only --benchmark-json out.json
    python -m benchmarks.kernels.bench_ms_deform_attn          # the table of ratios in the operator's README

Layouts and locations ("local": the official ring of offsets and a spread of one pixel) as Mask2Former makes
them. Under glibc's default settings a call's intermediate memory is returned to the kernel and faulted in
again each time; `--heap retained` keeps it, which compares kernel with kernel. Correctness comes first.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from pytest_benchmark.fixture import BenchmarkFixture
from torch import Tensor

from ops.ms_deform_attn import MSDeformAttn, backend_info, ms_deform_attn, ms_deform_attn_offsets, naive

LAYOUTS: dict[str, tuple[int, list[tuple[int, int]], int]] = {
    "m2f-512": (1, [(16, 16), (32, 32), (64, 64)], 0),
    "m2f-512-n2": (2, [(16, 16), (32, 32), (64, 64)], 0),
    "m2f-1024": (1, [(32, 32), (64, 64), (128, 128)], 0),
    "m2f-mini": (2, [(4, 4), (8, 8), (16, 16)], 0),
    "detr-enc": (1, [(100, 134), (50, 67), (25, 34), (13, 17)], 0),
    "detr-dec": (1, [(100, 134), (50, 67), (25, 34), (13, 17)], 300),
}
"""Images, levels and queries, 0 for every pixel; 8 heads of 32 channels, 4 points a level."""
HEADS, CHANNELS, POINTS = 8, 32, 4
RETAINED = {
    "MALLOC_MMAP_THRESHOLD_": "4294967295",
    "MALLOC_TRIM_THRESHOLD_": "34359738368",
    "MALLOC_TOP_PAD_": "67108864",
}


@dataclass
class Inputs:
    value: Tensor
    shapes: Tensor
    starts: Tensor
    reference: Tensor
    offsets: Tensor
    logits: Tensor
    grad: Tensor

    @staticmethod
    def of(layout: str, spread: float = 1.0) -> Inputs:
        """Points `spread` pixels around the official ring; infinite: anywhere in -0.05..1.05."""
        images, sizes, queries = LAYOUTS[layout]
        torch.manual_seed(0)
        areas = torch.tensor([h * w for h, w in sizes])
        pixels, levels = int(areas.sum()), len(sizes)
        centres = [
            torch.stack(
                torch.meshgrid((torch.arange(h) + 0.5) / h, (torch.arange(w) + 0.5) / w, indexing="ij"), -1
            )
            for h, w in sizes
        ]
        reference = torch.cat([c.flip(-1).flatten(0, 1) for c in centres])
        if queries:
            reference = torch.rand(queries, 2)
        ring = MSDeformAttn(HEADS * CHANNELS, levels, HEADS, POINTS).sampling_offsets.bias.detach()
        points = (images, len(reference), HEADS, levels, POINTS)
        offsets = ring.view(1, 1, *points[2:], 2) + spread * torch.randn(*points, 2)
        if spread == float("inf"):
            size = torch.tensor(sizes).flip(-1)[:, None]
            offsets = (1.1 * torch.rand(*points, 2) - 0.05 - reference[:, None, None, None]) * size
        return Inputs(
            torch.randn(images, pixels, HEADS, CHANNELS),
            torch.tensor(sizes),
            areas.cumsum(0) - areas,
            reference[None, :, None].expand(images, -1, levels, -1).contiguous(),
            offsets,
            torch.randn(points),
            torch.randn(images, len(reference), HEADS * CHANNELS),
        )

    def calls(self) -> dict[str, Callable[[], Any]]:
        """What is timed, by name. "naive" is the official composition, "cpu" or "triton" the operator."""
        kernel = {"cpp": "cpu"}.get(backend_info()["backend"], backend_info()["backend"])
        places = naive.locations_of(self.reference, self.offsets, self.shapes)
        weights = naive.weights_of(self.logits)
        leaves = tuple(t.clone().requires_grad_() for t in (self.value, places, weights))
        raw = tuple(t.clone().requires_grad_() for t in (self.value, self.offsets, self.logits))
        sizes = self.shapes.tolist()
        module = MSDeformAttn(HEADS * CHANNELS, len(sizes), HEADS, POINTS)
        torch.nn.init.normal_(module.sampling_offsets.weight, std=0.02)
        flat, query = self.value.flatten(2), self.grad  # any numbers do for the queries

        def composed(value: Tensor, where: Tensor, share: Tensor) -> Tensor:
            return official_composition(value, sizes, where, share)

        def plain(value: Tensor, where: Tensor, share: Tensor) -> Tensor:
            return ms_deform_attn(value, self.shapes, self.starts, where, share)

        def fused(value: Tensor, offsets: Tensor, logits: Tensor) -> Tensor:
            return ms_deform_attn_offsets(value, self.shapes, self.starts, self.reference, offsets, logits)

        def glued(value: Tensor, offsets: Tensor, logits: Tensor) -> Tensor:
            where = naive.locations_of(self.reference, offsets, self.shapes)
            return plain(value, where, naive.weights_of(logits))

        def through(fuse: bool) -> Tensor:
            module.fused = fuse
            return module(query, self.reference, flat, self.shapes, self.starts)

        torch.testing.assert_close(plain(*leaves), composed(*leaves), atol=1e-4, rtol=0)
        torch.testing.assert_close(fused(*raw), composed(*leaves), atol=1e-4, rtol=0)
        made: dict[str, Callable[[], Any]] = {}
        variants = {
            "naive": (composed, leaves),
            kernel: (plain, leaves),
            "fused": (fused, raw),
            "glue": (glued, raw),
        }
        for name, (function, inputs) in variants.items():
            made[f"{name}-forward"] = _without_gradient(function, inputs)
            made[f"{name}-forward-backward"] = _with_gradient(function, inputs, self.grad)
        made["projections-forward"] = torch.no_grad()(
            lambda: (
                module.value_proj(flat),
                module.sampling_offsets(query),
                module.attention_weights(query),
                module.output_proj(query),
            )
        )
        made["module-fused-forward"] = torch.no_grad()(lambda: through(True))
        made["module-unfused-forward"] = torch.no_grad()(lambda: through(False))
        return made


def official_composition(value: Tensor, sizes: list[list[int]], where: Tensor, share: Tensor) -> Tensor:
    """What the official repositories fall back on: all levels' samples side by side, then one weighted sum.

    Source: Mask2Former, ms_deform_attn_func.py@ms_deform_attn_core_pytorch.
    """
    images, _, heads, channels = value.shape
    queries = where.shape[1]
    sampled = []
    for level, planes in enumerate(value.split([h * w for h, w in sizes], 1)):
        planes = planes.flatten(2).transpose(1, 2).reshape(images * heads, channels, *sizes[level])
        grid = 2 * where[:, :, :, level].transpose(1, 2).flatten(0, 1) - 1
        sampled.append(F.grid_sample(planes, grid, padding_mode="zeros", align_corners=False))
    weights = share.transpose(1, 2).reshape(images * heads, 1, queries, -1)
    out = (torch.stack(sampled, -2).flatten(-2) * weights).sum(-1)
    return out.view(images, heads * channels, queries).transpose(1, 2).contiguous()


def _without_gradient(function: Callable[..., Tensor], inputs: tuple[Tensor, ...]) -> Callable[[], Tensor]:
    return torch.no_grad()(lambda: function(*inputs))


def _with_gradient(
    function: Callable[..., Tensor], inputs: tuple[Tensor, ...], grad: Tensor
) -> Callable[[], tuple[Tensor, ...]]:
    return lambda: torch.autograd.grad(function(*inputs), inputs, grad)


NAMES = [
    f"{name}-{part}" for name in ("naive", "cpu", "fused") for part in ("forward", "forward-backward")
] + ["module-fused-forward", "module-unfused-forward"]


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("name", NAMES)
def test_ms_deform_attn(benchmark: BenchmarkFixture, layout: str, name: str) -> None:
    torch.set_num_threads(2)
    calls = Inputs.of(layout).calls()
    if name not in calls:
        pytest.skip(f"this machine runs {backend_info()['backend']}")
    benchmark.extra_info.update(backend_info())
    benchmark.pedantic(calls[name], rounds=10, warmup_rounds=2)


def _times(calls: dict[str, Callable[[], Any]], rounds: int) -> dict[str, float]:
    """Least time of each in ms, taking turns."""
    taken: dict[str, list[float]] = {name: [] for name in calls}
    for turn in range(rounds + 2):
        for name, call in calls.items():
            begin = time.perf_counter()
            call()
            if turn >= 2:
                taken[name].append(1e3 * (time.perf_counter() - begin))
    spread = {name: statistics.median(t) / min(t) for name, t in taken.items()}
    print(f"# median / least: {min(spread.values()):.2f} to {max(spread.values()):.2f}", file=sys.stderr)
    return {name: min(t) for name, t in taken.items()}


def _peak_extra(call: Callable[[], Any]) -> float:
    """MiB of resident memory above the start, sampled every half millisecond. Allocations must be mapped."""

    def resident() -> int:
        return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGESIZE")

    start, peak, done = resident(), 0, threading.Event()

    def watch() -> None:
        nonlocal peak
        while not done.wait(5e-4):
            peak = max(peak, resident())

    watcher = threading.Thread(target=watch)
    watcher.start()
    call()
    done.set()
    watcher.join()
    return (peak - start) / 2**20


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.kernels.bench_ms_deform_attn",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--heap", choices=("default", "retained", "mapped"), default="default",
                        help="mapped: peak memory instead of times")  # fmt: skip
    parser.add_argument("--layouts", default="m2f-512,m2f-512-n2,m2f-1024,m2f-mini",
                        help=f"of {', '.join(LAYOUTS)}")  # fmt: skip
    parser.add_argument("--spread", type=float, default=1.0,
                        help="of the points around the ring, in pixels; inf: uniform")  # fmt: skip
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=10)
    options = parser.parse_args()
    wanted = {"retained": RETAINED, "mapped": {"MALLOC_MMAP_THRESHOLD_": "65536"}}.get(options.heap, {})
    if any(os.environ.get(key) != value for key, value in wanted.items()):
        arguments = [sys.executable, "-m", "benchmarks.kernels.bench_ms_deform_attn", *sys.argv[1:]]
        os.execve(
            sys.executable, arguments, os.environ | wanted
        )  # the settings are read when a process starts
    torch.set_num_threads(options.threads)
    info = backend_info()
    print(f"{options.heap} heap, {info['backend']} {info.get('isa', '')}, torch {info['torch']}, "
          f"{options.threads} threads, spread {options.spread:g}, load {os.getloadavg()[0]:.1f}")  # fmt: skip
    kernel = {"cpp": "cpu"}.get(info["backend"], info["backend"])
    for layout in options.layouts.split(","):
        calls = Inputs.of(layout, options.spread).calls()
        if options.heap == "mapped":
            for name in ("naive", kernel, "fused"):
                call = calls[f"{name}-forward-backward"]
                call()
                print(f"| {layout} | {name} | {_peak_extra(call):.0f} MiB |")
            continue
        ms = _times(calls, options.rounds)
        for part in ("forward", "forward-backward"):
            base, op, fused, glue = (ms[f"{name}-{part}"] for name in ("naive", kernel, "fused", "glue"))
            row = f"{base:.2f} | {op:.2f} | {base / op:.1f}x | {glue:.2f} | {fused:.2f} | {glue / fused:.1f}x"
            print(f"| {layout} | {part} | {row} |", flush=True)
        names = ("module-unfused-forward", "module-fused-forward", "projections-forward")
        unfused, fused, projections = (ms[name] for name in names)
        print(
            f"# module forward: {unfused:.2f} ms unfused, {fused:.2f} fused, of which projections "
            f"{projections:.2f}; the rest {(unfused - projections) / (fused - projections):.1f}x",
            flush=True,
        )


if __name__ == "__main__":
    main()
