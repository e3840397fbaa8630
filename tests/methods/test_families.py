"""A method of two networks, named or left to the task; the recipes of two families side by side."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from benchmarks import fingerprint
from benchmarks.plan import make_run, open_benchmark
from benchmarks.settings import Setting
from benchmarks.training import poly_lr, step_lr
from methods.finetune import FineTune, FineTuneMask2Former, FineTuneSegViT
from methods.mask2former_recipe import Mask2FormerRecipe, mini, paper
from methods.networks.mask2former.backbone import build_backbone
from methods.registry import find_methods
from methods.segvit_recipe import SegViTRecipe
from protocols.loading import Batch
from protocols.names import parse
from tests.benchmarks.tiny import write_tiny_protocol


@pytest.mark.parametrize(
    ("entry", "task", "expected"),
    [
        ("finetune", "semantic", FineTune),
        ("finetune@deeplabv3", "semantic", FineTune),
        ("finetune@mask2former", "semantic", FineTuneMask2Former),
        ("finetune@segvit", "semantic", FineTuneSegViT),
        ("finetune", "panoptic", FineTuneMask2Former),
        ("finetune", "instance", FineTuneMask2Former),
        ("finetune@mask2former", "panoptic", FineTuneMask2Former),
    ],
)
def test_a_baseline_takes_a_network(entry: str, task: str, expected: type) -> None:
    assert find_methods(entry, task) == [expected]


def test_an_unknown_network_is_named() -> None:
    with pytest.raises(ValueError, match="'finetune@mask3former': did you mean finetune@mask2former"):
        find_methods("finetune@mask3former", "semantic")
    with pytest.raises(ValueError, match="'finetune@deeplabv3'"):
        find_methods("finetune@deeplabv3", "panoptic")


def test_recipe_settings_reach_the_family_that_has_them(tmp_path: Path) -> None:
    benchmark = open_benchmark(str(write_tiny_protocol(tmp_path)), "semantic", None, tmp_path / "runs")
    settings = [Setting.parse("recipe.num_queries=7"), Setting.parse("recipe.batch=3")]
    query = make_run(benchmark, FineTuneMask2Former, "mini", 0, settings)
    dense = make_run(benchmark, FineTune, "mini", 0, settings)
    assert isinstance(query.recipe, Mask2FormerRecipe)
    assert (query.recipe.num_queries, query.recipe.batch) == (7, 3)
    assert dense.recipe.batch == 3 and dense.overrides == {"batch": 3}


def test_own_recipes_are_for_one_family_each(tmp_path: Path) -> None:
    path = write_tiny_protocol(tmp_path)
    tables = "\n[recipe.mask2former]\nnum_queries = 9\n\n[recipe.segvit]\nhead_layers = 2\n"
    path.write_text(path.read_text() + tables)
    benchmark = open_benchmark(str(path), "semantic", None, tmp_path / "runs")
    query = make_run(benchmark, FineTuneMask2Former, "mini", 0, [])
    dense = make_run(benchmark, FineTune, "mini", 0, [])
    plain = make_run(benchmark, FineTuneSegViT, "mini", 0, [])
    assert isinstance(query.recipe, Mask2FormerRecipe)
    assert isinstance(plain.recipe, SegViTRecipe) and plain.recipe.head_layers == 2
    assert query.recipe.num_queries == 9 and query.recipe.lr != 0.05
    assert dense.recipe.lr == 0.05 and dense.recipe.source.startswith("[recipe] of")


def test_multistep_schedule() -> None:
    """Detectron2 `WarmupMultiStepLR` without warm-up: steps 8500 and 9500 of 10000, gamma 0.1."""
    drops = (0.85, 0.95)
    rates = [step_lr(5e-5, i, 10000, drops) for i in (0, 8499, 8500, 9499, 9500, 9999)]
    assert rates == pytest.approx([5e-5, 5e-5, 5e-6, 5e-6, 5e-7, 5e-7], rel=1e-12)


def test_poly_schedule_of_detectron2() -> None:
    """`WarmupPolyLR(max_iters=160000, power=0.9, warmup_iters=0)` at lr 1e-4, halfway."""
    assert poly_lr(1e-4, 80000, 160000, 0.9) == pytest.approx(1e-4 * 0.5**0.9, rel=1e-12)


@pytest.mark.parametrize(
    ("name", "later"),
    [("ade-100-50-panoptic", 50_000), ("ade-100-10-panoptic", 10_000), ("ade-100-5-panoptic", 5_000)],
)
def test_paper_schedule(name: str, later: int) -> None:
    """BalConpas `scripts`: 160000 iterations at 1e-4, then 1000 a class at 5e-5."""
    recipe = paper(parse(name))
    assert (recipe.iterations, recipe.later_iterations) == (160_000, later)
    assert (recipe.lr, recipe.later_lr, recipe.batch, recipe.crop) == (1e-4, 5e-5, 8, 640)


def test_parameter_groups_follow_the_official_optimiser() -> None:
    """`build_optimizer`: backbone a tenth; no decay for norms and embeddings, decay for a bare parameter."""
    recipe = paper(parse("ade-100-10"))
    method = FineTuneMask2Former(FineTuneMask2Former.Hyperparameters(), recipe)
    torch.manual_seed(0)
    method.build(parse("ade-100-10"))
    names = {id(p): name for name, p in method.network.named_parameters()}
    settings = {
        names[id(p)]: (group["lr"], group["weight_decay"])
        for group in method.parameter_groups(1e-4)
        for p in group["params"]
    }
    assert settings.keys() == set(names.values())
    assert settings["backbone.conv1.weight"] == (1e-5, 0.05)
    assert settings["backbone.bn1.weight"] == (1e-5, 0.0)
    assert settings["predictor.query_feat.weight"] == (1e-4, 0.0)
    assert settings["predictor.decoder_norm.bias"] == (1e-4, 0.0)
    assert settings["predictor.class_embeds.0.bias"] == (1e-4, 0.05)
    assert settings["pixel_decoder.transformer.level_embed"] == (1e-4, 0.05)


def test_crops_that_the_network_would_pad_are_refused() -> None:
    """Pseudo-labels lie on the image as the network saw it."""
    with pytest.raises(ValueError, match="crop = 100 must be a multiple of 32"):
        Mask2FormerRecipe(crop=100)


def test_the_backbone_starts_from_the_given_weights(tmp_path: Path) -> None:
    protocol, recipe = parse("ade-100-10"), mini(parse("ade-100-10"))
    state = {name: torch.full_like(t, 0.5) for name, t in build_backbone("mini").state_dict().items()}
    save_file(state, tmp_path / "net.safetensors")
    recipe = dataclasses.replace(recipe, weights=str(tmp_path / "net.safetensors"))
    method = FineTuneMask2Former(FineTuneMask2Former.Hyperparameters(), recipe)
    method.build(protocol)
    for name, tensor in method.network.backbone.state_dict().items():
        assert torch.equal(tensor, state[name]), name


def test_other_annotations_are_trained_anew(tmp_path: Path) -> None:
    benchmark = open_benchmark("ade-50-50", "instance", None, tmp_path)
    before = make_run(benchmark, FineTuneMask2Former, "mini", 0, []).step_keys.values()
    path = benchmark.dataset.segment_table("train", "instance").path
    path.write_text(path.read_text() + "\n")
    fingerprint.of_file.cache_clear()
    after = make_run(benchmark, FineTuneMask2Former, "mini", 0, []).step_keys.values()
    assert not set(before) & set(after)


@pytest.mark.parametrize("trained", [False, True])
def test_statistics_of_the_body_stay_after_the_first_step(trained: bool) -> None:
    """Images of later steps show their own classes everywhere: their statistics are not the old classes'."""
    protocol = parse("ade-100-10")
    recipe = dataclasses.replace(mini(protocol), backbone="mini", train_backbone_norm=trained)
    method = FineTuneMask2Former(FineTuneMask2Former.Hyperparameters(), recipe)
    method.build(protocol)
    norm = method.network.backbone.bn1
    for step in protocol.steps[:2]:
        method.begin_step(step, None)  # type: ignore[arg-type]
        before = norm.running_mean.clone()
        method.network.train()(torch.randn(2, 3, 32, 32))
        moved = not torch.equal(norm.running_mean, before)
        assert moved is (trained or step.index == 0)


def test_a_wrong_class_costs_what_the_recipe_says() -> None:
    method = FineTuneMask2Former(FineTuneMask2Former.Hyperparameters(), mini(parse("ade-100-10")))
    method.build(parse("ade-100-10"))
    method.begin_step(method.protocol.steps[0], None)  # type: ignore[arg-type]
    labels = torch.zeros(2, 32, 32, dtype=torch.int64)
    labels[:, 8:24, 8:24] = 5
    batch = Batch(torch.randn(2, 3, 32, 32), labels)
    output, targets = method.network(batch.images), method.targets(batch)
    matching = method.match(output, targets)
    heavy = method.set_losses(output, targets, matching)["class"]
    method.recipe = paper(method.protocol)
    light = method.set_losses(output, targets, matching)["class"]
    assert heavy.item() == pytest.approx(12.5 * light.item(), rel=1e-5)
