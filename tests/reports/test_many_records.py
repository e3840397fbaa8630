"""Many records at once, and the ones drawn for timings are records."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.kernels.many_records import write_records
from reports.board import build_boards
from reports.load import load_records


def test_every_record_is_in_its_row(tmp_path: Path) -> None:
    paths = write_records(tmp_path, 3, 2, 2, steps=3, classes=7)
    records, problems = load_records(tmp_path)
    assert (len(paths), len(records), problems) == (12, 12, [])
    boards = build_boards(records)
    assert [board.name for board in boards] == ["study-0", "study-1", "study-2"]
    for board in boards:
        assert sorted((row["method"], row["seeds"]) for row in board.rows) == [
            ("method-0", 2),
            ("method-1", 2),
        ]
    row = boards[0].rows[0]
    members = [record for record in records if record.protocol.name == "study-0"]
    finals = [record.steps[-1].counts.quality() for record in members if record.method.name == row["method"]]
    assert row["all"] == pytest.approx(100 * sum(iou.mean() for iou in finals) / 2)


def test_the_records_of_ade_100_10s_size_have_its_steps(tmp_path: Path) -> None:
    write_records(tmp_path, 1, 1, 1)
    (record,), _ = load_records(tmp_path)
    assert [len(step.channels) for step in record.steps] == [101, 111, 121, 131, 141, 151]
