"""Leaderboards from hand-made records, against golden files.

To renew the golden files after a wanted change: `CONTISEG_RENEW_GOLDEN=1 pytest tests/reports`, then read the
difference.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import replace
from io import StringIO
from pathlib import Path

import pandas as pd
import pytest

from reports.board import build_boards
from reports.leaderboard import leaderboard, terminal_table, write_leaderboards
from reports.record import ProtocolCard, ProtocolStep, Record, SemanticCounts, StepRecord

Make = Callable[..., Record]
GOLDEN = Path(__file__).parent / "golden"
SERIES = [[90, 60, 50], [90, 50, 40, 30], [90, 40, 30, 30, 20]]


def synthetic(record: Record) -> Record:
    return replace(record, data=replace(record.data, synthetic=True))


def of_task(make: Make, protocol: ProtocolCard, task: str) -> list[Record]:
    """Two methods on a protocol where zero is unlabelled; without background, cat and cow are things."""
    names = ("unlabelled", *protocol.class_names[1:])
    protocol = replace(protocol, name=f"zoo-2-1-{task}", class_names=names)
    methods = (("mib", 0), ("finetune", 10))
    if task == "semantic":
        return [make(lowered(drop, 0), name, protocol=protocol) for name, drop in methods]
    bare = replace(protocol, background=False, things=(1, 3) if task == "panoptic" else ())
    channels = ((1, 2), (1, 2, 3), (1, 2, 3, 4))
    return [
        make(lowered(drop, 1), name, protocol=bare, channels=channels, task=task) for name, drop in methods
    ]


def lowered(drop: int, first: int) -> list[list[int]]:
    """The series from channel `first` on, each value less by `drop`."""
    return [[value - drop for value in values[first:]] for values in SERIES]


@pytest.mark.parametrize("task", ["semantic", "panoptic", "instance"])
@pytest.mark.parametrize("suffix", ["md", "csv", "tex"])
def test_golden_files_of_each_task(
    make: Make, protocol: ProtocolCard, tmp_path: Path, task: str, suffix: str
) -> None:
    write_leaderboards(of_task(make, protocol, task), tmp_path)
    compare(tmp_path / f"zoo-2-1-{task}.{suffix}")


def names_of(paths: list[Path]) -> list[str]:
    return [path.name for path in paths if path.suffix == ".md"]


def compare(written: Path) -> None:
    golden = GOLDEN / written.name
    if os.environ.get("CONTISEG_RENEW_GOLDEN"):
        golden.write_text(written.read_text(encoding="utf-8"), encoding="utf-8")
    assert written.read_text(encoding="utf-8") == golden.read_text(encoding="utf-8")


def test_each_task_has_its_metric(make: Make, protocol: ProtocolCard) -> None:
    frame = leaderboard(of_task(make, protocol, "panoptic")).set_index("method")
    assert (frame.loc["mib", "metric"], frame.loc["mib", "task"]) == ("PQ", "panoptic")
    assert frame.loc["mib", "all"] == pytest.approx(frame.loc["mib", "rq"])
    assert frame.loc["mib", "sq"] == pytest.approx(100)
    assert (frame.loc["mib", "things"], frame.loc["mib", "stuff"]) == (pytest.approx(35), pytest.approx(25))
    frame = leaderboard(of_task(make, protocol, "instance")).set_index("method")
    assert frame.loc["mib", "metric"] == "AP"
    assert frame.loc["mib", "all"] == frame.loc["mib", "ap75"] == pytest.approx(30)
    assert frame.loc["mib", "ap50"] == pytest.approx(100 * 40 / 110)
    table = terminal_table(build_boards(of_task(make, protocol, "instance")))
    assert table.startswith("zoo-2-1-instance · mini scale · real · AP in %")


def test_one_name_for_two_tasks_makes_two_tables(make: Make, protocol: ProtocolCard, tmp_path: Path) -> None:
    other = make([values[1:] for values in SERIES], protocol=protocol, task="panoptic")
    paths = write_leaderboards([make(SERIES), other], tmp_path)
    assert names_of(paths) == ["pets-2-1-panoptic.md", "pets-2-1-semantic.md"]
    with pytest.raises(ValueError, match="records of 2 protocols"):
        leaderboard([make(SERIES), other])


def test_assigned_columns_are_shown_where_they_differ(
    make: Make, protocol: ProtocolCard, tmp_path: Path
) -> None:
    record = of_task(make, protocol, "semantic")[0]
    header = next(line for line in page_of(record, tmp_path) if "all assigned" in line)
    assert [cell.strip() for cell in header.split("|")[2:-1]] == [
        *("old ↑", "new ↑", "all ↑", "average ↑"),
        *("old assigned ↑", "new assigned ↑", "all assigned ↑", "average assigned ↑"),
    ]
    sure = replace(record, steps=tuple(nothing_unassigned(step) for step in record.steps))
    lines = page_of(sure, tmp_path)
    assert "### Labelled pixels only" in lines and not any("all assigned" in line for line in lines)
    unknown = replace(record, steps=tuple(map(without_background_counts, record.steps)))
    assert "### Labelled pixels only" not in page_of(unknown, tmp_path)


def page_of(record: Record, folder: Path) -> list[str]:
    return write_leaderboards([record], folder)[0].read_text().splitlines()


def nothing_unassigned(step: StepRecord) -> StepRecord:
    assert isinstance(step.counts, SemanticCounts) and step.counts.unassigned is not None
    background = step.counts.unassigned[0]
    others = (0,) * (step.counts.num_channels - 1)
    return replace(step, counts=replace(step.counts, unassigned=(background, *others)))


def without_background_counts(step: StepRecord) -> StepRecord:
    return replace(step, counts=replace(step.counts, prediction_on_background=None, unassigned=None))


@pytest.mark.parametrize("suffix", ["md", "csv", "json", "tex"])
def test_golden_files(board: list[Record], tmp_path: Path, suffix: str) -> None:
    paths = write_leaderboards(board, tmp_path)
    assert paths == [tmp_path / f"pets-2-1.{each}" for each in ("md", "csv", "json", "tex")]
    compare(tmp_path / f"pets-2-1.{suffix}")


def test_the_order_of_records_changes_nothing(board: list[Record], tmp_path: Path) -> None:
    first = [path.read_text() for path in write_leaderboards(board, tmp_path / "a")]
    assert [path.read_text() for path in write_leaderboards(board[::-1], tmp_path / "b")] == first


def test_means_and_deviations_over_seeds(board: list[Record]) -> None:
    frame = leaderboard(board).set_index("method")
    mib = frame.loc["mib"]
    assert mib["all"] == pytest.approx((42 + 44) / 2, abs=1e-6)
    assert mib["all_std"] == pytest.approx(2**0.5, abs=1e-6)
    assert mib["old"] == pytest.approx((160 / 3 + 164 / 3) / 2, abs=1e-6)
    assert mib["forgetting"] == pytest.approx((40 / 3 + 38 / 3) / 2, abs=1e-6)
    assert (mib["seeds"], mib["seed_list"], mib["train_minutes"]) == (2, "0 1", 1.5)
    assert pd.isna(frame.loc["joint", "forgetting"]) and pd.isna(frame.loc["joint", "all_std"])


def test_failures_are_rows_and_come_last(board: list[Record]) -> None:
    frame = leaderboard(board)
    assert list(frame["method"]) == ["joint", "flaky[alpha=2]", "mib", "finetune", "plop"]
    status = frame.set_index("method")["status"]
    assert status["plop"] == "failed: out of memory; not run: seed 1"
    assert status["flaky[alpha=2]"] == "1 of 2 seeds failed: loss is NaN | step 0"
    assert status["joint"] == "ok; not run: seed 1"
    assert status["mib"] == "ok"


def test_all_failed_still_writes_a_table(make: Make, tmp_path: Path) -> None:
    paths = write_leaderboards([make([], reason="out of memory")], tmp_path)
    assert "| failed: out of memory |" in paths[0].read_text()
    assert pd.read_csv(paths[1])["all"].isna().all()
    assert json.loads(paths[2].read_text())["rows"][0]["all"] is None


def test_a_synthetic_stand_in_is_announced_first(make: Make, tmp_path: Path) -> None:
    record = synthetic(make(SERIES))
    markdown, csv, plain, latex = (path.read_text() for path in write_leaderboards([record], tmp_path))
    assert markdown.startswith("> **Synthetic stand-in.** All numbers below were measured on drawn images")
    assert "not comparable with published numbers" in markdown.splitlines()[0]
    assert list(pd.read_csv(StringIO(csv))["data"]) == ["synthetic"]
    assert "not comparable" in json.loads(plain)["announcement"]
    assert latex.startswith("% Synthetic stand-in.") and r"\caption{\textbf{Synthetic stand-in.}" in latex
    assert "SYNTHETIC stand-in, not comparable with published numbers" in terminal_table(
        build_boards([record])
    )


def test_real_data_needs_no_announcement(board: list[Record], tmp_path: Path) -> None:
    markdown = write_leaderboards(board, tmp_path)[0].read_text()
    assert markdown.startswith("# pets-2-1: two pets")
    assert "ynthetic" not in markdown.partition("<details>")[0] + markdown.partition("</details>")[2]


def test_kinds_of_data_and_scales_stay_apart(make: Make, tmp_path: Path) -> None:
    records = [make(SERIES), synthetic(make(SERIES)), replace(make(SERIES), scale="paper")]
    assert len(leaderboard(records)) == 3
    markdown = write_leaderboards(records, tmp_path)[0].read_text()
    assert "sections marked synthetic" in markdown.splitlines()[0]
    headings = [line for line in markdown.splitlines() if line.startswith("## ")]
    assert headings[:3] == [
        "## mini scale, real data",
        "## paper scale, real data",
        "## mini scale, synthetic stand-in data",
    ]


def test_runs_of_other_settings_are_never_averaged(make: Make) -> None:
    longer = replace(make(SERIES, seed=1), recipe={"epochs": 60, "lr": 0.01})
    frame = leaderboard([make(SERIES), longer, make(SERIES, "finetune")])
    assert list(frame["seeds"]) == [1, 1, 1]
    assert sorted(frame["variant"]) == ["", "recipe.epochs=6", "recipe.epochs=60"]


def test_a_changed_definition_of_the_protocol_shows(make: Make) -> None:
    other = make(SERIES, "finetune")
    other = replace(other, protocol=replace(other.protocol, setting="disjoint"))
    frame = leaderboard([make(SERIES), other])
    assert sorted(frame["variant"]) == ["protocol.setting=disjoint", "protocol.setting=overlapped"]


def test_a_seed_that_failed_before_its_settings_joins_its_row(make: Make) -> None:
    early = replace(make([], seed=1, reason="no memory"), hyperparameters={}, recipe={}, network=None)
    frame = leaderboard([make(SERIES), early])
    assert list(frame["status"]) == ["1 of 2 seeds failed: no memory"]


def test_several_protocols(make: Make, tmp_path: Path) -> None:
    other = make(SERIES)
    other = replace(other, protocol=replace(other.protocol, name="pets-2-1@b"))
    paths = write_leaderboards([other, make(SERIES)], tmp_path)
    assert names_of(paths) == ["pets-2-1.md", "pets-2-1@b.md"]
    with pytest.raises(ValueError, match="records of 2 protocols"):
        leaderboard([other, make(SERIES)])


def test_terminal_table(board: list[Record]) -> None:
    lines = terminal_table(build_boards(board)).splitlines()
    assert lines[0] == "pets-2-1 · mini scale · real · mIoU in %"
    assert lines[1].split() == ["method", "old", "new", "all", "forgetting", "avg", "minutes", "status"]
    assert lines[-1].split(maxsplit=7) == ["plop", *"——————", "failed: out of memory; not run: seed 1"]
    assert any("flaky[alpha=2] (file: flaky.py)" in line for line in lines)


def test_domains_show_no_old_and_new(make: Make, protocol: ProtocolCard, tmp_path: Path) -> None:
    steps = tuple(ProtocolStep(classes=(1, 2), domains=(city,)) for city in ("bonn", "jena"))
    cities = replace(protocol, setting="domain", background=False, steps=steps)
    record = make([[60, 50], [64, 50]], protocol=cities, channels=[(1, 2)] * 2)
    markdown = write_leaderboards([record], tmp_path)[0].read_text()
    assert (
        "- **Steps:** 2, of 1 + 1 domains; 2 classes in all\n  - step 0: bonn\n  - step 1: jena" in markdown
    )
    header = next(line for line in markdown.splitlines() if line.startswith("| method"))
    assert [cell.strip() for cell in header.split("|")[2:5]] == ["all ↑", "forgetting ↓", "average ↑"]
    assert leaderboard([record])["old"].isna().all()
