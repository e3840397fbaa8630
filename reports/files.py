"""Files that are written whole or not at all, and read only where they are plain files of a sane size."""

from __future__ import annotations

import stat
import uuid
from contextlib import suppress
from pathlib import Path

LARGEST_MIB = 64


class CannotWrite(ValueError):
    """A file cannot be written, in one line: whatever is tried next in its folder would fail too."""

    @classmethod
    def at(cls, path: Path, error: Exception) -> CannotWrite:
        reason = getattr(error, "strerror", None) or " ".join(str(error).split()) or type(error).__name__
        return cls(
            f"{path}: cannot be written ({reason}); free some space there, or choose a folder that you may "
            "write to, and start the same command again"
        )


def read_text(path: Path) -> str:
    """The UTF-8 text of a file.

    Raises:
        ValueError: no plain file, such as a folder or a pipe; too large; not readable; not UTF-8.
    """
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):
            raise ValueError(f"{path}: is no plain file; give the path of a file")
        if status.st_size > LARGEST_MIB * 2**20:
            size = f"{status.st_size / 2**20:.0f} MiB"
            raise ValueError(
                f"{path}: has {size}, more than the {LARGEST_MIB} that are read; is it a record?"
            )
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise ValueError(
            f"{path}: cannot be read ({error.strerror}); check the path and its permissions"
        ) from None
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}: not UTF-8 text ({error}); restore the file, or save it as UTF-8") from None


def write_text(path: Path, text: str) -> None:
    """Write `text` as UTF-8, see `write_bytes`."""
    write_bytes(path, text.encode())


def write_bytes(path: Path, content: bytes) -> None:
    """Write `content` so that `path` holds the old or the new content, never half of one.

    Raises:
        CannotWrite: the folder cannot be made or written.
    """
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary.write_bytes(content)
        temporary.replace(path)
    except OSError as error:
        _remove(temporary)
        raise CannotWrite.at(path, error) from None
    except BaseException:
        _remove(temporary)
        raise


def _remove(path: Path) -> None:
    with suppress(OSError):
        path.unlink()
