"""Writing to disk so that a kill, a full disk or a folder that can only be read leaves nothing half done."""

from __future__ import annotations

import errno
import hashlib
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from tqdm import tqdm

_PIECE = 1 << 20
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_FORBIDDEN = (errno.EACCES, errno.EPERM, errno.EROFS)


@contextmanager
def atomic(path: Path) -> Iterator[IO[bytes]]:
    """A file to write to that gets its name `path` when all went well.

    Until then its name is always the same, so that what a kill leaves behind is written over.
    """
    scratch = path.with_name(f".{path.name}.part")
    try:
        with scratch.open("wb") as file:
            yield file
        scratch.replace(path)
    except BaseException:
        scratch.unlink(missing_ok=True)
        raise


@contextmanager
def plain_errors(folder: Path) -> Iterator[None]:
    """What a disk refuses becomes a ValueError of one line; it names `folder` where the error has no file."""
    try:
        yield
    except OSError as error:
        where = error.filename or folder
        if error.errno in _FULL:
            raise ValueError(
                f"{where}: the disk is full: make room and run the same command again, it goes on from here"
            ) from None
        if error.errno in _FORBIDDEN:
            raise ValueError(
                f"{where}: no permission ({error.strerror}): change it, or choose another data root"
            ) from None
        raise


def is_disk_error(error: BaseException) -> bool:
    """Whether a disk is at fault, where the same call also talks to a server."""
    return isinstance(error, OSError) and error.errno in (*_FULL, *_FORBIDDEN)


def check_space(folder: Path, needed: int, what: str) -> None:
    """ValueError where `needed` bytes do not fit; makes the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise ValueError(
            f"{folder}: {what} needs {needed / 1e6:,.0f} MB, {free / 1e6:,.0f} MB are free: make room "
            "or choose another data root"
        )


def file_hash(path: Path, algorithm: str) -> str:
    """Hex digest of a file that may be many GB."""
    digest = hashlib.new(algorithm, usedforsecurity=False)
    with (
        path.open("rb") as file,
        tqdm(
            total=path.stat().st_size,
            desc=f"checking {path.name}",
            unit="B",
            unit_scale=True,
            disable=None,
            leave=False,
        ) as progress,
    ):
        while piece := file.read(_PIECE):
            digest.update(piece)
            progress.update(len(piece))
    return digest.hexdigest()


def count_files(folder: Path, suffix: str) -> int:
    """How many files in `folder` end in `suffix`, those of macOS and half-written ones aside."""
    if not folder.is_dir():
        return 0
    return sum(path.name.endswith(suffix) and not path.name.startswith(".") for path in folder.iterdir())
