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
    """With float64 sums of the same numbers. Gradients relative to the greatest."""
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
    case = case._replace(weights=naive.weights_of(case.weights))  # sums of the size of their terms
    assert_agree(case.to(torch.float32), 5e-6, 5e-6)


@pytest.mark.parametrize("channels", [1, 4, 8, 16, 30, 32, 64, 71, 256])
@pytest.mark.parametrize("images", [1, 3])
def test_widths(channels: int, images: int) -> None:
    case = make(channels=channels, images=images, queries=37, heads=2)
    assert_agree(case, 1e-12, 1e-12)
    assert_agree(case.to(torch.float32), 5e-6, 5e-6)


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


def test_half_types_widen_exactly_and_round_to_nearest() -> None:
    """A point in the middle of a level of one pixel, times a weight: as torch converts and multiplies."""
    every = torch.arange(-(2**15), 2**15, dtype=torch.int32).to(torch.int16)
    for dtype in (torch.float16, torch.bfloat16):
        value = every.view(dtype)
        value = value[~value.isinf()].view(1, 1, 1, -1)
        for weight in (1.0, 1 / 3, 3e-6, 700.0):
            weights, centre = torch.full((1, 1, 1, 1, 1), weight), torch.full((1, 1, 1, 1, 1, 2), 0.5)
            found = ms_deform_attn(value, [(1, 1)], torch.tensor([0]), centre, weights).flatten()
            expected = (value.float() * weights.flatten()).to(dtype).flatten()
            assert torch.equal(found.isnan(), expected.isnan())
            assert torch.equal(found.nan_to_num(0.0), expected.nan_to_num(0.0))


def test_autocast_leaves_types_alone() -> None:
    """Linear layers give half values and offsets; reference points stay float32, and so do sums."""
    module, case = MSDeformAttn(32, 3, 4, 2), make(heads=4, channels=8)
    torch.nn.init.normal_(module.attention_weights.weight, std=0.1)
    inputs = (
        torch.randn(2, 11, 32),
        torch.rand(2, 11, 3, 2),
        torch.randn(2, 48, 32),
        case.shapes,
        case.starts,
    )
    exact = module(*inputs)
    with torch.autocast("cpu", torch.bfloat16):
        out = module(*inputs)
        half = case._replace(value=case.value.bfloat16(), locations=case.locations.float())
        assert ms_deform_attn(*half).dtype == torch.bfloat16
        assert ms_deform_attn(*case.to(torch.float32)).dtype == torch.float32
        outside = ms_deform_attn(*half)
    assert torch.equal(outside, ms_deform_attn(*half)), "autocast changes nothing"
    assert out.dtype == torch.bfloat16 and exact.dtype == torch.float32
    assert (out.float() - exact).abs().max() <= 0.03 * exact.abs().max()  # a few roundings of 2^-8
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


def test_points_outside_add_nothing_to_whatever_there_is() -> None:
    """Not even where value or weight is not a number: 0 times that would not be 0."""
    case = make([(3, 4)], images=1, heads=1, queries=2, points=2, dtype=torch.float32)
    case.value[0, 0] = math.inf
    case.value[0, 11] = math.nan
    case.locations[0, 0] = torch.tensor([-3.0, 0.5])
    case.locations[0, 1] = torch.tensor([0.5, 7.0])
    case.weights[0, 1] = math.nan
    out, (of_value, of_locations, of_weights) = gradients(case, torch.ones(1, 2, 32))
    for found in (out, of_value, of_locations, of_weights):
        assert (found == 0).all()


def test_edges_and_corners_take_the_inside_part() -> None:
    case = make([(4, 6)], queries=6, points=1)
    places = [(0.0, 0.0), (1.0, 1.0), (0.25, 0.125), (-0.04, 0.5), (0.5, 1.1), (1.05, -0.1)]
    at = torch.tensor(places, dtype=torch.float64)[None, :, None, None, None]
    case = case._replace(locations=at.expand_as(case.locations).contiguous())
    torch.testing.assert_close(ms_deform_attn(*case), naive.by_loops(*case.python))
    assert_agree(case, 1e-12, 1e-12)  # at a kink both take the derivative to the right
    corner = case.value[:, 0] * case.weights[:, 0, :, 0, 0, None] / 4  # (0, 0): a quarter of the first pixel
    torch.testing.assert_close(ms_deform_attn(*case)[:, 0], corner.flatten(1))


