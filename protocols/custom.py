"""A user's own protocol from a TOML file; `protocols/examples` has some that run."""

from __future__ import annotations

import difflib
import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from protocols.datasets import DATASETS, Dataset, Folder
from protocols.names import class_steps, parse
from protocols.protocol import BACKGROUND, IGNORE, RULES, SETTINGS, TASKS, Protocol

_OTHER_CLASSES = {"ignore": IGNORE, "background": BACKGROUND}
_TOP_KEYS: dict[str, tuple[type, ...]] = {
    "name": (str,),
    "setting": (str,),
    "task": (str,),
    "rules": (str,),
    "other_classes": (str,),
    "steps": (list,),
    "dataset": (dict,),
    "recipe": (dict,),
    "methods": (dict,),
}
_FOLDER_KEYS: dict[str, tuple[type, ...]] = {
    "images": (str,),
    "masks": (str,),
    "train": (str,),
    "val": (str,),
    "classes": (str, list),
    "background": (bool,),
    "ignore": (list,),
}


@dataclass(frozen=True)
class CustomProtocol:
    """A protocol, the data set that it is for, and the tables for those who train, as they stand."""

    protocol: Protocol
    dataset: Dataset
    recipe: dict[str, Any]
    methods: dict[str, dict[str, Any]]
    """`[methods.<name>]`: hyperparameters of single methods under this protocol."""


def load_toml(path: Path, data_root: Path | None = None) -> CustomProtocol:
    """Read and check `path`. Its `root` and `weights` are absolute, or lie in `data_root` or beside `path`.

    FileNotFoundError or ValueError in one line that names the file, the key, the value and the remedy.
    """
    table = _read(path)
    try:
        return _build(table, path, data_root)
    except (ValueError, FileNotFoundError) as error:
        raise type(error)(f"{path}: {error}") from None


def task_of(path: Path) -> str:
    """The task of a protocol file; ValueError or FileNotFoundError as `load_toml`."""
    table = _read(path)
    try:
        return _choice(table, "task", TASKS)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None


def _read(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise FileNotFoundError(
            f"{path}: no such protocol file: check the path given to --protocol"
        ) from None
    except (OSError, ValueError, RecursionError) as error:
        reason = " ".join(str(error).split())
        raise ValueError(f"{path}: not a readable TOML file ({reason}): correct that place") from None


def _build(table: dict[str, Any], path: Path, data_root: Path | None) -> CustomProtocol:
    _check_keys(table, _TOP_KEYS, required=("name", "steps", "dataset"), where="")
    task = _choice(table, "task", TASKS)
    dataset = _dataset(table["dataset"], path, data_root)
    if task not in dataset.tasks:
        raise ValueError(f"task = {task!r}: only layout = 'ade' has annotations for it, use 'semantic'")
    other_classes = _OTHER_CLASSES[_choice(table, "other_classes", tuple(_OTHER_CLASSES))]
    if other_classes == BACKGROUND and task != "semantic":
        raise ValueError(f"other_classes = 'background': task = {task!r} has no background, use 'ignore'")
    # Asked for by name, a data set without a background gets one, of all that a step does not label.
    background = task == "semantic" and (dataset.has_background or other_classes == BACKGROUND)
    protocol = Protocol(
        name=_name(table["name"]),
        dataset=dataset.key,
        task=task,
        setting=_choice(table, "setting", SETTINGS),
        steps=class_steps(_steps(table["steps"], dataset, task)),
        class_names=dataset.class_names,
        background=background,
        rules=RULES[_choice(table, "rules", tuple(RULES))],
        other_classes=other_classes,
        things=tuple(sorted(dataset.things)) if task != "semantic" else (),
    )
    recipe = _recipe(table.get("recipe", {}), path, data_root)
    return CustomProtocol(protocol, dataset, recipe, _methods(table.get("methods", {})))


def _methods(table: dict[str, Any]) -> dict[str, dict[str, Any]]:
    for name, values in table.items():
        if not isinstance(values, dict):
            raise ValueError(f"methods.{name} = {values!r}: this must be a table, [methods.{name}]")
    return table


def _check_keys(
    table: dict[str, Any], types: Mapping[str, tuple[type, ...]], required: Sequence[str], where: str
) -> None:
    """ValueError for a key that nobody reads, one of the wrong type, or one that is missing."""
    for key, value in table.items():
        if key not in types:
            near = difflib.get_close_matches(key, types, n=1)
            remedy = f"did you mean {near[0]!r}" if near else f"the keys are {', '.join(types)}"
            raise ValueError(f"unknown key {where + key!r}: {remedy}")
        if not isinstance(value, types[key]):
            names = " or ".join(_TYPE_NAMES[kind] for kind in types[key])
            raise ValueError(f"{where}{key} = {value!r}: this must be {names}")
    for key in required:
        if key not in table:
            raise ValueError(f"key {where + key!r} is missing: add it")


_TYPE_NAMES = {str: "a string", list: "a list in [ ]", dict: "a table", bool: "true or false"}


def _choice(table: dict[str, Any], key: str, choices: tuple[str, ...]) -> str:
    """The value of `key`, one of `choices`; the first of them where it is not given."""
    value: str = table.get(key, choices[0])
    if value not in choices:
        raise ValueError(f"{key} = {value!r}: choose one of {', '.join(choices)}")
    return value


def _name(name: str) -> str:
    """`name` if it can name a folder and is not taken by the literature."""
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._+@-]{0,99}", name):
        raise ValueError(
            f"name = {name!r}: it names folders, so use letters, digits and . _ + @ - only (at most 100)"
        )
    try:
        parse(name)
    except ValueError:
        return name
    raise ValueError(f"name = {name!r}: a published protocol is called so, choose another name")


