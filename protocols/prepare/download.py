"""Fetching a large file from the first server that has it: it goes on where it was cut off."""

from __future__ import annotations

import http.client
import sys
import urllib.error
import urllib.request
from collections.abc import Sequence
from pathlib import Path

from tqdm import tqdm

from protocols.prepare.disk import check_space, is_disk_error

_PIECE = 1 << 20
_TIMEOUT = 60.0


def download(urls: Sequence[str], path: Path) -> None:
    """Fetch `path` from the first of `urls` that delivers all of it.

    What has arrived lies in `path`.part until then, whichever server it came from. A broken connection is
    taken up again as long as each attempt brings something. ConnectionError when no server brings anything;
    the next call then goes on from there.
    """
    for url, mirror in zip(urls, [*urls[1:], ""], strict=True):
        try:
            _download_from(url, path)
            return
        except ConnectionError as error:
            if mirror:
                print(f"{url}: not fetched ({error}): trying {mirror}", file=sys.stderr)
            else:
                raise ConnectionError(
                    f"{url}: not fetched ({error}): run the same command again, or fetch the file yourself "
                    f"and put it at {path}"
                ) from None


def _download_from(url: str, path: Path) -> None:
    part = path.with_name(f"{path.name}.part")
    while True:
        before = _size(part)
        try:
            _fetch(url, part)
            break
        except (OSError, http.client.HTTPException) as error:
            if is_disk_error(error):
                raise
            if _size(part) == before:
                raise ConnectionError(" ".join(str(error).split()) or type(error).__name__) from None
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
        if response.headers.get_content_type() == "text/html":  # of a login, or a server that has moved
            raise ConnectionError("a web page came instead")
        if response.status != 206:  # the server starts again from the beginning
            start = 0
        length = response.headers.get("Content-Length")
        total = start + int(length) if length else None
        check_space(part.parent, int(length or 0), part.stem)
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
