import pytest
import torch

from methods.networks.mask2former import MINI, PAPER, Mask2Former, Mask2FormerConfig
from methods.networks.mask2former.backbone import build_backbone
from methods.networks.mask2former.class_head import GrowingClassHead
from methods.networks.mask2former.network import pad_to_multiple


def trainable(module: torch.nn.Module) -> int:
    return sum(p.numel() for p in module.parameters() if p.requires_grad)


def test_official_number_of_parameters():
    """BalConpas 3b76142, trainable parameters of the models built from its configs."""
    with torch.device("meta"):
        network = Mask2Former(PAPER, 100)
        large = Mask2Former(Mask2FormerConfig(backbone="resnet101", train_backbone_norm=True), 100)
    assert trainable(network) == 43_975_397
    parts = (network.backbone, network.pixel_decoder, network.predictor)
    assert [trainable(part) for part in parts] == [23_454_912, 6_035_904, 14_484_581]
    for _ in range(5):
        network.grow(10)
    assert trainable(network) == 43_988_247
    assert trainable(large) == 63_020_645 and trainable(large.backbone) == 42_500_160
    assert 400_000 < trainable(Mask2Former(MINI, 100)) < 800_000


@pytest.mark.parametrize("training", [True, False])
def test_shapes_of_the_output(training):
    network = Mask2Former(MINI, 5).train(training)
    network.grow(2)
    assert network.num_classes == 7
    out = network(torch.randn(2, 3, 70, 33))
    assert out.logits.shape == (2, 40, 8) and out.masks.shape == (2, 40, 24, 16)
    assert out.layer_logits.shape == (4, 2, 40, 8) and out.tokens.shape == (4, 2, 40, 64)
    torch.testing.assert_close(out.masks_of(3), out.masks)
    torch.testing.assert_close(out.tokens[0, 1], network.predictor.query_feat.weight)


def test_masks_are_float32_under_autocast():
    torch.manual_seed(0)
    network, images = Mask2Former(MINI, 5), torch.randn(1, 3, 64, 96)
    expected = network(images)
    with torch.autocast("cpu", torch.bfloat16):
        out = network(images)
    assert out.layer_logits.dtype == torch.bfloat16
    assert out.mask_features.dtype == out.masks.dtype == torch.float32
    scale = expected.masks_of(0).abs().max().item()
    torch.testing.assert_close(out.masks_of(0), expected.masks_of(0), rtol=0, atol=0.05 * scale)


def test_every_parameter_learns():
    network = Mask2Former(MINI, 5)
    for layer in network.pixel_decoder.transformer.encoder["layers"]:  # zero at the start
        torch.nn.init.normal_(layer.self_attn.sampling_offsets.weight)
    out = network(torch.randn(2, 3, 64, 64))
    (out.layer_logits.square().sum() + sum(out.masks_of(i).square().sum() for i in range(4))).backward()
    still = {name for name, p in network.named_parameters() if p.grad is None or not p.grad.any()}
    assert not still


def test_padding_is_right_and_below():
    image = torch.ones(1, 3, 33, 64)
    padded = pad_to_multiple(image)
    assert padded.shape == (1, 3, 64, 64) and padded.sum() == image.sum()
    assert padded[..., :33, :].min() == 1
    assert pad_to_multiple(padded) is padded or pad_to_multiple(padded).shape == padded.shape


def test_frozen_normalisation_equals_batch_normalisation_in_eval():
    torch.manual_seed(0)
    trained, frozen = (build_backbone("resnet50", norm) for norm in (True, False))
    for name, buffer in trained.named_buffers():
        if "running" in name:
            buffer.uniform_(0.5, 1.5)
    state = trained.adapt_state(trained.state_dict()) | {"fc.weight": torch.zeros(1)}
    frozen.load_state_dict(frozen.adapt_state(state))
    assert not any("bn" in name for name, _ in frozen.named_parameters())
    images = torch.randn(1, 3, 64, 64)
    for ours, expected in zip(frozen.train()(images), trained.eval()(images), strict=True):
        torch.testing.assert_close(ours, expected, rtol=1e-4, atol=1e-4 * expected.abs().max().item())


@pytest.mark.parametrize("name", ["mini", "mobilenet-v2"])
def test_small_bodies_give_four_levels(name):
    body = build_backbone(name)
    maps = body(torch.randn(1, 3, 64, 96))
    shapes = [(1, c, 64 // s, 96 // s) for c, s in zip(body.out_channels, (4, 8, 16, 32), strict=True)]
    assert [m.shape for m in maps] == shapes


def test_unknown_backbone():
    with pytest.raises(ValueError, match="did you mean resnet50"):
        build_backbone("resnet-50")


def test_class_head_keeps_no_object_last():
    torch.manual_seed(0)
    head, x = GrowingClassHead(6, 3), torch.randn(4, 6)
    before = head(x)
    head.grow(2)
    after = head(x)
    assert after.shape == (4, 6) and head.num_classes == 5
    torch.testing.assert_close(after[:, [0, 1, 2, 5]], before)
    torch.testing.assert_close(after[:, 3:5], head.steps[1](x))
    with pytest.raises(ValueError, match="at least one class"):
        head.grow(0)


def test_mistakes_in_sizes():
    with pytest.raises(ValueError, match="multiple of 8"):
        Mask2FormerConfig(hidden=100)
    with pytest.raises(ValueError, match="num_queries"):
        Mask2FormerConfig(num_queries=0)