def _steps(steps: list[Any], dataset: Dataset, task: str) -> list[tuple[int, ...]]:
    """Label ids by step. Every step has a class, no class is met twice, and instances are things."""
    seen: dict[int, int] = {}
    pieces = []
    for index, entries in enumerate(steps):
        if not isinstance(entries, list) or not entries:
            raise ValueError(f"steps[{index}] = {entries!r}: this must be a list of classes, at least one")
        piece = tuple(_label_id(entry, index, dataset) for entry in entries)
        for label, entry in zip(piece, entries, strict=True):
            if label in seen:
                raise ValueError(
                    f"steps[{index}]: class {entry!r} is in steps[{seen[label]}] already, remove one of them"
                )
            if task == "instance" and label not in dataset.things:
                raise ValueError(
                    f"steps[{index}]: class {entry!r} is stuff, task = 'instance' takes things only"
                )
            seen[label] = index
        pieces.append(piece)
    if not pieces:
        raise ValueError("steps = []: list the classes of each step")
    return pieces


def _label_id(entry: Any, index: int, dataset: Dataset) -> int:
    """The label id of a class given by name or by its id in the files (Cityscapes: train id + 1)."""
    label = _find_class(entry, index, dataset)
    if label - dataset.id_offset in dataset.ignored:
        raise ValueError(f"steps[{index}]: class {entry!r} is in dataset.ignore too, remove it there or here")
    return label


def _find_class(entry: Any, index: int, dataset: Dataset) -> int:
    names = dataset.class_names
    if isinstance(entry, str):
        if entry in names[1:]:
            return names.index(entry)
        if isinstance(dataset, Folder) and entry == dataset.name_of_zero:
            raise ValueError(
                f"steps[{index}]: {entry!r} has id 0, which is the background: if it is a class, add "
                "`background = false` to [dataset]"
            )
        near = difflib.get_close_matches(entry, names[1:], n=3, cutoff=0.5) or list(names[1:6])
        raise ValueError(f"steps[{index}]: no class {entry!r}, did you mean {', '.join(near)}")
    if isinstance(entry, bool) or not isinstance(entry, int):
        raise ValueError(f"steps[{index}]: {entry!r} is neither a class name nor a class id")
    label = entry + dataset.id_offset
    if not 0 < label < len(names):
        first, last = 1 - dataset.id_offset, len(names) - 1 - dataset.id_offset
        raise ValueError(f"steps[{index}]: class id {entry} is outside {first}..{last}")
    return label


def _dataset(table: dict[str, Any], path: Path, data_root: Path | None) -> Dataset:
    layouts = (*DATASETS, Folder.key)
    if "layout" not in table:
        raise ValueError(f"key 'dataset.layout' is missing: choose one of {', '.join(layouts)}")
    layout = _choice(table, "layout", layouts) if isinstance(table["layout"], str) else ""
    types: dict[str, tuple[type, ...]] = {"layout": (str,), "root": (str,)}
    if layout == Folder.key:
        types |= _FOLDER_KEYS
    _check_keys(table, types, required=("layout", "root"), where="dataset.")
    root = _resolve("dataset.root", table["root"], path, data_root)
    if layout != Folder.key:
        return DATASETS[layout](root)
    options = {key: value for key, value in table.items() if key in _FOLDER_KEYS}
    _check_entries("classes", options.get("classes", []), str, "class names")
    _check_entries("ignore", options.get("ignore", []), int, "ids in 0..255")
    return Folder(root, **options)


def _check_entries(key: str, entries: str | list[Any], kind: type, words: str) -> None:
    for entry in entries if isinstance(entries, list) else ():
        fits = isinstance(entry, kind) and not isinstance(entry, bool)
        if not fits or (kind is int and not 0 <= entry <= 255):
            raise ValueError(f"dataset.{key}: {entry!r} does not belong into a list of {words}")


def _recipe(table: dict[str, Any], path: Path, data_root: Path | None) -> dict[str, Any]:
    """As it is, but `weights`, in a `[recipe.<network>]` too, made a path unless a word such as "none"."""
    own = {
        name: _recipe(value, path, data_root) if isinstance(value, dict) else value
        for name, value in table.items()
    }
    weights = table.get("weights")
    if isinstance(weights, str) and ("/" in weights or "." in weights):
        own["weights"] = str(_resolve("recipe.weights", weights, path, data_root))
    return own


def _resolve(key: str, value: str, path: Path, data_root: Path | None) -> Path:
    """The existing file or folder: absolute, in the data root, or beside the TOML file."""
    bases = [data_root, path.parent] if data_root else [path.parent]
    places = [base / Path(value).expanduser() for base in bases]  # an absolute value replaces the base
    for place in places:
        if place.exists():
            return place
    looked = " or ".join(dict.fromkeys(str(place) for place in places))
    raise FileNotFoundError(f"{key} = {value!r}: there is no {looked}; put it there or give --data-root DIR")
