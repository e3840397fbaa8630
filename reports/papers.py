"""Published numbers: `reports/published/*.toml`, one file a paper or source, flattened to one row a number.

A number stands here as printed. What hinders a comparison is data too: who measured it (`origin`), what is
known against it (`flags`), how background and void are counted. The README beside the files has the format.
"""

from __future__ import annotations

import math
import re
import tomllib
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

from reports.codec import FieldError, decode

FOLDER = Path(__file__).parent / "published"
TASKS = {"mIoU": "semantic", "IoU": "semantic", "PQ": "panoptic", "SQ": "panoptic", "RQ": "panoptic"}
TASKS |= {"AP": "instance"}
"""The metrics in per cent, and the task that each measures."""
MEANS = ("mIoU", "PQ", "AP")
"""A task's own metric, a mean over classes."""
LARGEST = dict.fromkeys(TASKS, 100) | {"hours": math.inf}
LARGEST |= {f"{part} loss": math.inf for part in ("total", "class", "distillation")}
"""All metrics and their largest values."""
VOID = {
    "ignored": "void pixels are not tested",
    "background": "void pixels are tested as class 0",
    "labelled": "neither void pixels nor those of classes not learnt yet are tested",
    "assigned": "as labelled, and pixels that the method assigns to no class are not tested either",
}
"""What happens at test to pixels without a class."""
ORIGINS = {
    "own": "measured by the authors of the method; for finetune and joint, of the paper",
    "rerun": "measured by others",
    "reprinted": "printed from another paper",
    "unknown": "not the authors' own, and not said whether rerun or reprinted",
}
FLAGS = {
    "inconsistent": "contradicts other numbers of the same source by more than rounding",
    "not-reproduced": "another run of the same differs by about a point or more",
    "unverified": "from memory or hearsay, not seen in the source",
    "leak": "test images were trained on",
    "other-split": "not measured on the protocol's test images",
    "other-settings": "not the settings of the method's authors",
    "best-epoch": "the best of several epochs, chosen on the test images",
}
ABSENT = "-"

_GRAMMAR = {
    "protocol": re.compile(
        r"(voc|ade|cityscapes)-(\d+-\d+|offline)(-panoptic|-instance)?(-disjoint|-partitioned)?(\+mib)?"
        r"(@[a-z0-9-]+)?"
        r"|cityscapes-domain-(11-5|11-1|1-1|offline)"
    ),
    "group": re.compile(r"old|new|all|average|\d+-\d+|step_\d+(_first|_last|_class_\d+)?"),
    "method": re.compile(r"[a-z0-9-]+(@[a-z0-9-]+)?"),
}
_COLUMN = re.compile(r"old|new|all|average|step_\d+")
_EXAMPLES = {"protocol": "voc-15-1-disjoint+mib@b", "group": "old, all, 101-110, step_0", "method": "lwf-mc"}


@dataclass(frozen=True, kw_only=True)
class PublishedValue:
    """One published number; nothing is known against it where `flags` is empty."""

    paper: str
    """The file's name: `plop` for plop.toml."""
    source: str
    """Where in the paper or repository, or which issue."""
    url: str
    method: str
    variant: str
    """What an ablation changed; "" for the method itself."""
    protocol: str
    """Our canonical name."""
    orders: tuple[str, ...]
    """The class orders averaged: one, except in MiB's ADE table."""
    metric: str
    group: str
    """old, new, all, average, label ids as 101-110, step_<t>, step_<t>_class_<channel> or step_<t>_first."""
    value: float
    background: bool
    """Whether the mean counts the background, if the group has it."""
    void: str
    origin: str
    flags: tuple[str, ...]
    note: str

    def __post_init__(self) -> None:
        for field, pattern in _GRAMMAR.items():
            if not pattern.fullmatch(getattr(self, field)):
                problem = f"{getattr(self, field)!r} is no {field}; write it as {_EXAMPLES[field]}"
                raise FieldError(field, problem)
        _among("metric", [self.metric], LARGEST)
        _among("void", [self.void], VOID)
        _among("origin", [self.origin], ORIGINS)
        _among("flags", self.flags, FLAGS)
        task = TASKS.get(self.metric, self.task)
        if task != self.task:
            problem = f"{self.protocol!r} is {self.task}, {self.metric} is not; name the {task} protocol"
            raise FieldError("protocol", problem)
        if not 0 <= self.value <= LARGEST[self.metric]:
            raise FieldError("value", f"{self.value} is not in 0..{LARGEST[self.metric]}; correct it")

    @property
    def setting(self) -> str:
        match = re.search(r"-(disjoint|partitioned|domain)\b", self.protocol)
        return match[1] if match else "overlapped"

    @property
    def task(self) -> str:
        match = re.search(r"-(panoptic|instance)\b", self.protocol)
        return match[1] if match else "semantic"

    @property
    def first_hand(self) -> bool:
        return self.origin == "own"

    @property
    def column(self) -> str:
        """The leaderboard's column that measures the same; "" where there is none."""
        if self.metric in ("SQ", "RQ"):
            return self.metric.lower() if self.group == "all" else ""
        if self.metric not in MEANS:
            return ""
        if self.metric != "mIoU":
            return self.group if _COLUMN.fullmatch(self.group) else ""
        if self.void in ("labelled", "assigned"):
            return f"{self.group}_{self.void}" if self.group in ("old", "new", "all", "average") else ""
        if self.group in ("old", "all") and not self.background:
            return f"{self.group}_no_background"
        comparable = self.group == "new" or self.background
        return self.group if comparable and _COLUMN.fullmatch(self.group) else ""


