"""EWC, PI and RW: what they gather while training, what they penalise, and that a kill changes no bit."""

from __future__ import annotations

import copy
import dataclasses
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from benchmarks.cli import main
from benchmarks.training import StepTrainer
from methods.deeplab_recipe import SCALES, DeepLabRecipe
from methods.ewc import EWC
from methods.finetune import FineTune
from methods.importance import ImportanceMethod
from methods.losses.importance import fisher_average
from methods.method import MethodClass
from methods.pi import PI
from methods.rw import RW
from protocols.loading import Batch
from protocols.names import parse
from tests.benchmarks.tiny import write_tiny_protocol
from tests.losses.test_importance import FISHER, SCORE, moved, named
from tests.methods.test_methods import TINY, TwoBatches, batch_of, built, train_a_little

METHODS: list[MethodClass] = [EWC, PI, RW]
PROTOCOL = parse("voc-15-5")
every_method = pytest.mark.parametrize("method", METHODS, ids=lambda m: m.key)


def later_batch(seed: int = 5) -> Batch:
    """Background and the new classes."""
    batch = batch_of(6, seed)
    new = (batch.labels > 0) & (batch.labels < 6)
    return Batch(batch.images, torch.where(new, batch.labels + 15, batch.labels))


def in_second_step(method: MethodClass, recipe: DeepLabRecipe = TINY, **settings: float) -> ImportanceMethod:
    """The method at the beginning of its second step, after a first one of twelve iterations."""
    instance = built(method, PROTOCOL, recipe, **settings)
    assert isinstance(instance, ImportanceMethod)
    instance.begin_step(PROTOCOL.steps[0], TwoBatches())  # type: ignore[arg-type]
    for seed in range(12):
        train_a_little(instance, batch_of(16, seed))
    instance.end_step(PROTOCOL.steps[0], TwoBatches())  # type: ignore[arg-type]
    instance.begin_step(PROTOCOL.steps[1], TwoBatches())  # type: ignore[arg-type]
    return instance


def parameters_of(instance: ImportanceMethod) -> dict[str, Tensor]:
    return dict(instance.network.named_parameters())


def first_step_of(method: MethodClass, amp: bool) -> dict[str, Tensor]:
    instance = built(method, PROTOCOL)
    instance.begin_step(PROTOCOL.steps[0], TwoBatches())  # type: ignore[arg-type]
    instance.network.train()
    groups = instance.parameter_groups(0.01)
    optimizer = torch.optim.SGD(groups, momentum=0.9, nesterov=True, weight_decay=1e-4)
    for seed in range(3):
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=amp):
            losses = instance.training_loss(batch_of(16, seed))
        optimizer.zero_grad(set_to_none=True)
        torch.stack([loss.float() for loss in losses.values()]).sum().backward()
        optimizer.step()
    return dict(instance.network.state_dict())


@every_method
@pytest.mark.parametrize("amp", [False, True], ids=["float32", "autocast"])
def test_first_step_is_that_of_fine_tuning(method: MethodClass, amp: bool) -> None:
    own, plain = first_step_of(method, amp), first_step_of(FineTune, amp)
    assert own.keys() == plain.keys()
    assert all(torch.equal(own[name], plain[name]) for name in plain)


@every_method
def test_no_penalty_at_the_start_of_a_step(method: MethodClass) -> None:
    instance = in_second_step(method)
    losses = instance.training_loss(later_batch())
    assert losses["penalty"] == 0.0
    assert losses["cross_entropy"] > 0.0
    new = {"cls.1.weight", "cls.1.bias"}
    assert instance.importance.keys() == parameters_of(instance).keys() - new
    assert all(omega.min() >= 0 for omega in instance.importance.values())


def test_the_start_is_the_network_before_it_changed() -> None:
    class Initialised(PI):
        key = "initialised"
        background_initialisation = True

    instance = built(Initialised, PROTOCOL)
    assert isinstance(instance, ImportanceMethod)
    instance.begin_step(PROTOCOL.steps[0], TwoBatches())  # type: ignore[arg-type]
    before = instance.copies()
    instance.begin_step(PROTOCOL.steps[1], TwoBatches())  # type: ignore[arg-type]
    now = parameters_of(instance)
    assert not torch.equal(now["cls.0.bias"], before["cls.0.bias"])
    assert all(torch.equal(instance.start[name], before.get(name, now[name])) for name in now)


