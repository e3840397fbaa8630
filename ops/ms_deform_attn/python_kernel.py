"""The fallback: the `grid_sample` composition behind the same two functions as the kernels have."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from ops.ms_deform_attn import naive
from ops.ms_deform_attn.arguments import Arguments


def forward(*inputs: Any) -> Tensor:
    """As `contiseg_msda::forward`."""
    given = Arguments(*inputs)
    places, shares = _located(given)
    return naive.by_grid_sample(given.value, given.shapes.tolist(), given.starts.tolist(), places, shares)


def backward(
    grad_output: Tensor, needs_value: bool, needs_points: bool, needs_weights: bool, *inputs: Any
) -> tuple[Tensor, ...]:
    """As `contiseg_msda::backward`."""
    given = Arguments(*inputs)
    places, shares = _located(given)
    of_value, of_points, of_weights = naive.grid_sample_gradients(
        grad_output, given.value, given.shapes.tolist(), given.starts.tolist(), places, shares
    )
    if given.reference is not None:
        of_weights = shares * (of_weights - (shares * of_weights).sum((-2, -1), keepdim=True))
        unit = 1 / given.shapes.flip(-1).to(places.dtype)[None, None, None, :, None, :]
        if given.reference.shape[-1] == 4:
            unit = given.reference[:, :, None, :, None, 2:] * (0.5 / given.points.shape[-2])
        of_points = of_points * unit
    grads = (of_value, of_points, of_weights)
    needs = (needs_value, needs_points, needs_weights)
    return tuple(grad if needed else grad.new_empty(0) for grad, needed in zip(grads, needs, strict=True))


def _located(given: Arguments) -> tuple[Tensor, Tensor]:
    """Locations and weights."""
    if given.reference is None:
        return given.points, given.weights
    places = naive.locations_of(given.reference, given.points, given.shapes)
    return places, naive.weights_of(given.weights)
