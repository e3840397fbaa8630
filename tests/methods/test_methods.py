"""Every registered method on tiny images, and a researcher's own from outside the clone."""

from __future__ import annotations

import dataclasses
import inspect
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from benchmarks.cli import main
from methods import mask2former_recipe, segvit_recipe
from methods.deeplab_recipe import SCALES, DeepLabRecipe
from methods.finetune import FineTune
from methods.method import Info, Method, MethodClass
from methods.mib import MiB
from methods.recipe import Recipe
from methods.registry import builtin_methods, find_methods
from protocols.loading import Batch
from protocols.names import known, parse
from protocols.protocol import Protocol
from reports.record import read
from tests.benchmarks.tiny import write_tiny_protocol

REPOSITORY = Path(__file__).parents[2]
TINY = DeepLabRecipe(
    backbone="resnet-mini",
    output_stride=4,
    head_hidden_channels=8,
    head_channels=8,
    dilations=(1, 2, 3),
    crop=32,
    batch=2,
)
TINY_MASK2FORMER = dataclasses.replace(
    mask2former_recipe.mini(parse("voc-15-5")),
    hidden=16,
    mask_dim=16,
    num_heads=2,
    norm_groups=4,
    num_queries=5,
    encoder_layers=1,
    decoder_layers=2,
    num_points=16,
    crop=32,
    batch=2,
)
TINY_SEGVIT = dataclasses.replace(
    segvit_recipe.mini(parse("voc-15-5")), backbone="vit-mini", head_layers=1, crop=32, batch=2
)
TINY_OF = {"deeplabv3": TINY, "mask2former": TINY_MASK2FORMER, "segvit": TINY_SEGVIT}
METHODS = list(builtin_methods().values())


class TwoBatches:
    """Stands in for `StepData` where a method looks at the images of its first epoch."""

    device = torch.device("cpu")

    def first_epoch(self) -> list[Batch]:
        return [batch_of(2, seed) for seed in range(2)]

    def with_next_class(self) -> TwoBatches:
        return self

    def with_replay(self, replay: object) -> TwoBatches:
        return self


def built(method: MethodClass, protocol: Protocol, recipe: Recipe | None = None, **settings: float) -> Method:
    torch.manual_seed(0)
    hyperparameters = dataclasses.replace(method.default_hyperparameters(protocol, "paper"), **settings)
    instance = method(hyperparameters, recipe or TINY_OF[method.family])
    instance.build(protocol)
    return instance


def batch_of(num_classes: int, seed: int = 0) -> Batch:
    generator = torch.Generator().manual_seed(seed)
    images = torch.randn(2, 3, 32, 32, generator=generator)
    labels = torch.randint(num_classes, (2, 32, 32), generator=generator)
    labels[:, :4] = 255
    return Batch(images, labels)


def predictions_of(method: Method, images: Tensor) -> Tensor:
    """int64 (B, H, W), by whichever hook the method is tested with."""
    if not method.tests_whole_images:
        return method.predict(images)
    found = [method.predict_image(image[None], (image.shape[1], image.shape[2])) for image in images]
    assert all(isinstance(labels, Tensor) for labels in found)
    return torch.stack(found)  # type: ignore[arg-type]


def train_a_little(method: Method, batch: Batch) -> dict[str, Tensor]:
    optimizer = torch.optim.SGD(method.parameter_groups(0.01), lr=0.01)
    method.network.train()
    losses = method.training_loss(batch)
    torch.stack(list(losses.values())).sum().backward()
    optimizer.step()
    return losses


