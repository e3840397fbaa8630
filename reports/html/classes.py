"""The drill-down of a section: what each class had, method by method, as little JSON as will do."""

from __future__ import annotations

import json
from collections.abc import Sequence

from markupsafe import Markup

from reports.record import ProtocolCard
from reports.rows import Row


def classes_json(protocol: ProtocolCard, rows: Sequence[Row]) -> Markup:
    """`{"steps": n, "classes": [[name, step], ...], "rows": [...]}` for a script element.

    A row is null where no seed finished, else one `[learnt, best, last]` a class.

    Values are tenths of a per cent, null where not defined: `learnt` after the step that learnt the class,
    `best` after any step. No `<` is left that could end the element.
    """
    labels = list(dict.fromkeys(label for row in rows for label in row["by_class_and_step"] or ()))
    learnt = {label: _step_of(label, protocol) for label in labels}
    content = {
        "steps": len(protocol.steps),
        "classes": [[protocol.class_names[label], learnt[label]] for label in labels],
        "rows": [
            [_values(row["by_class_and_step"].get(label, ()), learnt[label]) for label in labels]
            if row["by_class_and_step"]
            else None
            for row in rows
        ],
    }
    text = json.dumps(content, ensure_ascii=False, separators=(",", ":"))
    return Markup(text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026"))


def _step_of(label: int, protocol: ProtocolCard) -> int:
    """The first step that learns a class; the background is there from the first on."""
    steps = (index for index, step in enumerate(protocol.steps) if label in step.classes)
    return next(steps, 0)


def _values(series: Sequence[float | None], learnt: int) -> list[int | None]:
    if not series:
        return [None, None, None]
    known = [value for value in series if value is not None]
    return [_tenths(value) for value in (series[learnt], max(known, default=None), series[-1])]


def _tenths(value: float | None) -> int | None:
    return None if value is None else round(10 * value)
