import pytest
import torch

from methods.networks.segvit import SegViT, SegViTConfig
from methods.networks.segvit.checkpoints import adapt_encoder_state, load_official_state, resize_offsets
from methods.networks.segvit.config import EncoderConfig
from methods.networks.segvit.encoder import PlainViT
from tests.golden import wave
from tests.networks.segvit import official

PLAIN = EncoderConfig(8, 2, 2, taps=(1,), drop_path=0.0)
BEIT = EncoderConfig(8, 1, 2, (0,), 0.0, keeps_class_token=True, relative_positions=True, layer_scale=1e-6)
BLOCK = {
    "norm1.weight": (8,),
    "norm1.bias": (8,),
    "attn.qkv.weight": (24, 8),
    "attn.qkv.bias": (24,),
    "attn.proj.weight": (8, 8),
    "attn.proj.bias": (8,),
    "norm2.weight": (8,),
    "norm2.bias": (8,),
    "mlp.fc1.weight": (32, 8),
    "mlp.fc1.bias": (32,),
    "mlp.fc2.weight": (8, 32),
    "mlp.fc2.bias": (8,),
}
TOP = {
    "cls_token": (1, 1, 8),
    "pos_embed": (1, 5, 8),
    "patch_embed.proj.weight": (8, 3, 16, 16),
    "patch_embed.proj.bias": (8,),
}
MMSEG = [
    ("patch_embed.proj.", "patch_embed.projection."),
    ("blocks.", "layers."),
    ("norm1.", "ln1."),
    ("norm2.", "ln2."),
    ("attn.qkv.", "attn.attn.in_proj_"),
    ("attn.proj.", "attn.attn.out_proj."),
    ("mlp.fc1.", "ffn.layers.0.0."),
    ("mlp.fc2.", "ffn.layers.1."),
]
HUB = [
    ("patch_embed.proj.", "embeddings.patch_embeddings.projection."),
    ("cls_token", "embeddings.cls_token"),
    ("pos_embed", "embeddings.position_embeddings"),
    ("blocks.", "encoder.layer."),
    ("norm1.", "layernorm_before."),
    ("norm2.", "layernorm_after."),
    ("attn.proj.", "attention.output.dense."),
    ("mlp.fc1.", "intermediate.dense."),
    ("mlp.fc2.", "output.dense."),
]
LIBRARY = [
    *HUB[:3],
    ("blocks.", "layers."),
    *HUB[4:6],
    ("attn.proj.", "attention.o_proj."),
]
UNPACKED = {
    "hub": ("attention.attention.query", "attention.attention.key", "attention.attention.value"),
    "library": ("attention.q_proj", "attention.k_proj", "attention.v_proj"),
}


def timm_state() -> dict[str, torch.Tensor]:
    shapes = TOP | {f"blocks.{i}.{name}": shape for i in range(2) for name, shape in BLOCK.items()}
    return {name: wave(shape, 0.3 + 0.01 * i, i, 1) for i, (name, shape) in enumerate(shapes.items())}


def renamed(
    names: list[tuple[str, str]], prefix: str, unpacked: tuple[str, ...] = ()
) -> dict[str, torch.Tensor]:
    state = {}
    for key, value in timm_state().items():
        for ours, theirs in names:
            key = key.replace(ours, theirs)
        if unpacked and "attn.qkv" in key:
            for name, part in zip(unpacked, value.chunk(3), strict=True):
                state[prefix + key.replace("attn.qkv", name)] = part
        else:
            state[prefix + key] = value
    return state


@pytest.mark.parametrize(
    ("state", "last"),
    [
        (timm_state(), "norm.weight"),
        (renamed(MMSEG, ""), "ln1.weight"),
        (renamed(MMSEG, "backbone."), "backbone.ln1.bias"),
        (renamed(HUB, "vit.", UNPACKED["hub"]), "vit.layernorm.weight"),
        (renamed(LIBRARY, "vit.", UNPACKED["library"]), "classifier.weight"),
    ],
    ids=["timm", "mmseg", "mmseg whole", "hub", "transformers"],
)
def test_names_of_encoders(state: dict[str, torch.Tensor], last: str) -> None:
    encoder = PlainViT(PLAIN, 32)
    ours = adapt_encoder_state({**state, last: torch.ones(8)}, encoder)
    expected = timm_state()
    assert ours.keys() == expected.keys() == encoder.state_dict().keys()
    assert all(torch.equal(ours[name], expected[name]) for name in expected)


