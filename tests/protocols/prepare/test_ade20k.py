"""`prepare ade20k` and `verify ade20k` on small archives in the official layout."""

from __future__ import annotations

import json
import shutil
import tarfile
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from scipy import ndimage

from benchmarks.cli import main
from protocols.datasets import Ade
from protocols.datasets.ade import FOLDERS, THING_IDS
from protocols.datasets.synthetic import draw_standin
from protocols.prepare import ade20k, sources
from protocols.prepare.ade20k import ARCHIVES, SOURCE
from protocols.prepare.sources import prepare
from protocols.prepare.verify import verify

SHARED = Path(__file__).parents[3].parent / "shared" / "data" / "ade20k-sample" / "ADEChallengeData2016"


def pack(source: Path, root: Path) -> None:
    """The two archives of the data set at `source`, in `root`."""
    root.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(root / ARCHIVES[0].name, "w") as archive:
        for folder in ("images", "annotations"):
            for path in sorted((source / folder).rglob("*.*")):
                archive.write(path, f"ADEChallengeData2016/{path.relative_to(source)}")
    with tarfile.open(root / ARCHIVES[1].name, "w") as tar:
        tar.add(source / "annotations_instance", "annotations_instance")


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return draw_standin("ade", tmp_path_factory.mktemp("drawn"), train=40, val=10, workers=1)


