"""The two operators, known to torch: autograd, `torch.compile`, `torch.export`, FLOP counting.

| tensor | shape | meaning |
| --- | --- | --- |
| value | (N, S, M, D) | the levels' pixels in rows, one level after the other; M heads of D channels |
| spatial_shapes | (L, 2) int | (H, W) of each level, as a tensor or a list |
| level_start_index | (L,) int | the first pixel of each level in S |
| sampling_locations | (N, Q, M, L, P, 2) | (x, y) from 0, the left or top edge, to 1 |
| attention_weights | (N, Q, M, L, P) | any numbers; usually they sum to 1 over L and P |
| reference_points | (N, Q, L, 2 or 4) | (x, y), or boxes (x, y, width, height), as locations are |
| sampling_offsets | (N, Q, M, L, P, 2) | pixels of the level; with boxes, halves of the box a P-th |
| attention_logits | (N, Q, M, L, P) | before the softmax over L and P |
| result | (N, Q, M·D) | of value's dtype |

Values may be float32, float64, float16 or bfloat16; sums are float32, or float64 for float64 values. The
other tensors may be of another floating type, so under autocast values may be half and locations not.
A location that is NaN or infinite, or a pixel or more outside its level, adds nothing and has no gradient.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ops.ms_deform_attn import naive
from ops.ms_deform_attn.arguments import Shapes, as_shapes, check_levels, check_tensors
from ops.ms_deform_attn.backend import choose

_PLAIN = "contiseg::ms_deform_attn"
_FUSED = "contiseg::ms_deform_attn_offsets"
_INPUTS = {
    _PLAIN: "Tensor value, Tensor spatial_shapes, Tensor level_start_index, Tensor sampling_locations, "
    "Tensor attention_weights",
    _FUSED: "Tensor value, Tensor spatial_shapes, Tensor level_start_index, Tensor sampling_offsets, "
    "Tensor attention_logits, Tensor reference_points",
}


def ms_deform_attn(
    value: Tensor,
    spatial_shapes: Shapes,
    level_start_index: Tensor,
    sampling_locations: Tensor,
    attention_weights: Tensor,
) -> Tensor:
    """Multi-scale deformable attention, the drop-in operator. Shapes and types: this file's first lines.

    Differentiable once in value, locations and weights. Raises TypeError and ValueError for arguments that
    do not go together. Source: Deformable DETR section 4.1; Mask2Former,
    modeling/pixel_decoder/ops/src/cuda/ms_deform_im2col_cuda.cuh.
    """
    shapes = as_shapes(spatial_shapes, value.device)
    return torch.ops.contiseg.ms_deform_attn(
        value, shapes, level_start_index, sampling_locations, attention_weights
    )


def ms_deform_attn_offsets(
    value: Tensor,
    spatial_shapes: Shapes,
    level_start_index: Tensor,
    reference_points: Tensor,
    sampling_offsets: Tensor,
    attention_logits: Tensor,
) -> Tensor:
    """The same from raw offsets and logits: softmax and location arithmetic happen inside, nothing is stored.

    Differentiable once in value, offsets, logits and reference points. Equal to `ms_deform_attn` on
    `naive.locations_of` and `naive.weights_of` up to rounding. Raises as that does.
    """
    shapes = as_shapes(spatial_shapes, value.device)
    return torch.ops.contiseg.ms_deform_attn_offsets(
        value, shapes, level_start_index, sampling_offsets, attention_logits, reference_points
    )


# ------------------------------------------------------------------------------------------------ kernels
def _forward(
    value: Tensor,
    shapes: Tensor,
    starts: Tensor,
    points: Tensor,
    weights: Tensor,
    reference: Tensor | None = None,
) -> Tensor:
    check_tensors(value, shapes, starts, points, weights, reference)
    if value.device.type == "cpu":
        check_levels(shapes.tolist(), starts.tolist(), value.shape[1])
    name, _ = choose(value.device.type)
    if name == "python" or not value.numel() * points.numel():
        return _by_python(value, shapes, starts, points, weights, reference)
    inputs = _prepared(value, shapes, starts, points, weights, reference)
    if name == "triton":
        from ops.ms_deform_attn import triton_kernel

        return triton_kernel.forward(*inputs)
    return torch.ops.contiseg_msda.forward(*inputs)


def _backward(
    grad_output: Tensor,
    needs: list[bool],
    value: Tensor,
    shapes: Tensor,
    starts: Tensor,
    points: Tensor,
    weights: Tensor,
    reference: Tensor | None = None,
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of value, points and weights; (0,) for those that are not needed.

    With reference boxes the gradient of the points is that of the offsets.
    """
    name, _ = choose(value.device.type)
    if name == "python" or not value.numel() * points.numel():
        return _backward_by_python(grad_output, needs, value, shapes, starts, points, weights, reference)
    inputs = _prepared(value, shapes, starts, points, weights, reference)
    grad_output = grad_output.to(value.dtype).contiguous()
    if name == "triton":
        from ops.ms_deform_attn import triton_kernel

        grads = triton_kernel.backward(grad_output, *inputs, *needs)
    else:
        grads = torch.ops.contiseg_msda.backward(grad_output, *inputs, *needs)
    of_value, of_points, of_weights = grads
    return of_value, of_points.to(points.dtype), of_weights.to(weights.dtype)


