"""What torch knows of the operator, and the layer around it."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from ops.ms_deform_attn import MSDeformAttn, ms_deform_attn, ms_deform_attn_offsets
from tests.ops.ms_deform_attn.cases import make


@pytest.mark.parametrize("fused", [False, True])
def test_opcheck(fused: bool) -> None:
    case = make(dtype=torch.float32, channels=4).leaves()
    if fused:
        reference = torch.rand(2, 11, 3, 2, requires_grad=True)
        operator, inputs = torch.ops.contiseg.ms_deform_attn_offsets, (*case, reference)
    else:
        operator, inputs = torch.ops.contiseg.ms_deform_attn, tuple(case)
    torch.library.opcheck(operator, inputs)
    backward = torch.ops.contiseg.ms_deform_attn_backward
    if fused:
        backward = torch.ops.contiseg.ms_deform_attn_offsets_backward
    inputs = tuple(t.detach() for t in inputs)
    torch.library.opcheck(backward, (torch.randn(2, 11, 12), [True, False, True], *inputs))


def test_compile_without_graph_breaks() -> None:
    def function(*inputs: Tensor) -> Tensor:
        return ms_deform_attn(*inputs).sin()

    compiled = torch.compile(function, fullgraph=True, backend="aot_eager", dynamic=True)
    for queries in (11, 13):
        case = make(dtype=torch.float32, queries=queries).leaves()
        out = compiled(*case)
        torch.testing.assert_close(out, ms_deform_attn(*case).sin())
        out.sum().backward()
        assert case.locations.grad is not None


def test_export_keeps_one_node() -> None:
    module, case = MSDeformAttn(32, 3, 4, 2), make()
    inputs = (torch.randn(1, 5, 32), torch.rand(1, 5, 3, 2), torch.randn(1, 48, 32), case.shapes, case.starts)
    exported = torch.export.export(module, inputs)
    assert sum("ms_deform_attn" in str(node.target) for node in exported.graph.nodes) == 1
    torch.testing.assert_close(exported.module()(*inputs), module(*inputs))


@pytest.mark.parametrize("fused", [False, True])
def test_vmap_is_more_images(fused: bool) -> None:
    case = make(channels=4)
    generator = torch.Generator().manual_seed(3)
    batch = [t + 0.01 * torch.randn(5, *t.shape, generator=generator) for t in (case.value, case.weights)]
    reference = torch.rand(2, 11, 3, 2, generator=generator, dtype=torch.float64)

    def run(value: Tensor, weights: Tensor) -> Tensor:
        if fused:
            return ms_deform_attn_offsets(value, case.shapes, case.starts, reference, case.locations, weights)
        return ms_deform_attn(value, case.shapes, case.starts, case.locations, weights)

    leaves = [t.requires_grad_() for t in batch]
    found = torch.vmap(run, in_dims=(1, 0))(leaves[0].movedim(0, 1), leaves[1])
    expected = torch.stack([run(*both) for both in zip(*leaves, strict=True)])
    torch.testing.assert_close(found, expected)
    of_found = torch.autograd.grad(found.square().sum(), leaves)
    for a, b in zip(of_found, torch.autograd.grad(expected.square().sum(), leaves), strict=True):
        torch.testing.assert_close(a, b)


@pytest.mark.parametrize("needs", [(0, 3, 4), (4,)])
def test_vmap_of_the_gradient(needs: tuple[int, ...]) -> None:
    """As rows of a Jacobian are computed: `is_grads_batched`."""
    case = make(channels=4).leaves()
    inputs = [case[i] for i in needs]
    out = ms_deform_attn(*(t if i in needs else t.detach() for i, t in enumerate(case)))
    grads = torch.randn(3, *out.shape, dtype=out.dtype)
    batched = torch.autograd.grad(out, inputs, grads, is_grads_batched=True, retain_graph=True)
    for row, grad in enumerate(grads):
        for a, b in zip(batched, torch.autograd.grad(out, inputs, grad, retain_graph=True), strict=True):
            torch.testing.assert_close(a[row], b)


def test_vmap_over_levels_is_refused() -> None:
    case = make()
    with pytest.raises(ValueError, match="level_start_index cannot be batched"):
        torch.vmap(lambda starts: ms_deform_attn(*case._replace(starts=starts)))(case.starts.expand(2, -1))


def test_flops_are_counted() -> None:
    from torch.utils.flop_counter import FlopCounterMode

    case = make().leaves()
    with FlopCounterMode(display=False) as counter:
        ms_deform_attn(*case).sum().backward()
    samples = case.weights.numel()
    assert counter.get_total_flops() == samples * (256 + 512)  # 32 channels: README.md section 3


def test_module_has_the_official_names_and_start() -> None:
    module = MSDeformAttn(256, 3, 8, 4)
    shapes = {name: tuple(p.shape) for name, p in module.named_parameters()}
    assert shapes == {
        "sampling_offsets.weight": (192, 256), "sampling_offsets.bias": (192,),
        "attention_weights.weight": (96, 256), "attention_weights.bias": (96,),
        "value_proj.weight": (256, 256), "value_proj.bias": (256,),
        "output_proj.weight": (256, 256), "output_proj.bias": (256,),
    }  # fmt: skip
    bias = module.sampling_offsets.bias.view(8, 3, 4, 2)
    torch.testing.assert_close(bias[0, 1], torch.tensor([[1.0, 0], [2, 0], [3, 0], [4, 0]]))
    torch.testing.assert_close(bias[3, 2, 1], torch.tensor([-2.0, 2.0]))  # 135 degrees, two pixels out
    with pytest.raises(ValueError, match="multiple of n_heads"):
        MSDeformAttn(30, n_heads=8)


def test_module_fused_and_not_are_the_same_with_padding() -> None:
    module, case = MSDeformAttn(32, 3, 4, 2), make()
    torch.nn.init.normal_(module.sampling_offsets.weight, std=0.3)
    torch.nn.init.normal_(module.attention_weights.weight, std=0.3)
    padding = torch.rand(2, 48) < 0.3
    inputs = (
        torch.randn(2, 11, 32),
        torch.rand(2, 11, 3, 2),
        torch.randn(2, 48, 32),
        case.shapes,
        case.starts,
        padding,
    )
    fused = module(*inputs)
    module.fused = False
    torch.testing.assert_close(fused, module(*inputs), atol=1e-5, rtol=1e-5)
    inputs[2][padding] = math.pi  # padded pixels do not matter
    torch.testing.assert_close(fused, module(*inputs), atol=1e-5, rtol=1e-5)
