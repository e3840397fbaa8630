"""The layer: parameters, running statistics, and the choice of the implementation."""

from typing import Any

import torch
from torch import Tensor, nn

from ops.inplace_abn.function import inplace_abn, negative_slope
from ops.processes import num_processes

try:
    from inplace_abn import inplace_abn as compiled_abn
except (ImportError, OSError):
    compiled_abn = None


class InPlaceABN(nn.Module):
    """Batch normalisation and its activation in one: (B, C, ...) -> (B, C, ...).

    State-dict keys `weight`, `bias`, `running_mean`, `running_var` (C,) and `num_batches_tracked` (), as
    mapillary/inplace_abn 1.1.0 abn.py@InPlaceABN has them; older checkpoints, without the last one, load too.
    On CUDA the compiled package does the work where it is installed, and then overwrites its input; not for
    batch statistics over several processes, which are ours (`InPlaceABNSync` there).
    """

    weight: Tensor
    bias: Tensor
    running_mean: Tensor
    running_var: Tensor
    num_batches_tracked: Tensor

    def __init__(
        self,
        num_features: int,
        eps: float = 1e-5,
        momentum: float = 0.1,
        activation: str = "leaky_relu",
        activation_param: float = 0.01,
    ) -> None:
        """`activation` is "leaky_relu" (negative slope `activation_param`) or "identity"; else ValueError."""
        super().__init__()
        negative_slope(activation, activation_param)
        self.num_features = num_features
        self.eps = eps
        self.momentum = momentum
        self.activation = activation
        self.activation_param = activation_param
        self.weight = nn.Parameter(torch.ones(num_features))
        self.bias = nn.Parameter(torch.zeros(num_features))
        self.register_buffer("running_mean", torch.zeros(num_features))
        self.register_buffer("running_var", torch.ones(num_features))
        self.register_buffer("num_batches_tracked", torch.tensor(0))

    def forward(self, x: Tensor) -> Tensor:
        if self.training:
            self.num_batches_tracked += 1
        alone = not self.training or num_processes() == 1
        function = compiled_abn if compiled_abn is not None and x.is_cuda and alone else inplace_abn
        return function(
            x,
            self.weight,
            self.bias,
            self.running_mean,
            self.running_var,
            self.training,
            self.momentum,
            self.eps,
            self.activation,
            self.activation_param,
        )

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *args: Any) -> None:
        state_dict.setdefault(prefix + "num_batches_tracked", self.num_batches_tracked)
        super()._load_from_state_dict(state_dict, prefix, *args)

    def extra_repr(self) -> str:
        act = self.activation
        return f"{self.num_features}, {act}" + (f"({self.activation_param})" if act == "leaky_relu" else "")
