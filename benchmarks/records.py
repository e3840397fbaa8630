"""The files that a run leaves, where they lie, and whether its record stands already."""

from __future__ import annotations

import io
import shutil
import sys
from pathlib import Path

from PIL import Image

from benchmarks.run import Run
from benchmarks.samples import true_labels
from benchmarks.store import Store
from reports import record as schema
from reports.files import write_bytes
from reports.record import Record
from reports.samples import image_folder, prediction_path


def path_of(run: Run, runs: Path) -> Path:
    return runs / "records" / run.place.with_suffix(".json")


def existing(run: Run, runs: Path) -> Record | None:
    """The finished record of this very run, if it is there.

    Raises ValueError where the place is held by a record of another scale or of other data, which this run
    must not replace.
    """
    path = path_of(run, runs)
    if not path.is_file():
        return None
    try:
        record = schema.read(path)
    except ValueError as error:
        print(f"warning: {error}; running it anew, the file is kept as *.old", file=sys.stderr)
        return None
    if record.finished and (record.scale, record.data.synthetic) != (run.scale, run.dataset.is_synthetic):
        raise ValueError(
            f"{path}: holds a result of scale {record.scale} on {record.data.kind} data; "
            "use another --runs folder"
        )
    return record if record.finished and record.key == run.key else None


def failure(run: Run, runs: Path) -> str | None:
    """Why this very run failed, as its record says; None where it says no such thing."""
    try:
        record = schema.read(path_of(run, runs))
    except ValueError:
        return None
    return record.reason if record.key == run.key and not record.finished else None


def save(record: Record, run: Run, runs: Path) -> None:
    """Write the record; an older finished one of other settings or code is kept beside it as `*.json.old`."""
    path = path_of(run, runs)
    if path.is_file():
        try:
            old = schema.read(path)
        except ValueError:
            path.replace(path.with_name(f"{path.stem}.unreadable.json.old"))
        else:
            if old.finished and old.key != record.key:
                path.replace(path.with_name(f"{path.stem}.{old.key[:8]}.json.old"))
    schema.write(record, path)


def lay_out_samples(run: Run, store: Store, runs: Path) -> None:
    """Copy the stored predictions of a finished run to where the reports find them (`reports.samples`)."""
    first = len(run.asked.steps) - len(run.step_keys)  # a single step is the asked protocol's last one
    for name, sample in run.shown.items():
        folder = image_folder(runs, run.asked.name, name)
        shutil.rmtree(prediction_path(folder, run.name, run.seed, 0).parent, ignore_errors=True)
        for step, key in enumerate(run.step_keys.values(), start=first):
            if (stored := store.sample(key, name)) is not None:
                write_bytes(prediction_path(folder, run.name, run.seed, step), stored)
        if folder.is_dir():
            write_bytes(folder / "truth.png", true_labels(run.dataset, run.asked, sample).png())
            write_bytes(folder / "image.jpg", _jpeg(run.dataset.read_image(sample)))


def _jpeg(image: Image.Image) -> bytes:
    file = io.BytesIO()
    image.save(file, "JPEG", quality=92)
    return file.getvalue()
