"""What was asked for: one small file a run, from which `status` tells what became of it.

<runs>/asked/<protocol>/<method>/seed-<n>.json
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from reports.files import read_text, write_text

if TYPE_CHECKING:
    from benchmarks.run import Run


@dataclass(frozen=True)
class Asked:
    """A run that some command was given."""

    run: str
    """As `--only` takes it."""
    key: str
    lock: str
    record: str
    """Where its record will lie, below the runs folder."""
    steps: list[tuple[str, int]]
    """The key and the iterations of each."""
    job: str = ""
    """Of the cluster, as its tools write it."""
    log: str = ""
    """What the job says, below the runs folder."""


def note(runs: Iterable[Run], folder: Path) -> None:
    """Write down that these were asked for. A job that was submitted for the same run stays known."""
    for run in runs:
        asked, path = _of(run, folder), _path(run, folder)
        before = _read(path)
        if before is not None and before.key == asked.key:
            asked = replace(asked, job=before.job, log=before.log)
        if asked != before:
            _write(asked, path)


def note_job(run: Run, folder: Path, job: str, log: str) -> None:
    """Write down which job of the cluster is for this run."""
    _write(replace(_of(run, folder), job=job, log=log), _path(run, folder))


def known(folder: Path) -> list[Asked]:
    """All that was ever asked of this folder, by name; files that are no such notes are left out."""
    found = (_read(path) for path in sorted((folder / "asked").rglob("seed-*.json")))
    return [asked for asked in found if asked is not None]


def _of(run: Run, folder: Path) -> Asked:
    # Here, not above: they bring all of training, for which `status` would wait.
    from benchmarks.claims import lock_name
    from benchmarks.records import path_of

    return Asked(
        run=run.full_name,
        key=run.key,
        lock=lock_name(run),
        record=path_of(run, folder).relative_to(folder).as_posix(),
        steps=[(key, run.iterations(index)) for index, key in run.step_keys.items()],
    )


def _path(run: Run, folder: Path) -> Path:
    return folder / "asked" / run.place.with_suffix(".json")


def _write(asked: Asked, path: Path) -> None:
    write_text(path, json.dumps(asdict(asked)) + "\n")


def _read(path: Path) -> Asked | None:
    try:
        asked = Asked(**json.loads(read_text(path)))
        return replace(asked, steps=[(str(key), int(count)) for key, count in asked.steps])
    except (ValueError, TypeError):
        return None
