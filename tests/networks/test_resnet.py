import pytest
import torch
from torch import nn

from methods.networks.backbones import build_backbone
from methods.networks.resnet import RESNET101, RESNET_MINI, SLOPE, ResNet, strides_and_dilations


def test_resnet101_has_the_official_number_of_parameters():
    with torch.device("meta"):
        body = build_backbone("resnet101")
    assert sum(p.numel() for p in body.parameters()) == 42_500_160


@pytest.mark.parametrize(
    "output_stride, plan",
    [
        (32, [(1, 1), (2, 1), (2, 1), (2, 1)]),
        (16, [(1, 1), (2, 1), (2, 1), (1, 2)]),
        (8, [(1, 1), (2, 1), (1, 2), (1, 4)]),
    ],
)
def test_strides_and_dilations(output_stride, plan):
    assert strides_and_dilations(RESNET101, output_stride) == plan
    with torch.device("meta"):
        body = ResNet(RESNET101, output_stride)
    for group, (stride, dilation) in zip(body.groups, plan, strict=True):
        convs = [block.convs.conv2 for block in group]
        assert [c.stride[0] for c in convs] == [stride] + [1] * (len(convs) - 1)
        assert {(c.dilation[0], c.padding[0]) for c in convs} == {(dilation, dilation)}


@pytest.mark.parametrize("config, output_stride", [(RESNET101, 4 * 3), (RESNET101, 2), (RESNET_MINI, 32)])
def test_output_stride_out_of_reach(config, output_stride):
    with pytest.raises(ValueError, match=f"output stride {output_stride} is out of reach"):
        ResNet(config, output_stride)


def test_feature_sizes_of_a_512_crop():
    with torch.device("meta"):
        body = build_backbone("resnet101")
        features = body.feature_maps(torch.empty(1, 3, 512, 512))
    sizes = [(256, 128, 128), (512, 64, 64), (1024, 32, 32), (2048, 32, 32)]
    assert [tuple(m.shape[1:]) for m in features.stages] == sizes
    assert [tuple(m.shape[1:]) for m in features.residuals] == sizes


def test_parameter_names_are_the_official_ones():
    with torch.device("meta"):
        keys = set(build_backbone("resnet101").state_dict())
    norm = ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")
    expected = {"mod1.conv1.weight"} | {f"mod1.bn1.{n}" for n in norm}
    for group, depth in zip((2, 3, 4, 5), (3, 4, 23, 3), strict=True):
        for block in range(1, depth + 1):
            prefix = f"mod{group}.block{block}"
            expected |= {f"{prefix}.convs.conv{n}.weight" for n in (1, 2, 3)}
            expected |= {f"{prefix}.convs.bn{n}.{name}" for n in (1, 2, 3) for name in norm}
        expected |= {f"mod{group}.block1.proj_conv.weight"}
        expected |= {f"mod{group}.block1.proj_bn.{name}" for name in norm}
    assert keys == expected


def test_last_norms_of_a_block_are_linear():
    body = build_backbone("resnet-mini", 4)
    linear = [n for n, m in body.named_modules() if getattr(m, "activation", None) == "identity"]
    assert linear and all(n.endswith(("bn3", "proj_bn")) for n in linear)


@pytest.mark.parametrize("output_stride", [4, 8, 16])
def test_feature_maps_agree_with_the_plain_pass(output_stride):
    torch.manual_seed(0)
    body = build_backbone("resnet-mini", output_stride).eval()
    images = torch.randn(2, 3, 33, 48)
    out, features = body(images), body.feature_maps(images)
    assert out.shape == (2, body.out_channels, -(-33 // output_stride), 48 // output_stride)
    assert torch.equal(out, features.out)
    for residual, stage in zip(features.residuals, features.stages, strict=True):
        assert residual.min() < stage.min() < 0
        assert torch.equal(nn.functional.leaky_relu(residual, SLOPE), stage)


def test_gradients_reach_every_parameter_on_both_paths():
    for path in ("forward", "feature_maps"):
        body = build_backbone("resnet-mini", 8)
        out = getattr(body, path)(torch.randn(2, 3, 32, 32))
        (out if path == "forward" else out.residuals[-1]).square().mean().backward()
        assert all(p.grad is not None and p.grad.isfinite().all() for p in body.parameters())
