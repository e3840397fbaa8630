"""Plain JSON values to and from frozen dataclasses, strictly: nothing unknown, missing or of another type."""

from __future__ import annotations

import json
import math
import reprlib
from collections.abc import Callable, Mapping
from dataclasses import MISSING, fields, is_dataclass
from difflib import get_close_matches
from functools import cache, partial
from types import NoneType, UnionType
from typing import Any, Literal, get_args, get_origin, get_type_hints

WORDS = {int: "a whole number", float: "a number", str: "text", bool: "true or false"}
DEEPEST = 20
"""Levels of free JSON, such as hyperparameters."""
LARGEST = 2**63 - 1
"""Of whole numbers: what 64 bits hold."""
Decoder = Callable[[Any], Any]
"""From a plain JSON value to what it stands for; its FieldError names the field from there on."""


class FieldError(ValueError):
    """One field is wrong. The message is `field: value and remedy`, `field` being a dotted path."""

    def __init__(self, field: str, problem: str) -> None:
        super().__init__(f"{field}: {problem}" if field else problem)
        self.field = field
        self.problem = problem

    def inside(self, field: str) -> FieldError:
        """The same as the field that holds this one says it."""
        dot = "." if field and self.field and not self.field.startswith("[") else ""
        return FieldError(f"{field}{dot}{self.field}", self.problem)


def decode(kind: Any, value: Any, field: str = "") -> Any:
    """Build `kind` from a plain JSON `value`; `field` is its dotted path, for messages.

    `kind` is a dataclass, int, float, str, bool, Literal, `tuple[X, ...]`, `Mapping[str, X]`, `X | None`, a
    union of dataclasses that a field of type Literal tells apart, or Any (free JSON, whose lists become
    tuples). A whole number is accepted where a float is asked for; true and false are no numbers; NaN,
    infinities, whole numbers beyond 64 bits and text that is not Unicode are refused.

    Raises:
        FieldError: what is wrong, at which field, and the remedy.
    """
    try:
        return _decoder(kind)(value)
    except FieldError as error:
        raise error.inside(field) from None


def loads(text: str) -> Any:
    """The plain value of a JSON text, as `json.loads`, which takes the last of two equal keys: here an error.

    Raises:
        FieldError: no JSON, a key that occurs twice, or lists nested too deep.
    """
    try:
        return json.loads(text, object_pairs_hook=_object)
    except FieldError:
        raise
    except (ValueError, RecursionError) as error:
        raise FieldError("", f"not valid JSON ({error}); restore the file, or delete it and rerun") from None


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


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) < len(pairs):
        names = [name for name, _ in pairs]
        name = next(name for name in names if names.count(name) > 1)
        found = " and ".join(_short(item) for key, item in pairs if key == name)
        raise FieldError(_key(name), f"occurs twice in one object, with the values {found}; keep one")
    return value


@cache
def _decoder(kind: Any) -> Decoder:
    """Made once a type: a record has thousands of values of a dozen types."""
    origin = get_origin(kind)
    if is_dataclass(kind):
        return partial(_decode_object, kind)
    if origin is UnionType:
        return _union_decoder(get_args(kind))
    if origin is Literal:
        return partial(_decode_word, get_args(kind))
    if origin is tuple:
        return partial(_decode_sequence, get_args(kind)[0])
    if origin is Mapping:
        return partial(_decode_mapping, _decoder(get_args(kind)[1]))
    return _decode_free if kind is Any else partial(_decode_scalar, kind)


def _decode_object(kind: Any, value: Any) -> Any:
    _need(isinstance(value, Mapping), value, "an object {...}")
    known = _fields(kind)
    if not value.keys() <= known.keys():
        _refuse_unknown(value, known)
    decoded = {}
    for name, (is_needed, decoder) in known.items():
        if name in value:
            try:
                decoded[name] = decoder(value[name])
            except FieldError as error:
                raise error.inside(name) from None
        elif is_needed:
            raise FieldError(name, "missing field, no value; add it or rerun the benchmark")
    return kind(**decoded)


def _refuse_unknown(value: Mapping[str, Any], known: Mapping[str, Any]) -> None:
    name = next(name for name in value if name not in known)
    near = get_close_matches(str(name)[:60], known, n=1)
    hint = f"did you mean {near[0]!r}?" if near else f"known here: {', '.join(known)}"
    raise FieldError(_key(name), f"unknown field with value {_short(value[name])}; remove it, or {hint}")


def _union_decoder(kinds: tuple[Any, ...]) -> Decoder:
    some = tuple(kind for kind in kinds if kind is not NoneType)
    decoder = _decoder(some[0]) if len(some) == 1 else partial(_decode_tagged, _tags(some))
    return partial(_decode_optional, decoder) if len(some) < len(kinds) else decoder


