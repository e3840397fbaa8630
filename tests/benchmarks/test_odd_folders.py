"""Data in odd places: read-only, behind links, in large folders, under names of blanks and all of Unicode."""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from benchmarks.cli import main
from protocols.datasets import Folder
from reports.record import read, without_cost
from tests.benchmarks.tiny import write_tiny_protocol

Runner = Callable[..., int]


def run(protocol: Path, runs: Path) -> int:
    options = ["--runs", str(runs), "--device", "cpu", "--set", "recipe.later_iterations=1"]
    return main(["--protocol", str(protocol), "--methods", "finetune", *options])


def record(runs: Path) -> object:
    (path,) = (runs / "records").rglob("seed-0.json")
    return without_cost(read(path))


def state(folder: Path) -> dict[Path, tuple[int, int, int]]:
    """Name, size and times of all that is there."""
    return {p: (s.st_size, s.st_mtime_ns, s.st_ctime_ns) for p in folder.rglob("*") for s in [p.lstat()]}


def test_nothing_is_written_to_the_data(tiny_protocol: Path, tmp_path: Path) -> None:
    data = tmp_path / "tiny"
    for path in [*data.rglob("*"), data]:
        path.chmod(0o555 if path.is_dir() else 0o444)
    before = state(data)
    try:
        assert run(tiny_protocol, tmp_path / "runs") == 0
        assert state(data) == before
    finally:
        for path in [data, *data.rglob("*")]:
            path.chmod(0o755)


def test_data_behind_links_are_the_same_data(tiny_protocol: Path, tmp_path: Path) -> None:
    """The folder, the folders in it, and each file: a link."""
    assert run(tiny_protocol, tmp_path / "plain") == 0
    elsewhere = tmp_path / "elsewhere"
    (tmp_path / "tiny").rename(elsewhere)
    farm = tmp_path / "farm"
    (farm / "images").mkdir(parents=True)
    for image in (elsewhere / "images").iterdir():
        (farm / "images" / image.name).symlink_to(image)
    for name in ("masks", "train.txt", "val.txt"):
        (farm / name).symlink_to(Path("..") / "elsewhere" / name)
    (tmp_path / "tiny").symlink_to(farm, target_is_directory=True)
    assert run(tiny_protocol, tmp_path / "linked") == 0
    assert record(tmp_path / "linked") == record(tmp_path / "plain")


def test_a_link_that_leads_nowhere_is_named(
    tiny_protocol: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    image = tmp_path / "tiny/images/train_3.png"
    image.unlink()
    image.symlink_to(image)
    assert run(tiny_protocol, tmp_path / "runs") == 2
    assert f"error: {image}: " in capsys.readouterr().err


ODD = [
    "Ärger mit Leerzeichen",
    "猫 🐈 [1]*?",
    "e\u0301 decomposed",
    "%s {0} 'quoted' \"twice\"",
    "#-dash,comma;",
]


def test_blanks_and_unicode_in_every_path(tmp_path: Path) -> None:
    home = tmp_path / "Straße 猫 🐈" / "a b"
    home.mkdir(parents=True)
    protocol = write_tiny_protocol(home)
    data = home / "Daten – größer"
    (home / "tiny").rename(data)
    for split, odd in (("train", ODD), ("val", ODD)):
        names = (data / f"{split}.txt").read_text().split()
        for old, new in zip(names, odd, strict=False):
            for folder in ("images", "masks"):
                (data / folder / f"{old}.png").rename(data / folder / f"{split} {new}.png")
        named = [f"{split} {new}" for new in odd] + names[len(odd) :]
        (data / f"{split}.txt").write_text("\n".join(named), encoding="utf-8")
    odd_file = protocol.with_name("mein Protokoll ä.toml")
    odd_file.write_text(
        protocol.read_text().replace('"tiny"', '"Daten – größer"').replace('"red"', '"röd 红"')
    )
    runs = home / "Läufe 1"
    assert run(odd_file, runs) == 0
    assert record(runs).finished  # type: ignore[attr-defined]
    assert len(list((runs / "samples").rglob("image.jpg"))) == 4
    assert (runs / "leaderboards/tiny-2-1.csv").is_file()


@pytest.mark.skipif(os.name != "posix", reason="such names are there on POSIX alone")
def test_a_file_name_that_is_no_unicode_disturbs_nobody(tiny_protocol: Path, tmp_path: Path) -> None:
    (tmp_path / "tiny/images" / os.fsdecode(b"\xff\xfe.png")).touch()
    assert run(tiny_protocol, tmp_path / "runs") == 0


def test_folders_of_ten_thousand_files(tmp_path: Path) -> None:
    """A list of twelve in them, and a list of all."""
    data = tmp_path / "tiny"
    protocol = write_tiny_protocol(tmp_path)
    for number, folder in itertools.product(range(10_000), ("images", "masks")):
        os.link(data / folder / f"train_{number % 12}.png", data / folder / f"other_{number}.png")
    dataset = Folder(data, classes=["background", "red", "green", "blue", "yellow"])
    assert [sample.image.name for sample in dataset.samples("train")] == [f"train_{i}.png" for i in range(12)]
    (data / "train.txt").write_text("\n".join(f"other_{i}" for i in range(10_000)))
    options = ["--methods", "finetune", "--runs", str(tmp_path / "runs"), "--device", "cpu"]
    assert main(["--protocol", str(protocol), *options, "--dry-run"]) == 0
