"""Finished steps on disk, addressed by the hash of everything they depend on.

    <store>/<key>/state.safetensors     what later steps need: `Method.tensors()`
    <store>/<key>/measured.safetensors  what is finer than the counts of a record: the confusion matrix
    <store>/<key>/samples/<image>.png   predictions of a few test images, as `reports.samples` describes them
    <store>/<key>/step.json             what was measured
    <store>/<key>.partial.safetensors   the last checkpoint of a step in training
    <store>/locks/<key>/                who trains it: `benchmarks.locks`

Every write goes to a temporary name first and is renamed, so a kill leaves no half-written step.
"""

from __future__ import annotations

import json
import shutil
import sys
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from benchmarks.locks import Holder, Locks
from reports.files import CannotWrite
from reports.record import Counts, counts_from_json
from reports.samples import LabelMap


@dataclass(frozen=True)
class FinishedStep:
    """What a step leaves beside its weights."""

    trained_by: str
    """The run that trained it: "<method>/seed-<n>"."""
    iterations: int
    final_loss: dict[str, float]
    """Each named loss, mean over the last (at most 50) iterations."""
    counts: Counts
    train_seconds: float
    eval_seconds: float
    peak_memory_mb: float
    """Of the process that needed most."""

    @classmethod
    def from_json(cls, plain: dict[str, Any]) -> FinishedStep:
        """Of what `dataclasses.asdict` made of one."""
        return cls(**{**plain, "counts": counts_from_json(plain["counts"])})


@dataclass(frozen=True)
class Checkpoint:
    """A step in training."""

    tensors: dict[str, Tensor]
    progress: dict[str, Any]


class Store:
    """A folder of finished steps; several runs, and reruns, share it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.locks = Locks(folder / "locks")

    @contextmanager
    def claimed(self, key: str, waits: Callable[[Holder], None]) -> Iterator[bool]:
        """Whether the caller is to make the step, alone; False once it is there, whoever made it.

        Waits while another runner is at it; `waits` is told who that is.
        """
        with self.locks.hold(key, partial(self.has, key), waits) as lock:
            if lock is not None:
                self._remove_leftovers(key)
            yield lock is not None

    def _remove_leftovers(self, key: str) -> None:
        """What killed runners left half written; the caller holds the lock."""
        for path in [*self.folder.glob(f"{key}.tmp-*"), *self.folder.glob(f"{key}.partial.tmp-*")]:
            shutil.rmtree(path, ignore_errors=True)

    def has(self, key: str) -> bool:
        return (self.folder / key / "step.json").is_file()

    def finished(self, key: str) -> FinishedStep:
        return FinishedStep.from_json(json.loads((self.folder / key / "step.json").read_text()))

    def tensors(self, key: str) -> dict[str, Tensor]:
        """Raises ValueError where the file is damaged."""
        path = self.folder / key / "state.safetensors"
        try:
            return load_file(path)
        except (SafetensorError, OSError) as error:
            raise ValueError(
                f"{path}: damaged ({error}); delete the folder {path.parent} and rerun"
            ) from error

    def sample(self, key: str, name: str) -> bytes | None:
        """The PNG of a test image's prediction; None in a step that was stored before any was kept."""
        path = self.folder / key / "samples" / f"{name}.png"
        return path.read_bytes() if path.is_file() else None

    def save(
        self,
        key: str,
        tensors: dict[str, Tensor],
        measured: dict[str, Tensor],
        samples: Mapping[str, LabelMap],
        step: FinishedStep,
    ) -> None:
        """Write a finished step and drop its checkpoint. Raises CannotWrite, and leaves nothing then."""
        temporary = self._temporary(key)
        with _whole_or_not(temporary):
            temporary.mkdir(parents=True)
            save_file(packed(tensors), temporary / "state.safetensors")
            if measured:
                save_file(packed(measured), temporary / "measured.safetensors")
            (temporary / "samples").mkdir()
            for name, prediction in samples.items():
                (temporary / "samples" / f"{name}.png").write_bytes(prediction.png())
            (temporary / "step.json").write_text(json.dumps(asdict(step)))
            self._install(temporary, key)
        self._partial(key).unlink(missing_ok=True)

    def _install(self, temporary: Path, key: str) -> None:
        """Give the folder its name, unless another runner was quicker: the same bits."""
        if not self.has(key):
            shutil.rmtree(self.folder / key, ignore_errors=True)
        try:
            temporary.replace(self.folder / key)
        except OSError:
            if not self.has(key):
                raise

    def _temporary(self, name: str) -> Path:
        """A name of this process alone, among all machines that share the folder."""
        return self.folder / f"{name}.tmp-{uuid.uuid4().hex}"

    def save_checkpoint(self, key: str, checkpoint: Checkpoint) -> None:
        """Raises CannotWrite, and leaves the checkpoint before as it was then."""
        temporary = self._temporary(f"{key}.partial")
        with _whole_or_not(temporary):
            temporary.mkdir(parents=True)
            metadata = {"progress": json.dumps(checkpoint.progress)}
            save_file(packed(checkpoint.tensors), temporary / "checkpoint.safetensors", metadata=metadata)
            (temporary / "checkpoint.safetensors").replace(self._partial(key))

    def checkpoint(self, key: str) -> Checkpoint | None:
        """The last checkpoint of an unfinished step; None where there is none, or none that can be read."""
        path = self._partial(key)
        if not path.is_file():
            return None
        try:
            with safe_open(path, framework="pt") as file:
                progress = json.loads((file.metadata() or {})["progress"])
                return Checkpoint({name: file.get_tensor(name) for name in file.keys()}, progress)  # noqa: SIM118
        except (SafetensorError, KeyError, json.JSONDecodeError) as error:
            print(f"{path}: damaged checkpoint ({error}); the step starts afresh", file=sys.stderr)
            return None

    def iteration(self, key: str) -> int | None:
        """After which iteration the last checkpoint was written; None where there is none to read."""
        try:
            with safe_open(self._partial(key), framework="pt") as file:
                return int(json.loads((file.metadata() or {})["progress"])["iteration"])
        except (SafetensorError, OSError, KeyError, ValueError):
            return None

    def _partial(self, key: str) -> Path:
        return self.folder / f"{key}.partial.safetensors"


@contextmanager
def _whole_or_not(temporary: Path) -> Iterator[None]:
    """Afterwards the folder `temporary`, which is made within, is gone. Raises CannotWrite."""
    shutil.rmtree(temporary, ignore_errors=True)
    try:
        yield
    except (OSError, SafetensorError) as error:
        raise CannotWrite.at(temporary.parent, error) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def packed(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """safetensors wants contiguous tensors that share no memory."""
    return {name: tensor.detach().cpu().clone().contiguous() for name, tensor in tensors.items()}
