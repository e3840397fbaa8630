"""Plain JSON values to and from frozen dataclasses, strictly: nothing unknown, missing or of another type."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import MISSING, Field, fields, is_dataclass
from difflib import get_close_matches
from functools import cache
from types import NoneType, UnionType
from typing import Any, Literal, get_args, get_origin, get_type_hints

WORDS = {int: "a whole number", float: "a number", str: "text", bool: "true or false"}


class FieldError(ValueError):
    """One field is wrong. The message is `field: value and remedy`, `field` being a dotted path."""

    def __init__(self, field: str, problem: str) -> None:
        super().__init__(f"{field}: {problem}" if field else problem)
        self.field = field
        self.problem = problem


def decode(kind: Any, value: Any, field: str = "") -> Any:
    """Build `kind` from a plain JSON `value`; `field` is its dotted path, for messages.

    `kind` is a dataclass, int, float, str, bool, Literal, `tuple[X, ...]`, `Mapping[str, X]`, `X | None`, a
    union of dataclasses that a field of type Literal tells apart, or Any (free JSON, whose lists become
    tuples). A whole number is accepted where a float is asked for; true and false are no numbers; NaN and
    infinities are refused.

    Raises:
        FieldError: what is wrong, at which field, and the remedy.
    """
    origin = get_origin(kind)
    if is_dataclass(kind):
        return _decode_object(kind, value, field)
    if origin is UnionType:
        return _decode_union(get_args(kind), value, field)
    if origin is Literal:
        words = get_args(kind)
        _need(value in words, field, value, " or ".join(map(repr, words)))
        return value
    if origin is tuple:
        return _decode_sequence(get_args(kind)[0], value, field)
    if origin is Mapping:
        return _decode_mapping(get_args(kind)[1], value, field)
    return _decode_free(value, field) if kind is Any else _decode_scalar(kind, value, field)


def dumps(value: Any, indent: int = 0) -> str:
    """JSON text of plain values: keys sorted, a list of scalars on one line, two spaces a level.

    Raises:
        ValueError: NaN or infinity, which are not JSON.
    """
    pad = "  " * (indent + 1)
    if isinstance(value, Mapping) and value:
        items = [f"{pad}{json.dumps(key)}: {dumps(value[key], indent + 1)}" for key in sorted(value)]
        return "{\n" + ",\n".join(items) + "\n" + "  " * indent + "}"
    if isinstance(value, list | tuple) and any(isinstance(item, Mapping | list | tuple) for item in value):
        items = [pad + dumps(item, indent + 1) for item in value]
        return "[\n" + ",\n".join(items) + "\n" + "  " * indent + "]"
    return json.dumps(value, ensure_ascii=False, allow_nan=False)


def _decode_object(kind: Any, value: Any, field: str) -> Any:
    _need(isinstance(value, Mapping), field, value, "an object {...}")
    known = _fields(kind)
    for name in value:
        if name not in known:
            near = get_close_matches(str(name), known, n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"known here: {', '.join(known)}"
            raise FieldError(
                _join(field, name), f"unknown field with value {_short(value[name])}; remove it, or {hint}"
            )
    decoded = {}
    for name, (spec, inner) in known.items():
        if name in value:
            decoded[name] = decode(inner, value[name], _join(field, name))
        elif spec.default is MISSING:
            raise FieldError(_join(field, name), "missing field, no value; add it or rerun the benchmark")
    try:
        return kind(**decoded)
    except FieldError as error:
        raise FieldError(_join(field, error.field), error.problem) from None


def _decode_union(kinds: tuple[Any, ...], value: Any, field: str) -> Any:
    if value is None and NoneType in kinds:
        return None
    kinds = tuple(kind for kind in kinds if kind is not NoneType)
    if len(kinds) == 1:
        return decode(kinds[0], value, field)
    _need(isinstance(value, Mapping), field, value, "an object {...}")
    tags = {word: (name, kind) for kind in kinds for name, word in _tags(kind)}
    for word, (name, kind) in tags.items():
        if value.get(name) == word:
            return _decode_object(kind, value, field)
    name = next(iter(tags.values()))[0]
    _need(False, _join(field, name), value.get(name), " or ".join(map(repr, tags)))


def _tags(kind: Any) -> list[tuple[str, str]]:
    """The fields of a dataclass that can hold one word only, with that word."""
    hints = {name: hint for name, (_, hint) in _fields(kind).items() if get_origin(hint) is Literal}
    return [(name, get_args(hint)[0]) for name, hint in hints.items()]


def _decode_sequence(inner: Any, value: Any, field: str) -> tuple[Any, ...]:
    _need(isinstance(value, list | tuple), field, value, "a list [...]")
    if inner is int and set(map(type, value)) <= {int}:
        return tuple(value)
    return tuple(decode(inner, item, f"{field}[{position}]") for position, item in enumerate(value))


def _decode_mapping(inner: Any, value: Any, field: str) -> dict[str, Any]:
    _need(isinstance(value, Mapping), field, value, "an object {...}")
    for key in value:
        _need(isinstance(key, str), field, key, "text as key")
    return {key: decode(inner, item, _join(field, key)) for key, item in value.items()}


def _decode_free(value: Any, field: str) -> Any:
    if value is None or type(value) in (bool, int, str):
        return value
    if isinstance(value, Mapping):
        return _decode_mapping(Any, value, field)
    if isinstance(value, list | tuple):
        return _decode_sequence(Any, value, field)
    return _decode_scalar(float, value, field)


def _decode_scalar(kind: type, value: Any, field: str) -> Any:
    accepted = (int, float) if kind is float else (kind,)
    _need(type(value) in accepted, field, value, WORDS[kind])
    if kind is not float:
        return value
    if not math.isfinite(value):
        raise FieldError(field, f"{value} is not a finite number; write null where a number is undefined")
    return float(value)


def _need(holds: bool, field: str, value: Any, wanted: str) -> None:
    if not holds:
        found = f"{_short(value)} ({type(value).__name__})"
        raise FieldError(field, f"found {found}, expected {wanted}; correct it or rerun the benchmark")


@cache
def _fields(kind: Any) -> dict[str, tuple[Field, Any]]:
    hints = get_type_hints(kind)
    return {spec.name: (spec, hints[spec.name]) for spec in fields(kind)}


def _join(field: str, name: object) -> str:
    return f"{field}.{name}" if field else str(name)


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