@pytest.mark.parametrize("method", METHODS, ids=lambda m: m.key)
@pytest.mark.parametrize("name", ["voc-15-5", "ade-100-50", "cityscapes-14-1", "cityscapes-domain-11-5"])
def test_two_steps_on_every_data_set(method: MethodClass, name: str) -> None:
    protocol = parse(name)
    instance = built(method, protocol.joint() if method.trains_jointly else protocol)
    for step in instance.protocol.steps[:2]:  # type: ignore[attr-defined]
        instance.begin_step(step, TwoBatches())  # type: ignore[arg-type]
        channels = len(instance.protocol.channels(step.index))  # type: ignore[attr-defined]
        losses = train_a_little(instance, batch_of(channels))
        assert all(torch.isfinite(loss) and loss.ndim == 0 for loss in losses.values())
        instance.end_step(step, TwoBatches())  # type: ignore[arg-type]
        instance.network.eval()
        predictions = predictions_of(instance, torch.randn(2, 3, 32, 32))
        assert predictions.shape == (2, 32, 32)
        assert predictions.dtype == torch.int64
        assert int(predictions.min()) >= 0 and int(predictions.max()) < channels


@pytest.mark.parametrize("method", METHODS, ids=lambda m: m.key)
def test_restoring_gives_the_same_network(method: MethodClass) -> None:
    protocol = parse("voc-15-5")
    protocol = protocol.joint() if method.trains_jointly else protocol
    trained = built(method, protocol)
    for step in protocol.steps:
        trained.begin_step(step, TwoBatches())  # type: ignore[arg-type]
        train_a_little(trained, batch_of(len(protocol.channels(step.index))))
        trained.end_step(step, TwoBatches())  # type: ignore[arg-type]
    tensors = {name: tensor.clone() for name, tensor in trained.tensors().items()}
    restored = built(method, protocol)
    restored.restore(protocol.steps[-1], tensors)
    images = torch.randn(1, 3, 32, 32)
    trained.network.eval(), restored.network.eval()
    assert torch.equal(predictions_of(trained, images), predictions_of(restored, images))
    assert restored.tensors().keys() == tensors.keys()


SHARING = [m for m in METHODS if m.first_step and not m.trains_jointly]


@pytest.mark.parametrize("method", SHARING, ids=lambda m: m.key)
def test_a_declared_first_step_is_bit_identical(method: MethodClass) -> None:
    """Methods that name their first step alike train the same weights in it."""
    protocol = parse("voc-15-5")
    networks = []
    for candidate in (method, next(m for m in SHARING if m.first_step == method.first_step)):
        instance = built(candidate, protocol)
        instance.begin_step(protocol.steps[0], TwoBatches())  # type: ignore[arg-type]
        for seed in range(2):
            train_a_little(instance, batch_of(16, seed))
        networks.append(instance.tensors())
    assert all(torch.equal(networks[0][name], networks[1][name]) for name in networks[0])


def test_overriding_a_first_step_hook_ends_sharing() -> None:
    class Own(FineTune):
        key = "own"

        def first_step_loss(self, batch: Batch) -> dict[str, Tensor]:
            return super().first_step_loss(batch)

    assert FineTune.first_step
    assert not Own.first_step


@pytest.mark.parametrize("hook", ["__init__", "begin_step", "training_loss", "tensors", "restore"])
def test_a_hook_from_a_mixin_ends_sharing(hook: str) -> None:
    mixin = type("Mixin", (), {hook: lambda self, *arguments: None})
    own = type("Own", (mixin, FineTune), {"key": "own"})
    assert not own.first_step  # type: ignore[attr-defined]
    assert not type("Child", (own,), {"key": "child"}).first_step  # type: ignore[attr-defined]


def test_mib_without_a_background_distils_plainly() -> None:
    protocol = dataclasses.replace(parse("voc-15-5"), background=False)
    mib = built(MiB, protocol)
    for step in protocol.steps:
        mib.begin_step(step, TwoBatches())  # type: ignore[arg-type]
    assert set(mib.training_loss(batch_of(20))) == {"cross_entropy", "distillation"}


@pytest.mark.parametrize("method", METHODS, ids=lambda m: m.key)
def test_every_protocol_has_a_recipe_at_both_scales(method: MethodClass) -> None:
    for name in known():
        protocol = parse(name)
        for scale in SCALES:
            recipe = method.default_recipe(protocol, scale)
            assert recipe.at_step(0).total_iterations(1) > 0 and recipe.at_step(1).total_iterations(1) > 0
        method.default_hyperparameters(protocol, "paper")


