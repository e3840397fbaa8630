"""The GPU kernels without a GPU: through Triton's interpreter, and compiled for sm_90 but not run."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("triton")
ROOT = Path(__file__).resolve().parents[3]


def run(code: str, **environment: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        env=os.environ | environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr


INTERPRET = """
import torch
from ops.ms_deform_attn import naive, triton_kernel
from tests.ops.ms_deform_attn.cases import make

case = make(((4, 5), (3, 2)), 2, 2, 6, 17, 2, gap=1)
generator = torch.Generator().manual_seed(0)
reference = torch.rand(2, 17, 2, 4, generator=generator, dtype=torch.float64)
offsets = torch.randn(case.locations.shape, generator=generator, dtype=torch.float64)
offsets[0, 0] = float("nan")
grad = torch.randn(2, 17, 12, generator=generator, dtype=torch.float64)
dtype, size = getattr(torch, DTYPE), SIZE
wide = torch.float64 if DTYPE == "float64" else torch.float32
leaf = case._replace(value=case.value.to(dtype).double()).leaves()
if size == 0:
    inputs, leaves = (case.locations, case.weights), (leaf.value, leaf.locations, leaf.weights)
    expected = naive.by_grid_sample(*leaf.python)
else:
    leaves = (leaf.value, offsets.requires_grad_(), leaf.weights)
    inputs = (offsets.detach(), case.weights, reference[..., :size].contiguous())
    places = naive.locations_of(inputs[2], leaves[1], case.shapes)
    shapes, starts = case.shapes.tolist(), case.starts.tolist()
    expected = naive.by_grid_sample(leaf.value, shapes, starts, places, naive.weights_of(leaf.weights))
inputs = tuple(t.to(wide) for t in inputs)
value, grad = case.value.to(dtype), grad.to(dtype)
step = torch.finfo(dtype).eps
out = triton_kernel.forward(value, case.shapes, case.starts, *inputs)
torch.testing.assert_close(out.double(), expected, atol=16 * step, rtol=8 * step)
wanted = torch.autograd.grad(expected, leaves, grad.double())
for ordered in (False, True):
    torch.use_deterministic_algorithms(ordered)
    grads = triton_kernel.backward(grad, True, True, True, value, case.shapes, case.starts, *inputs)
    for a, b in zip(grads, wanted, strict=True):
        b = b.nan_to_num(0.0)
        error = (a.double() - b).abs().max() / b.abs().max()
        assert error <= max(2 * step, 1e-13 if wide is torch.float64 else 1e-5), (error, ordered)
"""


@pytest.mark.parametrize("size", [0, 2, 4])
@pytest.mark.parametrize("dtype", ["float64", "float32", "bfloat16", "float16"])
def test_interpreted_kernels_agree(dtype: str, size: int) -> None:
    run(f"DTYPE, SIZE = {dtype!r}, {size}\n{INTERPRET}", TRITON_INTERPRET="1")


def test_levels_beyond_value_are_not_touched() -> None:
    """On a GPU nobody reads the levels' numbers before the kernel does."""
    code = """
import torch
from ops.ms_deform_attn import triton_kernel
from tests.ops.ms_deform_attn.cases import make
case = make(((4, 5), (3, 2)), 2, 2, 6, 5, 2, torch.float32)
grad = torch.ones(2, 5, 12)
for wrong in (case._replace(starts=case.starts + 10**6), case._replace(starts=case.starts - 10**6),
              case._replace(shapes=-case.shapes)):
    assert (triton_kernel.forward(*wrong) == 0).all()
    for ordered in (False, True):
        torch.use_deterministic_algorithms(ordered)
        grads = triton_kernel.backward(grad, True, True, True, *wrong)
        assert all((g == 0).all() for g in grads)
"""
    run(code, TRITON_INTERPRET="1")


def test_the_dispatcher_takes_it() -> None:
    code = """
import torch
from ops.ms_deform_attn import backend_info, ms_deform_attn, naive
from tests.ops.ms_deform_attn.cases import make
assert backend_info()["backend"] == "triton"
case = make(((3, 4),), 1, 2, 4, 5, 2).leaves()
out = ms_deform_attn(*case)
torch.testing.assert_close(out, naive.by_grid_sample(*case.python))
out.sum().backward()
assert case.value.grad.abs().sum() > 0
"""
    run(code, TRITON_INTERPRET="1", MSDA_BACKEND="triton")


COMPILE = """
import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource
from ops.ms_deform_attn import triton_kernel as kernels

import triton.language as tl
sizes = {"M": 8, "D": 32, "L": 3, "P": 4, "R": SIZE, "BLOCK_Q": 16, "BLOCK_D": 32, "ACC": tl.float32}
pointers = {"shapes": "*i64", "starts": "*i64", "reference": "*fp32", "points": "*fp32", "weights": "*fp32"}
pointers |= {name: f"*{VALUE}" for name in ("value", "out", "grad_out")}
pointers |= {name: "*fp32" for name in ("grad_value", "grad_points", "grad_weights")}
for function, extra in ((kernels._forward, {}), (kernels._backward, {"ADDS": True})):
    constants = sizes | extra
    signature = {name: pointers.get(name, "i32") for name in function.arg_names if name not in constants}
    signature |= {name: "constexpr" for name in constants}
    made = triton.compile(ASTSource(function, signature, constants), target=GPUTarget("cuda", 90, 32))
    assert len(made.asm["cubin"]) > 1000
    if extra:
        assert ".add" in made.asm["ptx"]
"""


@pytest.mark.parametrize("value", ["fp32", "bf16"])
@pytest.mark.parametrize("size", [0, 2])
def test_compiles_for_hopper(value: str, size: int, tmp_path: Path) -> None:
    run(f"VALUE, SIZE = {value!r}, {size}\n{COMPILE}", TRITON_CACHE_DIR=str(tmp_path))
