"""Whole official networks, filled by `closed_form_state`, saved as their code saves them, and imported here.

The numbers are the mean, the mean magnitude and one value of the official network's output in evaluation mode
for `IMAGE`. By hand, on the same files, ours differed by at most 4e-5 from outputs of up to 26.
"""

from __future__ import annotations

import re
from collections import OrderedDict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from benchmarks.configure import configure
from benchmarks.importing import Imported, import_official
from benchmarks.settings import Setting
from methods.method import Method
from methods.registry import find_methods
from protocols.names import parse
from protocols.protocol import Protocol
from tests.golden import scatter
from tests.networks.mask2former.closed_form import closed_form_state

Golden = tuple[float, float, float]
IMAGE = 2 * scatter((1, 3, 64, 96), 1000).float()


def grown(
    key: str, protocol: Protocol, step: int, scale: str = "paper", settings: Sequence[str] = ()
) -> tuple[Method, Any]:
    """The method's network after the step, not trained, and what it was made with."""
    (method_class,) = find_methods(key, protocol.task)
    setup = configure(protocol, {}, {}, method_class, scale, [Setting.parse(text) for text in settings])
    trained = protocol.joint() if method_class.trains_jointly else protocol
    method = method_class(setup.hyperparameters, setup.recipe)
    method.build(trained)
    method.step = trained.steps[step]
    method.grow_to(method.step)
    return method, setup


def imported(path: Path, method: Method, setup: Any, protocol: Protocol, step: int) -> Imported:
    """Through the file, into `method`."""
    found = import_official([path], type(method), setup, protocol, step)
    assert not found.misfits
    method.restore(method.step, found.tensors)
    method.network.eval()
    return found


