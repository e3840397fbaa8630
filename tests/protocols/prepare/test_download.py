"""Fetching a file from a server that breaks off, and one that cannot go on in the middle."""

from __future__ import annotations

import errno
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from protocols.prepare.download import download

CONTENT = bytes(i * i % 251 for i in range(100_000))


class Server(ThreadingHTTPServer):
    """Serves CONTENT, and breaks off after `limit` bytes of a response."""

    limit = len(CONTENT)
    ranges = True
    content_type = "application/x-tar"
    requests: list[str]

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/archive.zip"


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        asked = self.headers.get("Range", "")
        self.server.requests.append(asked)
        start = int(asked.removeprefix("bytes=").removesuffix("-")) if asked and self.server.ranges else 0
        if start >= len(CONTENT):
            self.send_response(416)
            self.send_header("Content-Range", f"bytes */{len(CONTENT)}")
            self.end_headers()
            return
        self.send_response(206 if start else 200)
        self.send_header("Content-Type", self.server.content_type)
        self.send_header("Content-Length", str(len(CONTENT) - start))
        self.end_headers()
        self.wfile.write(CONTENT[start : start + self.server.limit])

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def server() -> Iterator[Server]:
    with Server(("127.0.0.1", 0), Handler) as server:
        server.requests = []
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def test_whole_file(server: Server, tmp_path: Path) -> None:
    download([server.url], tmp_path / "archive.zip")
    assert (tmp_path / "archive.zip").read_bytes() == CONTENT
    assert [path.name for path in tmp_path.iterdir()] == ["archive.zip"]


def test_a_broken_connection_is_taken_up_again(server: Server, tmp_path: Path) -> None:
    server.limit = 40_000
    download([server.url], tmp_path / "archive.zip")
    assert (tmp_path / "archive.zip").read_bytes() == CONTENT
    assert server.requests == ["", "bytes=40000-", "bytes=80000-"]


def test_a_killed_download_goes_on(server: Server, tmp_path: Path) -> None:
    (tmp_path / "archive.zip.part").write_bytes(CONTENT[:70_000])
    download([server.url], tmp_path / "archive.zip")
    assert (tmp_path / "archive.zip").read_bytes() == CONTENT
    assert server.requests == ["bytes=70000-"]


def test_all_had_arrived(server: Server, tmp_path: Path) -> None:
    (tmp_path / "archive.zip.part").write_bytes(CONTENT)
    download([server.url], tmp_path / "archive.zip")
    assert (tmp_path / "archive.zip").read_bytes() == CONTENT


def test_a_server_that_always_starts_anew(server: Server, tmp_path: Path) -> None:
    server.ranges = False
    (tmp_path / "archive.zip.part").write_bytes(b"something else")
    download([server.url], tmp_path / "archive.zip")
    assert (tmp_path / "archive.zip").read_bytes() == CONTENT


def test_a_web_page_replaces_nothing(server: Server, tmp_path: Path) -> None:
    server.ranges, server.content_type = False, "text/html; charset=utf-8"
    (tmp_path / "archive.zip.part").write_bytes(CONTENT[:70_000])
    with pytest.raises(ConnectionError, match="a web page came instead"):
        download([server.url], tmp_path / "archive.zip")
    assert (tmp_path / "archive.zip.part").read_bytes() == CONTENT[:70_000]


def test_nothing_arrives(server: Server, tmp_path: Path) -> None:
    server.limit = 0
    with pytest.raises(
        ConnectionError, match=r"not fetched \(0 of 100000 bytes arrived\): run the same"
    ) as caught:
        download([server.url], tmp_path / "archive.zip")
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "archive.zip").exists()


def test_a_mirror_goes_on_where_the_first_server_broke_off(
    server: Server, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "archive.zip.part").write_bytes(CONTENT[:70_000])
    download(["http://127.0.0.1:1/archive.zip", server.url], tmp_path / "archive.zip")
    assert (tmp_path / "archive.zip").read_bytes() == CONTENT
    assert server.requests == ["bytes=70000-"]
    assert "http://127.0.0.1:1/archive.zip: not fetched" in capsys.readouterr().err


def test_a_full_disk_is_noticed_before(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    free = type("Usage", (), {"free": 99_999})
    monkeypatch.setattr("shutil.disk_usage", lambda _: free)
    with pytest.raises(ValueError, match=r"archive.zip needs 0 MB, .*: make room"):
        download([server.url], tmp_path / "archive.zip")


def test_a_full_disk_is_no_broken_connection(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("protocols.prepare.download.tqdm.update", full)
    with pytest.raises(OSError, match="No space left") as caught:
        download([server.url, server.url], tmp_path / "archive.zip")
    assert caught.value.errno == errno.ENOSPC and len(server.requests) == 1


def test_no_server(tmp_path: Path) -> None:
    with pytest.raises(ConnectionError, match="not fetched"):
        download(["http://127.0.0.1:1/archive.zip"], tmp_path / "archive.zip")
