"""The SegViT family: what is frozen, what learns how fast, and that old scores stay as they are."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from torch import Tensor

from methods.finetune import FineTuneSegViT
from methods.joint import JointSegViT
from methods.method import Method
from methods.segvit import SegViTMethod
from methods.segvit_cit import SegViTCIT
from methods.segvit_recipe import SegViTRecipe, mini, paper
from methods.segvitv2 import SegViTv2
from protocols.loading import Batch
from protocols.names import parse
from protocols.protocol import Protocol

PROTOCOL = parse("voc-10-5")
TINY = dataclasses.replace(mini(PROTOCOL), crop=32, short_side=32, batch=2)
IMAGES = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(3))


def built(method: type[SegViTMethod], protocol: Protocol = PROTOCOL, **settings: str | bool) -> SegViTMethod:
    torch.manual_seed(0)
    instance = method(method.Hyperparameters(**settings), TINY)
    instance.build(protocol)
    return instance


def batch_of(labels: tuple[int, ...]) -> Batch:
    """Blocks of the labels, one after another, and of 255."""
    blocks = torch.tensor([*labels, 255] * 16)[:16].view(1, 4, 4).expand(2, -1, -1)
    return Batch(IMAGES, blocks.repeat_interleave(8, 1).repeat_interleave(8, 2).contiguous())


def train(method: Method, batch: Batch) -> None:
    """One step of the optimiser that the runner takes, with a decay that would show."""
    optimizer = torch.optim.AdamW(method.parameter_groups(0.01), weight_decay=0.1)
    method.network.train()
    torch.stack(list(method.training_loss(batch).values())).sum().backward()
    optimizer.step()
    optimizer.zero_grad()


@torch.no_grad()
def scores(method: SegViTMethod) -> Tensor:
    return method.network.eval().scores(IMAGES)


def copies(method: Method) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in method.network.state_dict().items()}


def begin(method: SegViTMethod, index: int) -> None:
    method.network.eval()
    method.begin_step(PROTOCOL.steps[index], None)  # type: ignore[arg-type]


def test_old_scores_stay_bit_identical() -> None:
    method = built(SegViTv2)
    begin(method, 0)
    train(method, batch_of((0, 3, 9)))
    for index, labels in ((1, (0, 11, 15)), (2, (0, 16, 20))):
        before, state = scores(method), copies(method)
        begin(method, index)
        for _ in range(2):
            train(method, batch_of(labels))
        after = scores(method)
        assert after.shape[1] == before.shape[1] + 5
        assert torch.equal(after[:, : before.shape[1]], before)
        assert all(torch.equal(method.network.state_dict()[name], state[name]) for name in state)
        trained = {id(p) for group in method.parameter_groups(1.0) for p in group["params"]}
        assert trained == {id(p) for p in method.network.heads[index].parameters()}


def test_old_pixels_are_lost_only_to_new_classes() -> None:
    method = built(SegViTv2)
    begin(method, 0)
    train(method, batch_of((0, 3, 9)))
    before = method.predict_image(IMAGES[:1], (40, 36))
    begin(method, 1)
    train(method, batch_of((0, 11, 15)))
    after = method.predict_image(IMAGES[:1], (40, 36))
    assert after.shape == (40, 36)
    assert ((after == before) | (after > 10)).all()


def test_growing_by_tokens_alone() -> None:
    method = built(SegViTv2, grow="tokens")
    begin(method, 0)
    train(method, batch_of((0, 3, 9)))
    before, state = scores(method), copies(method)
    begin(method, 1)
    train(method, batch_of((0, 11, 15)))
    learnt = {
        n for n, t in method.network.state_dict().items() if n not in state or not torch.equal(t, state[n])
    }
    assert learnt == {"heads.0.tokens.1"}
    torch.testing.assert_close(scores(method)[:, :10], before, rtol=0, atol=1e-5)


def test_a_head_can_start_from_the_one_before() -> None:
    for start in ("random", "copy"):
        method = built(SegViTv2, start=start)
        begin(method, 0)
        train(method, batch_of((0, 3, 9)))
        begin(method, 1)
        old, new = (head.state_dict() for head in method.network.heads)
        same = {
            name for name in old if old[name].shape == new[name].shape and torch.equal(old[name], new[name])
        }
        assert (same == set(old) - {"tokens.0"}) == (start == "copy")
        assert new["tokens.0"].shape[0] == 5


@pytest.mark.parametrize("noise", [False, True])
def test_frozen_parts_are_noisy_on_request(noise: bool) -> None:
    method = built(SegViTv2, noise=noise)
    begin(method, 1)
    method.network.train()
    assert method.network.encoder.training == method.network.heads[0].training == noise
    assert method.network.heads[1].training


@pytest.mark.parametrize(
    ("settings", "recipe", "message"),
    [
        ({"grow": "everything"}, {}, "grow = 'everything' must be head or tokens"),
        ({"grow": "tokens"}, {"self_attention": True}, "recipe.self_attention = false"),
        ({"start": "old"}, {}, "start = 'old'"),
    ],
)
def test_mistakes(settings: dict[str, str], recipe: dict[str, bool], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        SegViTv2(SegViTv2.Hyperparameters(**settings), dataclasses.replace(TINY, **recipe))


def test_labels_of_a_step_count_from_its_own_classes() -> None:
    method = built(SegViTv2)
    labels = torch.tensor([[[0, 10, 11, 15, 255]]])
    begin(method, 1)
    assert method.class_numbers(labels, method.num_old_classes).tolist() == [[[255, 255, 0, 4, 255]]]
    assert method.class_numbers(labels).tolist() == [[[255, 9, 10, 14, 255]]]


def test_fine_tuning_moves_everything() -> None:
    method = built(FineTuneSegViT)
    begin(method, 0)
    train(method, batch_of((0, 3, 9)))
    begin(method, 1)
    state = copies(method)
    train(method, batch_of((0, 11, 15)))
    still = {name for name, t in method.network.state_dict().items() if torch.equal(t, state[name])}
    assert still == {"encoder.cls_token"}


def test_cit_keeps_the_head_of_every_step() -> None:
    method = built(SegViTCIT, noise=False)
    begin(method, 0)
    train(method, batch_of((0, 3, 9)))
    first = scores(method)
    for index, labels in ((1, (0, 11, 15)), (2, (0, 16, 20))):
        encoder = copies(method)
        begin(method, index)
        losses = method.training_loss(batch_of(labels))
        assert set(losses) == {"presence", "mask", "dice", "old presence", "old masks"}
        train(method, batch_of(labels))
        state = method.network.state_dict()
        assert all(torch.equal(state[n], t) for n, t in encoder.items() if n.startswith("encoder."))
        assert not torch.equal(state["heads.0.tokens.0"], encoder["heads.0.tokens.0"])
    assert [teacher.num_classes for teacher in method.teachers] == [10, 15]
    assert not any(p.requires_grad for p in method.teachers.parameters())
    logits, masks = method.old_predictions(method.network.features(IMAGES))
    assert logits.shape[2] == masks.shape[2] == 15
    assert first.shape[1] == 10 and scores(method).shape[1] == 20


def test_published_learning_rates_and_decay() -> None:
    """What mmcv makes of the config: `head` wins over `norm`, and biases decay."""
    recipe = dataclasses.replace(paper(PROTOCOL), backbone="vit-mini", crop=32)
    method = SegViTv2(SegViTv2.Hyperparameters(), recipe)
    method.build(PROTOCOL)
    found = {
        id(p): (group["lr"], group["weight_decay"])
        for group in method.parameter_groups(recipe.lr)
        for p in group["params"]
    }
    for name, parameter in method.network.named_parameters():
        lr, decay = found.pop(id(parameter))
        assert lr == pytest.approx(2e-5 if name.startswith("encoder") else 2e-4)
        plain = name.startswith("encoder") and (".norm1." in name or ".norm2." in name)
        assert decay == (0.0 if plain else 0.01)
    assert not found


def test_published_schedules() -> None:
    for name in ("ade-100-50", "ade-50-50", "ade-100-10", "ade-100-5"):
        recipe = SegViTv2.default_recipe(parse(name), "paper")
        assert isinstance(recipe, SegViTRecipe)
        assert [recipe.at_step(i).iterations for i in (0, 1)] == [80_000, 40_000]
        assert (recipe.batch, recipe.clip_norm, recipe.poly_power, recipe.crop) == (16, 35, 1, 512)
        assert JointSegViT.default_recipe(parse(name), "paper").iterations == 160_000


def test_a_window_sees_what_the_whole_image_shows() -> None:
    method = built(SegViTv2)
    begin(method, 0)
    method.network.eval()
    whole = method.predict_image(IMAGES[:1], (32, 32))
    method.recipe = dataclasses.replace(TINY, test_window=32, test_stride=16)
    assert torch.equal(method.predict_image(IMAGES[:1], (32, 32)), whole)
