"""Parameters by formula, with which the official networks were run for the golden values."""

import torch
from torch import Tensor

from tests.golden import scatter

EMBEDDINGS = ("query_feat.weight", "query_embed.weight", "level_embed.weight", "level_embed")


def closed_form_state(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """The state dict with other values, drawn by the place of each key in alphabetical order."""
    return {key: _values(key, tuple(state[key].shape), seed) for seed, key in enumerate(sorted(state))}


def _values(key: str, shape: tuple[int, ...], seed: int) -> Tensor:
    values = scatter(shape, seed).float()
    if key.endswith("num_batches_tracked"):
        return torch.zeros(shape, dtype=torch.int64)
    if key.endswith(EMBEDDINGS):
        return 3**0.5 * values
    if len(shape) > 1:  # a variance of 1 / fan-in; less in the decoder's layers, or all queries become one
        gain = 0.3 if "predictor.transformer" in key else 1.0
        return values * gain * (3 / torch.Size(shape[1:]).numel()) ** 0.5
    if key.endswith(("weight", "running_var")):  # of a normalisation
        return 1 + 0.3 * values
    return 0.2 * values
