import pytest
import torch
import torch.nn.functional as F

from methods.losses.features import fold_new_channels, schedule
from methods.losses.pooled_cube import pooled_cube_channel, pooled_cube_space
from tests.golden import wave
from tests.losses.test_pod import golden_maps

#: Space of the maps and of the logits, channels of the body and of the head (the last but the logits).
FACTORS = {
    "voc": (0.01, 0.0005, 0.01, 0.0005),
    "ade": (5e-6, 5e-7, 5e-6, 5e-7),
    "cityscapes-domain": (5e-4, 1e-4, 1e-4, 0.0),
}


def folded(side: int = 32) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
    old, new = golden_maps(side)
    return old, [*new[:2], fold_new_channels(new[2], 4)]


@pytest.mark.parametrize(
    "dataset, space, channel",
    [
        ("voc", 0.003054107937, 0.012070158105),
        ("ade", 0.000002149978, 0.000006241749),
        ("cityscapes-domain", 0.000339582465, 0.000116568175),
    ],
)
def test_golden(dataset, space, channel):
    old, new = folded()
    maps, logits, body, head = FACTORS[dataset]
    loss = schedule(7, 3) * pooled_cube_space(old, new, (maps, maps, logits))
    assert loss.item() == pytest.approx(space, abs=1e-9)
    loss = schedule(7, 3) * pooled_cube_channel(old[:2], new[:2], (body, head))
    assert loss.item() == pytest.approx(channel, abs=1e-9)


def test_space_is_the_definition():
    old, new = wave((2, 3, 14, 10), 0.3, 0.1, 1), wave((2, 3, 14, 10), 0.37, 0.2, 1)
    norms = []
    for k in (4, 24):
        a, b = (F.avg_pool2d(x**2, k, stride=1, padding=k // 2) for x in (old, new))
        norms.append((a - b).flatten(1).norm(dim=1).mean())
    loss = pooled_cube_space([old], [new], [2.0], sizes=(4, 24))
    torch.testing.assert_close(loss, 2 * torch.stack(norms).mean())


def test_channel_is_the_definition_in_any_layout():
    old, new = wave((2, 6, 5, 4), 0.3, 0.1, 1), wave((2, 6, 5, 4), 0.37, 0.2, 1)
    padded = F.pad(new**2 - old**2, (0, 0, 0, 0, 1, 1))
    mean = (padded[:, :-2] + padded[:, 1:-1] + padded[:, 2:]) / 3
    expected = mean.flatten(1).norm(dim=1).mean()
    torch.testing.assert_close(pooled_cube_channel([old], [new], [1.0]), expected)
    last = [m.contiguous(memory_format=torch.channels_last) for m in (old, new)]
    torch.testing.assert_close(pooled_cube_channel(last[:1], last[1:], [1.0]), expected)


@pytest.mark.parametrize("function", [pooled_cube_space, pooled_cube_channel])
def test_gradients(function):
    old, new = wave((1, 3, 6, 6), 0.3, 0.1, 1), wave((1, 3, 6, 6), 0.37, 0.2, 1).requires_grad_()
    assert torch.autograd.gradcheck(lambda x: function([old], [x], [1.0]), (new,))
    same = old.clone().requires_grad_()
    function([old], [same], [1.0]).backward()
    assert same.grad.isfinite().all()


@pytest.mark.parametrize("function", [pooled_cube_space, pooled_cube_channel])
def test_what_does_not_go_together(function):
    maps = [torch.zeros(1, 2, 4, 4)]
    with pytest.raises(ValueError, match="do not go with"):
        function(maps, [torch.zeros(1, 3, 4, 4)], [1.0])
    with pytest.raises(ValueError):
        function(maps, maps, [1.0, 2.0])
