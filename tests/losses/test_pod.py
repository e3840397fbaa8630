import pytest
import torch

from methods.losses.features import fold_new_channels, schedule, squares
from methods.losses.pod import local_pod, pod_distance, pod_distillation, spatial_pod
from tests.golden import wave


def golden_maps(side: int = 8) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
    """Two feature maps and the small logits, old ones with 4 channels and new ones with 7."""
    old = [wave((2, 3, side, side), 0.31, 0.2, 1), wave((2, 5, side, side), 0.17, 0.4, 1)]
    new = [wave((2, 3, side, side), 0.31, 0.25, 1), wave((2, 5, side, side), 0.17, 0.5, 1)]
    old.append(wave((2, 4, side, side), 0.23, 0.6, 1))
    new.append(wave((2, 7, side, side), 0.29, 0.6, 1))
    return old, new


def folded() -> tuple[list[torch.Tensor], list[torch.Tensor]]:
    old, new = golden_maps()
    return old, [*new[:2], fold_new_channels(new[2], 4)]


def test_golden_local_pod():
    pooled = local_pod(wave((2, 3, 8, 8), 0.31, 0.2, 1))
    assert pooled.shape == (2, 336)
    assert pooled.sum().item() == pytest.approx(0.239959363882, abs=1e-9)


@pytest.mark.parametrize("index, norm", list(enumerate([0.475218024667, 1.131296970505, 56.274622891438])))
def test_golden_distances(index, norm):
    old, new = folded()
    assert pod_distance(old[index], new[index]).item() == pytest.approx(norm, abs=1e-9)


@pytest.mark.parametrize(
    "factors, pool, value",
    [
        ((0.01, 0.01, 5e-4), local_pod, 0.022506791695),
        ((0.01, 0.01, 0.01), local_pod, 0.294716328528),
        ((0.01, 0.01, 0.01), spatial_pod, 0.783166988678),
    ],
)
def test_golden_pod_distillation(factors, pool, value):
    old, new = folded()
    loss = schedule(7, 3) * pod_distillation(old, new, factors, pool)
    assert loss.item() == pytest.approx(value, abs=1e-9)


@pytest.mark.parametrize("side", [7, 9, 12, 16])
def test_tiles_are_those_of_the_definition(side):
    maps = wave((2, 3, side, side), 0.7, 0.1, 1)
    pieces = []
    for scale in (1, 2, 4):
        k = side // scale
        for i in range(scale):
            for j in range(scale):
                tile = maps[..., i * k : (i + 1) * k, j * k : (j + 1) * k]
                pieces += [tile.mean(dim=3).flatten(1), tile.mean(dim=2).flatten(1)]
    expected = torch.cat(pieces, dim=1)
    pooled = local_pod(maps)
    assert pooled.shape == expected.shape
    torch.testing.assert_close(pooled.sort(dim=1).values, expected.sort(dim=1).values)


def test_equal_maps_have_finite_gradients():
    maps = wave((2, 3, 8, 8), 0.3, 0.2, 1)
    new = maps.clone().requires_grad_()
    loss = pod_distance(maps, new)
    loss.backward()
    assert loss.item() == 0.0 and new.grad.isfinite().all()


def test_gradient_of_the_distance():
    old, new = folded()
    assert torch.autograd.gradcheck(lambda x: pod_distance(old[0], x), (new[0].requires_grad_(),))


@pytest.mark.parametrize("shape", [(1, 2, 8, 6), (1, 2, 3, 3)])
def test_maps_that_cannot_be_tiled(shape):
    with pytest.raises(ValueError, match="square maps"):
        local_pod(torch.zeros(shape))


def test_maps_of_different_shape():
    with pytest.raises(ValueError, match="do not go with"):
        pod_distance(torch.zeros(1, 2, 8, 8), torch.zeros(1, 3, 8, 8))


def test_folding_adds_the_raw_logits():
    logits = wave((2, 7, 3, 3), 0.3, 0.1, 1)
    folded = fold_new_channels(logits, 4)
    torch.testing.assert_close(folded[:, 0], logits[:, 0] + logits[:, 4:].sum(dim=1))
    assert torch.equal(folded[:, 1:], logits[:, 1:4])
    assert fold_new_channels(logits, 7) is logits
    with pytest.raises(ValueError, match="must lie in between"):
        fold_new_channels(logits, 8)


def test_half_precision_is_widened():
    assert squares(torch.full((1,), 300.0, dtype=torch.float16)).item() == 90000.0


@pytest.mark.parametrize("channels, new, expected", [(17, 1, 4.123), (21, 5, 2.049), (151, 50, 1.738)])
def test_schedule(channels, new, expected):
    assert schedule(channels, new) == pytest.approx(expected, abs=5e-4)
