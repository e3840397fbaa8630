"""Whatever is done to a record's file, `read` gives a record that can be drawn or one line."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reports.leaderboard import write_leaderboards
from reports.record import Record, read, write
from reports.validate import validate

Make = Callable[..., Record]
SERIES = [[90, 60, 50], [90, 50, 40, 30], [90, 40, 30, 30, 20]]
STRANGE: list[Any] = [
    *(None, True, False, 0, -1, 1, 255, 10**18, 10**19, 10**400, 1.5, 1e308, float("nan"), float("-inf")),
    *("", "x", "\n", "\ud800", "\x00", "..", "a/b", "é" * 300, "finished", "panoptic"),
    *([], {}, [[]], [0, 1, 1], {"a": {}}, [None], ["a"], {"": 1}, {"\ud800": "\n"}),
]


def places(value: Any) -> list[tuple[Any, Any]]:
    """Every container of a JSON value with each of its keys."""
    pairs = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    found = []
    for key, item in pairs:
        found.append((value, key))
        found += places(item)
    return found


def mutate(plain: Any, chance: random.Random) -> None:
    """One change: a value made strange, removed, doubled, deepened, or exchanged with another."""
    container, key = chance.choice(places(plain))
    match chance.randrange(6):
        case 0 | 1:
            container[key] = json.loads(json.dumps(chance.choice(STRANGE)))
        case 2:
            del container[key]
        case 3 if isinstance(container, list):
            container.append(container[key])
        case 4:
            for _ in range(chance.choice([1, 30, 300])):
                container[key] = [container[key]]
        case _:
            other, place = chance.choice(places(plain))
            container[key], other[place] = json.loads(json.dumps([other[place], container[key]]))


def check(path: Path) -> None:
    try:
        record = read(path)
    except ValueError as error:
        assert str(error).startswith(f"{path}: ")
        assert "\n" not in str(error)
        return
    assert read_again(record, path) == record
    validate([path])
    write_leaderboards([record], path.parent / "tables")


def read_again(record: Record, path: Path) -> Record:
    write(record, path)
    return read(path)


def run_mutations(make: Make, folder: Path, examples: int) -> None:
    tasks = ("semantic", "panoptic", "instance")
    originals = []
    for task in tasks:
        write(make(SERIES, task=task), folder / "original.json")
        originals.append((folder / "original.json").read_text())

    options = settings(max_examples=examples, deadline=None, derandomize=True, database=None)

    @options
    @given(st.sampled_from(originals), st.integers(1, 3), st.randoms(use_true_random=False))
    def mutated(text: str, changes: int, chance: random.Random) -> None:
        plain = json.loads(text)
        for _ in range(changes):
            mutate(plain, chance)
        (folder / "seed-0.json").write_text(json.dumps(plain))
        check(folder / "seed-0.json")

    @options
    @given(st.sampled_from(originals), st.integers(0, 3), st.randoms(use_true_random=False))
    def damaged(text: str, changes: int, chance: random.Random) -> None:
        content = bytearray(text.encode())
        for _ in range(changes):
            content[chance.randrange(len(content))] = chance.randrange(256)
        if chance.random() < 0.3 or not changes:
            del content[chance.randrange(len(content)) :]
        (folder / "seed-0.json").write_bytes(bytes(content))
        check(folder / "seed-0.json")

    mutated()
    damaged()


def test_mutated_records(make: Make, tmp_path: Path) -> None:
    run_mutations(make, tmp_path, 150)


@pytest.mark.slow
def test_many_mutated_records(make: Make, tmp_path: Path) -> None:
    run_mutations(make, tmp_path, 1000)


def test_deep_settings_are_refused(make: Make, tmp_path: Path) -> None:
    write(make(SERIES), tmp_path / "seed-0.json")
    plain = json.loads((tmp_path / "seed-0.json").read_text())
    plain["recipe"]["deep"] = json.loads("[" * 300 + "]" * 300)
    (tmp_path / "seed-0.json").write_text(json.dumps(plain))
    with pytest.raises(ValueError, match="nested deeper than 20 levels") as error:
        read(tmp_path / "seed-0.json")
    assert "recipe.deep[0]" in str(error.value)
