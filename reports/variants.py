"""Which runs may be averaged: only those that differ in the seed alone."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from functools import lru_cache
from typing import Any

from reports.record import ProtocolCard, Record

UNSET = "unset"
LONGEST = 40
_ENCODER = json.JSONEncoder(ensure_ascii=False)


def group(records: Sequence[Record]) -> dict[tuple[str, ...], tuple[str, list[Record]]]:
    """Group the records of one protocol into rows: `{identity: (variant, records)}`.

    A row has one method name, scale and kind of data. Where runs of a row differ in recipe, hyperparameters,
    data or the protocol's definition they become rows of their own, and `variant` says in what ("" if in
    nothing). A protocol's definition is compared over all methods, the rest within one.
    """
    protocols = [_definition(record.protocol) for record in records]
    protocol_keys = _differing(protocols)
    by_name: dict[tuple[str, ...], list[int]] = defaultdict(list)
    for position, record in enumerate(records):
        by_name[record.method.name, record.scale, record.data.kind].append(position)
    rows: dict[tuple[str, ...], tuple[str, list[Record]]] = {}
    for name, positions in by_name.items():
        setups = _completed([records[position] for position in positions])
        setups = [{**setup, **protocols[position]} for position, setup in zip(positions, setups, strict=True)]
        keys = sorted({*_differing(setups), *protocol_keys})
        for position, setup in zip(positions, setups, strict=True):
            values = tuple(setup.get(key, UNSET) for key in keys)
            variant = ", ".join(f"{key}={_short(value)}" for key, value in zip(keys, values, strict=True))
            rows.setdefault((*name, *values), (variant, []))[1].append(records[position])
    return rows


def flat_recipe(record: Record) -> dict[str, str]:
    """The recipe with dotted keys and printable values."""
    return _flat(record.recipe, "")


def flat_hyperparameters(record: Record) -> dict[str, str]:
    """The method's own parameters with dotted keys and printable values."""
    return _flat(record.hyperparameters, "")


def _completed(records: Sequence[Record]) -> list[dict[str, str]]:
    """The settings of each record; what a failed run did not get to say is taken from a finished one."""
    finished = next((_setup(record) for record in records if record.finished), {})
    return [_setup(record) if record.finished else finished | _setup(record) for record in records]


def _setup(record: Record) -> dict[str, str]:
    images = {"train_images": record.data.train_images, "val_images": record.data.val_images}
    return (
        _flat(images if record.finished else {}, "data")
        | _flat(record.recipe, "recipe")
        | _flat(record.hyperparameters, "hyperparameters")
    )


@lru_cache(maxsize=1024)
def _definition(protocol: ProtocolCard) -> Mapping[str, str]:
    """What decides the numbers: all of the card but the words for the reader."""
    words = ("title", "dataset_title", "notes")
    return _flat({name: value for name, value in asdict(protocol).items() if name not in words}, "protocol")


def _flat(value: Mapping[str, Any], prefix: str) -> dict[str, str]:
    flat: dict[str, str] = {}
    for key, item in value.items():
        name = f"{prefix}.{key}" if prefix else key
        flat |= _flat(item, name) if isinstance(item, Mapping) and item else {name: _text(item)}
    return flat


def _text(value: Any) -> str:
    """Printable and the same for a list as for the tuple that `read` makes of it."""
    return value if isinstance(value, str) else _ENCODER.encode(value)


def _differing(setups: Sequence[Mapping[str, str]]) -> list[str]:
    keys = dict.fromkeys(key for setup in setups for key in setup)
    return [key for key in keys if len({setup.get(key, UNSET) for setup in setups}) > 1]


def _short(value: str) -> str:
    return value if len(value) <= LONGEST else value[: LONGEST - 3] + "..."
