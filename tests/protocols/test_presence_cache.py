"""The presence index: the same table however it is built, and a cache that is never stale."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from protocols import presence
from protocols.datasets import Folder, Sample, Voc

Save = Callable[..., None]


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Path]]:
    """The masks opened so far."""
    opened: list[Path] = []
    original = Voc.label_values

    def spy(self: Voc, sample):  # type: ignore[no-untyped-def]
        opened.append(sample.mask)
        return original(self, sample)

    monkeypatch.setattr(Voc, "label_values", spy)
    yield opened


def table(root: Path, cache: Path) -> list[list[int]]:
    voc = Voc(root)
    rows = presence.presence(voc, voc.samples("train"), cache)
    assert rows.dtype == bool and rows.shape == (len(rows), 256)
    return [np.flatnonzero(row).tolist() for row in rows]


def test_second_call_opens_no_mask(tiny_voc: Path, tmp_path: Path, reads: list[Path]) -> None:
    first = table(tiny_voc, tmp_path / "cache")
    assert first == [[0, 1, 2, 255], [0, 3], [0, 1, 3]]
    assert len(reads) == 3
    assert table(tiny_voc, tmp_path / "cache") == first
    assert len(reads) == 3


def test_a_changed_mask_is_read_again_even_at_the_same_size(
    tiny_voc: Path, tmp_path: Path, save_mask: Save
) -> None:
    cache = tmp_path / "cache"
    mask = tiny_voc / "VOCdevkit/VOC2012/SegmentationClassAug/b.png"
    table(tiny_voc, cache)
    save_mask(mask, [[0, 0], [4, 4]])
    os.utime(mask, ns=(1, mask.stat().st_mtime_ns + 1))
    assert table(tiny_voc, cache)[1] == [0, 4]


def test_a_changed_list_is_another_index(tiny_voc: Path, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    table(tiny_voc, cache)
    (tiny_voc / "VOCdevkit/VOC2012/ImageSets/Segmentation/train_aug.txt").write_text("c\na\n")
    assert table(tiny_voc, cache) == [[0, 1, 3], [0, 1, 2, 255]]


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 cut short", b"\x80\x04]."])
def test_a_damaged_cache_file_is_rebuilt(
    content: bytes, tiny_voc: Path, tmp_path: Path, reads: list[Path]
) -> None:
    cache = tmp_path / "cache"
    first = table(tiny_voc, cache)
    (file,) = cache.iterdir()
    file.write_bytes(content)
    assert table(tiny_voc, cache) == first
    assert len(reads) == 6
    assert table(tiny_voc, cache) == first
    assert len(reads) == 6


def test_a_cache_of_pickles_or_of_another_shape_is_not_believed(tiny_voc: Path, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    first = table(tiny_voc, cache)
    (file,) = cache.iterdir()
    for wrong in (np.array([{"a": 1}], dtype=object), np.zeros((2, 32), np.uint8), np.zeros((3, 32))):
        np.savez(file, presence=wrong)
        assert table(tiny_voc, cache) == first


def test_the_way_to_read_ids_is_part_of_the_key(tmp_path: Path, save_mask: Save) -> None:
    save_mask(tmp_path / "masks" / "x.png", [[0, 1]])
    (tmp_path / "images").mkdir()
    for name in ("train.txt", "val.txt"):
        (tmp_path / name).write_text("x\n")
    found = []
    for background in (True, False):
        folder = Folder(tmp_path, classes=["a", "b"], background=background)
        rows = presence.presence(folder, folder.samples("train"), tmp_path / "cache")
        found.append(np.flatnonzero(rows[0]).tolist())
    assert found == [[0, 1], [1, 2]]


def test_processes_count_what_a_plain_loop_counts(voc_masks: Voc) -> None:
    samples = voc_masks.samples("train")[:1600]
    rows = presence.count(voc_masks, samples, workers=2)
    for sample, row in zip(samples[::40], rows[::40], strict=True):
        assert np.flatnonzero(row).tolist() == np.unique(np.array(Image.open(sample.mask))).tolist()
    assert np.array_equal(rows, presence.count(voc_masks, samples, workers=1))


def test_split_work_imports_no_torch() -> None:
    code = "import sys, protocols.custom, protocols.card, protocols.splits; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=Path(__file__).parents[2]).returncode == 0


def test_mistakes_in_masks_come_out_of_the_processes(voc_masks: Voc, tmp_path: Path, save_mask: Save) -> None:
    bad = tmp_path / "bad.png"
    save_mask(bad, [[0, 77]])
    samples = [*voc_masks.samples("train")[:1600], Sample(bad, bad)]
    with pytest.raises(ValueError, match=r"bad.png: label value 77"):
        presence.count(voc_masks, samples, workers=2)


def test_missing_mask_and_unwritable_cache_are_one_line(tiny_voc: Path, tmp_path: Path) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("")
    with pytest.raises(ValueError, match=r"cannot write the index of masks.*choose another folder"):
        table(tiny_voc, blocked / "cache")
    (tiny_voc / "VOCdevkit/VOC2012/SegmentationClassAug/b.png").unlink()
    with pytest.raises(FileNotFoundError, match=r"b.png: this mask is in the list but not on disk"):
        table(tiny_voc, tmp_path / "cache")
