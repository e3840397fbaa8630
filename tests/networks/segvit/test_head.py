"""Heads against the official modules, forward and backward."""

import pytest
import torch
from torch import Tensor

from methods.losses.attention_to_mask import classes_shown, mask_losses, presence_loss
from methods.networks.segvit import ENCODERS, SegViT, SegViTConfig
from methods.networks.segvit.checkpoints import official_names
from methods.networks.segvit.config import EncoderConfig
from methods.networks.segvit.head import ClassHead, HeadOutput
from methods.networks.segvit.tokens import Tokens
from tests.golden import wave
from tests.networks.segvit import official

#: zbwxp/SegVit@763137e ATMHead ("v1"), TPNATMHead ("shrunk") with ATMLoss, jinchaogjc/cit ATMHeadV2 and its
#: ATMLoss of one class ("v2"), dropout 0: summaries of class logits, full-size mask logits and score map;
#: ce, mask (times 20) and dice of the two auxiliary predictions and the last; gradients of their sum.
Golden = tuple[list[float], list[list[float]], dict[str, float], list[float]]
GOLDEN: dict[str, Golden] = {
    "v1": (
        [1.331633238362575, 0.3077860203741823, 0.7769924554454364],
        [
            [1.8011769392919645, 1.8615126533861635, 2.048722364098893],
            [2.5367764025882833, 3.929252779414508, 5.379385623228132],
            [0.7504610601925986, 0.7426772165637627, 0.7378662178692937],
        ],
        {
            "decode_head.class_embed.bias": -0.028618364227625315,
            "decode_head.decoder_1.layers.0.multihead_attn.k.weight": 0.0157493616120089,
            "decode_head.decoder_1.layers.1.multihead_attn.proj.bias": 0.30217392409305743,
            "decode_head.decoder_1.layers.2.norm3.bias": 0.07597938187021352,
            "decode_head.decoder_1.layers.2.norm3.weight": -0.12148227286735169,
            "decode_head.decoder_2.layers.1.self_attn.in_proj_weight": -0.07838994005275424,
            "decode_head.decoder_2.layers.2.linear1.bias": -0.0030820868345409966,
            "decode_head.input_proj_1.weight": -2.242333533712562,
            "decode_head.proj_norm_2.weight": 1.1096207998591547,
            "decode_head.q.weight": 0.17666496318070268,
        },
        [-0.0023565448499245217, 0.012677156317089044, -0.009610172773955039],
    ),
    "shrunk": (
        [-1.5367625792401018, 0.03210988335269128, 0.2041472040112009],
        [
            [2.3431340651528365, 1.92499266532237, 1.959159967491588],
            [3.2881143107419977, 2.379301082154412, 2.5990590423494506],
            [0.7456554553564447, 0.751668600002164, 0.7499406804225586],
        ],
        {
            "decode_head.atm.class_embed.bias": 0.6394980437654373,
            "decode_head.atm.decoder_1.layers.0.multihead_attn.k.weight": 0.2751852615426813,
            "decode_head.atm.decoder_1.layers.1.multihead_attn.proj.bias": -0.1308500420619642,
            "decode_head.atm.decoder_1.layers.2.norm3.bias": 0.06499664111445125,
            "decode_head.atm.decoder_1.layers.2.norm3.weight": 0.27550372584178096,
            "decode_head.atm.q.weight": -0.1813956014935263,
            "decode_head.decoder_1.layers.2.norm3.bias": 0.009825040992038583,
            "decode_head.decoder_1.layers.2.norm3.weight": 0.08903943852410663,
            "decode_head.decoder_2.layers.1.self_attn.in_proj_weight": 0.023899539902442674,
            "decode_head.decoder_2.layers.2.linear1.bias": -0.22442366461985297,
            "decode_head.input_proj_1.weight": -0.005870242176054752,
            "decode_head.proj_norm_2.weight": -0.053276645343876855,
            "decode_head.q.weight": -0.004008354111995441,
        },
        [-7.407051032499751e-06, 0.008551061676543084],
    ),
    "v2": (
        [0.7100334144095425, 0.11860857364475069, 0.06655555805872544],
        [
            [0.5044073454098894, 0.9770297187270012, 1.2325756184898915],
            [2.4240703812130633, 2.5231592632323254, 3.1735043402045733],
            [0.7513144038766002, 0.750506557826462, 0.746286255289312],
        ],
        {
            "decode_head.class_embed.bias": 0.786478727689536,
            "decode_head.decoder_1.layers.0.multihead_attn.k.weight": 5.6685544912824935e-06,
            "decode_head.decoder_1.layers.1.multihead_attn.proj.bias": -0.005326275420360543,
            "decode_head.decoder_1.layers.2.norm3.bias": -0.4683013008797522,
            "decode_head.decoder_1.layers.2.norm3.weight": -0.1387994048196747,
            "decode_head.decoder_2.layers.2.linear1.bias": -0.027631686146010748,
            "decode_head.input_proj_1.weight": -0.028866887540529573,
            "decode_head.proj_norm_2.weight": -0.4655432367565444,
            "decode_head.q.weight": -0.0664403939059943,
        },
        [0.009693776199997658, -0.005371233082414051, 0.0010695157883602383],
    ),
}
OPTIONS = {
    "v1": {"self_attention": True, "shared_classifier": False},
    "v2": {},
    "shrunk": {"self_attention": True, "shared_classifier": False, "shrinks": True},
}


