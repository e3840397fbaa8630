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
other tensors may be of another floating type. Autocast changes nothing here: half values stay half and give a
half result, locations and weights are taken as they come, sums are float32. Half locations would move the
points (bfloat16: by up to half a pixel of 256); the layer's reference points stay float32.
A location that is NaN or infinite, or a pixel or more outside its level, adds nothing and has no gradient.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from ops.ms_deform_attn import python_kernel
from ops.ms_deform_attn.arguments import Arguments, Shapes, as_shapes
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


def _forward(*inputs: Tensor) -> Tensor:
    given = Arguments(*inputs)
    given.check()
    kernel = _kernel(given)
    if given.empty:
        return given.value.new_zeros(given.output_shape)
    return kernel.forward(*given.prepared())


def _backward(grad_output: Tensor, needs: list[bool], *inputs: Tensor) -> tuple[Tensor, ...]:
    """Gradients of value, points and weights; (0,) for those that are not needed.

    With reference boxes the gradient of the points is that of the offsets.
    """
    given = Arguments(*inputs)
    given.check_backward(grad_output, needs)
    kernel = _kernel(given)
    of = (given.value, given.points, given.weights)
    if given.empty:
        return tuple(t.new_zeros(t.shape if needed else (0,)) for t, needed in zip(of, needs, strict=True))
    grad_output = grad_output.to(given.value.dtype).contiguous()
    grads = kernel.backward(grad_output, *needs, *given.prepared())
    return tuple(grad.to(t.dtype) for grad, t in zip(grads, of, strict=True))


def _kernel(given: Arguments) -> Any:
    """The `forward` and `backward` that run the call, after a look at the levels where it is free.

    On a GPU the levels' numbers stay there: the kernel touches no pixel beyond value, whatever they say.
    """
    name, _ = choose(given.value.device.type)
    if name == "python" or given.value.device.type == "cpu":
        given.check_levels()
    if name == "cpp":
        return torch.ops.contiseg_msda
    if name == "python":
        return python_kernel
    from ops.ms_deform_attn import triton_kernel

    return triton_kernel


def _fake_forward(*inputs: Tensor) -> Tensor:
    given = Arguments(*inputs)
    given.check()
    return given.value.new_empty(given.output_shape)


def _fake_backward(grad_output: Tensor, needs: list[bool], *inputs: Tensor) -> tuple[Tensor, ...]:
    given = Arguments(*inputs)
    given.check_backward(grad_output, needs)
    likes = (given.value, given.points, given.weights)
    return tuple(t.new_empty(t.shape if needed else (0,)) for t, needed in zip(likes, needs, strict=True))


def _save(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    ctx.save_for_backward(*inputs)


def _differentiate(ctx: Any, grad_output: Tensor) -> tuple[Tensor | None, ...]:
    given = Arguments(*ctx.saved_tensors)
    wanted = ctx.needs_input_grad
    of_reference = given.reference is not None and wanted[5]
    needs = [wanted[0], wanted[3] or of_reference, wanted[4]]
    operators = torch.ops.contiseg
    operator = operators.ms_deform_attn_backward
    if given.reference is not None:
        operator = operators.ms_deform_attn_offsets_backward
    grads = operator(grad_output, needs, *ctx.saved_tensors)
    of_value, of_points, of_weights = (
        grad if wanted[i] else None for i, grad in zip((0, 3, 4), grads, strict=True)
    )
    result = (of_value, None, None, of_points, of_weights)
    if given.reference is None:
        return result
    return (*result, _of_reference(grads[1], given) if of_reference else None)


def _of_reference(of_offsets: Tensor, given: Arguments) -> Tensor:
    """From the gradient of the offsets: x = W·r_x + o_x for points, W·(r_x + o_x·r_w / 2P) for boxes."""
    reference = given.reference
    assert reference is not None
    size = given.shapes.flip(-1).to(of_offsets.dtype)  # (L, 2): W, H
    if reference.shape[-1] == 2:
        return (of_offsets.sum((2, 4)) * size).to(reference.dtype)
    half_share = 0.5 / max(given.points.shape[-2], 1)
    extent = reference[:, :, None, :, None, 2:].to(of_offsets.dtype) * half_share
    # A box without extent has no gradient through its offsets, and none is claimed for its centre then.
    of_location = torch.where(extent == 0, 0, of_offsets / extent)
    of_extent = of_location * given.points * half_share
    return torch.cat([of_location.sum((2, 4)), of_extent.sum((2, 4))], -1).to(reference.dtype)


def _refuse_twice(ctx: Any, *grads: Tensor) -> None:
    raise RuntimeError(
        "ms_deform_attn can be differentiated once; for second derivatives call "
        "ops.ms_deform_attn.naive.by_grid_sample"
    )


def _over_images(operator: Callable[..., Any]) -> Callable[..., Any]:
    """The rule of `torch.vmap`: the batch becomes more images. Its calls share their levels."""

    def rule(info: Any, in_dims: tuple[int | None, ...], *inputs: Any) -> tuple[Any, Any]:
        batch = info.batch_size

        def folded(given: Any, dim: int | None) -> Any:
            if not isinstance(given, Tensor):  # which gradients are needed
                return given
            if not given.is_floating_point():
                if dim is not None:
                    raise ValueError(
                        "torch.vmap of ms_deform_attn: spatial_shapes and level_start_index cannot be batched"
                    )
                return given
            given = given.expand(batch, *given.shape) if dim is None else given.movedim(dim, 0)
            return given.flatten(0, 1)

        def unfolded(out: Tensor) -> tuple[Tensor, int | None]:
            if out.ndim == 1:  # a gradient that is not needed
                return out, None
            return out.unflatten(0, (batch, out.shape[0] // batch)), 0

        outs = operator(*map(folded, inputs, in_dims))
        if isinstance(outs, Tensor):
            return unfolded(outs)
        results, out_dims = zip(*map(unfolded, outs), strict=True)
        return results, out_dims

    return rule


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
        backward = f"{name}_backward"
        torch.library.define(name, f"({_INPUTS[name]}) -> Tensor")
        torch.library.define(
            backward, f"(Tensor grad_output, bool[] needs, {_INPUTS[name]}) -> (Tensor, Tensor, Tensor)"
        )
        operators = [
            getattr(torch.ops.contiseg, full.removeprefix("contiseg::")) for full in (name, backward)
        ]
        torch.library.impl(name, "default")(_forward)
        torch.library.impl(backward, "default")(_backward)
        torch.library.register_fake(name)(_fake_forward)
        torch.library.register_fake(backward)(_fake_backward)
        torch.library.register_autograd(name, _differentiate, setup_context=_save)
        torch.library.register_autograd(backward, _refuse_twice)
        torch.library.register_vmap(name, _over_images(operators[0]))
        torch.library.register_vmap(backward, _over_images(operators[1]))
        # Four rows of D products and sums a sample; backward four dot products and four rows (README.md).
        register_flop_formula(operators[0])(_flops(8))
        register_flop_formula(operators[1])(_flops(16))


_register()