def test_every_hyperparameter_has_a_comment_with_its_source() -> None:
    for method in METHODS:
        for field in dataclasses.fields(method.Hyperparameters):
            owners = [
                c for c in method.Hyperparameters.__mro__ if field.name in vars(c).get("__annotations__", {})
            ]
            source = inspect.getsource(owners[0])
            following = source.split(f"{field.name}: ", 1)[1].split("\n", 2)[1]
            assert '"""' in following, f"{method.key}.{field.name}"


def test_mib_starts_new_classes_from_the_background() -> None:
    protocol = parse("voc-15-5")
    mib = built(MiB, protocol)
    mib.begin_step(protocol.steps[0], TwoBatches())  # type: ignore[arg-type]
    before = {name: t.clone() for name, t in mib.network.cls.state_dict().items()}  # type: ignore[union-attr]
    mib.begin_step(protocol.steps[1], TwoBatches())  # type: ignore[arg-type]
    after = mib.network.cls.state_dict()  # type: ignore[union-attr]
    expected = before["0.bias"][0] - np.log(5 + 1)
    torch.testing.assert_close(after["1.bias"], expected.expand(5))
    torch.testing.assert_close(after["0.bias"][0], expected)
    assert torch.equal(after["1.weight"], before["0.weight"][:1].expand(5, -1, -1, -1))
    # The teacher was copied before the background's bias was lowered.
    assert torch.equal(mib.teacher.cls.state_dict()["0.bias"], before["0.bias"])  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("name", "weight"),
    [("voc-15-5", 10.0), ("voc-15-1", 100.0), ("voc-15-1-disjoint", 100.0), ("ade-100-10", 10.0)],
)
def test_mib_published_weights(name: str, weight: float) -> None:
    assert MiB.default_hyperparameters(parse(name), "paper").kd_weight == weight


def test_all_parameters_train_at_every_step() -> None:
    """Spec 7.2.7: nothing is frozen, old classifiers and running statistics included."""
    protocol = parse("voc-15-5")
    mib = built(MiB, protocol)
    for step in protocol.steps:
        mib.begin_step(step, TwoBatches())  # type: ignore[arg-type]
        before = {name: t.clone() for name, t in mib.tensors().items()}
        train_a_little(mib, batch_of(len(protocol.channels(step.index))))
        same = [name for name, t in mib.tensors().items() if torch.equal(t, before[name])]
        assert same == []


def test_own_method_from_outside_the_clone(tmp_path: Path) -> None:
    """The very file that CONTRIBUTING.md walks through, copied to another folder."""
    protocol = write_tiny_protocol(tmp_path)
    own = tmp_path / "elsewhere" / "pseudo_labels.py"
    own.parent.mkdir()
    shutil.copy(REPOSITORY / "methods/examples/pseudo_labels.py", own)
    runs = tmp_path / "runs"
    options = ["--runs", str(runs), "--device", "cpu", "--set", "pseudo-labels.threshold=0.9"]
    assert main(["--protocol", str(protocol), "--methods", f"finetune,{own}", *options]) == 0
    record = read(runs / "records/tiny-2-1/pseudo-labels[threshold=0.9]/seed-0.json")
    assert record.method.origin == "file: pseudo_labels.py"
    assert record.steps[0].trained_by == "finetune/seed-0"
    table = (runs / "leaderboards/tiny-2-1.md").read_text()
    assert "`pseudo-labels[threshold=0.9]` (file: pseudo_labels.py)" in table


def test_own_method_may_not_take_a_known_name(tmp_path: Path) -> None:
    path = tmp_path / "mine.py"
    path.write_text("from methods.finetune import FineTune\n\nclass Mine(FineTune):\n    key = 'mib'\n")
    with pytest.raises(ValueError, match="'mib' is that of a built-in method"):
        find_methods(str(path), "semantic")


def test_info_is_complete() -> None:
    for method in METHODS:
        assert isinstance(method.info, Info)
        assert method.info.provenance.startswith(("port of ", "paper only", "baseline"))
