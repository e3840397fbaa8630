"""`prepare cityscapes`: two archives, which its authors give only to whom they know."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from protocols.datasets import SPLITS, Cityscapes, Dataset
from protocols.datasets.cityscapes import IMAGE_SUFFIX, MASK_SUFFIX
from protocols.prepare.disk import count_files
from protocols.prepare.sources import Archive, Part, Say, Source

# SHA-1: GluonCV `scripts/datasets/cityscapes.py`. `test` has photographs without labels: nobody reads it.
MASKS = Archive(
    name="gtFine_trainvaltest.zip",
    top="gtFine",
    below="gtFine",
    only=SPLITS,
    hash=("sha1", "99f532cb1af174f5fcc4c5bc8feea8c66246ddbc"),
)
PHOTOGRAPHS = Archive(
    name="leftImg8bit_trainvaltest.zip",
    top="leftImg8bit",
    below="leftImg8bit",
    only=SPLITS,
    hash=("sha1", "2c0b77ce9933cc635adda307fbba5566f5d9d404"),
    limit=20_000_000_000,
)


def _lacks(folder: str, suffix: str) -> Callable[[Path], str]:
    def lacks(root: Path) -> str:
        for split, official in Cityscapes.official_sizes.items():
            found = sum(count_files(city, suffix) for city in _cities(root / folder / split))
            if found < official:
                return f"{folder}/{split} has {found} of {official} files {suffix}"
        return ""

    return lacks


def _cities(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.is_dir()) if folder.is_dir() else []


def check(dataset: Dataset, say: Say, workers: int) -> list[str]:
    """Photographs without a mask: samples are listed by their masks."""
    problems = []
    for split in SPLITS:
        for city in _cities(dataset.root / "leftImg8bit" / split):
            masks = dataset.root / "gtFine" / split / city.name
            stems = (
                path.name.removesuffix(IMAGE_SUFFIX) for path in sorted(city.glob(f"[!.]*{IMAGE_SUFFIX}"))
            )
            problems += [
                f"{path}: this mask is missing: run `prepare cityscapes` again"
                for path in (masks / f"{stem}{MASK_SUFFIX}" for stem in stems)
                if not path.is_file()
            ]
    return problems


def _nothing(root: Path, workers: int) -> None:
    """All stands in the archives."""


SOURCE = Source(
    name="cityscapes",
    key=Cityscapes.key,
    top="cityscapes",
    parts=(
        Part((MASKS,), _lacks("gtFine", MASK_SUFFIX)),
        Part((PHOTOGRAPHS,), _lacks("leftImg8bit", IMAGE_SUFFIX)),
    ),
    finish=_nothing,
    check=check,
    how_to_get="Cityscapes gives its archives to registered users only, for non-commercial use: register at "
    "https://www.cityscapes-dataset.com/register, fetch gtFine_trainvaltest.zip (241 MB) and "
    "leftImg8bit_trainvaltest.zip (11 GB) from https://www.cityscapes-dataset.com/downloads, put both there, "
    "or name each with --from-archive",
)
