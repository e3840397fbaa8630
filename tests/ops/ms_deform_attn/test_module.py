"""What torch knows of the operator, and the layer around it."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from ops.ms_deform_attn import MSDeformAttn, ms_deform_attn
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
