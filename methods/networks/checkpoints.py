"""Weights that others wrote: reading them without running a pickle, and fitting them to a network."""

import pickle
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import safetensors.torch
import torch
from torch import Tensor, nn

PREFIX = "module."


def read_state(path: str | Path) -> dict[str, Tensor]:
    """The tensors of a .npz, .safetensors or torch file: floats as float32, no `module.` of DDP.

    A torch file holds a state dict, or one under the key `state_dict` (mapillary), `model_state` (MiB,
    PLOP, RCIL) or `model` (detectron2). Raises ValueError, in one line that names the file, for a missing,
    broken or unsafe one.
    """
    path = Path(path)
    if not path.is_file():
        raise ValueError(f"{path}: no such file; give a .npz, .safetensors or torch checkpoint")
    try:
        state = _READERS.get(path.suffix, _read_torch)(path)
    except pickle.UnpicklingError as error:
        raise ValueError(
            f"{path}: holds objects other than tensors, which are not loaded; save its state dict alone"
        ) from error
    except Exception as error:
        reason = str(error).partition("\n")[0] or type(error).__name__
        raise ValueError(f"{path}: cannot be read as weights ({reason}); fetch it again") from error
    return strip_prefix({k: v.float() if v.is_floating_point() else v for k, v in state.items()})


def _read_npz(path: Path) -> dict[str, Tensor]:
    with np.load(path, allow_pickle=False) as file:
        return {key: torch.from_numpy(file[key]) for key in file.files}


def _read_torch(path: Path) -> dict[str, Tensor]:
    content = torch.load(path, map_location="cpu", weights_only=True)
    for key in ("state_dict", "model_state", "model"):
        content = content.get(key, content) if isinstance(content, dict) else content
    if not isinstance(content, dict) or not all(isinstance(value, Tensor) for value in content.values()):
        raise ValueError("no state dict found in it")
    return dict(content)


_READERS: dict[str, Callable[[Path], dict[str, Tensor]]] = {
    ".npz": _read_npz,
    ".safetensors": safetensors.torch.load_file,
}


def strip_prefix(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Without the leading `module.` where every key has it."""
    if all(key.startswith(PREFIX) for key in state):
        return {key.removeprefix(PREFIX): value for key, value in state.items()}
    return dict(state)


def load_strictly(network: nn.Module, state: Mapping[str, Tensor], source: str) -> None:
    """Loads `state`, whose keys and shapes must be the network's, but for absent `num_batches_tracked`.

    Otherwise raises ValueError naming `source` and the first keys that differ, and leaves the network
    as it was.
    """
    own = network.state_dict()
    optional = {key for key in own if key.endswith("num_batches_tracked")}
    wrong = {
        "missing": [key for key in own if key not in state and key not in optional],
        "unexpected": [key for key in state if key not in own],
        "misshapen": [
            f"{key} {tuple(state[key].shape)} instead of {tuple(own[key].shape)}"
            for key in own
            if key in state and state[key].shape != own[key].shape
        ],
    }
    faults = [f"{kind} {len(keys)}: {_some(keys)}" for kind, keys in wrong.items() if keys]
    if faults:
        raise ValueError(f"{source}: weights do not fit {type(network).__name__}; {'; '.join(faults)}")
    network.load_state_dict({key: state.get(key, own[key]) for key in own})


def _some(keys: list[str]) -> str:
    return ", ".join(keys[:3]) + (", ..." if len(keys) > 3 else "")


def load_official_state(network: nn.Module, state_dict: Mapping[str, Tensor]) -> None:
    """Loads the `model_state` of an official MiB or PLOP checkpoint into a `DeepLabV3`.

    Strict, but for the `module.` of DDP and for `num_batches_tracked`, which in-place ABN before 1.1.0
    did not have. Raises ValueError for keys or shapes that differ.
    """
    load_strictly(network, strip_prefix(state_dict), source="official checkpoint")
