"""Unpacking zip and tar: resumable, within limits, and never outside the folder meant for it."""

from __future__ import annotations

import errno
import gzip
import lzma
import shutil
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path, PurePosixPath
from typing import IO, NamedTuple

from tqdm import tqdm

from protocols.prepare.disk import atomic, check_space

DEFAULT_LIMIT = 8_000_000_000
"""Bytes that an archive may hold. VOC 2012, SBD and ADE20K hold 1 to 3 GB."""
_MOST_FILES = 500_000
_ENCRYPTED = 1
_BROKEN = (
    *(zipfile.BadZipFile, tarfile.TarError, zlib.error, lzma.LZMAError, gzip.BadGzipFile),
    *(EOFError, NotImplementedError),
)


class Member(NamedTuple):
    """One regular file of an archive."""

    name: str
    size: int
    open: Callable[[], IO[bytes]]


def extract(
    archive: Path, top: str, folder: Path, only: tuple[str, ...] = (), limit: int = DEFAULT_LIMIT
) -> int:
    """Unpack what lies below `top` in the archive to `folder`; returns the number of files.

    `only` names the files and folders in `top` that are wanted, all when empty. A file that is there in its
    full size stays, and none has its name before it is complete, so a killed extraction goes on where it was.
    Links, and everything outside `top`, are left out. ValueError for an archive that is damaged, holds a path
    out of the folder or more than `limit` bytes, or where the disk is too small.
    """
    with _one_line_errors(archive), _opened(archive) as members:
        wanted = []
        for member in _limited(members, archive, limit):
            inner = _below(top, member, archive)
            if inner and (not only or any(inner.is_relative_to(name) for name in only)):
                wanted.append((folder / inner, member))
        missing = [(path, member) for path, member in wanted if not _is_complete(path, member)]
        check_space(folder, sum(member.size for _, member in missing), archive.name)
        for path, member in tqdm(missing, desc=f"unpacking {archive.name}", unit="file", disable=None):
            _write(path, member)
    if not wanted:
        raise ValueError(f"{archive}: it holds no folder {top}: is it the official archive?")
    return len(wanted)


def top_folders(archive: Path, most: int = 1000) -> list[str]:
    """The first parts of the names of its first `most` files. ValueError if it is damaged there."""
    with _one_line_errors(archive), _opened(archive) as members:
        names = (_parts(member, archive) for member in islice(members, most))
        return list(dict.fromkeys(parts[0] for parts in names if parts))


@contextmanager
def _one_line_errors(archive: Path) -> Iterator[None]:
    try:
        yield
    except (*_BROKEN, OSError) as error:
        if isinstance(error, OSError) and error.errno not in (None, errno.EINVAL):
            raise  # the disk's; bz2 raises one without a number, zipfile seeks to impossible places
        reason = " ".join(str(error).split()) or type(error).__name__
        raise ValueError(
            f"{archive}: this archive is damaged ({reason}): fetch it again, or remove it, "
            "and run the same command"
        ) from None


@contextmanager
def _opened(path: Path) -> Iterator[Iterator[Member]]:
    """The regular files of a zip or tar, in their order, read as they are asked for."""
    with path.open("rb") as file:
        is_zip = file.read(2) == b"PK"
    if is_zip:
        with zipfile.ZipFile(path) as archive:
            yield (
                Member(info.filename, info.file_size, lambda info=info: archive.open(info))  # type: ignore[misc]
                for info in archive.infolist()
                if not info.is_dir() and not _is_encrypted(info)
            )
    else:
        with tarfile.open(path) as tar:
            yield (
                Member(info.name, info.size, lambda info=info: tar.extractfile(info))  # type: ignore[misc, arg-type]
                for info in tar
                if info.isfile()
            )


def _is_encrypted(info: zipfile.ZipInfo) -> bool:
    if info.flag_bits & _ENCRYPTED:
        raise zipfile.BadZipFile(f"{info.filename} is encrypted")
    return False


def _limited(members: Iterator[Member], archive: Path, limit: int) -> Iterator[Member]:
    """The members, as long as they are not too much: sizes are known before anything is unpacked."""
    total = 0
    for number, member in enumerate(members, start=1):
        total += member.size
        if total > limit or number > _MOST_FILES:
            raise ValueError(
                f"{archive}: it holds more than {limit / 1e9:.1f} GB or {_MOST_FILES} files, more than the "
                "official archive: do not use it"
            )
        yield member


def _below(top: str, member: Member, archive: Path) -> PurePosixPath | None:
    """The member's path below `top`, or None outside it, or for a hidden file as macOS adds them."""
    path = PurePosixPath(*_parts(member, archive))
    if path.name.startswith(".") or path == PurePosixPath(top) or not path.is_relative_to(top):
        return None
    return path.relative_to(top)


def _parts(member: Member, archive: Path) -> tuple[str, ...]:
    """Of the member's path. ValueError for one that leads out of the folder."""
    path = PurePosixPath(member.name.replace("\\", "/"))
    if path.is_absolute() or ".." in path.parts or any(":" in part for part in path.parts[:1]):
        raise ValueError(
            f"{archive}: it holds the path {member.name!r}, which leads elsewhere: do not use it"
        )
    return path.parts


def _is_complete(path: Path, member: Member) -> bool:
    return path.is_file() and path.stat().st_size == member.size


def _write(path: Path, member: Member) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic(path) as file, member.open() as source:
        shutil.copyfileobj(source, file)
