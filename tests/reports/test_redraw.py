"""All leaderboards of a folder: which files there are, that nothing hides anything, one process or many."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from reports import redraw as module
from reports.record import Record, write
from reports.redraw import redraw
from reports.samples import LabelMap, prediction_path

Make = Callable[..., Record]
SERIES = [[90, 60, 50], [90, 50, 40, 30], [90, 40, 30, 30, 20]]
PLOTS = ("classes", "cost", "forgetting", "old-new", "steps")


def keep(record: Record, runs: Path, folder: str = "") -> Path:
    path = (
        runs / "records" / (folder or record.protocol.name) / record.method.name / f"seed-{record.seed}.json"
    )
    write(record, path)
    return path


def named(record: Record, name: str) -> Record:
    return replace(record, protocol=replace(record.protocol, name=name), key=f"{record.key}-{name}")


@pytest.fixture
def runs(make: Make, tmp_path: Path) -> Path:
    """Two protocols, two methods on the first."""
    for record in (make(SERIES), make(SERIES, "plop"), named(make(SERIES), "pets-2-1@b")):
        keep(record, tmp_path)
    return tmp_path


def files(runs: Path) -> set[str]:
    folder = runs / "leaderboards"
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def test_everything_is_drawn(runs: Path) -> None:
    drawn = redraw(runs)
    tables = {
        f"{name}.{suffix}" for name in ("pets-2-1", "pets-2-1@b") for suffix in ("md", "csv", "json", "tex")
    }
    expected = {*tables, "index.html", "overview.md", "overview.csv"}
    for suffix in ("svg", "png"):
        expected |= {f"plots/{n}/mini-real-{p}.{suffix}" for n in ("pets-2-1", "pets-2-1@b") for p in PLOTS}
        expected.add(f"plots/across/pets-2-1-mini-real-orders.{suffix}")
    assert files(runs) == expected
    assert {path.relative_to(runs / "leaderboards").as_posix() for path in drawn.paths} == expected
    assert drawn.problems == ()
    assert [board.name for board in drawn.boards] == ["pets-2-1", "pets-2-1@b"]


def test_sample_predictions_are_drawn_where_a_run_left_them(runs: Path) -> None:
    folder = runs / "samples/pets-2-1/cats"
    labels = LabelMap(np.ones((12, 16), dtype=np.uint8)).png()
    for path in (folder / "truth.png", prediction_path(folder, "mib", 0, 2)):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(labels)
    redraw(runs)
    assert "plots/pets-2-1/mini-real-samples-cats.png" in files(runs)
    page = (runs / "leaderboards/index.html").read_text()
    assert page.count('alt="pets-2-1: sample predictions" src="data:image/png;base64,') == 1


def test_only_what_is_asked_for(runs: Path) -> None:
    redraw(runs, ["tex", "csv"], ["pets-2-1@b"])
    assert files(runs) == {"pets-2-1@b.tex", "pets-2-1@b.csv", "overview.csv"}
    assert set(pd.read_csv(runs / "leaderboards/overview.csv")["protocol"]) == {"pets-2-1", "pets-2-1@b"}


def test_unknown_words_are_refused(runs: Path) -> None:
    with pytest.raises(ValueError, match=r"--format 'pdf': there are md, csv, json, tex, html, png"):
        redraw(runs, ["md", "pdf"])
    with pytest.raises(ValueError, match=r"--protocol 'pets-2-2': no record of it in .*pets-2-1, pets-2-1@b"):
        redraw(runs, ["md"], ["pets-2-2"])


def test_no_records(tmp_path: Path) -> None:
    drawn = redraw(tmp_path)
    assert (drawn.boards, drawn.paths) == ((), ())
    assert len(drawn.problems) == 1 and "no seed-*.json in it" in drawn.problems[0]


def test_a_broken_record_hides_no_other(runs: Path) -> None:
    (runs / "records/pets-2-1/mib/seed-7.json").write_text('{"schema": 2, ')
    (runs / "records/pets-2-1/plop/seed-7.json").write_text('{"schema": 99}')
    drawn = redraw(runs, ["csv"])
    assert ["seed-7.json: not valid JSON" in problem for problem in drawn.problems] == [True, False]
    assert "99 is newer than 2" in drawn.problems[1]
    assert list(pd.read_csv(runs / "leaderboards/pets-2-1.csv")["method"]) == ["mib", "plop"]


def test_records_of_one_protocol_in_several_folders_make_one_table(runs: Path, make: Make) -> None:
    keep(make(SERIES, "sent"), runs, folder="from-a-friend")
    keep(named(make(SERIES, "alone"), "pets-9"), runs, folder="from-a-friend")
    drawn = redraw(runs, ["csv"])
    assert [board.name for board in drawn.boards] == ["pets-2-1", "pets-2-1@b", "pets-9"]
    assert set(pd.read_csv(runs / "leaderboards/pets-2-1.csv")["method"]) == {"mib", "plop", "sent"}


def test_the_same_run_in_two_folders_counts_once(runs: Path, make: Make) -> None:
    keep(make(SERIES), runs, folder="copy")
    drawn = redraw(runs, ["csv"])
    assert len(drawn.problems) == 1 and "is the same run as" in drawn.problems[0]
    assert list(pd.read_csv(runs / "leaderboards/pets-2-1.csv")["seeds"]) == [1, 1]


def test_several_processes_write_the_same(runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def contents() -> dict[str, bytes]:
        return {name: (runs / "leaderboards" / name).read_bytes() for name in sorted(files(runs))}

    heard: list[tuple[int, int]] = []
    formats = ["md", "csv", "json", "tex", "html"]
    redraw(runs, formats, tell=lambda done, total: heard.append((done, total)))
    alone = contents()
    monkeypatch.setattr(module, "MANY", 2)
    redraw(runs, formats, jobs=2)
    assert contents() == alone
    assert heard == [(1, 2), (2, 2)]
