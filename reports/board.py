"""A leaderboard before it is drawn: what every format (Markdown, CSV, LaTeX, HTML, plots) is made from."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby

from reports.facts import STAND_IN, warning
from reports.record import ProtocolCard, Record
from reports.rows import Row, build_rows, card_of


@dataclass(frozen=True)
class Section:
    """What may be compared: the rows of one scale on one kind of data, best first, failures last."""

    scale: str
    """paper, mini or custom."""
    data: str
    """real or synthetic."""
    records: tuple[Record, ...]
    rows: tuple[Row, ...]

    @property
    def title(self) -> str:
        data = "synthetic stand-in data" if self.data == "synthetic" else "real data"
        return f"{self.scale} scale, {data}"


@dataclass(frozen=True)
class Board:
    """The leaderboard of one protocol and task."""

    name: str
    """The protocol's name; with its task where a user gave one name to protocols of several tasks."""
    protocol: ProtocolCard
    sections: tuple[Section, ...]

    @property
    def stem(self) -> str:
        """The name of its files."""
        return self.name.replace("/", "-")

    @property
    def rows(self) -> list[Row]:
        return [row for section in self.sections for row in section.rows]

    @property
    def warning(self) -> str:
        """What `STAND_IN` announces where data are synthetic, else ""."""
        kinds = {section.data for section in self.sections}
        return warning(self.protocol.dataset_title, len(kinds) > 1) if "synthetic" in kinds else ""

    @property
    def announcement(self) -> str:
        """The warning as the first line of a Markdown page, else ""."""
        return f"> **{STAND_IN}** {self.warning}" if self.warning else ""


def build_boards(records: Iterable[Record]) -> list[Board]:
    """One board a protocol and task, in the order of their names, whatever the order of `records`."""
    groups: dict[tuple[str, str], list[Record]] = defaultdict(list)
    for record in sorted(records, key=lambda record: (record.method.name, record.scale, record.seed)):
        groups[record.protocol.name, record.protocol.task].append(record)
    names = Counter(name for name, _ in groups)
    return [
        Board(
            name=name if names[name] == 1 else f"{name}-{task}",
            protocol=card_of(members),
            sections=_sections(members),
        )
        for (name, task), members in sorted(groups.items())
    ]


def _sections(records: Sequence[Record]) -> tuple[Section, ...]:
    by_kind = groupby(build_rows(records), key=lambda row: (row["data"], row["scale"]))
    return tuple(
        Section(
            scale=scale,
            data=data,
            records=tuple(r for r in records if (r.data.kind, r.scale) == (data, scale)),
            rows=tuple(rows),
        )
        for (data, scale), rows in by_kind
    )
