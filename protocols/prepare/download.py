"""Fetching a large file: it goes on where it was cut off."""

from __future__ import annotations

import http.client
import urllib.error
import urllib.request
from pathlib import Path

from tqdm import tqdm

_PIECE = 1 << 20
_TIMEOUT = 60.0


def download(url: str, path: Path) -> None:
    """Fetch `url` to `path`. What has arrived lies in `path`.part until all of it is there.

    A broken connection is taken up again as long as each attempt brings something. ConnectionError when one
    brings nothing; the next call then goes on from there.
    """
    part = path.with_name(f"{path.name}.part")
    while True:
        before = _size(part)
        try:
            _fetch(url, part)
            break
        except (OSError, http.client.HTTPException) as error:
            if _size(part) == before:
                reason = " ".join(str(error).split()) or type(error).__name__
                raise ConnectionError(
                    f"{url}: not fetched ({reason}): run the same command again, or put the file at {path}"
                ) from None
    part.replace(path)


def _fetch(url: str, part: Path) -> None:
    """Append to `part` what it lacks. OSError or HTTPException where the connection ends too early."""
    start = _size(part)
    request = urllib.request.Request(url, headers={"Range": f"bytes={start}-"} if start else {})
    try:
        response = urllib.request.urlopen(request, timeout=_TIMEOUT)
    except urllib.error.HTTPError as error:
        if error.code == 416 and error.headers.get("Content-Range", "") == f"bytes */{start}":
            return  # all of it is there
        if error.code == 416:
            part.unlink()
        raise
    with response:
        if response.status != 206:  # the server starts again from the beginning
            start = 0
        length = response.headers.get("Content-Length")
        total = start + int(length) if length else None
        with (
            part.open("ab" if start else "wb") as file,
            tqdm(
                total=total, initial=start, desc=part.stem, unit="B", unit_scale=True, disable=None
            ) as progress,
        ):
            while piece := response.read(_PIECE):
                file.write(piece)
                progress.update(len(piece))
    if total is not None and _size(part) < total:
        raise ConnectionError(f"{_size(part)} of {total} bytes arrived")


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0