@pytest.fixture
def root(drawn: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A data root with the two archives; its counts count as the published ones."""
    pack(drawn, tmp_path / "data")
    monkeypatch.setattr(Ade, "official_sizes", {"train": 40, "val": 10})
    return tmp_path / "data"


def outputs(root: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(root)): path.read_bytes()
        for path in sorted(root.rglob("*"))
        if path.is_file() and "ade20k_" in str(path.relative_to(root))
    }


def run(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> tuple[int, str, str]:
    code = main(arguments)
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def test_one_command_makes_what_the_standin_has(
    root: Path, drawn: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, out, err = run(["prepare", "ade20k", "--data-root", str(root), "--workers", "2"], capsys)
    assert (code, err.count("warning")) == (0, 2)
    assert "zip: not the published file (its SHA1 is not" in err and "tar: not the published file" in err
    assert "is ready: ADE20K, 40 train images, 10 val images, for semantic, panoptic, instance" in out
    assert outputs(root / "ADEChallengeData2016") == outputs(drawn)
    code, out, _ = run(["verify", "ade20k", "--data-root", str(root)], capsys)
    assert code == 1  # this zip is not the official one
    lines = out.splitlines()
    assert lines[0] == "train: 40 images and their masks, problems: 0"
    assert lines[2].startswith("train: 40 images, ") and lines[2].endswith(" instances")
    assert [line for line in lines if line.startswith("problem")] == [
        f"problem: {root / archive.name}: not the published file (its {archive.hash[0].upper()} is not "
        f"{archive.hash[1]}): remove it and run `prepare ade20k` again"
        for archive in ARCHIVES
    ]
    assert lines[-1] == "2 problems"


def test_nothing_is_made_twice(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    prepare(SOURCE, root, workers=1)
    for archive in ARCHIVES:
        (root / archive.name).unlink()
    monkeypatch.setattr(ade20k, "_annotate_image", lambda *_: pytest.fail("annotated again"))
    monkeypatch.setattr(sources, "download", lambda *_: pytest.fail("fetched again"))
    prepare(SOURCE, root, workers=1)


def test_a_kill_loses_the_image_in_work(root: Path, drawn: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    done: list[str] = []
    annotate_image = ade20k._annotate_image

    def until_killed(sample: Any, colours: Path) -> Any:
        if len(done) in (17, 45):
            done.append("killed")
            raise KeyboardInterrupt
        done.append(sample.mask.stem)
        return annotate_image(sample, colours)

    monkeypatch.setattr(ade20k, "_annotate_image", until_killed)
    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            prepare(SOURCE, root, workers=1)
        journal = next((root / "ADEChallengeData2016").glob(".ade20k_*.jsonl"))
        with journal.open("a") as file:
            file.write('["ADE_train_0000')  # half a line, as a kill leaves it
    prepare(SOURCE, root, workers=1)
    assert len(done) == 50 + 2 and len(set(done)) == 50 + 1
    assert outputs(root / "ADEChallengeData2016") == outputs(drawn)


def test_archives_are_fetched_where_they_are_missing(
    root: Path, drawn: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    away = root.parent / "server"
    shutil.move(root, away)
    fetched = []

    def fetch(urls: Sequence[str], path: Path) -> None:
        fetched.append(urls)
        shutil.copy(away / path.name, path)

    monkeypatch.setattr(sources, "download", fetch)
    monkeypatch.setattr(sources, "_other_hash", lambda *_: "")
    prepare(SOURCE, root, workers=1)
    assert fetched == [archive.urls for archive in ARCHIVES]
    assert outputs(root / "ADEChallengeData2016") == outputs(drawn)


def test_the_standin_is_sound_and_left_alone(
    drawn: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sources, "download", lambda *_: pytest.fail("fetched for nothing"))
    root = tmp_path / "ADEChallengeData2016"
    shutil.copytree(drawn, root)
    said: list[str] = []
    assert verify(SOURCE, tmp_path, said.append, workers=1) == []
    assert said[4:] == [f"{archive.name}: not here, so not checked" for archive in ARCHIVES]
    with pytest.raises(ValueError, match="is a synthetic stand-in"):
        prepare(SOURCE, tmp_path, workers=1)


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (
            lambda c: c["annotations"][0]["segments_info"][0].update(area=1),
            "areas or boxes that are not those",
        ),
        (
            lambda c: c["annotations"][0]["segments_info"][0].update(id=77),
            "only the PNG or only the JSON has",
        ),
        (
            lambda c: c["annotations"][3]["segments_info"][0].update(category_id=0),
            "semantic map does not have",
        ),
        (lambda c: c["annotations"][3]["segments_info"].pop(), "instances that differ"),
        (lambda c: c["annotations"].pop(), "annotations of other images"),
        (lambda c: c["images"].pop(), "9 images that are not the 10"),
        (lambda c: c["categories"].pop(), "other categories than ADE20K's"),
        (lambda c: c.pop("images"), r"not in COCO's format \('images'\)"),
    ],
)
def test_disagreement_is_found(damage: Callable[[Any], Any], words: str, drawn: Path, tmp_path: Path) -> None:
    root = tmp_path / "ADEChallengeData2016"
    shutil.copytree(drawn, root)
    path = root / "ade20k_panoptic_val.json"
    content = json.loads(path.read_text())
    damage(content)
    path.write_text(json.dumps(content))
    problems = verify(SOURCE, tmp_path, lambda _: None, workers=1)
    assert any(words.replace("\\", "") in problem for problem in problems), problems
    assert all("remove the JSON file and run `prepare ade20k` again" in problem for problem in problems)


def test_missing_files_are_found(drawn: Path, tmp_path: Path) -> None:
    root = tmp_path / "ADEChallengeData2016"
    shutil.copytree(drawn, root)
    (root / "ade20k_instance_train.json").unlink()
    (root / "ade20k_panoptic_val" / "ADE_val_00000003.png").unlink()
    (root / "annotations" / "validation" / "ADE_val_00000010.png").unlink()
    problems = verify(SOURCE, tmp_path, lambda _: None, workers=1)
    assert problems[0] == "val: 9 images are listed instead of 10"
    assert problems[1] == "ade20k_instance_train.json is missing: run `prepare ade20k`"
    lost = root / "annotations" / "validation" / "ADE_val_00000010.png"
    assert problems[2] == f"{lost}: this mask is missing: run `prepare ade20k` again"
    assert "ade20k_panoptic_val.json: 10 images that are not the 9" in problems[3]


def test_each_damaged_file_is_named(drawn: Path, tmp_path: Path) -> None:
    root = tmp_path / "ADEChallengeData2016"
    shutil.copytree(drawn, root)
    damaged = [
        root / "images" / "training" / "ADE_train_00000004.jpg",
        root / "annotations_instance" / "training" / "ADE_train_00000005.png",
        root / "ade20k_panoptic_train" / "ADE_train_00000006.png",
    ]
    for path in damaged:
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    lost = root / "ade20k_panoptic_train" / "ADE_train_00000007.png"
    lost.unlink()
    (root / "ade20k_panoptic_val.json").write_text("{")
    problems = verify(SOURCE, tmp_path, lambda _: None, workers=1)
    named = [*damaged, lost, root / "ade20k_panoptic_val.json"]
    assert len(problems) == len(named)
    for problem, path in zip(problems, named, strict=True):
        assert problem.startswith(str(path)), problem


def test_mistakes_name_file_and_remedy(
    root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(FileNotFoundError, match="should hold ADE20K"):
        verify(SOURCE, tmp_path / "nowhere", print)
    prepare(SOURCE, root, workers=1)
    top = root / "ADEChallengeData2016"
    for path in top.glob("ade20k_*.json"):
        path.unlink()
    wrong = top / "annotations_instance" / "training" / "ADE_train_00000002.png"
    size = Image.open(wrong).size
    Image.new("RGB", size, (101, 1, 0)).save(wrong)
    (root / ARCHIVES[1].name).unlink()
    code, _, err = run(["prepare", "ade20k", "--data-root", str(root), "--workers", "1"], capsys)
    assert code == 2
    assert f"error: {wrong}: instance category 101 is outside 1..100: unpack the archive again" in err


@pytest.mark.skipif(not SHARED.is_dir(), reason="the shared sample is not here")
def test_real_images(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Three photographs of ADE20K, whose things are made instances by their connected components."""
    monkeypatch.setattr(Ade, "official_sizes", {"train": 3, "val": 3})
    source = tmp_path / "source"
    for folder in FOLDERS.values():
        for kind in ("images", "annotations"):
            shutil.copytree(SHARED / kind / "validation", source / kind / folder)
        for path in (source / "annotations" / folder).iterdir():
            _write_instances(path, source / "annotations_instance" / folder / path.name)
    pack(source, tmp_path / "data")
    dataset = prepare(SOURCE, tmp_path / "data", workers=1)
    problems = verify(SOURCE, tmp_path / "data", lambda _: None, workers=1)
    assert len(problems) == 2 and all("not the published file" in problem for problem in problems)
    for sample in dataset.samples("val"):
        _, segments = dataset.read_with_segments(sample, "panoptic")
        labels = dataset.read_labels(sample)
        drawn = np.concatenate([[0], segments.labels])[segments.ids]
        assert np.array_equal(drawn, labels) and drawn.any()
        assert (
            len(dataset.read_segments(sample, "instance").labels) == np.isin(segments.labels, THING_IDS).sum()
        )


def _write_instances(semantic: Path, path: Path) -> None:
    labels = np.asarray(Image.open(semantic))
    result, number = np.zeros((*labels.shape, 3), np.uint8), 0
    for category, label in enumerate(THING_IDS, start=1):
        parts, count = ndimage.label(labels == label)
        for part in range(1, count + 1):
            number += 1
            result[parts == part, :2] = category, number
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(result).save(path)
