"""Whatever is done to a record's file, `read` gives a record that can be drawn or one line."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reports.leaderboard import write_leaderboards
from reports.record import Record, read, write
from reports.validate import validate
from tests.mutations import mutate

Make = Callable[..., Record]
SERIES = [[90, 60, 50], [90, 50, 40, 30], [90, 40, 30, 30, 20]]


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
