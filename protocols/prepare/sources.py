"""What a data set is made of: archives that the user has or that are fetched, and where they go."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path, PurePath
from typing import NamedTuple

from filelock import FileLock, Timeout

from protocols.datasets import DATASETS, STANDIN_MARKER, Dataset, find
from protocols.prepare.archives import DEFAULT_LIMIT, extract, top_folders
from protocols.prepare.disk import file_hash, plain_errors
from protocols.prepare.download import download

Say = Callable[[str], None]


class Archive(NamedTuple):
    """A file that its authors publish."""

    name: str
    top: str
    """The folder in it whose content is taken."""
    below: str = "."
    """Where that goes in the data set's folder."""
    only: tuple[str, ...] = ()
    """What is taken of it; all when empty."""
    urls: tuple[str, ...] = ()
    """The authors' first, then mirrors; none where it cannot be fetched."""
    terms: str = ""
    """Said before it is fetched."""
    hash: tuple[str, str] | None = None
    """Algorithm and hex digest; None: nobody has published one."""
    limit: int = DEFAULT_LIMIT
    """Bytes that it may hold."""


class Part(NamedTuple):
    """What a data set needs, and the archives of which each brings it."""

    archives: tuple[Archive, ...]
    """The last is fetched where none is there."""
    lacks: Callable[[Path], str]
    """The data set's folder -> what is missing in it, in words; empty when all is there."""


class Source(NamedTuple):
    """One data set of `prepare` and `verify`."""

    name: str
    """On the command line."""
    key: str
    top: str
    """Its usual folder in a data root."""
    parts: tuple[Part, ...]
    finish: Callable[[Path, int], None]
    """(data set's folder, workers): makes what no archive holds."""
    check: Callable[[Dataset, Say, int], list[str]]
    """(data set, say, workers): problems beyond single photographs and masks."""
    how_to_get: str = ""
    """For archives that cannot be fetched."""

    @property
    def archives(self) -> tuple[Archive, ...]:
        return tuple(archive for part in self.parts for archive in part.archives)

    def folder(self, data_root: Path) -> Path:
        """Where the data set lies in `data_root`, or is to lie."""
        found = find(self.key, data_root)
        if found is not None:
            return found.root
        parts = PurePath(self.top).parts
        return data_root.joinpath(*parts[parts.index(data_root.name) + 1 if data_root.name in parts else 0 :])


def prepare(
    source: Source, data_root: Path, given: Sequence[Path] = (), workers: int | None = None, say: Say = print
) -> Dataset:
    """Unpack, fetch and convert what is not there yet; returns the data set.

    `given` are archives anywhere on disk. A kill loses the file in work. ValueError, FileNotFoundError or
    ConnectionError in one line that names the file and the remedy.
    """
    root = source.folder(data_root)
    if (root / STANDIN_MARKER).is_file():
        raise ValueError(f"{root} is a synthetic stand-in, complete as it is: choose another data root")
    paths = [(_recognise(path, source), path) for path in given]
    with plain_errors(root), _alone(data_root, source):
        for part in source.parts:
            _provide(part, source, root, data_root, paths, say)
        source.finish(root, workers or os.cpu_count() or 1)
    return DATASETS[source.key](root)


def find_archive(archive: Archive, root: Path, data_root: Path) -> Path | None:
    """The archive in the data root, beside the data set or in it."""
    places = (folder / archive.name for folder in (data_root, root.parent, root))
    return next((place for place in places if place.is_file()), None)


def check_archives(source: Source, root: Path, data_root: Path, say: Say) -> Iterator[str]:
    """Which of the archives that are still there are not the published ones."""
    for archive in source.archives:
        path = find_archive(archive, root, data_root)
        if path is None:
            say(f"{archive.name}: not here, so not checked")
        elif archive.hash is None:
            say(f"{archive.name}: SHA-256 {file_hash(path, 'sha256')}; no published hash to compare it with")
        elif difference := _other_hash(archive, path):
            yield f"{path}: {difference}: remove it and run `prepare {source.name}` again"
        else:
            say(f"{archive.name}: {archive.hash[0].upper()} as published")


def _recognise(path: Path, source: Source) -> Archive:
    """Which of the source's archives this is, by the folders in it: its name may be any."""
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such archive: correct --from-archive")
    with plain_errors(path):
        tops = top_folders(path)
    for archive in source.archives:
        if PurePath(archive.top).parts[0] in tops:
            return archive
    names = ", ".join(archive.name for archive in source.archives)
    raise ValueError(f"{path}: it holds {', '.join(tops[:5]) or 'no file'}, so it is none of {names}")


@contextmanager
def _alone(data_root: Path, source: Source) -> Iterator[None]:
    """Hold the lock: two at once would write the same scratch files. A killed process releases it."""
    data_root.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(data_root / f".prepare-{source.name}.lock", timeout=0):
            yield
    except Timeout:
        raise ValueError(
            f"{data_root}: another `prepare {source.name}` is at work here: wait for it to end"
        ) from None


def _provide(
    part: Part, source: Source, root: Path, data_root: Path, given: list[tuple[Archive, Path]], say: Say
) -> None:
    """Make `part` complete from an archive that is given, one that lies about, or one that is fetched."""
    if not part.lacks(root):
        return
    lying = ((archive, find_archive(archive, root, data_root)) for archive in part.archives)
    here = [*((archive, path) for archive, path in given if archive in part.archives), *lying]
    archive, path = next(
        ((archive, path) for archive, path in here if path is not None), (part.archives[-1], None)
    )
    if path is None:
        path = _fetch(archive, source, data_root, say)
    elif difference := _other_hash(archive, path):
        print(f"warning: {path}: {difference}; going on with it", file=sys.stderr)
    extract(path, archive.top, root / archive.below, archive.only, archive.limit)
    if lacks := part.lacks(root):
        raise ValueError(f"{path}: unpacked, but {lacks}: is it the whole official archive {archive.name}?")


def _fetch(archive: Archive, source: Source, data_root: Path, say: Say) -> Path:
    if not archive.urls:
        raise FileNotFoundError(f"{archive.name} is not in {data_root}: {source.how_to_get}")
    say(f"fetching {archive.name}. {archive.terms}")
    path = data_root / archive.name
    download(archive.urls, path)
    if difference := _other_hash(archive, path):
        path.unlink()
        raise ValueError(f"{path}: fetched, but {difference}, so it was removed: run the same command again")
    return path


def _other_hash(archive: Archive, path: Path) -> str:
    """How the file differs from the published one; empty if it does not, or nobody has published a hash."""
    if archive.hash is None or file_hash(path, archive.hash[0]) == archive.hash[1]:
        return ""
    return f"not the published file (its {archive.hash[0].upper()} is not {archive.hash[1]})"