@pytest.fixture(autouse=True)
def tiny(monkeypatch: pytest.MonkeyPatch) -> None:
    size = EncoderConfig(official.WIDTH, 4, 4, taps=(1, 2, 3), drop_path=0.0, shrunk=(2, 1, 3))
    monkeypatch.setitem(ENCODERS, "tiny", size)


def build(kind: str) -> SegViT:
    return SegViT(SegViTConfig("tiny", official.CROP, **OPTIONS[kind]), official.CLASSES)


def official_head(kind: str) -> tuple[ClassHead, dict[str, str]]:
    """The head with the weights of `official.state`, and our name of each of its parameters."""
    network = build(kind).double().eval()
    state = official.state(official.head_shapes(kind))
    names = {name: ours.removeprefix("heads.0.") for name, ours in official_names(state, network).items()}
    network.newest.load_state_dict({ours: state[name] for name, ours in names.items()})
    return network.newest, names


def features(kind: str) -> list[Tokens]:
    sides = [4, 2] if kind == "shrunk" else [4, 4, 4]
    return [
        Tokens(wave((2, side**2, official.WIDTH), 0.31 + 0.1 * i, i, 1.0).requires_grad_(), (side, side))
        for i, side in enumerate(sides)
    ]


def losses_of(output: HeadOutput) -> list[Tensor]:
    labels = official.labels()
    shown = classes_shown(labels, official.CLASSES)
    focal, dice = mask_losses(output.masks, labels, shown)
    return [presence_loss(output.logits, shown), 20 * focal, dice]


@pytest.mark.parametrize("kind", GOLDEN)
def test_official_head_and_losses(kind: str) -> None:
    head, names = official_head(kind)
    seen = features(kind)
    output = head(seen)
    outputs, losses, gradients, feature_gradients = GOLDEN[kind]
    full = torch.nn.functional.interpolate(output.masks[-1], (64, 64), mode="bilinear")
    found = [official.summary(x) for x in (output.logits[-1], full, output.scores(64, 64))]
    assert found == pytest.approx(outputs, rel=1e-10, abs=1e-12)
    ours = losses_of(output)
    for loss, expected in zip(ours, losses, strict=True):
        assert loss.tolist() == pytest.approx(expected, rel=1e-10)
    torch.stack(ours).sum().backward()
    parameters = dict(head.named_parameters())
    for name, expected in gradients.items():
        gradient = parameters[names[name]].grad
        assert gradient is not None
        assert official.summary(gradient) == pytest.approx(expected, rel=1e-9, abs=1e-12), name
    for values, expected in zip(seen, feature_gradients, strict=True):
        assert values.values.grad is not None
        assert official.summary(values.values.grad) == pytest.approx(expected, rel=1e-9, abs=1e-12)


@pytest.mark.parametrize("kind", GOLDEN)
def test_a_new_class_changes_the_others_only_through_self_attention(kind: str) -> None:
    head, _ = official_head(kind)
    with torch.no_grad():
        before = head(features(kind))
        head.grow(2)
        after = head(features(kind))
    assert head.num_classes == after.masks.shape[2] == official.CLASSES + 2
    logits = after.logits[:, :, : official.CLASSES, : before.logits.shape[3]]
    differences = before.masks - after.masks[:, :, : official.CLASSES], before.logits - logits
    assert all((d.abs().max() < 1e-14) == (kind == "v2") for d in differences)


def test_any_grid() -> None:
    """The official heads take square grids alone, and no odd ones."""
    head, _ = official_head("v1")
    output = head([Tokens(wave((1, 15, official.WIDTH), 0.3, i, 1.0), (3, 5)) for i in range(3)])
    assert output.masks.shape == (3, 1, official.CLASSES, 3, 5)
    assert output.scores(48, 80).shape == (1, official.CLASSES, 48, 80)


def test_layers_of_a_level_start_with_one_packed_weight() -> None:
    torch.manual_seed(0)
    head = build("v1").newest
    packed = [[layer.self_attn.in_proj_weight for layer in level] for level in head.levels]
    assert all(torch.equal(level[0], other) for level in packed for other in level)
    assert not torch.equal(packed[0][0], packed[1][0])
    weight = head.levels[0][1].linear1.weight
    assert 0.017 < weight.std() < 0.021 and not head.levels[0][1].linear1.bias.any()
