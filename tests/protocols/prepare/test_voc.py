"""`prepare voc` and `verify voc` on small archives in the official layouts, and on the real masks."""

from __future__ import annotations

import hashlib
import io
import shutil
import tarfile
import zipfile
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from scipy.io import savemat

from benchmarks.cli import main
from protocols.datasets import Voc
from protocols.datasets.synthetic import draw_standin
from protocols.datasets.voc import palette
from protocols.prepare import sources, voc, voc_masks
from protocols.prepare.sources import prepare
from protocols.prepare.verify import verify
from protocols.prepare.voc import AUG, BENCHMARK, SOURCE, VOC
from protocols.prepare.voc_masks import read_sbd

TRAIN, VAL = 24, 6
LISTED_TWICE = "2011_000001"
"""A training image that VOC and SBD annotate: VOC's mask counts."""


def sbd_file(labels: NDArray[np.uint8], compressed: bool = True) -> bytes:
    """A file of `dataset/cls`: the label map, and boundaries and classes that nobody reads here."""
    fields = {"Segmentation": labels, "Boundaries": np.zeros((20, 1)), "CategoriesPresent": np.unique(labels)}
    file = io.BytesIO()
    savemat(file, {"GTcls": fields}, do_compression=compressed)
    return file.getvalue()


def pack(path: Path, files: Iterable[tuple[str, bytes]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w:gz" if path.suffix == ".tgz" else "w") as tar:
        for name, content in files:
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))


def voc_files(root: Path) -> Iterable[tuple[str, bytes]]:
    """VOCtrainval of the data set at `root`: without what the augmented masks add."""
    for folder in ("JPEGImages", "SegmentationClass", "SegmentationObject", "ImageSets/Segmentation"):
        for path in sorted((root / folder).iterdir()):
            if path.name != "train_aug.txt":
                yield f"VOCdevkit/VOC2012/{folder}/{path.name}", path.read_bytes()


def benchmark_files(masks: dict[str, NDArray[np.uint8]]) -> Iterable[tuple[str, bytes]]:
    yield "benchmark_RELEASE/benchmark_code_RELEASE/config.m", b"%"
    for stem, labels in masks.items():
        yield f"benchmark_RELEASE/dataset/img/{stem}.jpg", b"a copy of VOC's"
        yield f"benchmark_RELEASE/dataset/cls/{stem}.mat", sbd_file(labels)


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """VOC2012 as it is to be: stand-in masks without void where only SBD has them."""
    root = draw_standin("voc", tmp_path_factory.mktemp("drawn"), train=TRAIN, val=VAL, workers=1)
    for path in (root / "SegmentationClassAug").iterdir():
        if not (root / "SegmentationClass" / path.name).is_file():
            labels = np.array(Image.open(path))
            labels[labels == 255] = 0
            mask = Image.fromarray(labels)
            mask.putpalette(palette())
            mask.save(path)
    lists = root / "ImageSets/Segmentation"
    stems = sorted(path.stem for path in (root / "SegmentationClassAug").iterdir())
    (lists / "train_aug.txt").write_text("".join(f"{stem}\n" for stem in stems if stem[:4] == "2011"))
    return root