def _prepared(
    value: Tensor, shapes: Tensor, starts: Tensor, points: Tensor, weights: Tensor, reference: Tensor | None
) -> tuple[Tensor, Tensor, Tensor, Tensor | None, Tensor, Tensor]:
    wide = naive.accumulation(value)
    return (
        value.contiguous(),
        shapes.long().contiguous(),
        starts.long().contiguous(),
        None if reference is None else reference.to(wide).contiguous(),
        points.to(wide).contiguous(),
        weights.to(wide).contiguous(),
    )


def _by_python(
    value: Tensor, shapes: Tensor, starts: Tensor, points: Tensor, weights: Tensor, reference: Tensor | None
) -> Tensor:
    wide = naive.accumulation(value)
    points, weights = points.to(wide), weights.to(wide)
    if reference is not None:
        points = naive.locations_of(reference.to(wide), points, shapes)
        weights = naive.weights_of(weights) if weights.numel() else weights
    return naive.by_grid_sample(value, shapes.tolist(), starts.tolist(), points, weights)


def _backward_by_python(
    grad_output: Tensor,
    needs: list[bool],
    value: Tensor,
    shapes: Tensor,
    starts: Tensor,
    points: Tensor,
    weights: Tensor,
    reference: Tensor | None,
) -> tuple[Tensor, Tensor, Tensor]:
    wide = naive.accumulation(value)
    places, shares = points.to(wide), weights.to(wide)
    unit: Tensor | float = 1.0  # of a location, in the raw numbers
    if reference is not None:
        reference = reference.to(wide)
        places = naive.locations_of(reference, places, shapes)
        shares = naive.weights_of(shares) if shares.numel() else shares
        unit = 1 / shapes.flip(-1).to(wide)[None, None, None, :, None, :]
        if reference.shape[-1] == 4:
            unit = reference[:, :, None, :, None, 2:] * (0.5 / max(points.shape[-2], 1))
    of_value, of_places, of_shares = naive.grid_sample_gradients(
        grad_output, value, shapes.tolist(), starts.tolist(), places, shares
    )
    if reference is not None:
        of_shares = shares * (of_shares - (shares * of_shares).sum((-2, -1), keepdim=True))
    grads = (of_value, (of_places * unit).to(points.dtype), of_shares.to(weights.dtype))
    kept = [grad if needed else grad.new_empty(0) for grad, needed in zip(grads, needs, strict=True)]
    return kept[0], kept[1], kept[2]


# ----------------------------------------------------------------------------------------- what torch knows
def _fake_forward(
    value: Tensor,
    shapes: Tensor,
    starts: Tensor,
    points: Tensor,
    weights: Tensor,
    reference: Tensor | None = None,
) -> Tensor:
    check_tensors(value, shapes, starts, points, weights, reference)
    return value.new_empty(value.shape[0], points.shape[1], value.shape[2] * value.shape[3])


