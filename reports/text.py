"""Tables as text: GitHub's pipes and the terminal's columns."""

from __future__ import annotations

from collections.abc import Sequence

WIDEST = 40
"""Longer cells do not widen their column."""
MISSING = "—"


def pipe_table(headers: Sequence[str], rows: Sequence[Sequence[str]], numbers: set[str]) -> str:
    """A Markdown table; the columns headed by one of `numbers` are flush right."""
    widths = _widths(headers, rows)
    right = [header in numbers for header in headers]
    rule = [
        "-" * (width - 1) + ":" if flush else "-" * width for width, flush in zip(widths, right, strict=True)
    ]
    lines = [_aligned(cells, widths, right) for cells in (headers, rule, *rows)]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def plain_table(headers: Sequence[str], rows: Sequence[Sequence[str]], numbers: set[str]) -> str:
    """Columns two spaces apart."""
    widths = _widths(headers, rows, widest=80)
    right = [header in numbers for header in headers]
    return "\n".join("  ".join(_aligned(cells, widths, right)).rstrip() for cells in (headers, *rows))


def number(value: float | None, spread: float | None = None, digits: int = 1) -> str:
    """`48.2`, `48.2 ± 0.3` where the spread over seeds is known, `—` where there is no value."""
    if value is None:
        return MISSING
    text = f"{value + 0.0:.{digits}f}"
    text = text.removeprefix("-") if float(text) == 0 else text
    return text if spread is None else f"{text} ± {spread:.{digits}f}"


def signed(value: float | None) -> str:
    """`+1.2` or `−1.2`, `—` where there is no value."""
    if value is None:
        return MISSING
    text = f"{value:+.1f}".replace("-", "−")
    return "0.0" if text[1:] == "0.0" else text


def _widths(headers: Sequence[str], rows: Sequence[Sequence[str]], widest: int = WIDEST) -> list[int]:
    columns = zip(headers, *rows, strict=True)
    return [max(3, *(min(len(cell), widest) for cell in column)) for column in columns]


def _aligned(cells: Sequence[str], widths: Sequence[int], right: Sequence[bool]) -> list[str]:
    columns = zip(cells, widths, right, strict=True)
    return [cell.rjust(width) if flush else cell.ljust(width) for cell, width, flush in columns]