@pytest.fixture(scope="module")
def packed(drawn: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the three archives."""
    folder = tmp_path_factory.mktemp("packed")
    augmented = {path.stem: np.array(Image.open(path)) for path in (drawn / "SegmentationClassAug").iterdir()}
    own = {path.stem for path in (drawn / "SegmentationClass").iterdir()}
    sbd = {stem: labels for stem, labels in augmented.items() if stem not in own}
    sbd[LISTED_TWICE] = np.zeros_like(augmented[LISTED_TWICE])
    pack(folder / VOC.name, voc_files(drawn))
    pack(folder / BENCHMARK.name, benchmark_files(sbd))
    with zipfile.ZipFile(folder / AUG.name, "w") as archive:
        for path in (drawn / "SegmentationClassAug").iterdir():
            archive.write(path, f"SegmentationClassAug/{path.name}")
            archive.writestr(f"__MACOSX/SegmentationClassAug/._{path.name}", b"")
    return folder


def list_hash(root: Path, split: str) -> str:
    names = sorted(sample.mask.stem for sample in Voc(root).samples(split))
    return hashlib.sha256("\n".join(names).encode()).hexdigest()


@pytest.fixture(autouse=True)
def small(drawn: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The drawn counts count as the published ones, and nothing is fetched."""
    counts = {
        "JPEGImages": TRAIN + VAL,
        "SegmentationClass": TRAIN // 2 + VAL,
        "SegmentationClassAug": TRAIN + VAL,
    }
    monkeypatch.setattr(voc, "COUNTS", {**counts, "SBD": TRAIN // 2 + 1})
    monkeypatch.setattr(voc, "LIST_HASHES", {split: list_hash(drawn, split) for split in ("train", "val")})
    monkeypatch.setattr(Voc, "official_sizes", {"train": TRAIN, "val": VAL})
    monkeypatch.setattr(sources, "download", lambda *_: pytest.fail("fetched"))


def run(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> tuple[int, str, str]:
    code = main(arguments)
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def same_masks(one: Path, other: Path) -> bool:
    names = [sorted(path.name for path in (root / "SegmentationClassAug").iterdir()) for root in (one, other)]
    return names[0] == names[1] and all(
        np.array_equal(*(np.array(Image.open(root / "SegmentationClassAug" / name)) for root in (one, other)))
        for name in names[0]
    )


@pytest.mark.parametrize("masks", [BENCHMARK.name, AUG.name])
def test_archives_under_other_names(
    masks: str, packed: Path, drawn: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = [tmp_path / "Größe 1.bin", tmp_path / "2 (1)"]
    for path, name in zip(given, (VOC.name, masks), strict=True):
        shutil.copy(packed / name, path)
    real = tmp_path / "Ünïcode"
    real.mkdir()
    (tmp_path / "data").symlink_to(real)
    arguments = ["voc", "--data-root", str(tmp_path / "data"), "--workers", "2"]
    sources_given = [word for path in given for word in ("--from-archive", str(path))]
    code, out, err = run(["prepare", *arguments, *sources_given], capsys)
    assert code == 0, err
    root = real / "VOCdevkit" / "VOC2012"
    assert f"VOC2012 is ready: PASCAL VOC 2012, {TRAIN} train images, {VAL} val images, for semantic" in out
    assert same_masks(root, drawn)
    assert not (root / "SegmentationObject").exists() and not (root / "SBD" / "img").exists()
    lists = "ImageSets/Segmentation/train_aug.txt"
    assert (root / lists).read_text() == (drawn / lists).read_text()
    code, out, _ = run(["verify", *arguments], capsys)
    assert (code, out.splitlines()[-1]) == (0, "sound")
    assert out.splitlines()[0] == f"train: {TRAIN} images and their masks, problems: 0"


def test_nothing_is_made_twice(packed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given = [packed / VOC.name, packed / BENCHMARK.name]
    root = prepare(SOURCE, tmp_path, given, workers=1).root
    shutil.rmtree(root / "SBD")
    monkeypatch.setattr(sources, "extract", lambda *_: pytest.fail("unpacked again"))
    monkeypatch.setattr(voc_masks, "write_mask", lambda *_: pytest.fail("converted again"))
    shutil.rmtree(root / "SegmentationClass")  # nothing reads it any more
    prepare(SOURCE, tmp_path, workers=1)


def test_what_is_lost_is_made_again(packed: Path, drawn: Path, tmp_path: Path) -> None:
    given = [packed / VOC.name, packed / BENCHMARK.name]
    root = prepare(SOURCE, tmp_path, given, workers=1).root
    for name in ("JPEGImages/2011_000002.jpg", "SegmentationClassAug/2011_000002.png"):
        (root / name).unlink()
    (root / "ImageSets/Segmentation/train_aug.txt").unlink()
    prepare(SOURCE, tmp_path, given, workers=1)
    assert (root / "JPEGImages/2011_000002.jpg").is_file() and same_masks(root, drawn)
    assert len(Voc(root).samples("train")) == TRAIN


def test_a_kill_loses_the_file_in_work(
    packed: Path, drawn: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = [packed / VOC.name, packed / BENCHMARK.name]
    done: list[str] = []
    write_mask = voc_masks.write_mask

    def until_killed(stem: str, root: Path) -> None:
        if len(done) == 9:
            done.append("killed")
            raise KeyboardInterrupt
        done.append(stem)
        write_mask(stem, root)

    monkeypatch.setattr(voc_masks, "write_mask", until_killed)
    with pytest.raises(KeyboardInterrupt):
        prepare(SOURCE, tmp_path, given, workers=1)
    root = tmp_path / "VOCdevkit" / "VOC2012"
    assert not (root / "ImageSets/Segmentation/train_aug.txt").exists()
    (root / "SegmentationClassAug" / ".2011_000024.png.part").write_bytes(b"half")
    prepare(SOURCE, tmp_path, workers=1)
    assert len(done) == TRAIN + VAL + 1 and len(set(done)) == len(done)
    (root / "SegmentationClassAug" / ".2011_000024.png.part").unlink(missing_ok=True)
    assert same_masks(root, drawn)


def test_verify_names_every_file(
    drawn: Path, packed: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = prepare(SOURCE, tmp_path, [packed / VOC.name, packed / BENCHMARK.name], workers=1).root
    photographs, masks = root / "JPEGImages", root / "SegmentationClassAug"
    (photographs / "2011_000003.jpg").unlink()
    (masks / "2011_000003.png").unlink()
    for path in (photographs / "2011_000004.jpg", masks / "2011_000006.png"):
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    Image.fromarray(np.full((9, 9), 1, np.uint8)).save(masks / "2011_000008.png")
    values = np.array(Image.open(masks / "2011_000010.png"))
    values[0, 0] = 77
    Image.fromarray(values).save(masks / "2011_000010.png")
    Image.fromarray(np.zeros_like(np.array(Image.open(masks / "2011_000001.png")))).save(
        masks / "2011_000001.png"
    )
    with (root / "ImageSets/Segmentation/val.txt").open("a") as file:
        file.write("2012_999999\n2011_000012\n2011_000012\n")
    code, out, _ = run(["verify", "voc", "--data-root", str(tmp_path), "--workers", "2"], capsys)
    problems = [line.removeprefix("problem: ") for line in out.splitlines() if line.startswith("problem: ")]
    expected = [
        (photographs / "2011_000003.jpg", "this image is in the list but not on disk"),
        (masks / "2011_000003.png", "this mask is in the list but not on disk"),
        (photographs / "2011_000004.jpg", "this image is damaged"),
        (masks / "2011_000006.png", "this mask is damaged"),
        (photographs / "2011_000008.jpg", "2011_000008.png is 9x9: give both the same size"),
        (masks / "2011_000010.png", "label value 77 is none of PASCAL VOC 2012's"),
        ("val", f"{VAL + 3} images are listed instead of {VAL}"),
        (photographs / "2012_999999.jpg", "not on disk"),
        (masks / "2012_999999.png", "not on disk"),
        ("val", "1 names are listed twice, such as 2011_000012"),
        ("1 names are in both lists", "such as 2011_000012: test images would be trained on"),
        (masks / "2011_000001.png", "not VOC's own mask"),
    ]
    assert code == 1 and out.splitlines()[-1] == f"{len(problems)} problems"
    unexplained = [
        problem
        for problem in problems
        if not any(problem.startswith(str(start)) and words in problem for start, words in expected)
    ]
    assert not unexplained
    for start, words in expected:
        assert any(problem.startswith(str(start)) and words in problem for problem in problems), (
            start,
            words,
            problems,
        )


def test_a_list_that_is_missing(packed: Path, tmp_path: Path) -> None:
    root = prepare(SOURCE, tmp_path, [packed / VOC.name, packed / BENCHMARK.name], workers=1).root
    (root / "ImageSets/Segmentation/train_aug.txt").unlink()
    problems = verify(SOURCE, tmp_path, lambda _: None, workers=1)
    assert len(problems) == 1 and "train_aug.txt: the train list of PASCAL VOC 2012 is missing" in problems[0]


def test_other_names_in_a_list_of_the_right_length(
    drawn: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(voc, "LIST_HASHES", {"train": "0", "val": "0"})
    shutil.copytree(drawn, tmp_path / "VOC2012")
    problems = verify(SOURCE, tmp_path, lambda _: None, workers=1)
    assert [problem.split(":")[1][:42] for problem in problems] == [
        " the list does not name the published imag"
    ] * 2


def damaged(packed: Path, name: str, keep: float) -> Callable[[Path], list[Path]]:
    def make(folder: Path) -> list[Path]:
        content = (packed / name).read_bytes()
        (folder / name).write_bytes(content[: int(len(content) * keep)])
        others = [packed / VOC.name] if name != VOC.name else []
        return [*others, folder / name]

    return make


@pytest.mark.parametrize(
    ("name", "keep", "words"),
    [
        (VOC.name, 0.6, "this archive is damaged"),
        (BENCHMARK.name, 0.6, "this archive is damaged"),
        (AUG.name, 0.6, "this archive is damaged"),
        (AUG.name, 0.0, "this archive is damaged"),
    ],
)
def test_truncated_archives(
    name: str, keep: float, words: str, packed: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    paths = damaged(packed, name, keep)(tmp_path)
    arguments = [word for path in paths for word in ("--from-archive", str(path))]
    code, _, err = run(["prepare", "voc", "--data-root", str(tmp_path / "data"), *arguments], capsys)
    error = [line for line in err.splitlines() if line.startswith("error:")]
    assert code == 2 and len(error) == 1 and error[0] == err.splitlines()[-1]
    assert str(tmp_path / name) in error[0] and words in error[0]


def test_an_archive_that_lacks_files(packed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(voc.COUNTS, "JPEGImages", 17125)
    words = rf"tar: unpacked, but JPEGImages has {TRAIN + VAL} of 17125 files .jpg: is it the whole official"
    with pytest.raises(ValueError, match=words):
        prepare(SOURCE, tmp_path / "data", [packed / VOC.name], workers=1)


@pytest.mark.parametrize(
    ("labels", "words"),
    [
        (np.full((4, 4), 21), r"a label outside 0..20"),
        (np.zeros((0, 4)), r"a label map of shape \(0, 4\)"),
        (np.zeros((2, 2, 2)), r"a label map of shape \(2, 2, 2\)"),
        (np.array([["a"]]), "no array of numbers"),
        (np.full((2, 2), 0.5), r"a label outside 0..20"),
    ],
)
def test_label_maps_of_sbd_that_are_none(labels: NDArray, words: str, tmp_path: Path) -> None:
    (tmp_path / "x.mat").write_bytes(sbd_file(labels))
    with pytest.raises(ValueError, match=rf"x.mat: this mask of SBD is damaged \({words}\): remove it"):
        read_sbd(tmp_path / "x.mat")


def test_damaged_files_of_sbd(tmp_path: Path) -> None:
    """Whatever is wrong with a file, it is one line that names it, or the labels are as they were."""
    labels = np.arange(20, dtype=np.uint8).reshape(4, 5)  # SciPy's reader crashes here
    path = tmp_path / "x.mat"
    random = np.random.default_rng(0)
    for number in range(1000):
        content = sbd_file(labels, compressed=number % 5 == 0)
        changed = bytearray(content[: random.integers(len(content))] if number % 3 == 0 else content)
        for place in random.integers(len(changed), size=number % 4) if changed else ():
            changed[place] = random.integers(256)
        path.write_bytes(changed)
        try:
            assert read_sbd(path).dtype == np.uint8
        except ValueError as error:
            assert str(error).startswith(f"{path}: this mask of SBD is damaged") and "\n" not in str(error)


@pytest.mark.slow
def test_the_real_masks(
    shared_data: Callable[[str], Path], voc_masks: Voc, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """VOC's masks from one archive and the others from SBD's format give SegmentationClassAug bit by bit.

    SBD's own archive is not here: its files are made from the very masks, for every name that VOC has not,
    and all zero for every name that VOC has.
    """
    monkeypatch.undo()
    monkeypatch.setattr(sources, "download", lambda *_: pytest.fail("fetched"))
    real, lists = voc_masks.root, shared_data("voc-masks")
    own = {name for split in ("train", "val") for name in (lists / f"{split}.txt").read_text().split()}
    masks = {path.stem: path for path in sorted((real / "SegmentationClassAug").iterdir())}
    files = {
        "JPEGImages": {f"{name}.jpg": b"" for name in [*masks, *(f"x{i}" for i in range(17125 - 12031))]},
        "SegmentationClass": {f"{name}.png": masks[name].read_bytes() for name in own},
        "ImageSets/Segmentation": {f: (lists / f).read_bytes() for f in ("train.txt", "val.txt")},
    }
    pack(
        tmp_path / VOC.name,
        (
            (f"VOCdevkit/VOC2012/{folder}/{name}", content)
            for folder, contents in files.items()
            for name, content in contents.items()
        ),
    )
    twice = sorted(own)[: 11355 - (12031 - len(own))]
    sbd = ((name, np.array(Image.open(path))) for name, path in masks.items() if name not in own)
    pack(
        tmp_path / BENCHMARK.name,
        (
            *benchmark_files({name: np.zeros((3, 4), np.uint8) for name in twice}),
            *((f"benchmark_RELEASE/dataset/cls/{name}.mat", sbd_file(labels)) for name, labels in sbd),
        ),
    )
    dataset = prepare(SOURCE, tmp_path, workers=2)
    assert dataset.differences() == ()
    assert same_masks(dataset.root, real)
    prepared = dataset.root / "ImageSets/Segmentation/train_aug.txt"
    assert prepared.read_bytes() == (lists / "train_aug.txt").read_bytes()
    assert voc.check(dataset, print, 2) == []
