"""What is wrong with a call is said in one line, by the operators and by their gradients called alone."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from ops.ms_deform_attn import ms_deform_attn, ms_deform_attn_offsets
from tests.ops.ms_deform_attn.cases import Case, make

ROOT = Path(__file__).resolve().parents[3]
Wrong = tuple[Callable[[Case], Case], type[Exception], str]

WRONG: dict[str, Wrong] = {
    "rank": (lambda c: c._replace(value=c.value[0]), ValueError, "value must have 4 dimensions"),
    "heads": (lambda c: c._replace(weights=c.weights[:, :, :2]), ValueError, "attention_weights must be"),
    "queries": (lambda c: c._replace(weights=c.weights[:, :2]), ValueError, "attention_weights must be"),
    "points": (lambda c: c._replace(weights=c.weights[..., :2]), ValueError, "attention_weights must be"),
    "coordinates": (
        lambda c: c._replace(locations=c.locations[..., :1]),
        ValueError,
        "sampling_locations must be",
    ),
    "images": (lambda c: c._replace(locations=c.locations[:1]), ValueError, "sampling_locations must be"),
    "levels": (lambda c: c._replace(shapes=c.shapes[:2]), ValueError, "spatial_shapes must be"),
    "starts": (lambda c: c._replace(starts=c.starts[:2]), ValueError, "level_start_index must be"),
    "sum": (
        lambda c: c._replace(value=torch.cat([c.value, c.value], 1)),
        ValueError,
        "48 pixels together, value has 96",
    ),
    "beyond": (lambda c: c._replace(starts=c.starts + 1), ValueError, "reaches beyond value's 48 pixels"),
    "before": (lambda c: c._replace(starts=c.starts - 1), ValueError, "reaches beyond value's 48 pixels"),
    "overlap": (lambda c: c._replace(starts=torch.tensor([0, 1, 47])), ValueError, "levels overlap"),
    "columns": (lambda c: c._replace(shapes=c.shapes[:, :1]), ValueError, "spatial_shapes must be"),
    "negative": (lambda c: c._replace(shapes=-c.shapes), ValueError, "level 0 is -5 x -7"),
    "no size": (lambda c: c._replace(shapes=c.shapes * 0), ValueError, "level 0 is 0 x 0"),
    "device": (
        lambda c: c._replace(weights=c.weights.to("meta")),
        ValueError,
        "attention_weights is on meta",
    ),
    "width": (lambda c: c._replace(value=c.value[..., :0]), ValueError, "there must be at least one"),
    "integers": (
        lambda c: c._replace(weights=c.weights.long()),
        TypeError,
        "attention_weights must be float32",
    ),
    "value type": (
        lambda c: c._replace(value=c.value.to(torch.complex64)),
        TypeError,
        "value must be float32",
    ),
    "shape type": (lambda c: c._replace(shapes=c.shapes.float()), TypeError, "spatial_shapes must be int64"),
    "start type": (
        lambda c: c._replace(starts=c.starts.float()),
        TypeError,
        "level_start_index must be int64",
    ),
}


@pytest.mark.parametrize("name", WRONG)
def test_errors_name_the_argument_in_one_line(name: str) -> None:
    spoil, kind, message = WRONG[name]
    with pytest.raises(kind, match=message) as caught:
        ms_deform_attn(*spoil(make()))
    assert "\n" not in str(caught.value)


WRONG_REFERENCE = {
    "rank": (lambda r: r[0], "reference_points must have 4 dimensions"),
    "size": (lambda r: r[..., :1], r"reference_points must be \(2, 11, 3, 2\)"),
    "levels": (lambda r: r[:, :, :2], r"reference_points must be \(2, 11, 3, 2\)"),
    "queries": (lambda r: r[:, :2], r"reference_points must be \(2, 11, 3, 2\)"),
    "device": (lambda r: r.to("meta"), "reference_points is on meta"),
}


@pytest.mark.parametrize("name", WRONG_REFERENCE)
def test_errors_of_the_fused_operator(name: str) -> None:
    spoil, message = WRONG_REFERENCE[name]
    case = make()
    with pytest.raises(ValueError, match=message):
        ms_deform_attn_offsets(*case[:3], spoil(torch.rand(2, 11, 3, 2)), *case[3:])
    with pytest.raises(ValueError, match="attention_logits must be"):
        ms_deform_attn_offsets(*case[:3], torch.rand(2, 11, 3, 2), case.locations, case.weights[:1])


WRONG_BACKWARD = {
    "shape": (lambda g: g[:, :2], ValueError, r"grad_output must be \(2, 11, 96\)"),
    "flat": (lambda g: g.flatten(), ValueError, r"grad_output must be \(2, 11, 96\)"),
    "type": (lambda g: g.long(), TypeError, "grad_output must be float32"),
    "device": (lambda g: g.to("meta"), ValueError, "grad_output is on meta"),
}


def expect_backward_to_refuse() -> None:
    """Whatever backend runs: also called by processes of its own, where another one is forced."""
    operators = torch.ops.contiseg
    everything = [True, True, True]
    for spoil, kind, message in WRONG.values():
        with pytest.raises(kind, match=message):
            operators.ms_deform_attn_backward(torch.zeros(2, 11, 96), everything, *spoil(make()))
    for spoil_grad, kind, message in WRONG_BACKWARD.values():
        with pytest.raises(kind, match=message):
            operators.ms_deform_attn_backward(spoil_grad(torch.zeros(2, 11, 96)), everything, *make())
    with pytest.raises(ValueError, match="needs must say yes or no for 3 gradients, got 2"):
        operators.ms_deform_attn_backward(torch.zeros(2, 11, 96), [True, True], *make())
    for spoil_reference, message in WRONG_REFERENCE.values():
        reference = spoil_reference(torch.rand(2, 11, 3, 2))
        with pytest.raises(ValueError, match=message):
            operators.ms_deform_attn_offsets_backward(torch.zeros(2, 11, 96), everything, *make(), reference)


def test_backward_alone_checks_its_arguments() -> None:
    expect_backward_to_refuse()


@pytest.mark.parametrize("backend", ["python", "triton"])
def test_backward_alone_checks_them_on_every_backend(backend: str) -> None:
    if backend == "triton":
        pytest.importorskip("triton")
    code = "from tests.ops.ms_deform_attn.test_arguments import *; expect_backward_to_refuse()"
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        env=os.environ | {"MSDA_BACKEND": backend, "TRITON_INTERPRET": "1"},
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr


def test_shapes_as_list_and_as_int32() -> None:
    case = make()
    expected = ms_deform_attn(*case)
    assert torch.equal(ms_deform_attn(case.value, case.shapes.tolist(), *case[2:]), expected)
    assert torch.equal(
        ms_deform_attn(*case._replace(shapes=case.shapes.int(), starts=case.starts.int())), expected
    )


def test_levels_as_the_kernel_itself_sees_them() -> None:
    """The library called past the operators: it looks at sizes and levels before it reads."""
    from ops.ms_deform_attn import backend_info

    if backend_info()["backend"] != "cpp":
        pytest.skip("no C++ compiler")
    case = make()
    kernel = torch.ops.contiseg_msda.forward
    for wrong in (
        case._replace(starts=case.starts + 1),
        case._replace(shapes=-case.shapes),
        case._replace(weights=case.weights[:, :2]),
        case._replace(locations=case.locations.float()),
    ):
        with pytest.raises(RuntimeError):
            kernel(*wrong, None)