@pytest.mark.parametrize("fused", [False, True])
@pytest.mark.parametrize("empty", ["images", "queries", "points", "levels", "pixels"])
def test_empty(empty: str, fused: bool) -> None:
    sizes = {"levels": [], "pixels": [(0, 4), (3, 0)]}.get(empty, [(3, 4)])
    numbers = {"images": 2, "queries": 5, "points": 2}
    if empty in numbers:
        numbers[empty] = 0
    leaf = make(sizes, channels=4, **numbers)
    leaf = leaf._replace(locations=leaf.locations.nan_to_num()).leaves()
    leaves = [leaf.value, leaf.locations, leaf.weights]
    if fused:
        leaves.append(torch.rand(numbers["images"], numbers["queries"], len(sizes), 4, requires_grad=True))
        out = ms_deform_attn_offsets(leaf.value, leaf.shapes, leaf.starts, leaves[3], *leaves[1:3])
    else:
        out = ms_deform_attn(*leaf)
    assert out.shape == (numbers["images"], numbers["queries"], 12)
    assert (out == 0).all()
    grads = torch.autograd.grad(out.sum(), leaves)
    assert all((g == 0).all() and g.shape == t.shape for g, t in zip(grads, leaves, strict=True))


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


def test_each_gradient_of_the_fused_operator_alone() -> None:
    case = make(channels=5)
    floats = [torch.rand(2, 11, 3, 4, dtype=torch.float64), case.value, case.locations, case.weights]

    def run(reference: Tensor, value: Tensor, offsets: Tensor, logits: Tensor) -> Tensor:
        return ms_deform_attn_offsets(value, case.shapes, case.starts, reference, offsets, logits).sum()

    leaves = [t.clone().requires_grad_() for t in floats]
    expected = torch.autograd.grad(run(*leaves), leaves)
    for index in range(4):
        leaf = floats[index].clone().requires_grad_()
        (found,) = torch.autograd.grad(run(*floats[:index], leaf, *floats[index + 1 :]), leaf)
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


LAYOUTS = {
    "m2f": ([(4, 4), (8, 8), (16, 16)], None, 32, 4),
    "detr-enc": ([(25, 34), (13, 17), (7, 9), (4, 5)], None, 32, 4),
    "detr-dec": ([(25, 34), (13, 17), (7, 9), (4, 5)], 30, 32, 4),
    "d64": ([(8, 8), (16, 16)], None, 64, 8),
}
"""Levels, queries (none: every pixel), channels a head, points: the benchmark's, with less pixels."""


@pytest.mark.parametrize("spread", [1.0, 4.0, None])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_location_sets(layout: str, spread: float | None) -> None:
    """Points around their query by a spread in pixels, or all over the image and a little beyond."""
    levels, queries, channels, points = LAYOUTS[layout]
    queries = queries or sum(h * w for h, w in levels)
    generator = torch.Generator().manual_seed(4)
    case = make(levels, 1, 8, channels, queries, points, torch.float32)
    places = torch.rand(case.locations.shape, generator=generator) * 1.1 - 0.05
    if spread is not None:
        centre = torch.rand(1, queries, 1, 1, 1, 2, generator=generator)
        size = case.shapes.flip(-1)[:, None]
        places = centre + spread * torch.randn(case.locations.shape, generator=generator) / size
    # Away from the kinks, where a rounding decides between two derivatives.
    pixel = places.double() * case.shapes.flip(-1)[:, None] - 0.5
    off = (pixel - pixel.round()).abs().amin(-1) < 1e-4
    places[off] = 3.0
    case = case._replace(locations=places, weights=naive.weights_of(case.weights))
    assert_agree(case, 3e-5, 3e-5)  # x = u W - 1/2 in float32 is right to W · 2^-24 pixels


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


def test_bits_of_the_fused_operator_do_not_depend_on_threads() -> None:
    case = make([(64, 64), (80, 80)], 1, 8, 32, 64 * 64 + 80 * 80, 2, torch.float32).leaves()
    reference = torch.rand(1, 64 * 64 + 80 * 80, 2, 2)
    before, results = torch.get_num_threads(), []
    try:
        for threads in (1, 3, 4):  # three do not divide the heads: the work is cut differently
            torch.set_num_threads(threads)
            out = ms_deform_attn_offsets(*case[:3], reference, *case[3:])
            results.append((out, *torch.autograd.grad(out.square().sum(), (case.value, *case[3:]))))
    finally:
        torch.set_num_threads(before)
    assert all(torch.equal(a, b) for found in results[1:] for a, b in zip(found, results[0], strict=True))


def test_large_values_go_by_heads_and_agree() -> None:
    case = make([(64, 64), (80, 80)], 1, 8, 32, 64 * 64 + 80 * 80, 2, torch.float32)
    assert case.value.numel() * 4 > 8 << 20
    case = case._replace(weights=naive.weights_of(case.weights))
    expected = naive.by_grid_sample(*case.to(torch.float64).python)
    # x = u W - 1/2 in float32 is right to 80 · 2^-24 pixels, and neighbours differ by up to 6.
    torch.testing.assert_close(ms_deform_attn(*case).double(), expected, atol=3e-5, rtol=0)


def test_differentiating_twice_is_refused() -> None:
    case = make().leaves()
    (grad,) = torch.autograd.grad(ms_deform_attn(*case).sum(), case.value, create_graph=True)
    with pytest.raises(RuntimeError, match="can be differentiated once"):
        grad.sum().backward()
