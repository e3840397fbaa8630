"""What a record says of a protocol or a method that is ours, against what we say."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from benchmarks.recording import card_of
from methods.registry import builtin_methods
from protocols import names
from protocols.datasets import DATASETS
from protocols.protocol import Protocol
from reports.record import MethodCard, ProtocolCard, Record

Problem = tuple[str, str]
"""A field's dotted path; its value and the remedy."""
WORDS = ("title", "notes")
"""What of a card is for the reader alone."""


def contradictions(record: Record) -> Iterator[Problem]:
    """Where a record uses one of our names for something else: its row would stand in the wrong table."""
    protocol = known_protocol(record.protocol)
    if protocol is not None:
        yield from _of_the_protocol(record.protocol, protocol)
    yield from _of_the_method(record.method)


def doubts(record: Record) -> Iterator[Problem]:
    """Where real data of ours are not the published data set's size.

    No error: a data set that was extracted in part is run and says so in the card's notes.
    """
    protocol = known_protocol(record.protocol)
    if protocol is None or protocol.is_domain_incremental or record.data.synthetic:
        return
    data = DATASETS[protocol.dataset]
    official = data.official_sizes
    if protocol.task != "instance" and record.data.val_images != official["val"]:
        problem = f"{record.data.val_images}, {data.title} has {official['val']}; is the data set complete?"
        yield "data.val_images", problem
    if record.data.train_images > official["train"]:
        problem = f"{record.data.train_images}, {data.title} has {official['train']}; were others added?"
        yield "data.train_images", problem


def known_protocol(card: ProtocolCard) -> Protocol | None:
    """The protocol of the literature, or any even division, that the card's name means; None for a user's."""
    try:
        return names.parse(card.name, card.task)
    except ValueError:
        return None


def _of_the_protocol(card: ProtocolCard, protocol: Protocol) -> Iterator[Problem]:
    if card.name != protocol.name:
        problem = f"{card.name!r} is another name of {protocol.name!r}; write that, for one table"
        yield "protocol.name", problem
        return
    ours = card_of(protocol, DATASETS[protocol.dataset].title, protocol.notes)
    expected, found = ({k: v for k, v in asdict(each).items() if k not in WORDS} for each in (ours, card))
    difference = _difference(expected, found, "protocol")
    if difference:
        remedy = f"correct it (`show {card.name} --json` prints the steps), or give the protocol another name"
        yield difference[0], f"{difference[1]} in {card.name}; {remedy}"
    for note in ours.notes:
        if note not in card.notes:
            yield "protocol.notes", f"lack {note!r}; add it, it is part of {card.name}"


def _of_the_method(card: MethodCard) -> Iterator[Problem]:
    ours = builtin_methods().get(card.key)
    named = builtin_methods().get(card.name.partition("[")[0])
    if card.origin == "built-in":
        if ours is None or ours is not named:
            yield "method.origin", f"'built-in', but there is no such method {card.name!r}; name your file"
        elif card.provenance != ours.info.provenance:
            found = f"{card.provenance!r}, but the built-in {card.key!r} is {ours.info.provenance!r}"
            yield "method.provenance", f"{found}; give your method another key and name"
        return
    for field, value, taken in (("key", card.key, ours), ("name", card.name, named)):
        if taken is not None:
            problem = f"{value!r} is that of a built-in method, and this one is from {card.origin!r}"
            yield f"method.{field}", f"{problem}; give it another, such as {card.key + '-official'!r}"


def _difference(expected: Any, found: Any, field: str) -> Problem | None:
    """The first place at which two plain values differ, and how."""
    if isinstance(expected, Mapping):
        pairs = ((f"{field}.{name}", expected[name], found[name]) for name in expected)
        return next(filter(None, (_difference(a, b, name) for name, a, b in pairs)), None)
    if isinstance(expected, Sequence) and not isinstance(expected, str):
        if len(expected) != len(found):
            return field, f"{len(found)} entries, but {len(expected)}"
        places = enumerate(zip(expected, found, strict=True))
        return next(filter(None, (_difference(a, b, f"{field}[{i}]") for i, (a, b) in places)), None)
    return None if expected == found else (field, f"{found!r}, but {expected!r}")
