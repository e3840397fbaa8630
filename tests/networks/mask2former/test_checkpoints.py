import re

import pytest
import torch

from methods.networks.checkpoints import misfits, read_state
from methods.networks.mask2former import PAPER, Mask2Former, Mask2FormerConfig
from methods.networks.mask2former.backbone import build_backbone
from methods.networks.mask2former.checkpoints import adapt_official_state, load_official_state
from methods.networks.mask2former.simcis import SimCISNetwork

NORM = ("weight", "bias", "running_mean", "running_var")
LINEAR = ("weight", "bias")
ATTENTION = ("in_proj_weight", "in_proj_bias", "out_proj.weight", "out_proj.bias")
DEFORMABLE = ("sampling_offsets", "attention_weights", "value_proj", "output_proj")
SIMCIS = (
    "enc_output",
    "encoder_norm",
    "class_embed",
    *(f"{name}.layers.{layer}" for name in ("ref_point_head", "query_scale") for layer in range(2)),
    *(
        f"{name}.layers.{layer}"
        for name in ("_bbox_embed", *(f"bbox_embed.{i}" for i in range(9)))
        for layer in range(3)
    ),
)
STAGES = {"resnet50": (3, 4, 6, 3), "resnet101": (3, 4, 23, 3)}


def official_keys(backbone: str, heads: list[str], trained_norm: bool = False) -> set[str]:
    """Keys of official checkpoints without those of the criterion; counted on BalConpas 3b76142."""
    norm = (*NORM, "num_batches_tracked") if trained_norm else NORM
    convs = ["stem.conv1"]
    for stage, blocks in enumerate(STAGES[backbone], start=2):
        convs += [f"res{stage}.{b}.conv{c}" for b in range(blocks) for c in (1, 2, 3)]
        convs.append(f"res{stage}.0.shortcut")
    keys = [f"backbone.{conv}.{n}" for conv in convs for n in ("weight", *(f"norm.{n}" for n in norm))]
    pixel = [f"input_proj.{level}.{part}" for level in range(3) for part in (0, 1)]
    pixel += [
        f"transformer.encoder.layers.{layer}.{part}"
        for layer in range(6)
        for part in ("norm1", "norm2", "linear1", "linear2", *(f"self_attn.{part}" for part in DEFORMABLE))
    ]
    pixel += ["adapter_1.norm", "layer_1.norm", "mask_features"]
    pixel = [f"{part}.{n}" for part in pixel for n in LINEAR]
    pixel += ["transformer.level_embed", "adapter_1.weight", "layer_1.weight"]
    keys += [f"sem_seg_head.pixel_decoder.{key}" for key in pixel]
    learned = () if SIMCIS[0] in heads else ("query_feat", "query_embed")
    predictor = [f"{name}.weight" for name in (*learned, "level_embed")]
    for layer in range(9):
        for kind, part in (("cross_attention", "multihead_attn"), ("self_attention", "self_attn")):
            predictor += [f"transformer_{kind}_layers.{layer}.{part}.{n}" for n in ATTENTION]
            predictor += [f"transformer_{kind}_layers.{layer}.norm.{n}" for n in LINEAR]
        predictor += [
            f"transformer_ffn_layers.{layer}.{part}.{n}"
            for part in ("linear1", "linear2", "norm")
            for n in LINEAR
        ]
    predictor += [f"{part}.{n}" for part in ("decoder_norm", *heads) for n in LINEAR]
    predictor += [f"mask_embed.layers.{layer}.{n}" for layer in range(3) for n in LINEAR]
    return set(keys + [f"sem_seg_head.predictor.{key}" for key in predictor])


@pytest.mark.parametrize(
    "backbone, trained_norm, heads, number",
    [
        ("resnet50", False, ["class_embeds.0"], 557),
        ("resnet50", False, ["class_embeds.0", "class_embeds.1", "class_embeds.2"], 561),
        ("resnet101", True, ["class_embeds.0"], 916),
        ("resnet50", False, ["class_embed"], 557),
    ],
)
def test_every_official_key_has_its_place(backbone, trained_norm, heads, number):
    keys = official_keys(backbone, heads, trained_norm)
    assert len(keys) == number
    with torch.device("meta"):
        network = Mask2Former(Mask2FormerConfig(backbone=backbone, train_backbone_norm=trained_norm), 100)
        for _ in heads[1:]:
            network.grow(10)
    buffers = {"criterion.empty_weight", "criterion.memory_empty_weight"}
    renamed = adapt_official_state({key: torch.zeros(()) for key in keys | buffers})
    assert renamed.keys() == network.state_dict().keys()


