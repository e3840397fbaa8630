import numpy as np
import pytest
import safetensors.torch
import torch
from torchvision.models import mobilenet_v2

from methods.networks.backbones import BACKBONES, build_backbone, load_backbone_weights
from methods.networks.checkpoints import read_state


@pytest.mark.parametrize("name", BACKBONES)
def test_every_backbone_keeps_its_promises(name):
    with torch.device("meta"):
        body = build_backbone(name, 16)
        features = body.feature_maps(torch.empty(2, 3, 64, 48))
    assert features.out.shape == (2, body.out_channels, 4, 3)
    assert len(features.stages) == len(features.residuals) == 4
    assert body.output_stride == 16
    assert len(body.pixel_mean) == len(body.pixel_std) == 3


def test_unknown_backbone_names_the_nearest():
    with pytest.raises(ValueError, match="unknown backbone 'resnet-101': did you mean resnet101"):
        build_backbone("resnet-101")


@pytest.mark.parametrize("output_stride, size", [(8, 24), (16, 12), (32, 6)])
def test_mobilenet_output_stride(output_stride, size):
    with torch.device("meta"):
        body = build_backbone("mobilenet-v2", output_stride)
        assert body(torch.empty(1, 3, 192, 192)).shape == (1, 320, size, size)
    with pytest.raises(ValueError, match="out of reach"):
        build_backbone("mobilenet-v2", 4)


def test_dilated_mobilenet_sees_what_the_strided_one_saw():
    torch.manual_seed(0)
    dense, strided = (build_backbone("mobilenet-v2", stride).eval() for stride in (16, 32))
    dense.load_state_dict(strided.state_dict())
    images = torch.randn(1, 3, 128, 128)
    with torch.no_grad():
        expected, got = strided(images), dense(images)[:, :, ::2, ::2]
    torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-5 * float(expected.abs().max()))


def test_mobilenet_loads_a_torchvision_npz_in_half_precision(tmp_path):
    state = mobilenet_v2().state_dict()
    path = tmp_path / "weights.npz"
    half = {k: v.numpy().astype(np.float16) if v.is_floating_point() else v.numpy() for k, v in state.items()}
    np.savez(path, **half)
    body = build_backbone("mobilenet-v2")
    load_backbone_weights(body, path)
    weight = body.features[17].conv[2].weight
    assert weight.dtype == torch.float32
    assert torch.equal(weight, state["features.17.conv.2.weight"].half().float())


def mapillary_state():
    state = build_backbone("resnet-mini", 8).state_dict()
    state = {k: torch.rand_like(v) for k, v in state.items() if not k.endswith("num_batches_tracked")}
    head = {"classifier.fc.weight": torch.zeros(5, 4), "classifier.fc.bias": torch.zeros(5)}
    return state, {"module." + k: v for k, v in (state | head).items()}


@pytest.mark.parametrize("layout", ["mapillary", "plain torch", "safetensors"])
def test_resnet_loads_the_layouts_in_circulation(tmp_path, layout):
    state, official = mapillary_state()
    path = tmp_path / {"safetensors": "w.safetensors"}.get(layout, "w.pth.tar")
    if layout == "safetensors":
        safetensors.torch.save_file(official, path)
    else:
        torch.save({"state_dict": official, "epoch": 3} if layout == "mapillary" else state, path)
    body = build_backbone("resnet-mini", 8)
    load_backbone_weights(body, path)
    own = body.state_dict()
    assert all(torch.equal(own[key], value) for key, value in state.items())


def test_weights_of_another_network_are_refused_in_one_line(tmp_path):
    state, _ = mapillary_state()
    state["mod1.bn1.extra"] = state.pop("mod1.bn1.weight")
    state["mod1.bn1.bias"] = torch.zeros(3)
    path = tmp_path / "w.pth"
    torch.save(state, path)
    body = build_backbone("resnet-mini", 8)
    before = {k: v.clone() for k, v in body.state_dict().items()}
    with pytest.raises(ValueError) as caught:
        load_backbone_weights(body, path)
    message = str(caught.value)
    assert "\n" not in message and str(path) in message
    assert "missing 1: mod1.bn1.weight" in message and "unexpected 1: mod1.bn1.extra" in message
    assert "misshapen 1: mod1.bn1.bias (3,) instead of (32,)" in message
    assert all(torch.equal(v, before[k]) for k, v in body.state_dict().items())


class Surprise:
    pass


@pytest.mark.parametrize(
    "name, content, words",
    [
        ("w.npz", b"", "cannot be read"),
        ("w.npz", b"PK\x03\x04broken", "cannot be read"),
        ("w.safetensors", b"broken", "cannot be read"),
        ("w.pth", b"", "cannot be read"),
        ("w.pth", {"state_dict": Surprise()}, "objects other than tensors"),
        ("w.pth", {"epoch": 3}, "no state dict"),
        ("w.pth", [1, 2], "no state dict"),
        ("w.npz", {"a": np.array([{}], dtype=object)}, "cannot be read"),
        ("w.pth", None, "no such file"),
    ],
)
def test_bad_files_end_in_one_line(tmp_path, name, content, words):
    path = tmp_path / name
    if isinstance(content, bytes):
        path.write_bytes(content)
    elif name.endswith("npz"):
        np.savez(path, **content)
    elif content is not None:
        torch.save(content, path)
    with pytest.raises(ValueError, match=words) as caught:
        read_state(path)
    assert str(path) in str(caught.value) and "\n" not in str(caught.value)
