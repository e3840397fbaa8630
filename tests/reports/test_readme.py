"""The room's README says what a record holds: every field, its type, and an example that is sound."""

from __future__ import annotations

import re
from dataclasses import MISSING, fields
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Literal, get_args, get_origin, get_type_hints

import pytest

from reports import cards, counts, record
from reports.validate import files_in, validate

ROOM = Path(record.__file__).parent
TEXT = (ROOM / "README.md").read_text()
WORDS = {int: "integer", float: "number", str: "text", bool: "bool", Any: "any"}
KINDS = [
    *(record.Record, cards.ProtocolCard, cards.ProtocolStep, cards.RulesCard, cards.MethodCard),
    *(cards.DataCard, cards.NetworkCard, record.StepRecord, counts.SemanticCounts, counts.PanopticCounts),
    *(counts.InstanceCounts, record.Cost, record.StepCost, record.Environment),
]


def described(kind: Any) -> str:
    """A field's type in the words of the README."""
    if get_origin(kind) is UnionType:
        some = [described(each) for each in get_args(kind) if each is not NoneType]
        text = " or ".join(filter(None, [", ".join(some[:-1]), some[-1]]))
        return text + "?" * (NoneType in get_args(kind))
    if get_origin(kind) is tuple:
        return f"[{described(get_args(kind)[0])}]"
    if get_origin(kind) is Literal:
        return "text"
    if kind in WORDS:
        return WORDS[kind]
    values = get_args(kind)
    return f"{{{described(values[1])}}}" if values else kind.__name__


def default(value: Any) -> str:
    if value is MISSING:
        return ""
    words = {None: "null", (): "[]"}
    return f" `= {words[value]}`" if value in words else f' `= "{value}"`' if isinstance(value, str) else ""


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_every_field_is_documented(kind: Any) -> None:
    section = TEXT.partition(f"### {kind.__name__}\n")[2].partition("\n### ")[0]
    documented = re.findall(r"^\| `(\w+)` \| (.+?) \|", section, re.MULTILINE)
    hints = get_type_hints(kind)
    expected = [(spec.name, described(hints[spec.name]) + default(spec.default)) for spec in fields(kind)]
    if kind is record.Record:
        expected[0] = ("schema", f"integer `= {record.SCHEMA}`")
    assert documented == expected


def test_every_part_of_a_record_is_listed() -> None:
    parts = {kind.__name__ for kind in KINDS}
    assert set(re.findall(r"^### (\w+)$", TEXT, re.MULTILINE)) == parts


def test_the_example_is_sound() -> None:
    assert "(example/seed-0.json)" in TEXT
    (example,) = validate(files_in(ROOM / "example"))
    assert example.is_sound and not example.findings


def test_links_lead_somewhere() -> None:
    for target in re.findall(r"\]\(([^):]+)\)", TEXT):
        assert (ROOM / target).exists(), target
