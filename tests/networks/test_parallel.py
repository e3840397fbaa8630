import copy

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from methods.networks.deeplab import HEAD_MINI
from methods.networks.parallel import (
    ParallelBottleneck,
    ParallelResNet,
    as_merged,
    build_parallel_deeplab,
    half_convolution,
    merge_branches,
    mix,
)
from methods.networks.resnet import RESNET_MINI, SLOPE, ResNet
from methods.networks.segmenter import DeepLabV3
from ops.inplace_abn import InPlaceABN
from tests.golden import wave


def mini() -> DeepLabV3:
    """In float64, with statistics and scales of all kinds, as after some training."""
    torch.manual_seed(0)
    network = build_parallel_deeplab("resnet-mini", 4, output_stride=4, head=HEAD_MINI).double()
    for module in network.modules():
        if isinstance(module, InPlaceABN):
            nn.init.normal_(module.weight), nn.init.normal_(module.bias)
            nn.init.normal_(module.running_mean), nn.init.uniform_(module.running_var, 0.5, 2)
    return network.eval()


def images() -> torch.Tensor:
    return wave((2, 3, 32, 32), 0.7, 0.2, 1)


def float64(values: list[float]) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float64)


def test_parameter_counts():
    with torch.device("meta"):
        network = build_parallel_deeplab("resnet101", 21)
    assert sum(p.numel() for p in network.body.parameters()) == 63_860_672
    assert sum(p.numel() for p in network.head.parameters()) == 30_217_216


def test_golden_merge():
    weight, bias = half_convolution(
        wave((2, 2, 3, 3), 0.7, 0.3, 1),
        float64([0.7, -0.9]),
        float64([0.5, 1.5]) + 1e-5,
        float64([0.1, -0.2]),
        float64([0.3, -0.4]),
        (float64([2.0, 0.5]) + 1e-5).sqrt(),
    )
    assert bias.tolist() == pytest.approx([0.120711915553, -0.630328318167], abs=1e-9)
    assert weight[0, 0, 0].tolist() == pytest.approx(
        [0.052241999744, 0.148755063044, 0.175306295833], abs=1e-9
    )


def branch_outputs(block: ParallelBottleneck, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    c = block.convs
    x = c.bn1(c.conv1(x))
    return c.bn2(c.conv2(x)), c.bn2_new(c.conv2_new(x))


@pytest.mark.parametrize("times", [1, 2, 3])
def test_merging_is_exact(times):
    """The first branch becomes the mean of both, also where it was merged before."""
    network = mini()
    block, head = network.body.mod3.block1, network.head
    x, y = wave((2, 96, 8, 8), 0.3, 0.1, 1), wave((2, 192, 8, 8), 0.3, 0.1, 1)
    for _ in range(times):
        first, second = branch_outputs(block, x)
        pyramid = head.pyramid(y)
        merge_branches(network)
        merged, kept = branch_outputs(block, x)
        torch.testing.assert_close(merged, (first + second) / 2, rtol=1e-12, atol=1e-12)
        assert torch.equal(kept, second)
        maps = head.map_bn(torch.cat([conv(y) for conv in head.map_convs], dim=1))
        torch.testing.assert_close(F.leaky_relu(maps, SLOPE), pyramid, rtol=1e-12, atol=1e-12)
        with torch.no_grad():  # a step of training
            block.convs.conv2_new.weight.mul_(1.1)


def test_a_step_starts_from_half_merged_and_half_the_second_branch():
    network = mini()
    block, x = network.body.mod4.block1, wave((2, 192, 8, 8), 0.3, 0.1, 1)
    first, second = branch_outputs(block, x)
    merge_branches(network)
    mixed = mix(*branch_outputs(block, x), training=False)
    torch.testing.assert_close(mixed, 0.25 * first + 0.75 * second)


def test_merged_layers_stay_frozen_through_train():
    network = mini()
    before = {name for name, p in network.named_parameters() if p.requires_grad}
    merge_branches(network)
    network.train()
    frozen = {name for name, p in network.named_parameters() if not p.requires_grad}
    kinds = {name.split(".", 1)[1] for name in frozen}
    assert kinds == {
        *(f"mod{m}.block1.convs.{layer}.{kind}" for m in range(2, 6) for layer in ("conv2", "bn2")
          for kind in ("weight", "bias")),
        *(f"map_convs.{k}.{kind}" for k in range(4) for kind in ("weight", "bias")),
        "map_bn.weight", "map_bn.bias",
    }  # fmt: skip
    assert before - frozen == {name for name, p in network.named_parameters() if p.requires_grad}
    assert not network.head.map_bn.training and network.head.map_bn_new.training
    copied = copy.deepcopy(network).train()
    assert not copied.head.map_bn.training


def test_state_of_a_merged_network_loads_into_a_fresh_one():
    network = mini()
    merge_branches(network)
    fresh = mini()
    as_merged(fresh)
    fresh.load_state_dict(network.state_dict())
    assert torch.equal(fresh(images()).logits, network(images()).logits)
    as_merged(fresh)  # once more changes the values, not the shape
    assert fresh.state_dict().keys() == network.state_dict().keys()


def test_drop_path():
    torch.manual_seed(0)
    first, second = torch.ones(2, 30_000, 1, 2), torch.zeros(2, 30_000, 1, 2)
    mixed = mix(first, second, training=True)
    assert torch.equal(mixed, mixed[:1, :, :, :1].expand_as(mixed))  # the same in all images and places
    shares = [(mixed[0, :, 0, 0] == value).float().mean().item() for value in (1.0, 0.0, 0.5)]
    assert shares == pytest.approx([0.33, 0.33, 0.34], abs=0.01)
    assert torch.equal(mix(first, second, training=False), torch.full_like(first, 0.5))


def test_the_network_is_a_resnet_where_both_branches_are_alike():
    """But for the stem, which has no activation."""
    torch.manual_seed(0)
    plain = ResNet(RESNET_MINI, 4).double().eval()
    doubled = ParallelResNet(RESNET_MINI, 4).double().eval()
    doubled.load_state_dict(ParallelResNet.adapt_state(plain.state_dict()))
    plain.mod1.bn1.activation = "identity"
    torch.testing.assert_close(doubled(images()), plain(images()))
    assert doubled.mod1(images()).min() < SLOPE * doubled.mod1(images()).abs().max() * -1


def test_maps_are_those_after_the_activation():
    body = mini().body
    maps = body.feature_maps(images())
    for before, after in zip(maps.residuals, maps.stages, strict=True):
        assert torch.equal(F.leaky_relu(before, SLOPE), after)


def test_official_names():
    network = mini()
    merge_branches(network)
    names = set(network.state_dict())
    for name in (
        "body.mod2.block1.convs.conv2_new.weight",
        "body.mod2.block1.convs.bn2_new.running_mean",
        "body.mod2.block1.convs.conv2.bias",
        "head.map_convs_new.3.weight",
        "head.map_bn_new.weight",
        "head.map_convs.0.bias",
    ):
        assert name in names


def test_other_backbones_are_refused():
    with pytest.raises(ValueError, match="none of resnet101"):
        build_parallel_deeplab("mobilenet-v2", 4)
