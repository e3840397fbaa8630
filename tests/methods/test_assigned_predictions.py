"""Against CoMFormer@640496b and ECLIPSE@9266720, MaskFormer.{semantic,panoptic}_inference and the resizing
around them: 12 queries of 7 classes, on an image of 18 x 22 pixels of a photograph of 31 x 29."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from torch import Tensor

from methods.comformer import CoMFormer
from methods.eclipse import Eclipse
from methods.mask2former_assigned import AssigningMethod
from methods.predictions import PanopticPrediction
from protocols.names import parse
from tests.golden import wave
from tests.methods.test_methods import built

SIZE = (31, 29)
POSITIONS = torch.arange(31 * 29).view(SIZE)
THINGS = torch.tensor([True, False, True, False, False, True, False])


def output() -> SimpleNamespace:
    query = torch.arange(12).view(12, 1, 1)
    row, column = torch.arange(5).view(5, 1), torch.arange(6)
    distance = ((row - query * 7 % 5) ** 2 + (column - query * 11 % 6) ** 2).float().sqrt()
    logits = wave((12, 8), 1.7, 0.3, 2.5).float()
    return SimpleNamespace(logits=logits[None], masks=(4 * (1 + query % 4 * 0.5 - distance))[None])


def prediction(
    kind: type[AssigningMethod], task: str, monkeypatch: pytest.MonkeyPatch
) -> Tensor | PanopticPrediction:
    method = built(kind, parse("ade-100-10", task), kind.default_recipe(parse("voc-15-5"), "mini"))
    assert isinstance(method, AssigningMethod)
    monkeypatch.setattr(method.network, "forward", lambda image: output())
    monkeypatch.setattr(method, "is_thing", lambda device: THINGS)
    return method.predict_image(torch.zeros(1, 3, 18, 22), SIZE)


@pytest.mark.parametrize(
    "kind, areas, checksum",
    [
        (CoMFormer, [102, 25, 56, 51, 32, 48, 315, 270], 1870371),
        (Eclipse, [0, 28, 25, 90, 50, 93, 394, 219], 2230911),
    ],
)
def test_golden_semantic(kind, areas, checksum, monkeypatch):
    channels = prediction(kind, "semantic", monkeypatch)
    assert channels.flatten().bincount(minlength=8).tolist() == areas
    assert (channels * POSITIONS).sum().item() == checksum


@pytest.mark.parametrize(
    "kind, classes, areas, checksum",
    [
        (CoMFormer, [1, 0, 6, 5, 4, 3, 2, 5], [102, 59, 19, 271, 29, 52, 35, 50, 282], 1947249),
        (Eclipse, [1, 0, 6, 5, 4, 3, 2, 5], [0, 23, 26, 222, 33, 91, 52, 89, 363], 2494339),
    ],
)
def test_golden_panoptic(kind, classes, areas, checksum, monkeypatch):
    found = prediction(kind, "panoptic", monkeypatch)
    assert found.channels.tolist() == classes
    assert found.ids.flatten().bincount(minlength=len(areas)).tolist() == areas
    assert (found.ids.long() * POSITIONS).sum().item() == checksum
