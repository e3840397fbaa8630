"""For all tests."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch

from tests.pair import Pair

SHARED = Path(__file__).parents[1].parent / "shared" / "data"

# Tiny tensors gain nothing from a second thread, and lose much where the cores are busy.
torch.set_num_threads(1)


@pytest.fixture(scope="session")
def shared_data() -> Callable[[str], Path]:
    """The folder of a shared data set; skips the test where it is absent."""

    def find(name: str) -> Path:
        if not (SHARED / name).is_dir():
            pytest.skip(f"shared data {name} is not here")
        return SHARED / name

    return find


@pytest.fixture(scope="session")
def pair() -> Iterator[Pair]:
    """Two processes that talk to each other."""
    pair = Pair()
    yield pair
    pair.close()
