"""Values that a user sets: `--set method.parameter=value` and the `[recipe]` table of a TOML protocol."""

from __future__ import annotations

import dataclasses
import difflib
import json
import math
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

T = TypeVar("T")
LONGEST = 60
"""Characters of a value that a message shows."""


@dataclass(frozen=True)
class Setting:
    """One `--set`: `target` is a method's key, or "recipe" for the recipe of every method."""

    target: str
    name: str
    value: Any

    @classmethod
    def parse(cls, argument: str) -> Setting:
        """Raises ValueError unless the argument reads method.parameter=value."""
        left, equals, text = argument.partition("=")
        target, dot, name = left.strip().rpartition(".")
        if not (equals and dot and target and name):
            raise ValueError(f"--set {argument!r}: write method.parameter=value, such as mib.kd_weight=100")
        return cls(target, name, _meant(text.strip()))

    def __str__(self) -> str:
        return f"--set {self.target}.{self.name}"


def with_values(instance: T, values: dict[str, Any], where: str) -> T:
    """A copy of a dataclass with some fields replaced, each checked against the type of its default.

    Raises ValueError naming `where`, the field, the value and what is expected.
    """
    known = field_names(instance)
    for name in values:
        if name not in known:
            raise ValueError(f"{where}: unknown parameter {name!r}; {suggest(name, known)}")
    typed = {
        name: _typed(value, getattr(instance, name), f"{where}: {name}") for name, value in values.items()
    }
    return dataclasses.replace(instance, **typed)  # type: ignore[type-var]


def field_names(*dataclass_or_instance: Any) -> set[str]:
    return {field.name for each in dataclass_or_instance for field in dataclasses.fields(each)}


def reject_unknown_targets(settings: Sequence[Setting], targets: Sequence[str]) -> None:
    """Raises ValueError for a `--set` that no method of the run would see."""
    for setting in settings:
        if setting.target not in (*targets, "recipe"):
            raise ValueError(
                f"{setting}: no method {setting.target!r} in this run; "
                f"{suggest(setting.target, {*targets, 'recipe'})}"
            )


def _meant(text: str) -> Any:
    """The value that a command line means: a number, true or false, or the text itself."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):  # also of numbers, and lists in lists, without end
        return text


def _typed(value: Any, default: Any, where: str) -> Any:
    wanted = type(default)
    too_large = wanted is float and isinstance(value, int) and abs(value) > sys.float_info.max
    if too_large or (isinstance(value, float) and not math.isfinite(value)):
        raise ValueError(f"{where} = {_short(value)} must be a finite number, such as {default!r}")
    if wanted is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if wanted is tuple and isinstance(value, list):
        return tuple(value)
    if type(value) is not wanted:
        raise ValueError(f"{where} = {_short(value)} must be of type {wanted.__name__}, such as {default!r}")
    return value


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= LONGEST else f"{text[:LONGEST]}..."


def suggest(name: str, known: set[str]) -> str:
    """What to say of an unknown name: the nearest known ones, and all of them."""
    near = difflib.get_close_matches(name, known, n=3)
    hint = f"did you mean {' or '.join(near)}? " if near else ""
    return f"{hint}known are: {', '.join(sorted(known))}" if known else "there are none to set"
