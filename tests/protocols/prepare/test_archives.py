"""Unpacking: what a hostile, a damaged and a half unpacked archive does."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import tarfile
import zipfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest

from protocols.prepare import archives
from protocols.prepare.archives import extract, top_folders
from protocols.prepare.disk import atomic

FILES = {"top/a.txt": b"a" * 50, "top/sub/b.txt": b"b" * 70, "top/._b.txt": b"mac", "__MACOSX/c.txt": b"c"}


def pack(path: Path, files: Mapping[str, bytes]) -> Path:
    if path.suffix == ".zip":
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.mkdir("top")
            for name, content in files.items():
                archive.writestr(name, content)
        return path
    with tarfile.open(path, "w") as tar:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return path


@pytest.mark.parametrize("name", ["x.zip", "x.tar"])
def test_only_missing_files_are_written(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    archive, out = pack(tmp_path / name, FILES), tmp_path / "out"
    assert extract(archive, "top", out) == 2
    files = {str(p.relative_to(out)): p.read_bytes() for p in out.rglob("*") if p.is_file()}
    assert files == {"a.txt": FILES["top/a.txt"], "sub/b.txt": FILES["top/sub/b.txt"]}
    (out / "a.txt").write_bytes(b"half")
    written = []
    write = archives._write
    monkeypatch.setattr(
        archives, "_write", lambda path, member: (written.append(path.name), write(path, member))
    )
    extract(archive, "top", out)
    assert written == ["a.txt"]
    assert (out / "a.txt").read_bytes() == FILES["top/a.txt"]


@pytest.mark.parametrize("name", ["x.zip", "x.tar"])
@pytest.mark.parametrize("evil", ["top/../../evil", "/evil", "top/sub/../../evil", "C:/evil", "..\\evil"])
def test_no_path_leads_out_of_the_folder(name: str, evil: str, tmp_path: Path) -> None:
    archive = pack(tmp_path / name, {"top/a.txt": b"a", evil: b"evil"})
    with pytest.raises(ValueError, match="which leads elsewhere: do not use it"):
        extract(archive, "top", tmp_path / "deep" / "out")
    assert not list(tmp_path.rglob("*evil*"))
    assert not list(tmp_path.rglob("a.txt"))


def test_links_are_left_out(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "x.tar", "w") as tar:
        for kind, name in ((tarfile.SYMTYPE, "top/link"), (tarfile.LNKTYPE, "top/hard")):
            info = tarfile.TarInfo(name)
            info.type, info.linkname = kind, "/etc/passwd"
            tar.addfile(info)
        info = tarfile.TarInfo("top/a")
        tar.addfile(info, io.BytesIO(b""))
    assert extract(tmp_path / "x.tar", "top", tmp_path / "out") == 1
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["a"]


@pytest.mark.parametrize("name", ["x.tar.gz", "x.tar.bz2", "x.tar.xz"])
def test_compressed_archives_and_damage_in_them(name: str, tmp_path: Path) -> None:
    plain = pack(
        tmp_path / "x.tar", {**FILES, "top/c": bytes(i * i % 251 for i in range(90_000))}
    ).read_bytes()
    module = {"gz": gzip, "bz2": bz2, "xz": lzma}[name.rsplit(".", maxsplit=1)[-1]]
    archive = tmp_path / name
    content = module.compress(plain)
    archive.write_bytes(content)
    assert extract(archive, "top", tmp_path / "whole") == 3
    middle = len(content) // 2
    for damaged in (content[:middle], content[:middle] + b"damage" * 20 + content[middle + 120 :]):
        archive.write_bytes(damaged)
        with pytest.raises(ValueError, match="this archive is damaged"):
            extract(archive, "top", tmp_path / "out")
        assert not list(tmp_path.rglob("*.part"))


@pytest.mark.parametrize("name", ["x.zip", "x.tar"])
def test_more_than_the_official_archive_holds(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    archive = pack(tmp_path / name, FILES)
    with pytest.raises(ValueError, match=r"it holds more than 0.0 GB or \d+ files, .*: do not use it"):
        extract(archive, "top", tmp_path / "out", limit=100)
    monkeypatch.setattr(archives, "_MOST_FILES", 3)
    with pytest.raises(ValueError, match=r"or 3 files"):
        extract(archive, "top", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_zip_that_says_too_little_of_its_size(tmp_path: Path) -> None:
    """The sizes that are summed are those that are written, whatever the compressed data unfold to."""
    archive = pack(tmp_path / "x.zip", {"top/a": bytes(100_000)})
    content = archive.read_bytes()
    archive.write_bytes(content.replace((100_000).to_bytes(4, "little"), (10).to_bytes(4, "little")))
    with pytest.raises(ValueError, match="this archive is damaged"):
        extract(archive, "top", tmp_path / "out")
    assert not [path for path in (tmp_path / "out").rglob("*") if path.is_file()]


def test_only_what_is_wanted(tmp_path: Path) -> None:
    files = {f"top/in/{name}": b"x" for name in ("cls/1", "clsx/2", "img/3", "val.txt")}
    archive = pack(tmp_path / "x.tar", files)
    assert extract(archive, "top/in", tmp_path / "out", only=("cls", "val.txt")) == 2
    assert (tmp_path / "out" / "cls" / "1").is_file() and (tmp_path / "out" / "val.txt").is_file()


@pytest.mark.parametrize("name", ["x.zip", "x.tar"])
def test_the_folders_of_an_archive(name: str, tmp_path: Path) -> None:
    assert top_folders(pack(tmp_path / name, FILES)) == ["top", "__MACOSX"]
    with pytest.raises(ValueError, match="leads elsewhere"):
        top_folders(pack(tmp_path / name, {"../a": b""}))


@pytest.mark.parametrize("name", ["x.zip", "x.tar"])
def test_damaged_archives(name: str, tmp_path: Path) -> None:
    archive = pack(tmp_path / name, {"top/a.txt": bytes(range(256)) * 40})
    content = archive.read_bytes()
    for damaged in (content[: len(content) // 2], b"no archive", b""):
        archive.write_bytes(damaged)
        with pytest.raises(
            ValueError, match=r"this archive is damaged .*: fetch it again, or remove it, and run"
        ) as caught:
            extract(archive, "top", tmp_path / "out")
        assert "\n" not in str(caught.value)
        assert not [path for path in (tmp_path / "out").rglob("*") if path.is_file()]


@pytest.mark.parametrize("name", ["x.zip", "x.tar", "x.tar.gz"])
def test_changed_bytes_are_harmless(name: str, tmp_path: Path) -> None:
    """Whatever the archive says, files lie in the folder, or it is one line that names the archive."""
    sound = pack(tmp_path / name.removesuffix(".gz"), FILES).read_bytes()
    (tmp_path / "deep").mkdir()
    random = np.random.default_rng(0)
    for number in range(500):
        changed = bytearray(gzip.compress(sound) if name == "x.tar.gz" else sound)
        places = len(changed) if number % 2 or name != "x.tar" else 1024  # tar: mostly zeros after that
        for place in random.integers(places, size=random.integers(1, 6)):
            changed[place] = random.integers(256)
        archive = tmp_path / "changed"
        archive.write_bytes(changed[: None if number % 5 else random.integers(len(changed))])
        try:
            extract(archive, "top", tmp_path / "deep" / "out")
        except ValueError as error:
            assert str(error).startswith(f"{archive}: ") and "\n" not in str(error)
        assert not [path for path in (tmp_path / "deep").iterdir() if path.name != "out"]


def test_another_archive(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="it holds no folder ADE: is it the official archive"):
        extract(pack(tmp_path / "x.zip", FILES), "ADE", tmp_path / "out")


def test_a_full_disk_is_noticed_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    free = type("Usage", (), {"free": 10})
    monkeypatch.setattr("shutil.disk_usage", lambda _: free)
    with pytest.raises(ValueError, match=r"needs 0 MB, 0 MB are free: make room"):
        extract(pack(tmp_path / "x.zip", FILES), "top", tmp_path / "out")


def test_a_file_gets_its_name_at_the_end(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError), atomic(tmp_path / "a") as file:
        file.write(b"half")
        raise RuntimeError
    assert not list(tmp_path.iterdir())