@every_method
def test_penalty_is_weighted_and_normalised(method: MethodClass) -> None:
    instance = in_second_step(method)
    train_a_little(instance, later_batch())
    kinds = [instance.statistics[kind] for kind in instance.accumulated]
    fresh = in_second_step(method)
    total = torch.zeros(())
    for statistics in (fresh.statistics[kind] for kind in instance.accumulated):
        for name, value in statistics.items():
            scaled = (value - value.min()) / (value.max() - value.min() + 1e-8)
            total += (scaled * (parameters_of(instance)[name] - fresh.start[name]).square()).sum().detach()
    assert all(kinds)
    penalty = instance.training_loss(later_batch())["penalty"]
    torch.testing.assert_close(penalty.detach(), instance.hyperparameters.weight * total)


@every_method
def test_golden_statistics(method: MethodClass) -> None:
    """Rows 20 and 21 through the hooks: two iterations, and the end of the step."""
    settings = {"iterations": 1} if method is RW else {}
    instance = method(method.Hyperparameters(**settings), TINY)
    assert isinstance(instance, ImportanceMethod)
    old, new, gradients, last = moved()
    instance.start, instance.network = old, nn.ParameterDict(new)  # type: ignore[assignment]
    earlier = {"fisher": named(FISHER), "score": named(SCORE)}
    instance.statistics.update({kind: earlier[kind] for kind in instance.accumulated})
    instance.observe(gradients)
    with torch.no_grad():
        for name, parameter in instance.network.named_parameters():
            parameter.copy_(last[name])
    instance.observe(gradients)
    instance.end_step(PROTOCOL.steps[1], TwoBatches())  # type: ignore[arg-type]
    fisher = {"a": [0.992, 3.964, 0.2575], "b": [0.0199, 0.0696]}
    expected: dict[MethodClass, dict[str, dict[str, list[float]]]] = {
        EWC: {"fisher": fisher},
        PI: {
            "score": {
                "a": [1.6345679012345666, 2.0345679012345697, 2.028727377190462],
                "b": [2.000401604812832, 6.001612877211658],
            }
        },
        RW: {
            "fisher": fisher,
            "score": {
                "a": [108.87202782003901, 27.872150107828162, 307.9367710251754],
                "b": [776.193798449612, 296.25513196480915],
            },
        },
    }
    assert instance.statistics.keys() == expected[method].keys()
    for kind, tensors in expected[method].items():
        for name, values in tensors.items():
            assert instance.statistics[kind][name].tolist() == pytest.approx(values, abs=1e-9)


def test_statistics_are_of_the_cross_entropy_alone() -> None:
    ewc = in_second_step(EWC)
    train_a_little(ewc, later_batch())
    plain, batch = copy.deepcopy(ewc.network), later_batch(6)
    fisher = dict(ewc.statistics["fisher"])
    assert ewc.training_loss(batch)["penalty"] > 0.0
    FineTune.first_step_loss(_with_network(plain), batch)["cross_entropy"].backward()
    for name, parameter in plain.named_parameters():
        assert parameter.grad is not None
        assert torch.equal(ewc.statistics["fisher"][name], fisher_average(fisher[name], parameter.grad, 0.9))


def _with_network(network: nn.Module) -> FineTune:
    instance = FineTune(FineTune.Hyperparameters(), TINY)
    instance.network = network  # type: ignore[assignment]
    return instance


def test_new_parameters_start_with_a_fisher_of_one() -> None:
    ewc = in_second_step(EWC)
    ewc.training_loss(later_batch())
    assert ewc.statistics["fisher"]["cls.1.bias"].min() >= 0.1


@every_method
def test_only_what_later_steps_need_outlives_a_step(method: MethodClass) -> None:
    instance = in_second_step(method)
    train_a_little(instance, later_batch())
    instance.end_step(PROTOCOL.steps[1], TwoBatches())  # type: ignore[arg-type]
    kinds = {name.split(".")[1] for name in instance.tensors() if name.startswith("importance.")}
    assert kinds == set(instance.accumulated)


def test_scores_of_pi_add_up_and_those_of_rw_are_averaged() -> None:
    """A second step of one iteration leaves no path, so that nothing is added."""
    for method, factor in ((PI, 1.0), (RW, 0.5)):
        instance = in_second_step(method)
        before = dict(instance.statistics["score"])
        instance.training_loss(later_batch())
        instance.end_step(PROTOCOL.steps[1], TwoBatches())  # type: ignore[arg-type]
        assert any(score.any() for score in before.values())
        for name, score in before.items():
            assert torch.equal(instance.statistics["score"][name], factor * score)


