"""Unpacking zip and tar: resumable, and never outside the folder meant for it."""

from __future__ import annotations

import shutil
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import IO, NamedTuple

from tqdm import tqdm

_BROKEN = (zipfile.BadZipFile, tarfile.TarError, zlib.error, EOFError)


class Member(NamedTuple):
    """One regular file of an archive."""

    name: str
    size: int
    open: Callable[[], IO[bytes]]


def extract(archive: Path, top: str, folder: Path) -> int:
    """Unpack what lies below `top` in the archive to `folder`; returns the number of files.

    A file that is there in its full size stays, and none has its name before it is complete, so a killed
    extraction goes on where it was. Everything outside `top` is left out. ValueError for an archive that is
    damaged or holds a path out of the folder, or where the disk is too small.
    """
    try:
        with _opened(archive) as members:
            wanted = [
                (folder / inner, member) for member in members if (inner := _below(top, member, archive))
            ]
            missing = [(path, member) for path, member in wanted if not _is_complete(path, member)]
            _check_space(archive, folder, sum(member.size for _, member in missing))
            for path, member in tqdm(missing, desc=f"unpacking {archive.name}", unit="file", disable=None):
                _write(path, member)
    except _BROKEN as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise ValueError(
            f"{archive}: this archive is damaged ({reason}): remove it and run the same command again"
        ) from None
    if not wanted:
        raise ValueError(f"{archive}: it holds no folder {top}: is it the official archive?")
    return len(wanted)


@contextmanager
def _opened(path: Path) -> Iterator[list[Member]]:
    """The regular files of a zip or tar, in their order."""
    if path.suffix == ".zip":
        with zipfile.ZipFile(path) as archive:
            yield [
                Member(info.filename, info.file_size, lambda info=info: archive.open(info))  # type: ignore[misc]
                for info in archive.infolist()
                if not info.is_dir()
            ]
    else:
        with tarfile.open(path) as tar:
            yield [
                Member(info.name, info.size, lambda info=info: tar.extractfile(info))  # type: ignore[misc, arg-type]
                for info in tar.getmembers()
                if info.isfile()
            ]


def _below(top: str, member: Member, archive: Path) -> PurePosixPath | None:
    """The member's path below `top`, or None outside it, or for a hidden file as macOS adds them."""
    path = PurePosixPath(member.name.replace("\\", "/"))
    if path.is_absolute() or ".." in path.parts or ":" in path.parts[0]:
        raise ValueError(
            f"{archive}: it holds the path {member.name!r}, which leads elsewhere: do not use it"
        )
    if path.parts[0] != top or len(path.parts) < 2 or path.name.startswith("."):
        return None
    return path.relative_to(top)


def _is_complete(path: Path, member: Member) -> bool:
    return path.is_file() and path.stat().st_size == member.size


def _check_space(archive: Path, folder: Path, needed: int) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise ValueError(
            f"{folder}: {archive.name} needs {needed / 1e9:.1f} GB, {free / 1e9:.1f} GB are free: make room "
            "or choose another data root"
        )


def _write(path: Path, member: Member) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic(path) as file, member.open() as source:
        shutil.copyfileobj(source, file)


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
