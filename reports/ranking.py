"""What all drawn tables share: what a column is called, which way is better, who is best and who second."""

from __future__ import annotations

from collections.abc import Sequence

from reports.columns import LOWER_IS_BETTER
from reports.rows import Row

HIGHER = "↑"
LOWER = "↓"
DIGITS = 1
"""Decimals that are printed: what is equal as printed is equal in rank."""
HEADINGS = {"sq": "SQ", "rq": "RQ", "ap50": "AP50", "ap75": "AP75"}


def arrow(column: str) -> str:
    """The direction in which a measured column is better."""
    return LOWER if column in LOWER_IS_BETTER else HIGHER


def heading(column: str) -> str:
    """A measured column's name for readers, without its arrow."""
    if column in HEADINGS:
        return HEADINGS[column]
    return column.replace("_no_background", " without background").removesuffix("_labelled").replace("_", " ")


def places(column: str, rows: Sequence[Row]) -> list[int | None]:
    """One entry a row: 1 for the best of the column, 2 for the second, else None; equal values share a place.

    Methods that train all steps as one (`offline`) are not ranked, and one ranked method alone is no best.
    """
    values = [None if row["offline"] else _printed(row[column]) for row in rows]
    known = [value for value in values if value is not None]
    if len(known) < 2:
        return [None] * len(rows)
    first_two = sorted(set(known), reverse=arrow(column) == HIGHER)[:2]
    return [first_two.index(value) + 1 if value in first_two else None for value in values]


def marks(row: Row) -> str:
    """What tells a row from others of its name: the user's own file, settings that differ; "" if nothing."""
    own = [] if row["origin"] == "built-in" else [row["origin"]]
    return "; ".join(own + ([row["variant"]] if row["variant"] else []))


def _printed(value: float | None) -> float | None:
    return None if value is None else round(value, DIGITS)
