#!/usr/bin/env python
"""Converts a checkpoint that holds more than tensors into one that ContiSeg reads.

    python benchmarks/pickle_to_safetensors.py FILE OUT.safetensors

It reads torch files with foreign objects in them (mmcv, omegaconf, argparse), plain pickles of numpy
arrays (detectron2's and Caffe2's .pkl), and SimCIS's fake_query.pkl, whose class k becomes `queries.k`.
Whatever is no tensor is left out, and said so.

Unpickling calls what the file names. Here only what tensors, arrays and containers are made of is called, and
whatever else is named becomes an empty stand-in. Even so, run it on files of people whom you trust, in an
environment of your own, best one without network. ContiSeg never imports this script, which stands alone: it
needs torch, numpy and safetensors.
"""

import pickle
import sys
import types

import numpy as np
import torch
from safetensors.torch import save_file

NESTED = ("state_dict", "model_state", "model", "blobs")
ALLOWED = {
    "_codecs": {"encode"},
    "builtins": {
        "set",
        "frozenset",
        "list",
        "dict",
        "tuple",
        "int",
        "float",
        "complex",
        "bytearray",
        "slice",
    },
    "collections": {"OrderedDict", "defaultdict", "deque"},
    "numpy": {"dtype", "ndarray"},
    "numpy.core.multiarray": {"_reconstruct", "scalar"},
    "numpy._core.multiarray": {"_reconstruct", "scalar"},
    "torch": {"Size", "device", *(name for name in dir(torch) if name.endswith("Storage"))},
    "torch._utils": {"_rebuild_tensor", "_rebuild_tensor_v2", "_rebuild_parameter"},
    "torch.nn.parameter": {"Parameter"},
    "torch.storage": {"UntypedStorage"},
}
PYTHON_2 = {"__builtin__": "builtins", "copy_reg": "copyreg"}


class StandIn:
    """For an object of any other kind: it takes what it is given, and keeps nothing."""

    def __new__(cls, *_, **__):
        return object.__new__(cls)

    def __init__(self, *_, **__):
        pass

    def __call__(self, *_, **__):
        return self

    def __setstate__(self, _):
        pass

    def __setitem__(self, *_):
        pass

    def append(self, _):
        pass

    def extend(self, _):
        pass


class Unpickler(pickle.Unpickler):
    def find_class(self, module, name):
        module = PYTHON_2.get(module, module)
        if name in ALLOWED.get(module, ()):
            return super().find_class(module, name)
        if module == "torch" and isinstance(getattr(torch, name, None), torch.dtype):
            return getattr(torch, name)
        print(f"left out: an object of {module}.{name}", file=sys.stderr)
        return type(name, (StandIn,), {})


def load(file, **options):
    return Unpickler(file, **options).load()


def read(path):
    """The pickled object: torch's formats first, then a plain pickle, of Python 2 too."""
    ours = types.SimpleNamespace(Unpickler=Unpickler, load=load, __name__="pickle")
    try:
        return torch.load(path, map_location="cpu", weights_only=False, pickle_module=ours)
    except Exception as error:
        print(f"no torch file ({error}); reading it as a plain pickle", file=sys.stderr)
    with open(path, "rb") as file:  # noqa: PTH123
        return load(file, encoding="latin1")


def as_tensor(value):
    if isinstance(value, torch.Tensor):
        return value.detach().cpu()
    if isinstance(value, np.ndarray) and value.dtype != object:
        return torch.from_numpy(np.ascontiguousarray(value))
    return None


def tensors_of(content):
    """Name -> tensor."""
    if isinstance(content, dict) and content and all(isinstance(key, int) for key in content):
        banks = {label: [torch.as_tensor(q).float().flatten() for q in qs] for label, qs in content.items()}
        return {f"queries.{label}": torch.stack(features) for label, features in banks.items() if features}
    for key in NESTED:
        if isinstance(content, dict) and isinstance(content.get(key), dict):
            content = content[key]
    if not isinstance(content, dict):
        raise SystemExit(f"it holds a {type(content).__name__}, not a dictionary of tensors")
    found = {str(name): as_tensor(value) for name, value in content.items()}
    for name in [name for name, value in found.items() if value is None]:
        print(f"left out: {name}", file=sys.stderr)
        del found[name]
    return found


def main():
    if len(sys.argv) != 3:
        raise SystemExit(__doc__)
    tensors = tensors_of(read(sys.argv[1]))
    if not tensors:
        raise SystemExit(f"{sys.argv[1]}: no tensors found in it")
    save_file({name: tensor.clone().contiguous() for name, tensor in tensors.items()}, sys.argv[2])
    print(f"{len(tensors)} tensors in {sys.argv[2]}")


if __name__ == "__main__":
    main()
