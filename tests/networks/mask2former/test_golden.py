"""Against BalConpas 3b76142, whose network was run once with the parameters of `closed_form`."""

import math

import pytest
import torch
from torch import Tensor

from methods.networks.mask2former import PAPER, Mask2Former
from methods.networks.mask2former.decoder import Mask2FormerOutput
from methods.networks.mask2former.pixel_decoder import Pixels
from methods.networks.mask2former.position import sine_positions
from tests.golden import scatter
from tests.networks.mask2former.closed_form import closed_form_state


@pytest.fixture(scope="module")
def run() -> tuple[list[Tensor], Pixels, Mask2FormerOutput]:
    network = Mask2Former(PAPER, 100).train()
    network.grow(10)
    network.load_state_dict(closed_form_state(network.state_dict()))
    with torch.no_grad():
        maps = network.backbone(2 * scatter((1, 3, 64, 96), 1000).float())
        pixels = network.pixel_decoder(maps)
        return maps, pixels, network.predictor(pixels)


def assert_golden(tensor: Tensor, mean: float, mean_magnitude: float, a_value: float) -> None:
    values = tensor.double().flatten()
    found = [values.mean(), values.abs().mean(), values[len(values) // 3]]
    expected = torch.tensor([mean, mean_magnitude, a_value], dtype=torch.float64)
    torch.testing.assert_close(torch.stack(found), expected, rtol=0, atol=1e-5 * mean_magnitude)


def as_map(level: Tensor, size: tuple[int, int]) -> Tensor:
    return level.transpose(1, 2).unflatten(2, size)


def test_backbone(run):
    """detectron2 02b5c4e build_resnet_backbone with configs/ade20k/panoptic-segmentation/100-10.yaml."""
    maps, _, _ = run
    assert_golden(maps[0], 1.190043197e00, 1.190043197e00, 1.747539520e00)
    assert_golden(maps[1], 1.512600667e00, 1.512600667e00, 0.000000000e00)
    assert_golden(maps[2], 1.883245493e00, 1.883245493e00, 5.040983677e00)
    assert_golden(maps[3], 1.458804837e00, 1.458804837e00, 1.529829763e-02)


def test_pixel_decoder(run):
    """MSDeformAttnPixelDecoder.forward_features."""
    _, pixels, _ = run
    assert pixels.sizes == [(2, 3), (4, 6), (8, 12)]
    levels = [as_map(level, size) for level, size in zip(pixels.levels, pixels.sizes, strict=True)]
    assert_golden(pixels.mask_features, -1.340520616e-02, 6.209988204e-01, 6.715020537e-02)
    assert_golden(levels[0], -9.313135824e-03, 7.876574274e-01, 2.519782782e-01)
    assert_golden(levels[1], -1.475380782e-02, 7.875163118e-01, -8.420345187e-02)
    assert_golden(levels[2], -1.632488856e-02, 8.017996840e-01, 6.728714108e-01)


def test_decoder(run):
    """MultiScaleMaskedTransformerDecoder.forward: some queries see part of a level, some are masked
    everywhere, and no mask is nearer than 3e-4 to where that would change."""
    *_, out = run
    assert_golden(out.layer_logits[0], -1.134146083e-03, 8.150072114e-01, -3.760005236e-01)
    assert_golden(out.masks_of(0), -5.513468599e00, 6.123346686e00, -1.130975246e01)
    assert_golden(out.layer_logits[4], -4.810577050e-02, 7.912163628e-01, -1.234100819e00)
    assert_golden(out.masks_of(4), -5.802280726e00, 6.230147266e00, -1.311199665e01)
    assert_golden(out.logits, -1.423204715e-01, 8.099651550e-01, -3.604596257e-01)
    assert_golden(out.masks, -5.263167502e00, 5.463642432e00, -7.505812645e00)
    assert_golden(out.tokens[9], 1.796187309e-02, 7.182779737e-01, 6.094201207e-01)


def test_positions():
    """PositionEmbeddingSine(128, normalize=True) on a map of 5 x 7."""
    positions = sine_positions(5, 7, 256)
    assert positions.shape == (35, 256)
    assert positions.double().sum().item() == pytest.approx(4386.330181520833, rel=1e-7)
    row_1_column_1 = [0.5877856016, -0.8090167642, 0.8221555352, 0.9995788932]
    row_1_column_1 += [0.9999999404, 0.9749279618, -0.2225207239, 0.0100949556]
    chosen = positions[8, [0, 1, 2, 63, 127, 128, 129, 200]]
    assert chosen.tolist() == pytest.approx(row_1_column_1, abs=2e-7)


def test_official_start():
    """The bounds and deviations of the official `_reset_parameters` and `c2_xavier_fill`."""
    torch.manual_seed(0)
    network = Mask2Former(PAPER, 100)
    state = network.state_dict()

    def uniform(key: str, bound: float) -> None:
        values = state[key]
        assert bound * 0.99 < values.abs().max() <= bound, key
        assert values.std().item() == pytest.approx(bound / 3**0.5, rel=0.03), key

    layer = "predictor.transformer_self_attention_layers.3"
    uniform(f"{layer}.self_attn.in_proj_weight", math.sqrt(6 / (256 + 768)))  # as one matrix
    uniform(f"{layer}.self_attn.out_proj.weight", math.sqrt(6 / 512))
    uniform("predictor.transformer_ffn_layers.8.linear1.weight", math.sqrt(6 / (256 + 2048)))
    uniform("predictor.class_embeds.0.weight", 1 / 16)
    uniform("predictor.mask_embed.layers.2.weight", 1 / 16)
    uniform("pixel_decoder.input_proj.0.0.weight", math.sqrt(6 / (256 + 2048)))
    uniform("pixel_decoder.transformer.encoder.layers.5.linear2.weight", math.sqrt(6 / (256 + 1024)))
    uniform("pixel_decoder.layer_1.weight", math.sqrt(3 / (9 * 256)))
    uniform("pixel_decoder.adapter_1.weight", math.sqrt(3 / 256))
    uniform("pixel_decoder.mask_features.weight", math.sqrt(3 / 256))
    uniform("predictor.transformer_ffn_layers.8.linear1.bias", 1 / 16)
    uniform("pixel_decoder.transformer.encoder.layers.5.linear1.bias", 1 / 16)
    for key in ("predictor.query_feat.weight", "predictor.query_embed.weight"):
        assert state[key].std().item() == pytest.approx(1, abs=0.02)
    assert state["pixel_decoder.transformer.level_embed"].std().item() == pytest.approx(1, abs=0.1)
    deviation = math.sqrt(2 / (9 * 256))  # kaiming-normal, fan-out
    assert state["backbone.layer3.1.conv2.weight"].std().item() == pytest.approx(deviation, rel=0.01)
    zeros = [f"{layer}.self_attn.in_proj_bias", f"{layer}.self_attn.out_proj.bias"]
    zeros += ["pixel_decoder.input_proj.0.0.bias", "pixel_decoder.mask_features.bias"]
    assert not any(state[key].any() for key in zeros)
