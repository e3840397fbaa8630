"""The encoder against the official modules, forward and backward."""

import pytest
import torch

from methods.networks.checkpoints import load_strictly
from methods.networks.segvit.checkpoints import adapt_encoder_state
from methods.networks.segvit.config import ENCODERS, EncoderConfig
from methods.networks.segvit.encoder import PlainViT
from methods.networks.segvit.relative import offset_index
from tests.golden import wave
from tests.networks.segvit import official

PLAIN = EncoderConfig(official.WIDTH, 4, 4, taps=(1, 2, 3), drop_path=0.0)
SHRUNK = EncoderConfig(official.WIDTH, 4, 4, taps=(1, 3), drop_path=0.0, shrink_at=2)

#: (shrunk, size of the image) -> summaries of the taps and of gradients of their sum; mmsegmentation 0.24.0
#: VisionTransformer without class token, and zbwxp/SegVit@763137e vit_shrink, shrink_idx 2.
GOLDEN: dict[tuple[bool, tuple[int, int]], tuple[list[float], dict[str, float]]] = {
    (False, (64, 64)): (
        [-12.99513941318309, -12.91268984658398, -12.52717192681952],
        {
            "backbone.pos_embed": -1242.022959787822,
            "backbone.patch_embed.projection.weight": 18.36363414590545,
            "backbone.layers.0.attn.attn.in_proj_weight": -45.60170690636221,
            "backbone.layers.2.attn.attn.in_proj_bias": 0.15828980319711505,
            "backbone.layers.2.ln1.weight": -0.03259778492445617,
            "backbone.layers.3.ffn.layers.1.bias": 4.304397251218029,
        },
    ),
    (False, (40, 90)): (
        [-25.722402523795296, -25.618349839534673, -25.32655438785146],
        {
            "backbone.pos_embed": -220.39587630257347,
            "backbone.patch_embed.projection.weight": -964.1219218861497,
            "backbone.layers.0.attn.attn.in_proj_weight": 9.349434057873012,
            "backbone.layers.2.attn.attn.in_proj_bias": 0.1583163840891697,
            "backbone.layers.2.ln1.weight": -0.04433460336854998,
            "backbone.layers.3.ffn.layers.1.bias": 5.260792556434734,
        },
    ),
    (True, (64, 64)): (
        [-12.995139413183066, 8.648400862008014],
        {
            "backbone.pos_embed": -426.446162409915,
            "backbone.patch_embed.projection.weight": 17.326728437770107,
            "backbone.layers.0.attn.attn.in_proj_weight": -30.192024634154535,
            "backbone.layers.2.attn.attn.in_proj_bias": 0.02242309344153337,
            "backbone.layers.2.ln1.weight": -0.004918047718783186,
            "backbone.layers.3.ffn.layers.1.bias": 0.2791831985045038,
        },
    ),
}


@pytest.mark.parametrize(("shrinks", "size"), GOLDEN)
def test_official_encoder(shrinks: bool, size: tuple[int, int]) -> None:
    encoder = PlainViT(SHRUNK if shrinks else PLAIN, official.CROP).double()
    load_strictly(
        encoder, adapt_encoder_state(official.state(official.encoder_shapes()), encoder), "official"
    )
    outputs, gradients = GOLDEN[shrinks, size]
    taps = encoder(wave((2, 3, *size), 0.23, 0.1, 1))
    assert [official.summary(tap.values) for tap in taps] == pytest.approx(outputs, rel=1e-10)
    sum((tap.values * wave(tuple(tap.values.shape), 1.7, 0.4, 1)).sum() for tap in taps).backward()
    found = {n: p.grad for n, p in encoder.named_parameters() if p.grad is not None}
    assert encoder.cls_token.grad is None
    for name, expected in gradients.items():
        (gradient,) = adapt_encoder_state({name: torch.empty(0)}, encoder)
        assert official.summary(found[gradient]) == pytest.approx(expected, rel=1e-9), name


def test_shrinking_keeps_a_quarter_of_the_tokens() -> None:
    taps = PlainViT(SHRUNK, 64)(torch.randn(1, 3, 80, 112))
    assert [(tap.values.shape[1], tap.grid) for tap in taps] == [(35, (5, 7)), (12, (3, 4))]


def test_stochastic_depth_drops_the_mlp_alone() -> None:
    torch.manual_seed(0)
    always = EncoderConfig(8, 2, 2, taps=(1,), drop_path=1.0)
    block = PlainViT(always, 32).train().blocks[1]
    x = torch.randn(3, 4, 8)
    torch.testing.assert_close(block(x), x + block.attn(block.norm1(x)))
    assert [b.drop_mlp for b in PlainViT(ENCODERS["vit-base"], 32).blocks][3] == pytest.approx(0.1 * 3 / 11)


def test_offsets_between_patches() -> None:
    index = offset_index((2, 3))
    assert index.shape == (7, 7) and int(index.max()) == 3 * 5 + 2
    assert index[0, 0] == 17 and index[0, 1] == 15 and index[1, 0] == 16
    assert index[1, 2] == index[2, 3] == index[4, 5] and index[1, 4] != index[4, 1]
    assert torch.equal(index[1:, 1:].diagonal(), torch.full((6,), 7))
