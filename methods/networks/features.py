"""What a backbone hands to those who look inside it: PLOP, RCIL, ILT."""

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class FeatureMaps:
    """Outputs of the residual groups, shallow to deep, each (B, C_i, H_i, W_i).

    `stages` are taken after the group's last activation (RCIL's maps, ILT's last one), `residuals`
    before it: the residual sum itself (PLOP's maps). For backbones with linear blocks both are the same
    tensors.
    """

    stages: tuple[Tensor, ...]
    residuals: tuple[Tensor, ...]

    @property
    def out(self) -> Tensor:
        """What the head reads, and what the official code names `body`."""
        return self.stages[-1]
