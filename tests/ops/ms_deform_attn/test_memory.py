"""Nothing is read or written beside the tensors, and nothing that is returned is left unwritten."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from ops.ms_deform_attn import backend_info, build, ms_deform_attn, ms_deform_attn_offsets
from tests.ops.ms_deform_attn.cases import gradients, make

ROOT = Path(__file__).resolve().parents[3]
needs_kernel = pytest.mark.skipif(
    not any(shutil.which(name) for name in ("c++", "g++", "clang++")), reason="no C++ compiler"
)


def test_every_element_is_written(monkeypatch: pytest.MonkeyPatch) -> None:
    """New memory is filled with NaN under this setting: what the kernels leave out shows."""
    monkeypatch.setattr(torch.utils.deterministic, "fill_uninitialized_memory", True)
    torch.use_deterministic_algorithms(True)
    try:
        assert torch.empty(3).isnan().all()
        for case in (make(dtype=torch.float32), make(gap=1, channels=7), make([(3, 3)] * 17, points=1)):
            out, grads = gradients(case, torch.ones(2, 11, 3 * case.value.shape[3]))
            assert out.isfinite().all() and all(g.isfinite().all() for g in grads)
            leaves = [t.clone().requires_grad_() for t in (case.value, case.locations, case.weights)]
            reference = torch.rand(2, 11, len(case.shapes), 4, dtype=case.value.dtype, requires_grad=True)
            out = ms_deform_attn_offsets(leaves[0], case.shapes, case.starts, reference, *leaves[1:])
            grads = torch.autograd.grad(out.sum(), (*leaves, reference))
            assert out.isfinite().all() and all(g.isfinite().all() for g in grads)
    finally:
        torch.use_deterministic_algorithms(False)


GUARDED = """
import ctypes, math, mmap
import torch
from ops.ms_deform_attn import build
from tests.ops.ms_deform_attn.cases import make

build.load()
libc = ctypes.CDLL(None, use_errno=True)
libc.mprotect.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
PAGE = mmap.PAGESIZE

