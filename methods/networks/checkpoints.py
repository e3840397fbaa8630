"""Weights that others wrote: reading them without running a pickle, and fitting them to a network."""

import pickle
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.torch
import torch
from torch import Tensor, nn

PREFIX = "module."
CONVERTER = "benchmarks/pickle_to_safetensors.py"


class _Ignored:
    """What stands in for a numpy scalar: it keeps nothing and does nothing."""

    def __init__(self, *_: Any) -> None:
        pass

    def __setstate__(self, _: Any) -> None:
        pass


#: MiB, PLOP and RCIL save their best score, a numpy scalar, beside the weights. No code of numpy's is run.
_NUMPY_SCALARS: list[Any] = [
    (_Ignored, f"numpy.{name}") for name in ("dtype", "core.multiarray.scalar", "_core.multiarray.scalar")
]


def read_state(path: str | Path) -> dict[str, Tensor]:
    """The tensors of a .npz, .safetensors or torch file: floats as float32, no `module.` of DDP.

    A torch file holds a state dict, or one under the key `state_dict` (mapillary), `model_state` (MiB,
    PLOP, RCIL) or `model` (detectron2). Raises ValueError, in one line that names the file, for a missing,
    broken or unsafe one, and for tensors that are not plain numbers in memory.
    """
    path = Path(path)
    if not path.is_file():
        raise ValueError(f"{path}: no such file; give a .npz, .safetensors or torch checkpoint")
    try:
        state = _READERS.get(path.suffix, _read_torch)(path)
        state = {key: value.float() if value.is_floating_point() else value for key, value in state.items()}
    except pickle.UnpicklingError as error:
        raise ValueError(
            f"{path}: holds objects other than tensors, which are not loaded; if you trust it, {_REMEDY}"
        ) from error
    except Exception as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise ValueError(
            f"{path}: cannot be read as weights ({reason}); fetch it again, or, if it is a pickle that you "
            f"trust, {_REMEDY}"
        ) from error
    return strip_prefix(state)


_REMEDY = f"save its state dict alone: python {CONVERTER} FILE OUT.safetensors"


def _read_npz(path: Path) -> dict[str, Tensor]:
    with np.load(path, allow_pickle=False) as file:
        return {key: torch.from_numpy(file[key]) for key in file.files}


def _read_torch(path: Path) -> dict[str, Tensor]:
    with torch.serialization.safe_globals(_NUMPY_SCALARS), warnings.catch_warnings(action="ignore"):
        content = torch.load(path, map_location="cpu", weights_only=True)
    for key in ("state_dict", "model_state", "model"):
        content = content.get(key, content) if isinstance(content, dict) else content
    if not isinstance(content, dict) or not content:
        raise ValueError("no state dict found in it")
    for name, value in content.items():
        if not isinstance(name, str) or not isinstance(value, Tensor):
            raise ValueError("no state dict found in it")
        if not _is_plain(value):
            raise ValueError(f"{name!r} is a sparse or quantised tensor, or one without its values")
    return {name: value.detach() for name, value in content.items()}


def _is_plain(value: Tensor) -> bool:
    """Whether it has a value in memory for each element: a view of one number can claim to be huge."""
    if value.layout != torch.strided or value.device.type != "cpu" or value.is_quantized:
        return False
    return value.numel() * value.element_size() <= value.untyped_storage().nbytes()


_READERS: dict[str, Callable[[Path], dict[str, Tensor]]] = {
    ".npz": _read_npz,
    ".safetensors": safetensors.torch.load_file,
}


def strip_prefix(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Without the leading `module.` where every key has it."""
    if all(key.startswith(PREFIX) for key in state):
        return {key.removeprefix(PREFIX): value for key, value in state.items()}
    return dict(state)


def misfits(own: Mapping[str, Tensor], state: Mapping[str, Tensor]) -> dict[str, list[str]]:
    """What keeps `state` from being loaded where `own` is, by kind: missing, unexpected, misshapen, damaged.

    An absent `num_batches_tracked` keeps nothing: in-place ABN before 1.1.0 did not have it.
    """
    common = [key for key in own if key in state]
    wrong = {
        "missing": [key for key in own if key not in state and not key.endswith("num_batches_tracked")],
        "unexpected": [key if key.isprintable() else repr(key) for key in state if key not in own],
        "misshapen": [
            f"{key} {tuple(state[key].shape)} instead of {tuple(own[key].shape)}"
            for key in common
            if state[key].shape != own[key].shape
        ],
        "damaged": [f"{key} {damage}" for key in common if (damage := _damage(own[key], state[key]))],
    }
    return {kind: keys for kind, keys in wrong.items() if keys}


def _damage(own: Tensor, value: Tensor) -> str:
    if own.is_floating_point() != value.is_floating_point() or value.is_complex():
        return f"of {value.dtype} instead of {own.dtype}"
    if value.is_meta or not value.is_floating_point() or value.isfinite().all():
        return ""
    return "with NaN or infinity"


def load_strictly(network: nn.Module, state: Mapping[str, Tensor], source: str) -> None:
    """Loads `state`, whose keys and shapes must be the network's, but for absent `num_batches_tracked`.

    Otherwise raises ValueError naming `source` and the first keys that differ, and leaves the network
    as it was.
    """
    own = network.state_dict()
    faults = [f"{kind} {len(keys)}: {_some(keys)}" for kind, keys in misfits(own, state).items()]
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