def _fake_backward(
    grad_output: Tensor,
    needs: list[bool],
    value: Tensor,
    shapes: Tensor,
    starts: Tensor,
    points: Tensor,
    weights: Tensor,
    reference: Tensor | None = None,
) -> tuple[Tensor, ...]:
    return tuple(
        t.new_empty(t.shape if needed else (0,))
        for t, needed in zip((value, points, weights), needs, strict=True)
    )


def _save(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    ctx.save_for_backward(*inputs)


def _differentiate(ctx: Any, grad_output: Tensor) -> tuple[Tensor | None, ...]:
    value, shapes, starts, points, weights, *rest = ctx.saved_tensors
    reference = rest[0] if rest else None
    needs = [ctx.needs_input_grad[i] for i in (0, 3, 4)]
    of_reference = bool(rest) and ctx.needs_input_grad[5]
    operator = torch.ops.contiseg.ms_deform_attn_offsets_backward
    if reference is None:
        operator = torch.ops.contiseg.ms_deform_attn_backward
    asked = [needs[0], needs[1] or of_reference, needs[2]]
    grads = operator(grad_output, asked, value, shapes, starts, points, weights, *rest)
    given = [grad if needed else None for grad, needed in zip(grads, needs, strict=True)]
    result = [given[0], None, None, given[1], given[2]]
    if reference is not None:
        result.append(_of_reference(grads[1], points, shapes, reference) if of_reference else None)
    return tuple(result)


def _of_reference(of_offsets: Tensor, offsets: Tensor, shapes: Tensor, reference: Tensor) -> Tensor:
    """From the gradient of the offsets: x = W·r_x + o_x for points, W·(r_x + o_x·r_w / 2P) for boxes."""
    size = shapes.flip(-1).to(of_offsets.dtype)  # (L, 2): W, H
    if reference.shape[-1] == 2:
        return (of_offsets.sum((2, 4)) * size).to(reference.dtype)
    extent = reference[:, :, None, :, None, 2:].to(of_offsets.dtype) * (0.5 / offsets.shape[-2])
    # A box without extent has no gradient through its offsets, and none is claimed for its centre then.
    of_location = torch.where(extent == 0, 0, of_offsets / extent)
    of_extent = of_location * offsets * (0.5 / offsets.shape[-2])
    return torch.cat([of_location.sum((2, 4)), of_extent.sum((2, 4))], -1).to(reference.dtype)


def _refuse_twice(ctx: Any, *grads: Tensor) -> None:
    raise RuntimeError(
        "ms_deform_attn can be differentiated once; for second derivatives call "
        "ops.ms_deform_attn.naive.by_grid_sample"
    )


def _flops(operations: int) -> Any:
    def formula(*shapes: Any, out_shape: Any = None, **kwargs: Any) -> int:
        value, weights = [s for s in shapes if isinstance(s, torch.Size | list | tuple) and len(s) in (4, 5)][
            :2
        ]
        samples = 1
        for size in weights:
            samples *= size
        return samples * operations * value[3]

    return formula


def _register() -> None:
    from torch.utils.flop_counter import register_flop_formula

    for name in (_PLAIN, _FUSED):
        inputs = _INPUTS[name]
        torch.library.define(name, f"({inputs}) -> Tensor")
        backward = f"{name}_backward"
        torch.library.define(
            backward, f"(Tensor grad_output, bool[] needs, {inputs}) -> (Tensor, Tensor, Tensor)"
        )
        for device in ("cpu", "cuda"):
            torch.library.impl(name, device)(_forward)
            torch.library.impl(backward, device)(_backward)
        torch.library.register_fake(name)(_fake_forward)
        torch.library.register_fake(backward)(_fake_backward)
        torch.library.register_autograd(name, _differentiate, setup_context=_save)
        torch.library.register_autograd(backward, _refuse_twice)
        operator = getattr(torch.ops.contiseg, name.removeprefix("contiseg::"))
        # Four rows of D products and sums a sample; backward four dot products and four rows (README.md).
        register_flop_formula(operator)(_flops(8))
        register_flop_formula(getattr(torch.ops.contiseg, backward.removeprefix("contiseg::")))(_flops(16))


_register()
