"""What all data sets share: archives that are recognised, fetched and checked, and what a disk refuses."""

from __future__ import annotations

import errno
import hashlib
import io
import os
import tarfile
from collections.abc import Sequence
from pathlib import Path

import pytest
from filelock import FileLock

from benchmarks.cli import main
from benchmarks.commands import data
from protocols.datasets import DATASETS
from protocols.prepare import disk, sources, voc
from protocols.prepare.sources import Archive, Part, Source, prepare

ARCHIVE = Archive(
    name="small.tar",
    top="top",
    below="SegmentationClass",
    urls=("http://first/small.tar", "http://mirror/small.tar"),
    terms="Be kind.",
)


def tar_of(names: Sequence[str]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for name in names:
            tar.addfile(tarfile.TarInfo(name), io.BytesIO(b""))
    return buffer.getvalue()


def source(archive: Archive = ARCHIVE, wanted: int = 2) -> Source:
    def lacks(root: Path) -> str:
        found = disk.count_files(root / archive.below, ".png")
        return "" if found >= wanted else f"{found} of {wanted} masks"

    def finish(root: Path, workers: int) -> None:
        (root / "ImageSets" / "Segmentation").mkdir(parents=True, exist_ok=True)

    return Source(
        name="voc",
        key="voc",
        top="VOCdevkit/VOC2012",
        parts=(Part((archive,), lacks),),
        finish=finish,
        check=lambda *_: [],
    )


@pytest.fixture
def served(monkeypatch: pytest.MonkeyPatch) -> list[Sequence[str]]:
    """What is fetched; two masks arrive."""
    asked: list[Sequence[str]] = []

    def fetch(urls: Sequence[str], path: Path) -> None:
        asked.append(urls)
        path.write_bytes(tar_of(["top/a.png", "top/b.png"]))

    monkeypatch.setattr(sources, "download", fetch)
    return asked


def test_what_is_fetched_is_announced_once_and_checked(
    served: list[Sequence[str]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    content = tar_of(["top/a.png", "top/b.png"])
    right = ARCHIVE._replace(hash=("md5", hashlib.md5(content, usedforsecurity=False).hexdigest()))
    prepare(source(right), tmp_path, workers=1)
    prepare(source(right), tmp_path, workers=1)
    assert served == [ARCHIVE.urls]
    assert capsys.readouterr().out.count("fetching small.tar. Be kind.") == 1
    assert (tmp_path / "VOCdevkit/VOC2012/SegmentationClass/a.png").is_file()


def test_what_arrives_damaged_is_removed(served: list[Sequence[str]], tmp_path: Path) -> None:
    wrong = ARCHIVE._replace(hash=("sha256", "0" * 64))
    with pytest.raises(ValueError, match=r"fetched, but not the published file \(its SHA256 is not 0+\)"):
        prepare(source(wrong), tmp_path, workers=1)
    assert not (tmp_path / ARCHIVE.name).exists() and not (tmp_path / "VOCdevkit").exists()


def test_an_archive_in_the_data_root_is_found_by_its_name(
    served: list[Sequence[str]], tmp_path: Path
) -> None:
    (tmp_path / ARCHIVE.name).write_bytes(tar_of(["top/a.png", "top/b.png"]))
    prepare(source(), tmp_path, workers=1)
    assert not served


@pytest.mark.parametrize("root", ["VOC2012", "VOCdevkit", "data"])
def test_the_data_root_may_be_a_folder_of_the_data_set(
    root: str, served: list[Sequence[str]], tmp_path: Path
) -> None:
    found = prepare(source(), tmp_path / root, workers=1).root
    inside = {"VOC2012": "", "VOCdevkit": "VOC2012", "data": "VOCdevkit/VOC2012"}
    assert found == tmp_path / root / inside[root]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (
            tar_of(["ADEChallengeData2016/a", "b"]),
            "it holds ADEChallengeData2016, b, so it is none of small.tar",
        ),
        (tar_of([]), "it holds no file, so it is none of small.tar"),
        (b"text", "this archive is damaged"),
        (None, "no such archive: correct --from-archive"),
    ],
)
def test_a_wrong_archive_is_one_line(content: bytes | None, words: str, tmp_path: Path) -> None:
    path = tmp_path / "x.tar"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises((ValueError, FileNotFoundError), match=words) as caught:
        prepare(source(), tmp_path / "data", [path], workers=1)
    assert str(caught.value).startswith(str(path)) and "\n" not in str(caught.value)
    assert not (tmp_path / "data").exists()


def test_too_few_files(tmp_path: Path) -> None:
    path = tmp_path / "x.tar"
    path.write_bytes(tar_of(["top/a.png"]))
    with pytest.raises(ValueError, match=r"x.tar: unpacked, but 1 of 2 masks: is it the whole official"):
        prepare(source(), tmp_path, [path], workers=1)


def test_every_name_of_the_command_line_is_a_source() -> None:
    assert [data._source(name).name for name in data.NAMES] == list(data.NAMES)
    assert {data._source(name).key for name in data.NAMES} == set(DATASETS)


def test_two_at_once(tmp_path: Path) -> None:
    with (
        FileLock(tmp_path / ".prepare-voc.lock"),
        pytest.raises(ValueError, match="another `prepare voc` is at work here"),
    ):
        prepare(source(), tmp_path, workers=1)


@pytest.mark.parametrize(
    ("number", "words"),
    [
        (errno.ENOSPC, "the disk is full: make room and run the same command again"),
        (errno.EROFS, "no permission (Read-only file system): change it, or choose another data root"),
        (errno.EACCES, "no permission (Permission denied)"),
    ],
)
def test_what_the_disk_refuses_is_one_line(
    number: int,
    words: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def refuse(root: Path, workers: int) -> None:
        raise OSError(number, os.strerror(number), str(root / "file"))

    monkeypatch.setattr(voc, "SOURCE", source(wanted=0)._replace(finish=refuse))
    code = main(["prepare", "voc", "--data-root", str(tmp_path)])
    error = capsys.readouterr().err
    assert code == 2 and error.count("\n") == 1
    assert error.startswith(f"error: {tmp_path / 'VOCdevkit/VOC2012/file'}: {words}")
