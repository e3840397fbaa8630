"""The operator on the CPU against the definition, whatever backend the machine has."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from ops.ms_deform_attn import MSDeformAttn, ms_deform_attn, ms_deform_attn_offsets, naive
from tests.ops.ms_deform_attn.cases import Case, gradients, make

LEVELS = {
    1: [(6, 9)],
    2: [(4, 4), (7, 3)],
    3: [(5, 7), (3, 4), (1, 1)],
    4: [(4, 4), (8, 8), (3, 5), (2, 2)],
    5: [(2, 3)] * 5,
    17: [(3, 3)] * 17,
}


def assert_agree(case: Case, atol: float, rtol: float) -> None:
    generator = torch.Generator().manual_seed(1)
    shape = (case.value.shape[0], case.locations.shape[1], math.prod(case.value.shape[2:]))
    grad = torch.randn(shape, generator=generator, dtype=torch.float64).to(case.value.dtype)
    expected, expected_grads = gradients(case.to(torch.float64), grad, by_naive=True)
    found, found_grads = gradients(case, grad)
    assert found.dtype == case.value.dtype
    torch.testing.assert_close(found.double(), expected, atol=atol, rtol=0)
    for name, a, b in zip(("value", "locations", "weights"), found_grads, expected_grads, strict=True):
        error = (a.double() - b).abs().max() / b.abs().max().clamp(min=1e-30)
        assert error <= rtol, f"gradient of {name}: {error}"


def test_two_references_agree() -> None:
    for case in (
        make(channels=5),
        make(channels=3, gap=2, points=1),
        make(sizes=[(1, 1)], points=3, channels=2),
    ):
        torch.testing.assert_close(naive.by_loops(*case.python), naive.by_grid_sample(*case.python))


@pytest.mark.parametrize("levels", LEVELS)
@pytest.mark.parametrize("points", [1, 3, 4, 8])
def test_layouts(levels: int, points: int) -> None:
    case = make(LEVELS[levels], points=points, channels=8, queries=5)
    assert_agree(case, 1e-12, 1e-12)
    assert_agree(case.to(torch.float32), 1e-5 * levels, 2e-5)  # inputs rounded to float32 are other inputs


@pytest.mark.parametrize("channels", [1, 4, 8, 16, 30, 32, 64, 71, 256])
@pytest.mark.parametrize("images", [1, 3])
def test_widths(channels: int, images: int) -> None:
    case = make(channels=channels, images=images, queries=37, heads=2)
    assert_agree(case, 1e-12, 1e-12)
    case = case.to(torch.float32)  # float32 numbers, and float64 sums of the same numbers
    grad = torch.randn(images, 37, 2 * channels)
    expected, expected_grads = gradients(case.to(torch.float64), grad, by_naive=True)
    found, found_grads = gradients(case, grad)
    torch.testing.assert_close(found.double(), expected, atol=5e-6, rtol=0)
    for a, b in zip(found_grads, expected_grads, strict=True):
        assert (a - b).abs().max() <= 5e-6 * b.abs().max()


def test_gaps_between_levels_have_no_gradient() -> None:
    case = make(gap=3)
    assert_agree(case, 1e-12, 1e-12)
    _, (of_value, _, _) = gradients(case, torch.ones(2, 11, 96))
    assert (of_value[:, :3] == 0).all()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("channels", [32, 20])
def test_half_values_with_float_sums(dtype: torch.dtype, channels: int) -> None:
    case = make(channels=channels).to(torch.float32)
    half = case._replace(value=case.value.to(dtype))
    grad = torch.randn(2, 11, 3 * channels).to(dtype)
    exact = half._replace(
        value=half.value.double(), locations=case.locations.double(), weights=case.weights.double()
    )
    expected, expected_grads = gradients(exact, grad, by_naive=True)
    found, found_grads = gradients(half, grad)
    step = torch.finfo(dtype).eps
    torch.testing.assert_close(found.double(), expected, atol=step, rtol=step)
    assert [g.dtype for g in found_grads] == [dtype, torch.float32, torch.float32]
    torch.testing.assert_close(found_grads[0].double(), expected_grads[0], atol=step, rtol=step)
    for a, b in zip(found_grads[1:], expected_grads[1:], strict=True):
        assert (a - b).abs().max() <= 5e-6 * b.abs().max()
    everything = ms_deform_attn(*case.to(dtype))
    assert everything.dtype == dtype


def test_autocast_mixes_types() -> None:
    module = MSDeformAttn(32, 3, 4, 2)
    case = make(heads=4, channels=8)
    query, pixels = torch.randn(2, 11, 32), torch.randn(2, case.value.shape[1], 32)
    exact = module(query, torch.rand(2, 11, 3, 2), pixels, case.shapes, case.starts)
    with torch.autocast("cpu", torch.bfloat16):
        out = module(query, torch.rand(2, 11, 3, 2), pixels, case.shapes, case.starts)
    assert out.dtype == torch.bfloat16 and exact.dtype == torch.float32
    out.float().sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in module.parameters())


SPECIAL = [-math.inf, math.inf, math.nan, -1e9, 1e9, -0.5 / 7, 1.0 + 0.5 / 7, -1.0, 2.0]


def test_locations_that_add_nothing() -> None:
    """At or beyond a pixel outside, or not finite: 0, and no gradient; README.md section 1."""
    case = make([(7, 7)], queries=len(SPECIAL), points=1)
    locations = case.locations.clone()
    locations[..., 0] = torch.tensor(SPECIAL, dtype=torch.float64)[:, None, None, None]
    locations[..., 1] = 0.5
    for dtype in (torch.float64, torch.float32):
        for swapped in (False, True):
            placed = locations.flip(-1) if swapped else locations
            found, grads = gradients(
                case._replace(locations=placed).to(dtype), torch.ones(2, len(SPECIAL), 96)
            )
            assert (found[:, 5:7].abs() < 1e-5).all()  # exactly one pixel outside, up to rounding
            found, grads = gradients(
                case._replace(locations=placed[:, :5], weights=case.weights[:, :5]).to(dtype),
                torch.ones(2, 5, 96),
            )
            assert (found == 0).all() and all((g == 0).all() for g in grads)


def test_edges_and_corners_take_the_inside_part() -> None:
    case = make([(4, 6)], queries=6, points=1)
    places = [(0.0, 0.0), (1.0, 1.0), (0.25, 0.125), (-0.04, 0.5), (0.5, 1.1), (1.05, -0.1)]
    at = torch.tensor(places, dtype=torch.float64)[None, :, None, None, None]
    case = case._replace(locations=at.expand_as(case.locations).contiguous())
    torch.testing.assert_close(ms_deform_attn(*case), naive.by_loops(*case.python))
    corner = case.value[:, 0] * case.weights[:, 0, :, 0, 0, None] / 4  # (0, 0): a quarter of the first pixel
    torch.testing.assert_close(ms_deform_attn(*case)[:, 0], corner.flatten(1))


@pytest.mark.parametrize("empty", ["images", "queries", "points", "levels"])
def test_empty(empty: str) -> None:
    sizes = [] if empty == "levels" else [(3, 4)]
    numbers = {"images": 2, "queries": 5, "points": 2} | ({empty: 0} if empty != "levels" else {})
    leaf = make(sizes, channels=4, **numbers).leaves()
    out = ms_deform_attn(*leaf)
    assert out.shape == (numbers["images"], numbers["queries"], 12)
    assert (out == 0).all()
    grads = torch.autograd.grad(out.sum(), (leaf.value, leaf.locations, leaf.weights))
    assert all((g == 0).all() for g in grads)
    assert grads[0].shape == leaf.value.shape


def test_any_layout_in_memory() -> None:
    case = make(dtype=torch.float32)
    grad = torch.ones(()).expand(2, 11, 96)
    expected, expected_grads = gradients(case, grad.contiguous())
    shifted = torch.empty(case.value.numel() + 1)[1:].view_as(case.value).copy_(case.value)
    strided = case._replace(
        value=case.value.transpose(1, 2).contiguous().transpose(1, 2),
        locations=case.locations.movedim(5, 0).contiguous().movedim(0, 5),
        weights=case.weights.transpose(0, 1).contiguous().transpose(0, 1),
    )
    for other in (strided, case._replace(value=shifted)):
        found = ms_deform_attn(*other)
        assert torch.equal(found, expected)
        leaf = other.leaves()
        grads = torch.autograd.grad(ms_deform_attn(*leaf).sum(), (leaf.value, leaf.locations, leaf.weights))
        assert all(torch.equal(a, b) for a, b in zip(grads, expected_grads, strict=True))


def test_each_gradient_alone() -> None:
    case = make(channels=5)
    _, expected = gradients(case, torch.ones(2, 11, 15))
    for index, name in enumerate(("value", "locations", "weights")):
        leaf = getattr(case, name).clone().requires_grad_()
        (found,) = torch.autograd.grad(ms_deform_attn(*case._replace(**{name: leaf})).sum(), leaf)
        assert torch.equal(found, expected[index])


def test_gradcheck() -> None:
    case = make(channels=3, queries=2, images=1).leaves()
    floats = (case.value, case.locations, case.weights)
    assert torch.autograd.gradcheck(
        lambda v, x, a: ms_deform_attn(v, case.shapes, case.starts, x, a), floats, eps=1e-6
    )


@pytest.mark.parametrize("size", [2, 4])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("channels", [32, 6])
def test_fused_equals_its_parts(size: int, dtype: torch.dtype, channels: int) -> None:
    case = make(channels=channels, heads=2, queries=9).to(dtype)
    generator = torch.Generator().manual_seed(2)
    reference = (torch.rand(2, 9, 3, size, generator=generator, dtype=torch.float64) * 0.6 + 0.2).to(dtype)
    offsets = torch.randn(case.locations.shape, generator=generator, dtype=torch.float64).to(dtype)
    logits = 3 * torch.randn(case.weights.shape, generator=generator, dtype=torch.float64).to(dtype)
    grad = torch.randn(2, 9, 2 * channels, generator=generator, dtype=torch.float64)

    def run(to: torch.dtype, fused: bool) -> tuple[Tensor, ...]:
        value, r, o, z = (t.to(to).requires_grad_() for t in (case.value, reference, offsets, logits))
        if fused:
            out = ms_deform_attn_offsets(value, case.shapes, case.starts, r, o, z)
        else:
            places, weights = naive.locations_of(r, o, case.shapes), naive.weights_of(z)
            out = ms_deform_attn(value, case.shapes, case.starts, places, weights)
        return (out, *torch.autograd.grad(out, (value, r, o, z), grad.to(to)))

    tolerance = 1e-11 if dtype == torch.float64 else 2e-5
    for a, b in zip(run(dtype, True), run(torch.float64, False), strict=True):
        assert (a.double() - b).abs().max() <= tolerance * b.abs().max()


def test_bits_do_not_depend_on_threads() -> None:
    """On a case that works by queries, and one that is large enough to go by heads."""
    for case in (
        make(dtype=torch.float32),
        make([(64, 64), (80, 80)], 1, 8, 32, 64 * 64 + 80 * 80, 2, torch.float32),
    ):
        grad = torch.randn(case.value.shape[0], case.locations.shape[1], math.prod(case.value.shape[2:]))
        before, results = torch.get_num_threads(), []
        try:
            for threads in (1, 2, 2, 4):
                torch.set_num_threads(threads)
                results.append(gradients(case, grad))
        finally:
            torch.set_num_threads(before)
        for found, grads in results[1:]:
            assert torch.equal(found, results[0][0])
            assert all(torch.equal(a, b) for a, b in zip(grads, results[0][1], strict=True))


def test_large_values_go_by_heads_and_agree() -> None:
    case = make([(64, 64), (80, 80)], 1, 8, 32, 64 * 64 + 80 * 80, 2, torch.float32)
    assert case.value.numel() * 4 > 8 << 20
    case = case._replace(weights=naive.weights_of(case.weights))
    expected = naive.by_grid_sample(*case.to(torch.float64).python)
    # x = u W - 1/2 in float32 is right to 80 · 2^-24 pixels, and neighbours differ by up to 6.
    torch.testing.assert_close(ms_deform_attn(*case).double(), expected, atol=3e-5, rtol=0)


def test_every_element_is_written(monkeypatch: pytest.MonkeyPatch) -> None:
    """New memory is filled with NaN under this setting: what the kernels leave out shows."""
    monkeypatch.setattr(torch.utils.deterministic, "fill_uninitialized_memory", True)
    torch.use_deterministic_algorithms(True)
    try:
        for case in (make(dtype=torch.float32), make(gap=1, channels=7), make(LEVELS[17], points=1)):
            out, grads = gradients(case, torch.ones(2, 11, 3 * case.value.shape[3]))
            assert out.isfinite().all() and all(g.isfinite().all() for g in grads)
    finally:
        torch.use_deterministic_algorithms(False)


WRONG = {
    "rank": (lambda c: c._replace(value=c.value[0]), ValueError, "value must have 4 dimensions"),
    "heads": (lambda c: c._replace(weights=c.weights[:, :, :2]), ValueError, "attention_weights must be"),
    "queries": (lambda c: c._replace(weights=c.weights[:, :2]), ValueError, "attention_weights must be"),
    "images": (lambda c: c._replace(locations=c.locations[:1]), ValueError, "sampling_locations must be"),
    "levels": (lambda c: c._replace(shapes=c.shapes[:2]), ValueError, "spatial_shapes must be"),
    "starts": (lambda c: c._replace(starts=c.starts[:2]), ValueError, "level_start_index must be"),
    "sum": (
        lambda c: c._replace(value=torch.cat([c.value, c.value], 1)),
        ValueError,
        "48 pixels together, value has 96",
    ),
    "beyond": (lambda c: c._replace(starts=c.starts + 1), ValueError, "reaches beyond value's 48 pixels"),
    "overlap": (lambda c: c._replace(starts=torch.tensor([0, 1, 47])), ValueError, "levels overlap"),
    "columns": (lambda c: c._replace(shapes=c.shapes[:, :1]), ValueError, "spatial_shapes must be"),
    "negative": (lambda c: c._replace(shapes=-c.shapes), ValueError, "level 0 is -5 x -7"),
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
}


@pytest.mark.parametrize("name", WRONG)
def test_errors_name_the_argument_in_one_line(name: str) -> None:
    spoil, kind, message = WRONG[name]
    with pytest.raises(kind, match=message) as caught:
        ms_deform_attn(*spoil(make()))
    assert "\n" not in str(caught.value)


def test_shapes_as_list_and_as_int32() -> None:
    case = make()
    expected = ms_deform_attn(*case)
    assert torch.equal(ms_deform_attn(case.value, case.shapes.tolist(), *case[2:]), expected)
    assert torch.equal(
        ms_deform_attn(*case._replace(shapes=case.shapes.int(), starts=case.starts.int())), expected
    )


def test_differentiating_twice_is_refused() -> None:
    case = make().leaves()
    (grad,) = torch.autograd.grad(ms_deform_attn(*case).sum(), case.value, create_graph=True)
    with pytest.raises(RuntimeError, match="can be differentiated once"):
        grad.sum().backward()
