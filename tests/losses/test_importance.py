import pytest
import torch

from methods.losses.importance import (
    carry_gradients,
    fisher_average,
    min_max_normalised,
    path_importance,
    path_integral,
    quadratic_penalty,
    riemannian_score,
)

OLD = {"a": [1.0, 2.0, 3.0], "b": [-1.0, 0.5]}
NEW = {"a": [1.1, 1.8, 3.3], "b": [-0.5, 1.0]}
GRADIENT = {"a": [1.0, -2.0, 0.5], "b": [0.1, 0.2]}
FISHER = {"a": [0.2, 0.4, 1.0], "b": [1.0, 3.0]}
SCORE = {"a": [0.4, 0.8, 2.0], "b": [2.0, 6.0]}


def named(values):
    return {name: torch.tensor(row, dtype=torch.float64) for name, row in values.items()}


def normalised(values):
    return {name: min_max_normalised(tensor) for name, tensor in named(values).items()}


def close(found, expected):
    assert found.tolist() == pytest.approx(expected, abs=1e-9)


def moved():
    """Old and new parameters, gradients, and the parameters after a step of 0.01 down those."""
    old, new, gradient = named(OLD), named(NEW), named(GRADIENT)
    return old, new, gradient, {name: new[name] - 0.01 * gradient[name] for name in new}


def test_golden_penalty_with_normalised_importance():
    """Row 19, whose 0.35 is rounded: the 1e-8 of the normalisation shows in the ninth digit."""
    parameters = {name: tensor.requires_grad_() for name, tensor in named(NEW).items()}
    penalty = quadratic_penalty(parameters, named(OLD), normalised(FISHER))
    penalty.backward()
    assert penalty.item() == pytest.approx(0.3499999975, abs=1e-12)
    close(parameters["a"].grad, [0.0, -0.09999999875, 0.5999999925])
    close(parameters["b"].grad, [0.0, 0.999999995])


def test_golden_penalty_with_raw_importance():
    parameters = {name: tensor.requires_grad_() for name, tensor in named(NEW).items()}
    penalty = quadratic_penalty(parameters, named(OLD), named(FISHER))
    penalty.backward()
    assert penalty.item() == pytest.approx(1.108, abs=1e-12)
    close(parameters["a"].grad, [0.04, -0.16, 0.6])
    close(parameters["b"].grad, [1.0, 3.0])


@pytest.mark.parametrize("name, expected", [("a", [0.92, 3.64, 0.325]), ("b", [0.109, 0.336])])
def test_golden_fisher_average(name, expected):
    close(fisher_average(named(FISHER)[name], named(GRADIENT)[name], 0.9), expected)


@pytest.mark.parametrize(
    "name, expected",
    [
        ("a", [1.6345679012345666, 2.0345679012345697, 2.028727377190462]),
        ("b", [2.000401604812832, 6.001612877211658]),
    ],
)
def test_golden_path_importance(name, expected):
    """Row 20: the earlier score is added."""
    old, new, gradient, last = (tensors[name] for tensors in moved())
    path = path_integral(gradient, new, last)
    close(named(SCORE)[name] + path_importance(path, old, last), expected)


def test_golden_penalty_of_path_importance():
    assert quadratic_penalty(named(NEW), named(OLD), normalised(SCORE)).item() == pytest.approx(
        0.34999999875, abs=1e-12
    )


@pytest.mark.parametrize(
    "name, score, fisher",
    [
        ("a", [108.87202782003901, 27.872150107828162, 307.9367710251754], [0.992, 3.964, 0.2575]),
        ("b", [776.193798449612, 296.25513196480915], [0.0199, 0.0696]),
    ],
)
def test_golden_riemannian_score(name, score, fisher):
    """Row 21: averaged with the earlier score; the Fisher matrix is that before the second update."""
    _, new, gradient, last = (tensors[name] for tensors in moved())
    first = fisher_average(named(FISHER)[name], gradient, 0.9)
    gained = riemannian_score(gradient, new, last, first).clamp(min=0)
    close(0.5 * (gained + named(SCORE)[name]), score)
    close(fisher_average(first, gradient, 0.9), fisher)


def test_golden_penalty_of_both():
    fisher, score = normalised(FISHER), normalised(SCORE)
    total = {name: fisher[name] + score[name] for name in fisher}
    penalty = quadratic_penalty(named(NEW), named(OLD), total)
    assert penalty.item() == pytest.approx(0.69999999625, abs=1e-12)


def test_a_path_uphill_has_no_importance():
    path, start, parameter = torch.tensor([-1.0, 1.0]), torch.zeros(2), torch.ones(2)
    assert path_importance(path, start, parameter).tolist() == [0.0, 1.0]


@pytest.mark.parametrize("shape", [(), (1,), (3, 2)])
def test_equal_importance_is_normalised_to_nothing(shape):
    assert not min_max_normalised(torch.full(shape, 3.0)).any()


def test_a_parameter_without_importance_is_free():
    parameters, anchors = {"old": torch.ones(2), "new": torch.ones(3)}, {"old": torch.zeros(2)}
    assert quadratic_penalty(parameters, anchors, {"old": torch.tensor([1.0, 2.0])}).item() == 3.0


def carried(parameters):
    loss = sum((parameter**3).sum() for parameter in parameters)
    return loss, carry_gradients(loss, parameters, torch.autograd.grad(loss, parameters))


@pytest.fixture
def parameters():
    return [torch.tensor(row, requires_grad=True) for row in ([1.0, 2.0], [3.0])]


def test_carried_value_and_gradients(parameters):
    loss, value = carried(parameters)
    assert torch.equal(value, loss)
    (2 * value).backward()
    assert [p.grad.tolist() for p in parameters] == [[6.0, 24.0], [54.0]]


def test_carried_gradients_add_to_others(parameters):
    _, value = carried(parameters)
    (value + parameters[1].sum()).backward()
    assert parameters[1].grad.tolist() == [28.0]


def test_carried_gradients_are_used_once(parameters):
    _, value = carried(parameters)
    value.backward()
    with pytest.raises(RuntimeError, match="second time"):
        value.backward()


def test_the_loss_itself_is_let_go(parameters):
    _, value = carried(parameters)
    edges = [node.name() for node, _ in value.grad_fn.next_functions if node is not None]
    assert edges == ["torch::autograd::AccumulateGrad"] * 2