def test_positions_are_resized_bicubically() -> None:
    table = wave((1, 17, 8), 0.3, 0.1, 1)
    ours = adapt_encoder_state({"pos_embed": table}, PlainViT(PLAIN, 96))["pos_embed"]
    square = table[:, 1:].transpose(1, 2).unflatten(2, (4, 4))
    expected = torch.nn.functional.interpolate(square, (6, 6), mode="bicubic", align_corners=False)
    assert torch.equal(ours[:, 0], table[:, 0])
    torch.testing.assert_close(ours[0, 1:], expected[0].flatten(1).T)


def test_names_of_beit() -> None:
    encoder = PlainViT(BEIT, 64)
    state = {k: v for k, v in timm_state().items() if "pos_embed" not in k and "blocks.1" not in k}
    bias = state.pop("blocks.0.attn.qkv.bias")
    state |= {"blocks.0.attn.q_bias": bias[:8], "blocks.0.attn.v_bias": bias[16:]}
    state |= {"blocks.0.gamma_1": torch.ones(8), "blocks.0.gamma_2": torch.ones(8)}
    state["blocks.0.attn.relative_position_bias_table"] = wave((7 * 7 + 3, 2), 0.3, 0, 1)
    ours = adapt_encoder_state({**state, "fc_norm.weight": torch.ones(8)}, encoder)
    assert ours.keys() == encoder.state_dict().keys()
    packed = ours["blocks.0.attn.qkv.bias"]
    assert torch.equal(packed, torch.cat([bias[:8], torch.zeros(8), bias[16:]]))


def test_offsets_are_resized_along_geometric_places() -> None:
    """A function that is linear in those places, 0, 1, 1 + q, ..., stays the same linear function."""
    ratio = 1.1349169475  # 13 distances, the last of which is 31: BEiT's 14 x 14 patches on 32 x 32
    distances = torch.tensor([ratio**i for i in range(13)], dtype=torch.float64).cumsum(0)
    places = torch.cat([-distances.flip(0), torch.zeros(1), distances]).double()
    table = torch.cat([(places[:, None] + 2 * places).reshape(-1, 1), torch.tensor([[7.0], [8], [9]])])
    wanted = torch.arange(-31.0, 32).double()
    resized = resize_offsets(table, (32, 32))
    torch.testing.assert_close(resized[:-3, 0].view(63, 63), wanted[:, None] + 2 * wanted, atol=1e-3, rtol=0)
    assert resized[-3:, 0].tolist() == [7, 8, 9]
    assert resize_offsets(table, (14, 14)) is table


@pytest.mark.parametrize(
    ("kind", "classes", "official_keys"), [("v1", 150, 362), ("shrunk", 150, 480), ("v2", 100, 308)]
)
def test_official_keys_and_shapes(kind: str, classes: int, official_keys: int) -> None:
    """The whole key set of a checkpoint; it has the class weights of one loss, the shrunk one of two."""
    shrinks = kind == "shrunk"
    width, depth, crop = (1024, 24, 640) if shrinks else (768, 12, 512)
    with torch.device("meta"):
        backbone, version_1 = "vit-large" if shrinks else "vit-base", kind != "v2"
        config = SegViTConfig(backbone, crop, shrinks, version_1, shared_classifier=not version_1)
        network = SegViT(config, classes)
        places = (crop // 16) ** 2
        shapes = official.encoder_shapes(width, depth, places)
        shapes |= official.head_shapes(kind, width, width // 2, classes, places)
        state = {name: torch.empty(shape) for name, shape in shapes.items()}
        state["decode_head.loss_decode.criterion.empty_weight"] = torch.empty(classes + 1)
        if shrinks:
            state["decode_head.atm.loss_decode.criterion.empty_weight"] = torch.empty(classes + 1)
        assert len(state) == official_keys
        load_official_state(network, state, "official")
        del state["backbone.layers.0.ln1.bias"]
        with pytest.raises(ValueError, match=r"official: weights do not fit SegViT; missing 1: encoder\.bl"):
            load_official_state(network, state, "official")
