import pytest
import torch
from torch import Tensor, nn

from ops.inplace_abn import InPlaceABN, inplace_abn
from ops.inplace_abn.naive import naive_abn

MODES = pytest.mark.parametrize("training", [True, False], ids=["train", "eval"])
ACTIVATIONS = pytest.mark.parametrize("activation", ["leaky_relu", "identity"])


def case(dtype: torch.dtype = torch.float64, shape: tuple[int, ...] = (3, 4, 5, 2)) -> list[Tensor]:
    """x, weight (signs mixed, one zero), bias, running_mean, running_var."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(shape, generator=generator, dtype=dtype) * 2 + 1
    weight = torch.tensor([1.5, -0.7, -2.0, 0.3], dtype=dtype)
    bias = torch.tensor([0.2, -0.4, 0.0, 1.0], dtype=dtype)
    mean = torch.randn(4, generator=generator, dtype=dtype)
    return [x, weight, bias, mean, torch.rand(4, generator=generator, dtype=dtype) + 0.5]


def run(function, tensors: list[Tensor], training: bool, activation: str) -> dict[str, Tensor]:
    x, weight, bias, mean, var = (t.clone() for t in tensors)
    leaves = [t.requires_grad_() for t in (x, weight, bias)]
    y = function(*leaves, mean, var, training, activation=activation)
    seed = torch.sin(torch.arange(y.numel(), dtype=y.dtype)).view_as(y)
    grads = torch.autograd.grad(y, leaves, seed)
    names = ("y", "dx", "dweight", "dbias", "running_mean", "running_var")
    return dict(zip(names, (y.detach(), *grads, mean, var), strict=True))


@MODES
@ACTIVATIONS
@pytest.mark.parametrize("channels_last", [False, True])
@pytest.mark.parametrize("dtype, tolerance", [(torch.float64, 1e-12), (torch.float32, 2e-5)])
def test_equals_naive(training, activation, channels_last, dtype, tolerance):
    tensors = case(dtype)
    if channels_last:
        tensors[0] = tensors[0].contiguous(memory_format=torch.channels_last)
    ours, naive = (run(f, tensors, training, activation) for f in (inplace_abn, naive_abn))
    for name, expected in naive.items():
        torch.testing.assert_close(
            ours[name], expected, rtol=tolerance, atol=tolerance, msg=lambda m, n=name: f"{n}: {m}"
        )
    assert ours["y"].is_contiguous(memory_format=torch.channels_last) == channels_last


@MODES
@ACTIVATIONS
@pytest.mark.parametrize("shape", [(3, 4, 5, 2), (6, 4)])
def test_gradcheck(training, activation, shape):
    x, weight, bias, mean, var = case(shape=shape)

    def function(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        return inplace_abn(x, weight, bias, mean.clone(), var.clone(), training, activation=activation)

    assert torch.autograd.gradcheck(function, [t.requires_grad_() for t in (x, weight, bias)])


@MODES
@ACTIVATIONS
@pytest.mark.parametrize("frozen", [(1,), (2,), (1, 2)], ids=str)
def test_frozen_parameters_do_not_change_the_other_gradients(training, activation, frozen):
    expected = run(naive_abn, case(), training, activation)
    tensors = case()
    for index in {0, 1, 2} - set(frozen):
        tensors[index].requires_grad_()
    y = inplace_abn(*tensors, training, activation=activation)
    y.backward(torch.sin(torch.arange(y.numel(), dtype=y.dtype)).view_as(y))
    for index, name in enumerate(("dx", "dweight", "dbias")):
        if index in frozen:
            assert tensors[index].grad is None
        else:
            torch.testing.assert_close(tensors[index].grad, expected[name])


def test_weight_zero_gets_the_gradient_of_a_positive_weight():
    tensors = case()
    tensors[1][0] = 0.0
    ours, naive = (run(f, tensors, True, "leaky_relu") for f in (inplace_abn, naive_abn))
    torch.testing.assert_close(ours["dweight"], naive["dweight"], rtol=1e-6, atol=1e-6)
    assert ours["dweight"][0] != 0


def test_bfloat16_map_with_float_parameters():
    tensors = case(torch.float32)
    expected = run(naive_abn, tensors, True, "leaky_relu")
    got = run(inplace_abn, [tensors[0].bfloat16(), *tensors[1:]], True, "leaky_relu")
    assert got["y"].dtype == got["dx"].dtype == torch.bfloat16
    assert got["dweight"].dtype == torch.float32
    torch.testing.assert_close(got["y"].float(), expected["y"], rtol=0.05, atol=0.05)
    torch.testing.assert_close(got["dx"].float(), expected["dx"], rtol=0.1, atol=0.1)


def saved_maps(module: nn.Module, x: Tensor) -> int:
    """How many distinct maps as large as x the forward pass of `module` keeps for backward."""
    kept: set[int] = set()

    def pack(tensor: Tensor) -> Tensor:
        if tensor.numel() >= x.numel():
            kept.add(tensor.data_ptr())
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        y = module(x)
    count = len(kept)
    assert y.grad_fn is not None
    return count


def test_keeps_one_map_where_batch_norm_keeps_two():
    x = torch.randn(2, 8, 6, 6, requires_grad=True)
    assert saved_maps(InPlaceABN(8), x) == 1
    assert saved_maps(nn.Sequential(nn.BatchNorm2d(8), nn.LeakyReLU(0.01)), x) == 2


def test_keeps_one_map_a_convolution_in_a_chain():
    conv = [nn.Conv2d(8, 8, 3, padding=1, bias=False) for _ in range(3)]
    x = torch.randn(2, 8, 12, 12)  # larger than the kernels, which are kept as well
    ours = nn.Sequential(conv[0], InPlaceABN(8), conv[1], InPlaceABN(8), conv[2])
    plain = nn.Sequential(
        *[m for c in conv[:2] for m in (c, nn.BatchNorm2d(8), nn.LeakyReLU(0.01, inplace=True))], conv[2]
    )
    assert saved_maps(ours, x) == 3  # the image and two outputs
    assert saved_maps(plain, x) == 5


def test_frozen_linear_layer_keeps_no_map():
    layer = InPlaceABN(8, activation="identity").eval().requires_grad_(False)
    assert saved_maps(layer, torch.randn(2, 8, 6, 6, requires_grad=True)) == 0


def test_input_is_left_as_it_was():
    tensors = case()
    before = tensors[0].clone()
    inplace_abn(*tensors, True)
    assert torch.equal(tensors[0], before)


def test_layer_counts_batches_and_moves_statistics_only_in_training():
    layer = InPlaceABN(4)
    layer(case(torch.float32)[0])
    assert layer.num_batches_tracked == 1
    state = {k: v.clone() for k, v in layer.state_dict().items()}
    assert list(state) == ["weight", "bias", "running_mean", "running_var", "num_batches_tracked"]
    layer.eval()(case(torch.float32)[0])
    assert all(torch.equal(v, state[k]) for k, v in layer.state_dict().items())


def test_layer_loads_checkpoints_without_num_batches_tracked():
    state = InPlaceABN(4).state_dict()
    del state["num_batches_tracked"]
    layer = InPlaceABN(4)
    layer.load_state_dict(state)
    assert "num_batches_tracked" not in state and layer.num_batches_tracked == 0


def test_user_errors():
    with pytest.raises(ValueError, match="unknown activation 'elu'"):
        InPlaceABN(4, activation="elu")
    with pytest.raises(ValueError, match="must be > 0"):
        InPlaceABN(4, activation_param=0.0)
    with pytest.raises(ValueError, match="more than one value"):
        InPlaceABN(4)(torch.zeros(1, 4, 1, 1))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@MODES
@ACTIVATIONS
def test_cuda_equals_naive(training, activation):
    tensors = [t.cuda() for t in case(torch.float32)]
    ours, naive = (run(f, tensors, training, activation) for f in (inplace_abn, naive_abn))
    for name, expected in naive.items():
        torch.testing.assert_close(ours[name].cpu(), expected.cpu(), rtol=1e-4, atol=1e-4)
