"""From the records of one protocol to the rows of its leaderboard: means over seeds, failures kept."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from itertools import groupby
from typing import Any

import numpy as np

from reports import variants
from reports.columns import INTERVALS, METRICS, column_names, measured_columns
from reports.comparison import compare
from reports.measures import Measures, Values, measure
from reports.record import ProtocolCard, Record
from reports.statistics import bootstrap_intervals, p_values_against_best

Row = dict[str, Any]
"""One row: a value a column, None where it is not defined, means over seeds.

Besides there are `DETAILS`, which are drawn but not tabulated.
"""
DETAILS = {
    "by_class": "quality after the last step by label id",
    "by_class_and_step": "one quality a step of the protocol, by label id",
    "asked_seeds": "the seeds that were run, failed ones included",
    "all_by_seed": "`all` by seed",
    "comparisons": "each published counterpart, a `comparison.Comparison`",
}


def build_rows(records: Sequence[Record]) -> list[Row]:
    """The rows of one protocol and task: by kind of data and scale, then by `all` descending, failures last.

    Raises:
        ValueError: records of several protocols or tasks, or none.
    """
    names = sorted({f"{record.protocol.name} ({record.protocol.task})" for record in records})
    if len(names) != 1:
        raise ValueError(
            f"records of {len(names)} protocols {names}; a leaderboard has one, group them first"
        )
    columns = [*column_names(card_of(records)), *DETAILS]
    rows = []
    for identity, (variant, members) in variants.group(records).items():
        row = _row(sorted(members, key=lambda record: record.seed))
        row |= {"scale": identity[1], "data": identity[2], "variant": variant}
        row |= _beside_papers(row, members)
        rows.append({column: row.get(column) for column in columns})
    rows.sort(key=_rank)
    for _, section in groupby(rows, key=lambda row: (row["data"], row["scale"])):
        _relate(list(section))
    return rows


def card_of(records: Sequence[Record]) -> ProtocolCard:
    """The card on top of these records' leaderboard: should they differ, the one of most steps.

    Rows on another definition of the same name say so (`reports.variants`).
    """
    return max((record.protocol for record in records), key=lambda protocol: len(protocol.steps))


def _rank(row: Row) -> tuple[Any, ...]:
    quality = -row["all"] if row["all"] is not None else 0.0
    return (row["data"], row["scale"], row["seeds"] == 0, quality, row["method"], row["variant"])


def _row(members: list[Record]) -> Row:
    finished = [record for record in members if record.finished]
    failed = [record for record in members if not record.finished]
    reason = "; ".join(dict.fromkeys(record.reason for record in failed))
    return {
        "status": _status(len(finished), len(failed), reason),
        "metric": METRICS[members[0].protocol.task],
        "task": members[0].protocol.task,
        "seeds": len(finished),
        "asked_seeds": tuple(record.seed for record in members),
        "all_by_seed": {},
        "seed_list": " ".join(str(record.seed) for record in finished),
        "reason": reason,
        **_identity((finished or members)[0]),
        **_quality(finished),
        **_costs(finished),
    }


def _relate(rows: list[Row]) -> None:
    """Fill in what a row says of the others of its section: seeds that it lacks, distance to the best."""
    seeds = {seed for row in rows for seed in row["asked_seeds"]}
    for row in rows:
        if missing := sorted(seeds.difference(row["asked_seeds"])):
            row["status"] += f"; not run: {'seeds' if len(missing) > 1 else 'seed'} {_list(missing)}"
    ranked = [row for row in rows if not row["offline"]]
    tested = p_values_against_best([row["all_by_seed"] for row in ranked])
    for row, p_value in zip(ranked, tested, strict=True):
        row["p_value"] = p_value


def _list(numbers: Iterable[int]) -> str:
    return ", ".join(map(str, numbers))


def _status(finished: int, failed: int, reason: str) -> str:
    if not failed:
        return "ok"
    if not finished:
        return f"failed: {reason}"
    return f"{failed} of {failed + finished} seeds failed: {reason}"


def _identity(record: Record) -> Row:
    method, network = record.method, record.network
    return {
        "method": method.name,
        "title": method.title,
        "venue": method.venue,
        "year": method.year,
        "provenance": method.provenance,
        "origin": method.origin,
        "url": method.url,
        "offline": record.is_offline,
        "network": network.name if network else None,
        "backbone": network.backbone if network else None,
        "parameters": network.parameters if network else None,
        "replay_images": record.replay_images,
    }


def _quality(finished: list[Record]) -> Row:
    """Mean and `_std` of every measured column over the seeds, and the mean of each class and step."""
    if not finished:
        return {}
    measures = [measure(record) for record in finished]
    seeds = [_values(each) for each in measures]
    row: Row = {"all_by_seed": _all_by_seed(finished, seeds)}
    columns = measured_columns(finished[0].protocol)
    known = {column: [value for seed in seeds if (value := seed[column]) is not None] for column in columns}
    for column, values in known.items():
        row[column] = float(np.mean(values)) if values else None
        row[f"{column}_std"] = float(np.std(values, ddof=1)) if len(values) >= 2 else None
    for column, (low, high) in bootstrap_intervals({c: known[c] for c in INTERVALS}).items():
        row |= {f"{column}_low": low, f"{column}_high": high}
    row["by_class_and_step"] = series = _by_class_and_step(measures)
    row["by_class"] = {label: values[-1] for label, values in series.items()}
    return row


def _all_by_seed(finished: Sequence[Record], seeds: Sequence[Values]) -> dict[int, float]:
    pairs = zip(finished, seeds, strict=True)
    return {record.seed: value for record, values in pairs if (value := values["all"]) is not None}


def _beside_papers(row: Row, members: Sequence[Record]) -> Row:
    """The headline number in columns, the others in `comparisons`."""
    found = compare([record for record in members if record.finished], row)
    if not found:
        return {"comparisons": ()}
    first = found[0]
    return {
        "comparisons": tuple(found),
        "published": first.published.value,
        "difference": first.difference,
        "published_column": first.column,
        "published_source": f"{first.published.paper}: {first.published.source}",
        "published_remarks": "; ".join(first.remarks),
    }


def _by_class_and_step(measures: Sequence[Measures]) -> dict[int, tuple[float | None, ...]]:
    """None where a seed has no value."""
    labels = list(dict.fromkeys(label for each in measures for label in each.histories[-1]))
    values = [[[*map(step.get, labels)] for step in each.histories] for each in measures]
    means = np.asarray(values, dtype=np.float64).mean(axis=0)
    return {
        label: tuple(None if math.isnan(value) else value for value in series)
        for label, series in zip(labels, means.T.tolist(), strict=True)
    }


def _values(measures: Measures) -> Values:
    steps = {f"step_{index}": step["all"] if step else None for index, step in enumerate(measures.steps)}
    return {**measures.final, **measures.averages, "forgetting": measures.forgetting, **steps}


def _costs(finished: list[Record]) -> Row:
    costs = [record.cost for record in finished if record.cost is not None]
    minutes = [sum(step.train_seconds for step in cost.steps) / 60 for cost in costs]
    memory = [step.peak_memory_mb for cost in costs for step in cost.steps if step.peak_memory_mb is not None]
    return {
        "train_minutes": float(np.mean(minutes)) if minutes else None,
        "peak_memory_mb": max(memory, default=None),
    }