def _decode_optional(decoder: Decoder, value: Any) -> Any:
    return None if value is None else decoder(value)


def _decode_tagged(tags: Mapping[str, tuple[str, Decoder]], value: Any) -> Any:
    _need(isinstance(value, Mapping), value, "an object {...}")
    for word, (name, decoder) in tags.items():
        if value.get(name) == word:
            return decoder(value)
    name = next(iter(tags.values()))[0]
    raise _wrong(value.get(name), " or ".join(map(repr, tags))).inside(name)


def _tags(kinds: tuple[Any, ...]) -> dict[str, tuple[str, Decoder]]:
    """By the one word that a field of each dataclass can hold: that field, and how it is decoded."""
    return {
        get_args(hint)[0]: (name, _decoder(kind))
        for kind in kinds
        for name, hint in get_type_hints(kind).items()
        if get_origin(hint) is Literal
    }


def _decode_sequence(inner: Any, value: Any) -> tuple[Any, ...]:
    _need(isinstance(value, list | tuple), value, "a list [...]")
    kinds = set(map(type, value))
    if inner is int and kinds == {int} and max(value) <= LARGEST and min(value) >= -LARGEST:
        return tuple(value)
    if inner is str and kinds == {str} and all(map(str.isascii, value)):
        return tuple(value)
    return _decode_items(_decoder(inner), value)


def _decode_items(decoder: Decoder, values: list[Any] | tuple[Any, ...]) -> tuple[Any, ...]:
    items = []
    for position, value in enumerate(values):
        try:
            items.append(decoder(value))
        except FieldError as error:
            raise error.inside(f"[{position}]") from None
    return tuple(items)


def _decode_mapping(decoder: Decoder, value: Any) -> dict[str, Any]:
    _need(isinstance(value, Mapping), value, "an object {...}")
    decoded = {}
    for key, item in value.items():
        try:
            _decode_scalar(str, key)
            decoded[key] = decoder(item)
        except FieldError as error:
            raise error.inside(_key(key)) from None
    return decoded


def _decode_free(value: Any, depth: int = 0) -> Any:
    if depth > DEEPEST:
        raise FieldError("", f"nested deeper than {DEEPEST} levels; write it flat")
    if value is None:
        return None
    if isinstance(value, Mapping):
        return _decode_mapping(partial(_decode_free, depth=depth + 1), value)
    if isinstance(value, list | tuple):
        return _decode_items(partial(_decode_free, depth=depth + 1), value)
    return _decode_scalar(type(value) if type(value) in WORDS else float, value)


def _decode_word(words: tuple[str, ...], value: Any) -> Any:
    _need(value in words, value, " or ".join(map(repr, words)))
    return value


def _decode_scalar(kind: type, value: Any) -> Any:
    found = type(value)
    _need(found is kind or (found is int and kind is float), value, WORDS[kind])
    if found is str and not value.isascii():
        _refuse_half_characters(value)
    elif found is int and abs(value) > LARGEST:
        raise FieldError("", f"{_short(value)} does not fit in 64 bits; write a smaller number")
    elif found is float and not math.isfinite(value):
        raise FieldError("", f"{value} is not a finite number; write null where a number is undefined")
    return float(value) if kind is float else value


def _refuse_half_characters(text: str) -> None:
    """JSON can say half of a surrogate pair, which no file can hold."""
    try:
        text.encode()
    except UnicodeEncodeError:
        raise FieldError("", f"{_short(text)} is not Unicode text; write it as UTF-8") from None


def _need(holds: bool, value: Any, wanted: str) -> None:
    if not holds:
        raise _wrong(value, wanted)


def _wrong(value: Any, wanted: str) -> FieldError:
    found = f"{_short(value)} ({type(value).__name__})"
    return FieldError("", f"found {found}, expected {wanted}; correct it or rerun the benchmark")


@cache
def _fields(kind: Any) -> dict[str, tuple[bool, Decoder]]:
    """By name: whether the field must be given, and how it is decoded."""
    hints = get_type_hints(kind)
    return {spec.name: (spec.default is MISSING, _decoder(hints[spec.name])) for spec in fields(kind)}


def _key(name: object) -> str:
    """A key as part of a path, on one line."""
    return name if isinstance(name, str) and name.isprintable() and len(name) <= 60 else _short(name)


def _short(value: Any) -> str:
    text = _REPR.repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


_REPR = reprlib.Repr()
_REPR.maxstring = _REPR.maxother = _REPR.maxlong = 100
_REPR.maxlist = _REPR.maxtuple = _REPR.maxdict = 30
