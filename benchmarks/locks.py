"""Who works on what, among runners on one machine or several that share a folder.

    <folder>/<key>/<n>.json   who holds the lock, or that nobody does; the highest n counts

Only two things are asked of the file system, and NFS gives both: link(2) fails where the name exists, so of
two runners one alone makes entry n + 1; and a renamed file is seen whole. No entry is removed before the work
is done for good, so a slow runner that still sees entry n finds n + 1 taken. The holder rewrites its entry
every few seconds with a higher `beat`. Who does not beat any more loses the lock to entry n + 1: at once
where its process is gone from this machine, else when somebody has seen the same beat for `STALE` seconds of
his own clock; nobody compares the clocks of two machines.

A holder that was only suspended for so long works on beside the one that took over: they make the same bits
and put them in place by one rename, so time is lost and nothing else.
"""

from __future__ import annotations

import errno
import json
import os
import platform
import shutil
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Any

from reports.files import CannotWrite

BEAT = 10.0
"""Seconds between two signs of life."""
STALE = 180.0
"""Seconds without one after which a holder on another machine counts as dead; three times what an NFS
client may keep a file's old state (`acregmax`, 60 s)."""
POLL = 1.0
NO_LINKS = (errno.EPERM, errno.ENOTSUP, errno.ENOSYS, errno.EMLINK)


_HELD: set[Path] = set()
"""The entries that this process holds. One that says so and is not among them could not be given back: its
disk was full."""


@dataclass(frozen=True)
class Holder:
    """What an entry says."""

    host: str
    machine: str
    """The machine's boot and the name space of its process ids: only within it does `pid` mean anything."""
    pid: int
    born: str
    """When the process started, as the kernel counts: a pid is used again."""
    job: str
    """The cluster's number of the job, or ""."""
    free: bool = False
    beat: int = 0
    note: Mapping[str, Any] = field(default_factory=dict)
    """What it is doing: for people and for `status`."""

    def __str__(self) -> str:
        return f"{self.host}:{self.pid}" + (f" (job {self.job})" if self.job else "")

    def is_my_parent(self) -> bool:
        """Whether it started this process: what it holds, it holds for us."""
        return self.machine == _machine() and self.pid == os.getppid()

    def is_this_process(self) -> bool:
        return self.machine == _machine() and self.pid == os.getpid()

    def is_gone(self) -> bool:
        """Whether its process has ended, so far as this machine can tell."""
        return self.machine == _machine() and _born(self.pid) != self.born


class Lock:
    """One that this process holds, beating until it is released."""

    def __init__(self, entry: Path, holder: Holder) -> None:
        self.entry, self.holder = entry, holder
        _HELD.add(entry.absolute())
        self._note: Mapping[str, Any] = holder.note
        self._released = threading.Event()
        self._thread = threading.Thread(target=self._beat, daemon=True)
        self._thread.start()

    def note(self, note: Mapping[str, Any]) -> None:
        """What to say with the next beat."""
        self._note = note

    def release(self, done: bool) -> None:
        """Let others have it; `done` where none of them will need it, ever."""
        self._released.set()
        self._thread.join()
        _HELD.discard(self.entry.absolute())
        if done:
            shutil.rmtree(self.entry.parent, ignore_errors=True)
        else:
            self._write(replace(self.holder, free=True))

    def _beat(self) -> None:
        while not self._released.wait(BEAT):
            self.holder = replace(self.holder, beat=self.holder.beat + 1, note=self._note)
            self._write(self.holder)

    def _write(self, holder: Holder) -> None:
        temporary = self.entry.with_suffix(".tmp")
        with suppress(OSError):  # a full disk or a server that restarts: the next beat may work
            temporary.write_text(json.dumps(asdict(holder)), encoding="utf-8")
            temporary.replace(self.entry)