def assert_golden(tensor: Tensor, golden: Golden) -> None:
    values = tensor.double().flatten()
    found = torch.stack([values.mean(), values.abs().mean(), values[len(values) // 3]])
    torch.testing.assert_close(found, torch.tensor(golden, dtype=torch.float64), rtol=0, atol=1e-4)


def save_as_mib(state: dict[str, Tensor], path: Path) -> None:
    """MiB, PLOP and RCIL run.py@save_ckpt; the score is a numpy number as in `StreamSegMetrics`."""
    torch.save(
        {
            "epoch": 29,
            "model_state": OrderedDict((f"module.{key}", value) for key, value in state.items()),
            "optimizer_state": {"state": {0: {"momentum_buffer": torch.zeros(3)}}, "param_groups": []},
            "scheduler_state": {"last_epoch": 29},
            "best_score": np.float64(0.597),
            "trainer_state": {"regularizer": None},
        },
        path,
    )


@pytest.mark.slow
@pytest.mark.parametrize(
    ("key", "step", "golden"),
    [
        # fcdl94/MiB@1c58983, arthurdouillard/CVPR2021_PLOP@4b4a060, zhangchbin/RCIL@b9aad58: make_model
        ("mib", 2, (-7.659671632930e-01, 5.232524281460e00, -4.546639919281e00)),
        ("plop", 1, (7.772046579627e-01, 5.460790454646e00, 1.030377626419e00)),
        ("rcil", 0, (3.789023461008e-01, 1.157123013948e00, -7.180170714855e-02)),
        ("rcil", 2, (-2.088362893205e-01, 7.659016633870e-01, -5.287420749664e-02)),
    ],
)
def test_step_files_of_deeplab(key: str, step: int, golden: Golden, tmp_path: Path) -> None:
    """VOC 15-1. In-place ABN before 1.1.0 has no `num_batches_tracked`; RCIL's later files are merged."""
    protocol = parse("voc-15-1")
    method, setup = grown(key, protocol, step)
    names = [name for name in method.network.state_dict() if not name.endswith("num_batches_tracked")]
    state = closed_form_state({name: method.network.state_dict()[name] for name in names})
    if key == "rcil" and step:
        state |= {
            name: torch.full_like(value, float(name.endswith(("weight", "running_var"))))
            for name, value in state.items()
            if re.search(r"\.(bn2|map_bn)\.", name)
        }
    save_as_mib(state, tmp_path / "15-5s-voc.pth")
    imported(tmp_path / "15-5s-voc.pth", method, setup, protocol, step)
    with torch.no_grad():
        assert_golden(method.network(IMAGE).logits, golden)


def official_name(name: str) -> str:
    """The inverse of the import: of a network named as ours, as detectron2 names it."""
    if not name.startswith("backbone."):
        return "sem_seg_head." + name.replace("predictor.bbox_embed.", "predictor._bbox_embed.")
    name = re.sub(r"layer(\d)", lambda match: f"res{int(match[1]) + 1}", name)
    name = re.sub(r"^backbone\.(conv1|bn1)\.", r"backbone.stem.\1.", name)
    name = re.sub(r"bn(\d)\.", r"conv\1.norm.", name)
    return name.replace("downsample.0.", "shortcut.").replace("downsample.1.", "shortcut.norm.")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("key", "name", "step", "logits", "masks"),
    [
        # jinpeng0528/BalConpas@3b76142: panoptic ResNet-50 with frozen, semantic ResNet-101 with learnt
        # normalisation, instance ResNet-50
        (
            "balconpas",
            "ade-100-10-panoptic",
            1,
            (-1.338900851450e-01, 8.161181280573e-01, -2.060877084732e-01),
            (-4.633195095344e00, 4.774096168476e00, -5.377648353577e00),
        ),
        (
            "balconpas",
            "ade-100-10",
            1,
            (-2.451786929674e-02, 7.893746817528e-01, -7.662765681744e-03),
            (-1.387010988066e00, 3.645407051619e00, 7.040143966675e00),
        ),
        (
            "balconpas",
            "ade-50-10-instance",
            2,
            (-9.365479614625e-02, 9.004348354568e-01, 4.585272073746e-02),
            (6.600005304444e00, 6.691141460580e00, -4.150972366333e00),
        ),
        # SooLab/SimCIS@28bc91e
        (
            "simcis",
            "ade-100-10-panoptic",
            0,
            (7.609338212420e-02, 9.028892058442e-01, -4.558200836182e-01),
            (3.965920919731e-01, 1.965465928254e00, -4.717895984650e00),
        ),
        # facebookresearch/Mask2Former@9b0651c
        (
            "joint",
            "ade-100-10-panoptic",
            0,
            (-1.595501194412e-02, 8.757573547173e-01, 2.648623466492e00),
            (-5.330958380386e00, 5.520347437881e00, -7.658488273621e00),
        ),
    ],
)
def test_files_of_mask2former(
    key: str, name: str, step: int, logits: Golden, masks: Golden, tmp_path: Path
) -> None:
    """As detectron2's checkpointer saves them, with the criterion's buffers and SimCIS's second names."""
    protocol = parse(name)
    method, setup = grown(key, protocol, step)
    official = {official_name(k): v for k, v in method.network.state_dict().items()}
    if key == "joint":  # one classifier, whose name has no number
        official = {k.replace("class_embeds.0.", "class_embed."): v for k, v in official.items()}
    state = closed_form_state(official)
    second = {
        k.replace("_bbox_embed", f"bbox_embed.{layer}"): v
        for layer in range(9)
        for k, v in state.items()
        if "_bbox_embed" in k
    }
    buffers = {"criterion.empty_weight": torch.ones(3), "criterion.memory_empty_weight": torch.ones(3)}
    content = {
        "model": OrderedDict(state | second | buffers),
        "iteration": 159_999,
        "optimizer": {"state": {}},
    }
    torch.save(content, tmp_path / "model_final.pth")
    found = imported(tmp_path / "model_final.pth", method, setup, protocol, step)
    assert bool(found.card.lacks) == (key == "simcis")
    with torch.no_grad():
        output = method.network(IMAGE)
    assert_golden(output.logits, logits)
    assert_golden(output.masks, masks)


def segvit_name(name: str) -> str:
    """Of a network named as ours, as mmsegmentation and SegViT name it."""
    if name.startswith("encoder."):
        name = name.replace("encoder.", "backbone.").replace("patch_embed.proj.", "patch_embed.projection.")
        name = (
            name.replace("blocks.", "layers.")
            .replace("norm", "ln")
            .replace("attn.qkv.", "attn.attn.in_proj_")
        )
        name = name.replace(".attn.proj.", ".attn.attn.out_proj.")
        return name.replace("mlp.fc1.", "ffn.layers.0.0.").replace("mlp.fc2.", "ffn.layers.1.")
    name = name.replace("heads.0.", "decode_head.").replace("tokens.0", "q.weight")
    name = re.sub(r"projections\.(\d)\.linear", lambda m: f"input_proj_{int(m[1]) + 1}", name)
    name = re.sub(r"projections\.(\d)\.norm", lambda m: f"proj_norm_{int(m[1]) + 1}", name)
    return re.sub(r"levels\.(\d)\.", lambda m: f"decoder_{int(m[1]) + 1}.layers.", name)


def test_file_of_cit(tmp_path: Path) -> None:
    """jinchaogjc/cit@11cd952 ATMHeadV2 on mmsegmentation 0.24.0's VisionTransformer, as mmcv saves them."""
    protocol = parse("voc-15-1")
    method, setup = grown("segvit-cit", protocol, 1, "mini")
    own = dict(method.network.state_dict())
    tokens = torch.cat([own["heads.0.tokens.0"], own.pop("heads.0.tokens.1")])
    state = closed_form_state({segvit_name(k): v for k, v in (own | {"heads.0.tokens.0": tokens}).items()})
    frozen = {
        k.replace("decode_head.", "decode_head_freeze_1."): v for k, v in state.items() if "_head." in k
    }
    frozen["decode_head_freeze_1.q.weight"] = frozen["decode_head_freeze_1.q.weight"][:15]
    buffer = {"decode_head.loss_decode.criterion.empty_weight": torch.ones(2)}
    meta = {"CLASSES": ("a", "b"), "PALETTE": [[1, 2, 3]], "config": "x = 1", "iter": 40_000}
    torch.save({"meta": meta, "state_dict": state | buffer}, tmp_path / "alone.pth")
    torch.save({"meta": meta, "state_dict": state | buffer | frozen}, tmp_path / "iter_40000.pth")
    assert import_official([tmp_path / "alone.pth"], type(method), setup, protocol, 1).card.lacks
    found = imported(tmp_path / "iter_40000.pth", method, setup, protocol, 1)
    assert not found.card.lacks
    with torch.no_grad():
        scores = method.network.scores(2 * scatter((1, 3, 64, 64), 1000).float())
    assert_golden(scores, (1.413440302022e-01, 1.413440302022e-01, 1.307361572981e-01))
    assert torch.equal(method.teachers[0].tokens[0], method.network.newest.tokens[0])