@every_method
def test_a_huge_weight_holds_old_parameters(method: MethodClass) -> None:
    def drift(weight: float) -> float:
        recipe = dataclasses.replace(TINY, later_lr=0.01)
        instance = in_second_step(method, recipe, weight=weight)
        trainer = StepTrainer(instance, recipe, recipe.at_step(1), iterations=20, device=torch.device("cpu"))
        instance.network.train()
        for seed in range(20):
            trainer.iterate(later_batch(seed))
        old = {
            name: value.detach()
            for name, value in parameters_of(instance).items()
            if name in instance.importance
        }
        return sum(float((value - instance.start[name]).square().sum()) for name, value in old.items())

    assert drift(1e4) < 0.5 * drift(0.0)


@every_method
def test_no_pull_beyond_the_start(method: MethodClass) -> None:
    instance = in_second_step(method, dataclasses.replace(TINY, later_lr=0.02))
    bound = 1 / (2 * 0.02 * instance.hyperparameters.weight)
    largest = max(float(omega.max()) for omega in instance.importance.values())
    assert largest == pytest.approx(bound)


@every_method
def test_published_weights_are_not_bounded(method: MethodClass) -> None:
    recipe, weight = SCALES["paper"](PROTOCOL), method.default_hyperparameters(PROTOCOL, "paper").weight
    assert 1 / (2 * recipe.later_lr * weight) >= (2 if method is RW else 1)
    instance = in_second_step(method, dataclasses.replace(TINY, later_lr=recipe.later_lr))
    free = in_second_step(method, dataclasses.replace(TINY, later_lr=1e-12))
    assert all(torch.equal(instance.importance[name], free.importance[name]) for name in free.importance)


@every_method
def test_parameters_that_no_gradient_reaches(method: MethodClass) -> None:
    """The official code stops with an error at the first of them."""
    instance = built(method, PROTOCOL, dataclasses.replace(TINY, freeze_batch_norm=True))
    assert isinstance(instance, ImportanceMethod)
    instance.network.head.unused = nn.Parameter(torch.ones(2))
    frozen = {name for name, p in instance.network.named_parameters() if not p.requires_grad}
    for step in PROTOCOL.steps:
        instance.begin_step(step, TwoBatches())  # type: ignore[arg-type]
        for seed in range(2):
            train_a_little(instance, later_batch(seed) if step.index else batch_of(16, seed))
        instance.end_step(step, TwoBatches())  # type: ignore[arg-type]
    assert frozen and instance.network.head.unused.grad is None
    for kind in instance.accumulated:
        assert not instance.statistics[kind].keys() & (frozen | {"head.unused"})


def test_rw_refuses_no_iterations() -> None:
    with pytest.raises(ValueError, match="iterations = 0 must be at least 1"):
        RW(RW.Hyperparameters(iterations=0), TINY)


def test_killed_and_resumed_the_bits_are_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each method dies in the fourth iteration of the first step, and again in that of the second."""
    protocol, calls = write_tiny_protocol(tmp_path), {"left": 0}
    iterate = StepTrainer.iterate

    def mortal(self: StepTrainer, batch: Batch) -> None:
        calls["left"] -= 1
        if calls["left"] == 0:
            raise RuntimeError("killed")
        iterate(self, batch)

    def run(runs: str, method: str, die_at: int = 0) -> int:
        calls["left"] = die_at
        options = ["--runs", str(tmp_path / runs), "--device", "cpu", "--checkpoint-seconds", "0"]
        options += ["--set", "rw.iterations=2"] if method == "rw" else []
        return main(["--protocol", str(protocol), "--methods", method, *options])

    monkeypatch.setattr(StepTrainer, "iterate", mortal)
    for method in METHODS:
        assert run("undisturbed", method.key) == 0
        assert run("killed", method.key, die_at=4) == 1
        assert run("killed", method.key, die_at=2 + 4) == 1
        assert run("killed", method.key) == 0
    stored = [
        {path.parent.name: path.read_bytes() for path in (tmp_path / runs).glob("store/*/state.safetensors")}
        for runs in ("undisturbed", "killed")
    ]
    assert len(stored[0]) == 9
    assert stored[0] == stored[1]
