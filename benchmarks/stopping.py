"""How a command ends before it is done. The first signal lets a training save its state, a second one ends
it at once; what cannot be written ends it too. Clusters send SIGUSR1 or SIGUSR2 before a job's time is up.
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

SIGNALS = tuple(
    getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGUSR1", "SIGUSR2") if hasattr(signal, name)
)
CANNOT_WRITE = 74
"""Exit status: sysexits.h EX_IOERR."""


class Interrupted(KeyboardInterrupt):
    """A signal asked to stop; the message says what was saved, if anything was."""

    def __init__(self, number: int, saved: str = "") -> None:
        super().__init__(saved)
        self.number = number

    @property
    def name(self) -> str:
        return signal.Signals(self.number).name

    @property
    def status(self) -> int:
        """The exit status that shells know it by: 130 for SIGINT, 143 for SIGTERM."""
        return 128 + self.number


class _Stop:
    """What this process was asked, and whether it may be interrupted right now."""

    def __init__(self) -> None:
        self.asked: int | None = None
        self.waits = False
        """Whether somebody looks at `asked` soon."""
        self.patient = False
        """Whether a second signal is one too many: not in a process whose parent ends it anyway."""
        self.process = os.getpid()

    def handle(self, number: int, frame: FrameType | None) -> None:
        if os.getpid() != self.process:  # a loader process, forked from this one
            if number == signal.SIGTERM:  # the others reach it along with this one; it is still needed
                os._exit(128 + number)
            return
        again, self.asked = self.asked is not None, number
        if again and not self.patient:
            os._exit(128 + number)
        if not self.waits and not again:
            raise Interrupted(number)


_stop = _Stop()


@contextmanager
def signals_stop() -> Iterator[None]:
    """Within, SIGNALS raise Interrupted: at once, or at the end of the iteration in training."""
    global _stop
    if threading.current_thread() is not threading.main_thread():
        yield  # only the main thread may say what a signal does
        return
    before, outer = {number: signal.getsignal(number) for number in SIGNALS}, _stop
    _stop = _Stop()
    for number, handler in before.items():
        if handler is not signal.SIG_IGN:  # a background job of a shell without job control
            signal.signal(number, _stop.handle)
    try:
        yield
    finally:
        _stop = outer
        for number, handler in before.items():
            signal.signal(number, handler)


def be_patient() -> None:
    """Further signals change nothing: for a process that ends with its parent."""
    _stop.patient = True


def asked_to_stop() -> int | None:
    """The signal that asked, if one did."""
    return _stop.asked


@contextmanager
def stop_waits() -> Iterator[None]:
    """Within, a signal interrupts nothing: the caller looks at `asked_to_stop`, and raises Interrupted.

    What fails after a signal is a consequence of it, such as another process of the run that ended before.
    """
    _stop.waits = True
    try:
        yield
    except Exception as error:
        if _stop.asked is not None:
            raise Interrupted(_stop.asked) from error
        raise
    finally:
        _stop.waits = False