class Locks:
    """The locks below one folder, as this process sees them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._seen: dict[str, tuple[tuple[int, int], float]] = {}
        """For each key its entry and beat, and when they were first seen so."""

    def take(self, key: str, note: Mapping[str, Any] | None = None) -> Lock | None:
        """The lock; None where a living runner holds it."""
        number, holder = self._last(key)
        if holder is not None and not self._is_open(key, number, holder):
            return None
        mine = replace(myself(), note=note or {})
        entry = self.folder / key / f"{number + 1}.json"
        return Lock(entry, mine) if _link_new(entry, json.dumps(asdict(mine))) else None

    def holder(self, key: str) -> Holder | None:
        """Who holds it, alive so far as is known."""
        number, holder = self._last(key)
        return None if holder is None or self._is_open(key, number, holder) else holder

    def last_sign(self, key: str) -> tuple[Holder, float] | None:
        """Who holds it, dead or alive, and the time stamp of its last sign of life: for `status`."""
        number, holder = self._last(key)
        if holder is None or holder.free:
            return None
        with suppress(OSError):
            return holder, (self.folder / key / f"{number}.json").stat().st_mtime
        return None

    @contextmanager
    def hold(
        self,
        key: str,
        done: Callable[[], bool],
        waits: Callable[[Holder], None],
        note: Mapping[str, Any] | None = None,
    ) -> Iterator[Lock | None]:
        """Wait for the lock; None once the work is done, by whomever. `waits` is told of each holder."""
        told: tuple[str, int] | None = None
        lock: Lock | None = None
        while not done() and (lock := self.take(key, note)) is None:
            holder = self.holder(key)
            if holder is not None and told != (holder.host, holder.pid):
                told = holder.host, holder.pid
                waits(holder)
            time.sleep(POLL)
        if lock is not None and done():  # between the look and the lock
            lock.release(done=True)
            lock = None
        try:
            yield lock
        finally:
            if lock is not None:
                lock.release(done=done())

    def _last(self, key: str) -> tuple[int, Holder | None]:
        """The highest entry. One that cannot be read, as while a server forgets it, is somebody's."""
        try:
            numbers = [int(p.stem) for p in (self.folder / key).glob("*.json") if p.stem.isdigit()]
        except OSError:
            numbers = []
        number = max(numbers, default=0)
        return number, _read(self.folder / key / f"{number}.json") if number else None

    def _is_open(self, key: str, number: int, holder: Holder) -> bool:
        """Whether this process may have it."""
        return holder.free or holder.is_my_parent() or self._is_dead(key, number, holder)

    def _is_dead(self, key: str, number: int, holder: Holder) -> bool:
        entry = (self.folder / key / f"{number}.json").absolute()
        if holder.is_gone() or (holder.is_this_process() and entry not in _HELD):
            return True
        state, now = (number, holder.beat), time.monotonic()
        if self._seen.get(key, (None, 0.0))[0] != state:
            self._seen[key] = state, now
        return now - self._seen[key][1] > STALE


def myself() -> Holder:
    return Holder(platform.node(), _machine(), os.getpid(), _born(os.getpid()), _job())


def _read(path: Path) -> Holder:
    try:
        return Holder(**json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return Holder("unknown", "", 0, "", "")


def _link_new(entry: Path, text: str) -> bool:
    """Make `entry` with this content, whole; False where it exists already. Raises CannotWrite."""
    temporary = entry.with_name(f".{entry.stem}-{platform.node()}-{os.getpid()}.tmp")
    try:
        entry.parent.mkdir(parents=True, exist_ok=True)
        temporary.write_text(text, encoding="utf-8")
        os.link(temporary, entry)
    except FileExistsError:  # taken in between; or by us, where the server's first answer was lost
        return temporary.stat().st_nlink == 2
    except FileNotFoundError:  # done and removed in between
        return False
    except OSError as error:
        if error.errno not in NO_LINKS or not temporary.exists():
            raise CannotWrite.at(entry, error) from error
        return _open_new(entry, text)
    finally:
        with suppress(OSError):
            temporary.unlink()
    return True


def _open_new(entry: Path, text: str) -> bool:
    """As `_link_new`, where the file system has no links: who reads it half written waits for a beat."""
    try:
        with entry.open("x", encoding="utf-8") as file:
            file.write(text)
    except (FileExistsError, FileNotFoundError):
        return False
    return True


def _job() -> str:
    """As `squeue` writes it."""
    array = os.environ.get("SLURM_ARRAY_JOB_ID")
    if array:
        return f"{array}_{os.environ.get('SLURM_ARRAY_TASK_ID', '')}"
    return os.environ.get("SLURM_JOB_ID") or os.environ.get("SUBMITIT_LOCAL_JOB_ID", "")


@cache
def _machine() -> str:
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        return f"{boot} {Path('/proc/self/ns/pid').readlink()}"
    except OSError:
        return platform.node()


def _born(pid: int) -> str:
    """Of a living process, "" where there is none."""
    if not Path("/proc/self/stat").exists():
        return _is_alive(pid)
    try:
        text = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
    state, *fields = text.rpartition(")")[2].split()
    return "" if state in "ZX" else fields[18]  # a zombie holds nothing any more


def _is_alive(pid: int) -> str:
    """Where /proc is missing: "alive" or ""."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return ""
    except OSError:
        pass
    return "alive"
