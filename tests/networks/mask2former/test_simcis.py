"""Golden numbers: SimCIS@28bc91e, its MultiScaleMaskedTransformerDecoder in float64, weights by formula."""

import pytest
import torch

from methods.networks.mask2former import MINI, PAPER, Mask2FormerConfig
from methods.networks.mask2former.decoder import mask_logits
from methods.networks.mask2former.pixel_decoder import Pixels
from methods.networks.mask2former.proposals import box_positions, inverse_sigmoid, propose_boxes
from methods.networks.mask2former.simcis import SimCISDecoder, SimCISNetwork, Teaching
from tests.golden import wave

VIRTUAL = torch.tensor([[6, 22], [23, 17]])
"""Classes whose one stored feature the official decoder drew under its seed."""
OLD_PLACES = torch.tensor([[0, 7, 40, 90, 125], [3, 10, 60, 100, 101]])


def pixels() -> Pixels:
    sizes = [(2, 3), (4, 6), (8, 12)]
    levels = [wave((2, 256, *size), 0.37 + 0.05 * i, 0.2 * i, 1.5) for i, size in enumerate(sizes)]
    return Pixels(wave((2, 8, 16, 24), 0.21, 0.4, 1), [x.flatten(2).transpose(1, 2) for x in levels], sizes)


def decoder() -> SimCISDecoder:
    config = Mask2FormerConfig(
        hidden=256, mask_dim=8, num_queries=5, num_heads=4, decoder_layers=4, decoder_ffn=32
    )
    network = SimCISDecoder(config, 150).double()
    for j, (name, parameter) in enumerate(sorted(network.state_dict().items())):
        values = wave(tuple(parameter.shape), 0.7 + 0.01 * j, 0.3 * j, 0.08)
        parameter.copy_(values + ("norm.weight" in name))
    return network


def forward(network: SimCISDecoder):
    virtual = torch.stack([wave((256,), 0.9, 0.05 * int(label), 1) for label in VIRTUAL.flatten()])
    teaching = Teaching(OLD_PLACES, decoder=True, own_boxes=False)
    return network(pixels(), virtual.view(2, 2, 256), teaching)


def weighed(tensor: torch.Tensor) -> torch.Tensor:
    return (tensor * wave(tuple(tensor.shape), 0.3, 0.1, 1)).sum()


def test_golden_predictions():
    output = forward(decoder())
    assert output.places.tolist() == [[2, 1, 3, 4, 5], [0, 1, 32, 72, 112]]
    logits = [-0.149831292, -0.241990577, -0.247831769, -0.148152791, -0.268544180]
    masks = [-9.179059477, -8.971331377, -8.685069632, -8.617339321, -9.096445897]
    boxes = [-0.222605537, -0.220109548, -0.216957556, -0.211948336, -0.205528194]
    assert [weighed(x).item() for x in output.layer_logits] == pytest.approx(logits, abs=1e-6)
    assert [weighed(x).item() for x in output.layer_boxes] == pytest.approx(boxes, abs=1e-6)
    embeddings, features = output.mask_embeddings, output.mask_features
    assert [weighed(mask_logits(x, features)).item() for x in embeddings] == pytest.approx(masks, abs=1e-5)
    assert weighed(output.queries).item() == pytest.approx(-0.577643405, abs=1e-6)
    assert weighed(output.distilled.selected).item() == pytest.approx(1.278140104, abs=1e-6)
    assert weighed(output.distilled.final).item() == pytest.approx(1.127091470, abs=1e-6)


@pytest.mark.parametrize(
    "name, norm",
    [
        ("enc_output.weight", 203.217476599),
        ("bbox_embed.layers.1.weight", 2.548476892),
        ("ref_point_head.layers.0.weight", 0.008471733),
        ("query_scale.layers.0.weight", 0.008755705),
        ("level_embed.weight", 4.747899956),
        ("class_embed.weight", 2664.353107356),
        ("transformer_ffn_layers.1.linear1.weight", 2.094491706),
    ],
)
def test_golden_gradients(name, norm):
    """What is detached where: the selected features and the boxes between the layers."""
    network = decoder()
    output = forward(network)
    losses = [weighed(x) for layers in (output.layer_logits, output.layer_boxes) for x in layers]
    (sum(losses) + weighed(output.distilled.final)).backward()
    assert network.get_parameter(name).grad.norm().item() == pytest.approx(norm, rel=1e-6)


def test_golden_proposals():
    # utils.py@gen_encoder_output_proposals_p
    logits, counts = propose_boxes([(2, 3), (60, 4)], torch.device("cpu"))
    assert int(counts.sum()) == 238
    assert counts.nonzero()[:8, 0].tolist() == [0, 1, 2, 3, 4, 5, 10, 11]  # 60 rows: the first is too high
    finite = logits[counts[:, 0]]
    assert finite.sum().item() == pytest.approx(-1054.845215, abs=1e-3)
    assert (finite * wave((238, 4), 0.3, 0, 1)).sum().item() == pytest.approx(-9.008241, abs=1e-4)
    assert logits[~counts[:, 0]].eq(torch.inf).all()


def test_golden_box_positions():
    # _gen_sineembed_for_position
    code = box_positions(wave((3, 2, 4), 0.9, 0.1, 1).sigmoid(), 128)
    assert code.shape == (3, 2, 512)
    assert code.sum().item() == pytest.approx(1528.523822084, abs=1e-6)
    assert (code * wave((3, 2, 512), 0.3, 0, 1)).sum().item() == pytest.approx(-7.635730023, abs=1e-6)


def test_inverse_sigmoid_is_finite_at_the_ends():
    expected = torch.tensor([-11.512925148, -1.386294365, 0.0, 11.512925148])
    torch.testing.assert_close(inverse_sigmoid(torch.tensor([0.0, 0.2, 0.5, 1.0])), expected)


def test_parameter_counts():
    with torch.device("meta"):
        network, larger = SimCISNetwork(PAPER, 150), SimCISNetwork(Mask2FormerConfig("resnet101"), 150)
    assert sum(p.numel() for p in network.parameters() if p.requires_grad) == 44_464_410
    assert sum(p.numel() for p in network.predictor.parameters()) == 14_973_594
    assert sum(p.numel() for p in larger.parameters() if p.requires_grad) == 63_404_314


def test_selected_queries_never_see_virtual_ones():
    torch.manual_seed(0)
    network = SimCISNetwork(MINI, 7).eval()
    images = torch.randn(2, 3, 64, 96)
    alone = network(images)
    beside = network(images, torch.randn(2, 3, MINI.hidden))
    num_queries = alone.num_queries
    assert num_queries == MINI.num_queries
    torch.testing.assert_close(beside.layer_logits[:, :, :num_queries], alone.layer_logits)
    torch.testing.assert_close(beside.masks, alone.masks)
    assert beside.layer_logits.shape[2] == beside.queries.shape[1] == num_queries + 3


def test_an_image_with_few_places_gives_few_queries():
    output = SimCISNetwork(MINI, 7).eval()(torch.randn(1, 3, 32, 32))
    assert output.num_queries == 1 + 4 + 16


def test_teaching_with_own_places_repeats_the_prediction():
    torch.manual_seed(0)
    network = SimCISNetwork(MINI, 7)
    images = torch.randn(1, 3, 64, 64)
    places = network(images).places
    for own_boxes in (False, True):
        output = network(images, None, Teaching(places, decoder=True, own_boxes=own_boxes))
        torch.testing.assert_close(output.distilled.selected, output.layer_logits[0])
        torch.testing.assert_close(output.distilled.final, output.logits)
    assert network(images, None, Teaching(places, False, False)).distilled.final is None