def guarded(tensor, at_end):
    '''A copy with a page that must not be read before it and one behind it, right at one of its ends.'''
    size = tensor.numel() * tensor.element_size()
    inner = -(-size // PAGE) * PAGE
    memory = mmap.mmap(-1, inner + 2 * PAGE)
    start = ctypes.addressof(ctypes.c_char.from_buffer(memory))
    assert libc.mprotect(start, PAGE, 0) == 0 and libc.mprotect(start + PAGE + inner, PAGE, 0) == 0
    offset = PAGE + (inner - size if at_end else 0)
    copy = torch.frombuffer(memory, dtype=tensor.dtype, count=tensor.numel(), offset=offset)
    return copy.view(tensor.shape).copy_(tensor)

operators = torch.ops.contiseg_msda
for dtype in (torch.float32, torch.float64, torch.bfloat16, torch.float16):
    for channels in (1, 5, 32, 71):
        for at_end in (False, True):
            case = make([(5, 7), (3, 4)], heads=2, channels=channels, points=3)
            wide = torch.float64 if dtype == torch.float64 else torch.float32
            case = case.to(wide)._replace(value=case.value.to(dtype))
            inputs = [guarded(t, at_end) for t in case]
            reference = guarded(torch.rand(2, 11, 2, 4, dtype=wide), at_end)
            grad = guarded(torch.ones(2, 11, 2 * channels, dtype=dtype), at_end)
            for r in (None, reference):
                assert operators.forward(*inputs, r).isfinite().all()
                grads = operators.backward(grad, True, True, True, *inputs, r)
                assert all(g.isfinite().all() for g in grads)
"""


@needs_kernel
@pytest.mark.skipif(sys.platform != "linux", reason="protects pages through libc")
def test_no_input_is_read_beyond_its_ends() -> None:
    done = subprocess.run(
        [sys.executable, "-c", GUARDED], cwd=ROOT, capture_output=True, text=True, check=False, timeout=300
    )
    assert done.returncode == 0, f"{done.returncode}: {done.stderr}"


@needs_kernel
@pytest.mark.slow
@pytest.mark.parametrize("isa", build.ISAS)
def test_kernels_under_the_sanitizers(isa: str, tmp_path: Path) -> None:
    capability = torch.backends.cpu.get_cpu_capability()
    if isa not in {"AVX512": build.ISAS, "AVX2": ("baseline", "avx2")}.get(capability, ("baseline",)):
        pytest.skip(f"this processor has no {isa}")
    program = tmp_path / "sanitize"
    flags = [
        "-O1",
        "-g",
        "-std=c++17",
        "-Wno-psabi",
        "-fsanitize=address,undefined",
        "-fno-sanitize-recover=all",
    ]
    sources = [Path(__file__).with_name("sanitize.cpp"), build.SOURCES / "kernels.cpp"]
    command = [build.find_compiler(), *flags, *build.ISAS[isa], f"-DMSDA_KERNELS=kernels_{isa}"]
    command += [f"-I{build.SOURCES}", *map(str, sources), "-o", str(program)]
    made = subprocess.run(command, capture_output=True, text=True, check=False)
    if "cannot find" in made.stderr:
        pytest.skip("the compiler has no sanitizers")
    assert made.returncode == 0, made.stderr
    done = subprocess.run([program], capture_output=True, text=True, check=False, timeout=900)
    assert (done.returncode, done.stdout) == (0, "ok\n"), done.stdout + done.stderr


def lazily_zero(elements: int, dtype: torch.dtype) -> Tensor:
    """Zeros that take no memory until they are written."""
    try:
        return torch.from_numpy(np.zeros(elements * dtype.itemsize, dtype=np.uint8)).view(dtype)
    except MemoryError:
        pytest.skip("no address space for a large tensor")


LARGE = (16384, 12000)
"""A level of 2^27.55 pixels: 12 of its numbers a pixel are more than 2^31."""


@needs_kernel
@pytest.mark.parametrize(("images", "channels"), [(3, 4), (1, 12)])
def test_more_than_2_31_elements(images: int, channels: int) -> None:
    """The last pixel of the last image, with the offsets of images and those inside one beyond 2^31."""
    if backend_info()["backend"] != "cpp":
        pytest.skip("the composition would copy the tensor")
    height, width = LARGE
    elements = images * height * width * channels
    assert elements > 2**31
    value = lazily_zero(elements, torch.bfloat16).view(images, -1, 1, channels)
    value[-1, -1] = torch.arange(1, channels + 1)
    locations = torch.full((images, 1, 1, 1, 1, 2), 0.5)
    locations[-1] = torch.tensor([1 - 0.5 / width, 1 - 0.5 / height])
    weights = torch.ones(images, 1, 1, 1, 1, requires_grad=True)
    out = ms_deform_attn(value, [LARGE], torch.tensor([0]), locations, weights)
    expected = torch.zeros(images, 1, channels)
    expected[-1] = torch.arange(1, channels + 1)
    torch.testing.assert_close(out.float(), expected, atol=0, rtol=1e-2)  # bfloat16; 12000 · 2^-24 pixels
    out.float().sum().backward()
    assert weights.grad is not None
    torch.testing.assert_close(weights.grad.flatten(), expected.sum((1, 2)), atol=0, rtol=1e-2)


@needs_kernel
@pytest.mark.skipif(
    "MSDA_LARGE_TEST" not in os.environ, reason="takes 10 GB of memory: set MSDA_LARGE_TEST=1"
)
@pytest.mark.parametrize(("images", "channels"), [(3, 4), (1, 12)])
def test_gradient_of_more_than_2_31_elements(images: int, channels: int) -> None:
    height, width = LARGE
    value = lazily_zero(images * height * width * channels, torch.float32).view(images, -1, 1, channels)
    locations = torch.full((images, 1, 1, 1, 1, 2), 0.5)
    locations[-1] = torch.tensor([1 - 0.5 / width, 1 - 0.5 / height])
    weights = torch.ones(images, 1, 1, 1, 1)
    shapes, starts = torch.tensor([LARGE]), torch.tensor([0])
    grad_output = torch.arange(1.0, images * channels + 1).view(images, 1, channels)
    operator = torch.ops.contiseg.ms_deform_attn_backward
    needs = [True, False, False]
    of_value, _, _ = operator(grad_output, needs, value, shapes, starts, locations, weights)
    torch.testing.assert_close(of_value[-1, -1, 0], grad_output[-1, 0], atol=0, rtol=1e-2)
    assert torch.count_nonzero(of_value[-1]) <= 4 * channels
