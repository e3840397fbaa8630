"""LaTeX: whatever stands in a record can be pasted into a paper."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from reports import latex
from reports.board import build_boards
from reports.record import Record

Make = Callable[..., Record]
SERIES = [[90, 60, 50], [90, 50, 40, 30], [90, 40, 30, 30, 20]]


@pytest.mark.parametrize(
    ("text", "printed"),
    [
        ("mib[kd_weight=10]", r"mib[kd\_weight=10]"),
        (r"50% of $x & #1 {a} ~ ^ \end", None),
        ("a | b\nc", r"a {\textbar} b c"),
        ("old ↑", r"old \ensuremath{\uparrow}"),
        ("Müller, naïve", None),
        ("数据", r"{\bfseries ?}{\bfseries ?}"),
    ],
)
def test_no_letter_is_left_with_a_meaning_of_its_own(text: str, printed: str | None) -> None:
    escaped = latex.escape(text)
    assert printed is None or escaped == printed
    bare = escaped
    for command in (
        r"\%",
        r"\$",
        r"\&",
        r"\#",
        r"\_",
        r"\{",
        r"\}",
        r"{\textbackslash}",
        r"{\textasciitilde}",
    ):
        bare = bare.replace(command, "")
    assert not set("%$&#~^") & set(bare.replace(r"{\textasciicircum}", "").replace(r"\^", ""))
    assert escaped.isascii()


def test_a_failed_run_is_told_below_the_table(make: Make) -> None:
    page = latex.page(build_boards([make(SERIES), make([], "plop", reason="loss_1 is NaN")])[0])
    assert r"\texttt{plop}: failed: loss\_1 is NaN." in page
    assert r"\texttt{mib}:" not in page


def test_every_row_has_as_many_cells_as_columns(board: list[Record]) -> None:
    page = latex.page(build_boards(board)[0])
    lines = page.splitlines()
    start = next(i for i, line in enumerate(lines) if line.startswith(r"\begin{tabular}"))
    alignment = lines[start].rpartition("{@{}")[2].partition("@")[0]
    cells = [line for line in lines[start:] if line.endswith(r" \\")]
    assert len(cells) == 1 + 5
    assert {line.count(" & ") for line in cells} == {len(alignment) - 1}


def test_a_label_for_each_section(make: Make) -> None:
    record = make(SERIES)
    other = replace(record, scale="paper")
    named = [replace(r, protocol=replace(r.protocol, name="zoo_1@b+mib")) for r in (record, other)]
    page = latex.page(build_boards(named)[0])
    assert r"\label{tab:zoo-1-b-mib-mini-real}" in page
    assert r"\label{tab:zoo-1-b-mib-paper-real}" in page
