import pytest
import torch
from torch import nn

from methods.networks.checkpoints import load_official_state
from methods.networks.deeplab import HEAD_MINI, DeepLabHead, HeadConfig, pool
from methods.networks.segmenter import build_deeplab


def test_official_number_of_parameters():
    with torch.device("meta"):
        network = build_deeplab("resnet101", [16, 5])
    assert sum(p.numel() for p in network.body.parameters()) == 42_500_160
    assert sum(p.numel() for p in network.head.parameters()) == 15_535_104
    assert sum(p.numel() for p in network.cls.parameters()) == 257 * 21


def test_head_names_are_the_official_ones():
    with torch.device("meta"):
        keys = build_deeplab("resnet101", [16, 1]).state_dict()
    convs = [f"map_convs.{i}" for i in range(4)] + ["red_conv", "global_pooling_conv", "pool_red_conv"]
    norms = [
        f"{bn}.{n}"
        for bn in ("map_bn", "global_pooling_bn", "red_bn")
        for n in ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")
    ]
    expected = {f"head.{c}.weight" for c in convs} | {f"head.{n}" for n in norms}
    assert {k for k in keys if k.startswith("head.")} == expected
    assert [k for k in keys if k.startswith("cls.")] == [
        f"cls.{t}.{n}" for t in (0, 1) for n in ("weight", "bias")
    ]
    assert keys["cls.1.weight"].shape == (1, 256, 1, 1)


@pytest.mark.parametrize(
    "shape, is_global", [((32, 32), True), ((20, 20), True), ((20, 32), True), ((33, 33), False)]
)
def test_pooling_window(shape, is_global):
    torch.manual_seed(0)
    x = torch.randn(2, 3, *shape, dtype=torch.float64)
    pooled = pool(x, 32).expand_as(x)
    everywhere = x.mean((2, 3), keepdim=True).expand_as(x)
    assert torch.allclose(pooled, everywhere, atol=1e-12) == is_global


@pytest.mark.parametrize("window", [2, 3, 4, 5])
@pytest.mark.parametrize("shape", [(7, 4), (4, 7), (6, 6), (3, 9)])
def test_pooling_is_the_mean_of_the_nearest_whole_window(shape, window):
    x = torch.randn(1, 2, *shape, dtype=torch.float64)
    pooled = pool(x, window)
    assert pooled.shape == x.shape
    sides = [min(window, side) for side in shape]
    for row in range(shape[0]):
        for column in range(shape[1]):
            starts = [
                min(max(place - (side - 1) // 2, 0), full - side)
                for place, side, full in zip((row, column), sides, shape, strict=True)
            ]
            patch = x[..., starts[0] : starts[0] + sides[0], starts[1] : starts[1] + sides[1]]
            torch.testing.assert_close(pooled[..., row, column], patch.mean((2, 3)))


def test_head_pools_globally_in_training_and_by_window_in_evaluation():
    torch.manual_seed(0)
    small = HeadConfig(hidden_channels=4, out_channels=4, dilations=(1,), pooling_size=3)
    windowed, unlimited = (DeepLabHead(6, c) for c in (small, HeadConfig(4, 4, (1,), None)))
    unlimited.load_state_dict(windowed.state_dict())
    x = torch.randn(2, 6, 5, 4)
    assert torch.equal(windowed(x), unlimited(x))
    assert not torch.allclose(windowed.eval()(x), unlimited.eval()(x))


def test_output_of_the_segmenter():
    torch.manual_seed(0)
    network = build_deeplab("resnet-mini", [3, 2], output_stride=4, head=HEAD_MINI).eval()
    images = torch.randn(2, 3, 64, 40)
    out, plain = network(images, return_features=True), network(images)
    assert plain.features is None and torch.equal(out.logits, plain.logits)
    assert out.logits.shape == (2, 5, 64, 40) and out.small_logits.shape == (2, 5, 16, 10)
    assert out.pre_logits.shape == (2, 64, 16, 10)
    assert torch.equal(out.pre_logits, network.head(out.features.out))
    expected = nn.functional.interpolate(out.small_logits, (64, 40), mode="bilinear", align_corners=False)
    torch.testing.assert_close(out.logits, expected)


def test_mini_is_small():
    with torch.device("meta"):
        network = build_deeplab("resnet-mini", [21], output_stride=4, head=HEAD_MINI)
    assert sum(p.numel() for p in network.parameters()) < 500_000


def test_official_state_with_prefix_and_without_counters():
    torch.manual_seed(0)
    source, target = (build_deeplab("resnet-mini", [3, 2], 4, HEAD_MINI) for _ in range(2))
    official = {
        f"module.{k}": v for k, v in source.state_dict().items() if not k.endswith("num_batches_tracked")
    }
    load_official_state(target, official)
    images = torch.randn(1, 3, 32, 32)
    assert torch.equal(source.eval()(images).logits, target.eval()(images).logits)
    del official["module.cls.1.bias"]
    with pytest.raises(ValueError, match=r"official checkpoint: .* missing 1: cls\.1\.bias"):
        load_official_state(target, official)


def test_mixed_precision_gives_finite_gradients():
    torch.manual_seed(0)
    network = build_deeplab("resnet-mini", [3, 2], output_stride=8, head=HEAD_MINI)
    with torch.autocast("cpu", torch.bfloat16):
        out = network(torch.randn(2, 3, 32, 32))
    assert out.small_logits.dtype == torch.bfloat16
    out.logits.float().logsumexp(dim=1).mean().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in network.parameters())
