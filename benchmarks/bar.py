"""A progress bar whose ETA survives a clock that is set."""

from __future__ import annotations

import time
from typing import Any

from tqdm import tqdm


class Bar(tqdm):
    """tqdm by the monotonic clock: by the wall clock's, which tqdm asks, an hour may be negative."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        if not self.disable:
            self._time = time.monotonic
            self.start_t = self.last_print_t = self._time()
