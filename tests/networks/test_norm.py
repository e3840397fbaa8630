import copy

import pytest
import torch

from methods.networks.backbones import build_backbone
from methods.networks.norm import freeze_batch_norm


@pytest.mark.parametrize("name, stride", [("resnet-mini", 8), ("mobilenet-v2", 16)])
def test_frozen_layers_survive_train_and_copies(name, stride):
    body = build_backbone(name, stride)
    keys = list(body.state_dict())
    freeze_batch_norm(body)
    assert list(body.state_dict()) == keys
    twin = copy.deepcopy(body).train()
    before = {k: v.clone() for k, v in twin.state_dict().items()}
    twin(torch.randn(2, 3, 32, 32)).square().mean().backward()
    assert all(torch.equal(v, before[k]) for k, v in twin.state_dict().items())
    for name, parameter in twin.named_parameters():
        assert (parameter.grad is not None) == (parameter.dim() == 4), name
    assert twin.training


def test_only_normalisation_is_frozen():
    body = build_backbone("resnet-mini", 8)
    freeze_batch_norm(body)
    assert {p.dim() for p in body.parameters() if p.requires_grad} == {4}
    assert {p.dim() for p in body.parameters() if not p.requires_grad} == {1}