@dataclass(frozen=True, kw_only=True)
class _Remark:
    """Holds for the cells of `methods` in `columns`; for all where one is empty."""

    methods: tuple[str, ...] = ()
    columns: tuple[str, ...] = ()
    flags: tuple[str, ...] = ()
    note: str = ""


@dataclass(frozen=True, kw_only=True)
class _Table:
    """Either `protocol` or `group` is given; `columns` lists the other."""

    source: str
    protocol: str = ""
    group: str = ""
    columns: tuple[str, ...]
    metric: str = "mIoU"
    orders: tuple[str, ...] = ()
    background: bool
    void: str
    origin: Mapping[str, str]
    values: Mapping[str, tuple[Any, ...]]
    remarks: tuple[_Remark, ...] = ()


@dataclass(frozen=True, kw_only=True)
class _Paper:
    title: str
    url: str
    table: tuple[_Table, ...]


def published(protocol: str | None = None, metric: str | None = None) -> tuple[PublishedValue, ...]:
    """All published mIoU, PQ and AP, or all of `metric`; or those of one protocol, by its canonical name."""
    metrics = MEANS if metric is None else (metric,)
    return tuple(row for row in _all() if row.metric in metrics and protocol in (None, row.protocol))


@cache
def _all() -> tuple[PublishedValue, ...]:
    return tuple(row for path in sorted(FOLDER.glob("*.toml")) for row in read_paper(path))


def read_paper(path: Path) -> tuple[PublishedValue, ...]:
    """The numbers of one file, in its order.

    Raises:
        ValueError: one line with the file, the table (counted from 0) and its field, and the remedy.
    """
    try:
        raw = tomllib.loads(path.read_text(encoding="utf-8"))
        defaults = raw.pop("defaults", {})
        raw["table"] = [{**defaults, **table} for table in raw.get("table", [])]
        paper: _Paper = decode(_Paper, raw)
        rows = [row for i, table in enumerate(paper.table) for row in _rows(path.stem, paper.url, table, i)]
        _check_unique(rows)
    except FieldError as error:
        raise ValueError(f"{path}: {error}".removesuffix(" or rerun the benchmark")) from None
    except (OSError, ValueError, TypeError) as error:
        raise ValueError(f"{path}: not TOML with [[table]]s ({error}); correct the file") from None
    return tuple(rows)


def _rows(paper: str, url: str, table: _Table, index: int) -> Iterator[PublishedValue]:
    where = f"table[{index}]"
    if bool(table.protocol) == bool(table.group):
        raise FieldError(where, "give either protocol (columns are groups) or group (columns are protocols)")
    for name, values in table.values.items():
        field = f"{where}.values.{name}"
        if len(values) != len(table.columns):
            problem = f'{len(values)} values for {len(table.columns)} columns; write "{ABSENT}" for a dash'
            raise FieldError(field, problem)
        for column, value in zip(table.columns, values, strict=True):
            if value == ABSENT:
                continue
            if type(value) not in (int, float):
                raise FieldError(field, f'{value!r} is no number; write "{ABSENT}" for a dash')
            try:
                yield _row(paper, url, table, name, column, value)
            except FieldError as error:
                raise FieldError(f"{field}, {column}", str(error)) from None
    for remark in table.remarks:
        _among(f"{where}.remarks.methods", remark.methods, table.values)
        _among(f"{where}.remarks.columns", remark.columns, table.columns)


def _row(paper: str, url: str, table: _Table, name: str, column: str, value: float) -> PublishedValue:
    method, _, variant = name.removesuffix("]").partition("[")
    protocol, group = (table.protocol, column) if table.protocol else (column, table.group)
    remarks = [r for r in table.remarks if name in (r.methods or [name])]
    remarks = [r for r in remarks if column in (r.columns or [column])]
    return PublishedValue(
        paper=paper,
        source=table.source,
        url=url,
        method=method,
        variant=variant,
        protocol=protocol,
        orders=table.orders or (protocol.partition("@")[2] or "a",),
        metric=table.metric,
        group=group.removesuffix("_no_background"),
        value=float(value),
        background=table.background and not group.endswith("_no_background"),
        void=table.void,
        origin=table.origin.get(method, ""),
        flags=tuple(dict.fromkeys(flag for remark in remarks for flag in remark.flags)),
        note="; ".join(remark.note for remark in remarks if remark.note),
    )


def _check_unique(rows: list[PublishedValue]) -> None:
    seen = set()
    for row in rows:
        cell = replace(row, value=0.0, flags=(), note="")
        if cell in seen:
            problem = f"{row.group} of {row.protocol} is there twice; remove one, or tell their sources apart"
            raise FieldError(f"{row.source}, {row.method}", problem)
        seen.add(cell)


def _among(field: str, words: Iterable[str], known: Collection[str]) -> None:
    for word in words:
        if word not in known:
            raise FieldError(field, f"{word!r} is unknown; use {', '.join(known)}")
