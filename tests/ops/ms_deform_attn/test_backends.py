"""Every way to run the operator agrees with the first, each in a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import Tensor

from ops.ms_deform_attn import backend_info, ms_deform_attn, ms_deform_attn_offsets
from tests.ops.ms_deform_attn.cases import Case, gradients, make

ROOT = Path(__file__).resolve().parents[3]


def run(code: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, env=os.environ | environment, capture_output=True, text=True,
        check=False, timeout=300,
    )  # fmt: skip


CASES = {
    "usual": {"dtype": torch.float32},
    "any width": {"dtype": torch.float32, "channels": 71, "points": 3},
    "many points": {"dtype": torch.float32, "sizes": [(3, 3)] * 17, "points": 1, "channels": 16},
    "double": {"channels": 64},
}
RUN = """
import torch
from ops.ms_deform_attn import backend_info
from tests.ops.ms_deform_attn.test_backends import results
torch.save(results(), OUT)
print(backend_info()["backend"])
"""


def results() -> dict[str, list[Tensor]]:
    """Of each case the result and all gradients, of both operators."""
    found = {}
    for name, case in ((name, make(**sizes)) for name, sizes in CASES.items()):
        shape = (2, 11, case.value.shape[2] * case.value.shape[3])
        grad = torch.randn(shape, generator=torch.Generator().manual_seed(5))
        out, grads = gradients(case, grad)
        found[name] = [out, *grads]
        generator = torch.Generator().manual_seed(6)
        reference = torch.rand(2, 11, len(case.shapes), 4, generator=generator).to(case.value.dtype)
        leaves = [t.clone().requires_grad_() for t in (case.value, case.locations, case.weights, reference)]
        out = ms_deform_attn_offsets(leaves[0], case.shapes, case.starts, leaves[3], *leaves[1:3])
        found[f"{name}, fused"] = [out.detach(), *torch.autograd.grad(out, leaves, grad.to(out.dtype))]
    return found


def assert_equal_results(path: Path, tolerance: float) -> None:
    found, expected = torch.load(path, weights_only=True), results()
    for name in expected:
        for a, b in zip(found[name], expected[name], strict=True):
            assert (a - b).abs().max() <= tolerance * b.abs().max(), name


@pytest.mark.parametrize("isa", ["baseline", "avx2", "avx512"])
def test_instruction_sets_agree(isa: str, tmp_path: Path) -> None:
    capability = torch.backends.cpu.get_cpu_capability()
    if backend_info()["backend"] != "cpp":
        pytest.skip("no C++ compiler")
    runs = {"AVX512": ("baseline", "avx2", "avx512"), "AVX2": ("baseline", "avx2")}.get(
        capability, ("baseline",)
    )
    if isa not in runs:
        pytest.skip(f"this processor has no {isa}")
    done = run(f"OUT = {str(tmp_path / 'out')!r}\n{RUN}", MSDA_ISA=isa)
    assert done.returncode == 0, done.stderr
    assert_equal_results(tmp_path / "out", 1e-6)


def test_python_backend_agrees(tmp_path: Path) -> None:
    done = run(f"OUT = {str(tmp_path / 'out')!r}\n{RUN}", MSDA_BACKEND="python")
    assert done.stdout.strip() == "python" and not done.stderr
    assert_equal_results(tmp_path / "out", 2e-5)


def test_stand_in_is_importable_under_the_official_name() -> None:
    code = """
import torch
import MultiScaleDeformableAttention as MSDA
from tests.ops.ms_deform_attn.cases import make
from ops.ms_deform_attn import ms_deform_attn
case = make().leaves()
out = ms_deform_attn(*case)
out.sum().backward()
plain = [t.detach() for t in case]
assert torch.equal(MSDA.ms_deform_attn_forward(*plain, 128), out)
grads = MSDA.ms_deform_attn_backward(*plain, torch.ones_like(out), 128)
assert all(torch.equal(a, b.grad) for a, b in zip(grads, (case.value, case.locations, case.weights)))
"""
    done = run(code, PYTHONPATH=os.pathsep.join([str(ROOT), str(ROOT / "ops/ms_deform_attn/stand_in")]))
    assert done.returncode == 0, done.stderr


def test_calls_from_many_threads() -> None:
    from concurrent.futures import ThreadPoolExecutor

    cases = [make(dtype=torch.float32, seed=seed) for seed in range(8)]
    expected = [ms_deform_attn(*case) for case in cases]
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda case: ms_deform_attn(*case), cases))
    assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_gpu_agrees(dtype: torch.dtype) -> None:
    case = make(dtype=torch.float32)
    case = case._replace(value=case.value.to(dtype))
    here, there = case.leaves(), Case(*(t.detach().cuda() for t in case)).leaves()
    out, gpu = ms_deform_attn(*here), ms_deform_attn(*there)
    step = max(torch.finfo(dtype).eps, 2e-6)
    torch.testing.assert_close(gpu.cpu(), out, atol=4 * step, rtol=4 * step)
    out.float().sum().backward()
    gpu.float().sum().backward()
    for name in ("value", "locations", "weights"):
        expected, found = getattr(here, name).grad, getattr(there, name).grad.cpu()
        assert (found - expected).abs().max() <= 4 * step * expected.abs().max()
