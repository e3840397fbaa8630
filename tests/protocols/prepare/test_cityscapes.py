"""`prepare cityscapes` and `verify cityscapes` on small archives in the official layout."""

from __future__ import annotations

import zipfile
from pathlib import Path

import pytest

from benchmarks.cli import main
from protocols.datasets import Cityscapes
from protocols.datasets.synthetic import draw_standin
from protocols.prepare.cityscapes import MASKS, PHOTOGRAPHS


@pytest.fixture(scope="module")
def packed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    drawn = draw_standin("cityscapes", tmp_path_factory.mktemp("drawn"), train=40, val=6, workers=1)
    folder = tmp_path_factory.mktemp("packed")
    for archive in (MASKS, PHOTOGRAPHS):
        with zipfile.ZipFile(folder / archive.name, "w") as file:
            file.writestr("README", "Cityscapes")
            file.writestr("license.txt", "its terms")
            for path in sorted((drawn / archive.top).rglob("*.png")):
                file.write(path, path.relative_to(drawn))
            file.writestr(f"{archive.top}/test/berlin/berlin_000000_000019_{archive.top}.png", b"")
    return folder


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Cityscapes, "official_sizes", {"train": 40, "val": 6})


def run(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> tuple[int, str, str]:
    code = main(arguments)
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def test_without_archives_it_says_how_to_get_them(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = run(["prepare", "cityscapes", "--data-root", str(tmp_path)], capsys)
    assert (code, out, err.count("\n")) == (2, "", 1)
    for words in (
        MASKS.name,
        PHOTOGRAPHS.name,
        "https://www.cityscapes-dataset.com/register",
        "--from-archive",
    ):
        assert words in err
    assert not (tmp_path / "cityscapes").exists()  # a stand-in may still be drawn there


def test_both_archives(packed: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = ["--data-root", str(tmp_path)]
    first = ["--from-archive", str(packed / PHOTOGRAPHS.name)]
    code, _, err = run(["prepare", "cityscapes", *root, *first], capsys)
    assert code == 2 and f"error: {MASKS.name} is not in {tmp_path}" in err
    second = ["--from-archive", str(packed / MASKS.name)]
    code, out, err = run(["prepare", "cityscapes", *root, *first, *second], capsys)
    assert code == 0, err
    assert f"{tmp_path / 'cityscapes'} is ready: Cityscapes, 40 train images, 6 val images" in out
    assert not (tmp_path / "cityscapes" / "gtFine" / "test").exists()
    code, out, err = run(["prepare", "cityscapes", *root], capsys)  # all is there: no archive is needed
    assert code == 0, err
    code, out, _ = run(["verify", "cityscapes", *root], capsys)
    assert (code, out.splitlines()[-1]) == (0, "sound")


def test_verify_names_both_halves_of_a_pair(
    packed: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = ["--data-root", str(tmp_path)]
    given = [
        word for archive in (MASKS, PHOTOGRAPHS) for word in ("--from-archive", str(packed / archive.name))
    ]
    run(["prepare", "cityscapes", *root, *given], capsys)
    top = tmp_path / "cityscapes"
    mask = next((top / "gtFine/train/aachen").glob("*labelIds.png"))
    photograph = next((top / "leftImg8bit/val/munster").glob("*.png"))
    mask.unlink()
    photograph.unlink()
    code, out, _ = run(["verify", "cityscapes", *root], capsys)
    problems = [line.removeprefix("problem: ") for line in out.splitlines() if line.startswith("problem: ")]
    assert code == 1
    assert problems == [
        "train: 39 images are listed instead of 40",
        f"{photograph}: this image is in the list but not on disk: restore it",
        f"{mask}: this mask is missing: run `prepare cityscapes` again",
    ]
    code, _, err = run(["prepare", "cityscapes", *root, *given], capsys)
    assert code == 0 and mask.is_file() and photograph.is_file(), err
