"""Against clovaai/ECLIPSE@9266720: a small decoder with three groups of queries."""

import pytest
import torch
from torch import Tensor

from methods.networks.mask2former.config import MINI, Mask2FormerConfig
from methods.networks.mask2former.pixel_decoder import Pixels
from methods.networks.mask2former.prompts import (
    DeepClassHead,
    PromptedDecoder,
    PromptedMask2Former,
    manipulated_logits,
)
from tests.golden import scatter, wave
from tests.networks.mask2former.closed_form import closed_form_state

CONFIG = Mask2FormerConfig(
    hidden=256, mask_dim=8, num_queries=5, num_heads=4, decoder_layers=4, decoder_ffn=32
)
QUERIES = torch.tensor([0] * 5 + [1] * 3 + [2] * 3)
CLASSES = torch.tensor([0] * 6 + [1] * 4 + [2] * 4)
DELTAS = torch.tensor([0.4, -0.6, 0.5])[QUERIES]


@pytest.fixture(scope="module")
def decoder() -> PromptedDecoder:
    found = PromptedDecoder(CONFIG, 6)
    for _ in range(2):
        found.add_prompts(3)
        found.class_embed.grow(4)
    # Its names are the official ones, so that the values of the closed form are too.
    state = closed_form_state(found.state_dict())
    for seed, name in enumerate(sorted(state)):
        if "prompt_feat" in name or "prompt_embed" in name:
            state[name] = 3**0.5 * scatter(tuple(state[name].shape), seed).float()
        if "class_embed" in name:
            state[name] = 3 * state[name] - (3 if name.endswith("layers.2.bias") else 0)
    found.load_state_dict(state)
    return found


def pixels() -> Pixels:
    sizes = [(2, 3), (4, 6), (8, 12)]
    levels = [wave((2, 256, *s), 0.37 + 0.05 * i, 0.2 * i, 1.5).float() for i, s in enumerate(sizes)]
    features = wave((2, 8, 16, 24), 0.21, 0.4, 1.0).float()
    return Pixels(features, [level.flatten(2).transpose(1, 2) for level in levels], sizes)


def sums(values: Tensor) -> tuple[float, float]:
    values = values.double()
    return values.sum().item(), (values * wave(tuple(values.shape), 0.3, 0.1, 1)).sum().item()


@torch.no_grad()
def test_golden_training(decoder: PromptedDecoder) -> None:
    """forward_new_train: the newest prompts alone, before the first layer and after the last."""
    output = decoder(pixels(), [2])
    assert output.logits.shape == (2, 3, 15)
    assert sums(output.layer_logits[0]) == pytest.approx((-473.304814, -25.496003), abs=2e-4)
    assert sums(output.masks_of(0)) == pytest.approx((-4.731990, 8.696197), abs=2e-3)
    assert sums(output.logits) == pytest.approx((-299.526304, -2.227069), abs=2e-4)
    assert sums(output.masks) == pytest.approx((10.968099, 0.292837), abs=2e-3)


@torch.no_grad()
def test_golden_inference(decoder: PromptedDecoder) -> None:
    """forward_infer: all groups, with manipulated logits."""
    output = decoder(pixels(), range(3))
    assert sums(output.masks) == pytest.approx((43.204116, -7.694085), abs=5e-3)
    logits = manipulated_logits(output.logits, QUERIES, CLASSES, DELTAS)
    assert sums(logits) == pytest.approx((-2362.805102, -159.058360), abs=2e-3)


def test_golden_manipulation() -> None:
    """forward_prediction_heads on given logits."""
    logits = manipulated_logits(wave((2, 11, 15), 0.7, 0.3, 3).float() - 3, QUERIES, CLASSES, DELTAS)
    assert sums(logits) == pytest.approx((-2345.822133, -64.901611), abs=1e-4)
    nothing = [-0.405465, -0.639543, -0.405465, -0.405465, -0.617137]
    nothing += [-4.210115, -5.753604, -0.978804, 0.0, 0.0, 0.0]
    assert logits[0, :, -1].tolist() == pytest.approx(nothing, abs=1e-6)


def test_no_delta_leaves_nothing_as_it_is() -> None:
    logits = wave((11, 15), 0.7, 0.3, 3)
    found = manipulated_logits(logits, QUERIES, CLASSES, torch.zeros(11))
    assert torch.equal(found[:, -1], logits[:, -1]) and torch.equal(found[:5, :6], logits[:5, :6])
    assert (found[:5, 6:14] == -10).all() and (found[5:8, :6] == -10).all()


def test_prompts_start_alike_and_classes_as_nothing() -> None:
    torch.manual_seed(0)
    network = PromptedMask2Former(MINI, 6)
    predictor = network.predictor
    predictor.add_prompts(4)
    predictor.class_embed.grow(3)
    mean = predictor.query_feat.weight.mean(dim=0).expand(4, -1)
    queries, positions, embed = predictor.group(1)
    torch.testing.assert_close(queries, mean)
    assert len(positions) == MINI.decoder_layers and all(p.shape == (4, 64) for p in positions)
    x = torch.randn(5, 64)
    assert torch.equal(embed(x), predictor.mask_embed(x)) and embed is not predictor.mask_embed
    logits = predictor.class_embed(x)
    assert predictor.class_embed.num_classes == 9 and logits.shape == (5, 10)
    torch.testing.assert_close(logits[:, 6:9], logits[:, 9:].expand(-1, 3))


def test_a_group_says_the_same_alone_and_among_others() -> None:
    torch.manual_seed(0)
    network = PromptedMask2Former(MINI, 6).eval()
    images = torch.randn(1, 3, 32, 32)
    before = network(images)
    network.predictor.add_prompts(4)
    network.predictor.class_embed.grow(3)
    together, newest = network(images), network(images, newest=True)
    assert torch.equal(together.logits[:, :40, :6], before.logits[..., :6])
    assert torch.equal(together.masks[:, :40], before.masks)
    assert torch.equal(together.mask_embeddings[:, :, 40:], newest.mask_embeddings)


def test_the_published_number_of_parameters_of_a_step() -> None:
    """488971 for ten prompts and ten classes, counted in the official network."""
    decoder = PromptedDecoder(Mask2FormerConfig(), 100)
    decoder.add_prompts(10)
    decoder.class_embed.grow(10)
    parts = [decoder.prompt_feat, decoder.prompt_embed, decoder.prompt_mask_embed]
    head = decoder.class_embed
    assert isinstance(head, DeepClassHead)
    parts += [head.heads[0], head.heads[-1]]  # type: ignore[list-item]
    assert sum(p.numel() for part in parts for p in part.parameters()) == 488_971
