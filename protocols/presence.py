"""Which label id is in which mask: one (N, 256) boolean table a list of samples, built once and cached."""

from __future__ import annotations

import hashlib
import multiprocessing
import os
import tempfile
import zipfile
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path

import numpy as np
import numpy.typing as npt
from tqdm import tqdm

from protocols.datasets import Dataset, Sample
from protocols.datasets.segment_table import Counts

_VERSION = 1
_CHUNK = 128
_WORTH_A_PROCESS = 750  # masks, about a third of a second: what starting a process costs

Presence = npt.NDArray[np.bool_]


def presence(dataset: Dataset, samples: Sequence[Sample], cache_dir: Path, workers: int = 1) -> Presence:
    """(N, 256) bool: entry [i, v] says whether the mask of sample i shows label id v.

    Taken from `cache_dir` when none of the masks has changed since (path, size, time), counted otherwise and
    written there. ValueError or FileNotFoundError for a bad mask, or a cache folder that cannot be written.
    """
    path = cache_dir / f"presence-{dataset.key}-{_digest(dataset, samples)}.npz"
    cached = _load(path, len(samples))
    if cached is not None:
        return cached
    table = count(dataset, samples, workers)
    _save(path, table)
    return table


def segment_counts(dataset: Dataset, split: str, task: str) -> Counts:
    """(N, 256): how many segments of each label id the images of a split have, from the JSON file alone."""
    stems = [sample.mask.stem for sample in dataset.samples(split)]
    return dataset.segment_table(split, task).counts(stems)


def count(dataset: Dataset, samples: Sequence[Sample], workers: int = 1) -> Presence:
    """(N, 256) bool, opening every mask, in `workers` processes."""
    chunks = [samples[i : i + _CHUNK] for i in range(0, len(samples), _CHUNK)]
    with tqdm(total=len(samples), desc=f"reading {dataset.key} masks", delay=1, disable=None) as progress:
        rows = []
        for chunk in _rows(dataset, chunks, min(workers, len(samples) // _WORTH_A_PROCESS)):
            rows.append(np.unpackbits(chunk, axis=1).astype(bool))
            progress.update(len(chunk))
    return np.concatenate(rows)


def _rows(dataset: Dataset, chunks: list[Sequence[Sample]], workers: int) -> Iterator[npt.NDArray[np.uint8]]:
    done = 0
    if workers > 1:
        # Spawn, not fork: the caller may already run threads of torch. The workers import no torch.
        context = multiprocessing.get_context("spawn")
        try:
            with ProcessPoolExecutor(workers, mp_context=context) as pool:
                for rows in pool.map(_count_chunk, [dataset] * len(chunks), chunks):
                    yield rows
                    done += 1
        except BrokenProcessPool:
            pass  # no room for processes here (or a script without a main guard): count the rest ourselves
    for chunk in chunks[done:]:
        yield _count_chunk(dataset, chunk)


def _count_chunk(dataset: Dataset, samples: Sequence[Sample]) -> npt.NDArray[np.uint8]:
    """(n, 32) packed bits."""
    return np.packbits([dataset.label_values(sample) for sample in samples], axis=1)


def _digest(dataset: Dataset, samples: Sequence[Sample]) -> str:
    """Changes with every list entry, mask (relative path, size, time) and way to read label ids from it."""
    digest = hashlib.sha256(f"{_VERSION}\0{dataset.key}\0".encode())
    digest.update(dataset.raw_to_label().tobytes())
    root = str(dataset.root)
    for sample in samples:
        try:
            state = sample.mask.stat()
        except OSError:
            raise FileNotFoundError(
                f"{sample.mask}: this mask is in the list but not on disk: restore it"
            ) from None
        relative = str(sample.mask).removeprefix(root)
        digest.update(f"{relative}\0{state.st_size}\0{state.st_mtime_ns}\n".encode())
    return digest.hexdigest()[:32]


def _load(path: Path, num_samples: int) -> Presence | None:
    """The cached table, or None when there is none or it is damaged."""
    try:
        with np.load(path, allow_pickle=False) as archive:
            packed = archive["presence"]
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        return None
    if packed.shape != (num_samples, 32) or packed.dtype != np.uint8:
        return None
    return np.unpackbits(packed, axis=1).astype(bool)


def _save(path: Path, table: Presence) -> None:
    """Write beside `path` and rename, so that a kill leaves no half file under its name."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, scratch = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}-")
        try:
            with os.fdopen(handle, "wb") as file:
                np.savez_compressed(file, presence=np.packbits(table, axis=1))
            Path(scratch).replace(path)
        except BaseException:
            Path(scratch).unlink(missing_ok=True)
            raise
    except OSError as error:
        raise ValueError(
            f"{path.parent}: cannot write the index of masks ({error.strerror}): choose another folder"
        ) from None