@pytest.mark.parametrize("backbone, number", [("resnet50", 627), ("resnet101", 882)])
def test_every_key_of_simcis_has_its_place(backbone, number):
    keys = official_keys(backbone, list(SIMCIS))
    assert len(keys) == number
    with torch.device("meta"):
        network = SimCISNetwork(Mask2FormerConfig(backbone=backbone), 150)
    renamed = adapt_official_state({key: torch.zeros(()) for key in keys})
    assert renamed.keys() == network.state_dict().keys()


def test_official_shapes():
    with torch.device("meta"):
        network = Mask2Former(PAPER, 100)
    network.grow(10)
    shapes = {key: tuple(value.shape) for key, value in network.state_dict().items()}
    attention = "pixel_decoder.transformer.encoder.layers.5.self_attn"
    assert shapes["backbone.conv1.weight"] == (64, 3, 7, 7)
    assert shapes["pixel_decoder.input_proj.0.0.weight"] == (256, 2048, 1, 1)
    assert shapes["pixel_decoder.input_proj.2.0.weight"] == (256, 512, 1, 1)
    assert shapes[f"{attention}.sampling_offsets.weight"] == (192, 256)
    assert shapes[f"{attention}.attention_weights.weight"] == (96, 256)
    assert shapes["predictor.transformer_ffn_layers.8.linear1.weight"] == (2048, 256)
    assert shapes["predictor.class_embeds.0.weight"] == (101, 256)
    assert shapes["predictor.class_embeds.1.weight"] == (10, 256)


def test_loading_a_file_is_strict(tmp_path):
    config = Mask2FormerConfig(backbone="mini", hidden=32, num_queries=4, decoder_layers=1, encoder_layers=1)
    network = Mask2Former(config, 3)
    torch.save({"model": network.state_dict(), "iteration": 7}, tmp_path / "model_final.pth")
    state = read_state(tmp_path / "model_final.pth")
    load_official_state(network, state, "here.pth")
    del state["predictor.query_feat.weight"]
    with pytest.raises(ValueError, match=r"here.pth.*missing 1: predictor.query_feat.weight"):
        load_official_state(network, state, "here.pth")


def detectron2_name(key: str) -> str:
    """detectron2 tools/convert-torchvision-to-d2.py."""
    stage = re.match(r"layer(\d)", key)
    key = key.replace(stage[0], f"res{int(stage[1]) + 1}") if stage else f"stem.{key}"
    key = re.sub(r"bn(\d)", r"conv\1.norm", key)
    return key.replace("downsample.0", "shortcut").replace("downsample.1", "shortcut.norm")


def caffe2_name(key: str) -> str:
    """Of MSRA's files, which detectron2's c2_model_loading.py@convert_basic_c2_names turns into its own."""
    key = detectron2_name(key).replace("stem.", "")
    for ours, theirs in (("conv1.norm.", "res_conv1_bn."),) if key.startswith("conv1") else ():
        key = key.replace(ours, theirs)
    key = re.sub(r"^res(\d)\.(\d+)\.shortcut", r"res\1_\2_branch1", key)
    key = re.sub(
        r"^res(\d)\.(\d+)\.conv(\d)", lambda m: f"res{m[1]}_{m[2]}_branch2{'abc'[int(m[3]) - 1]}", key
    )
    key = key.replace(".norm.", "_bn.").replace("_bn.weight", "_bn_s").replace("_bn.bias", "_bn_b")
    return re.sub(r"\.weight$", "_w", key)


@pytest.mark.parametrize("name", ["torchvision", "detectron2", "caffe2"])
@pytest.mark.parametrize("train_norm", [False, True])
def test_backbones_of_imagenet(name, train_norm):
    body = build_backbone("resnet50", train_norm)
    own = {key: torch.rand_like(v) for key, v in body.state_dict().items() if v.is_floating_point()}
    rename = {"torchvision": str, "detectron2": detectron2_name, "caffe2": caffe2_name}[name]
    theirs = {rename(key): value for key, value in own.items() if not (name == "caffe2" and "running" in key)}
    classifier = {"torchvision": "fc", "detectron2": "stem.fc", "caffe2": "fc1000"}[name]
    theirs |= {f"{classifier}{'_w' if name == 'caffe2' else '.weight'}": torch.zeros(1000, 2048)}
    adapted = body.adapt_state(theirs)
    assert not misfits(body.state_dict(), adapted)
    for key, value in own.items():
        known = not (name == "caffe2" and "running" in key)
        assert torch.equal(adapted[key], value if known else torch.full_like(value, float("var" in key))), key
