"""Watches over one call: what it may raise, how much time and memory it may take.

Time is time of the processor, so that a busy machine finds nothing; a call that waits
(for a pipe, a server, a lock) is stopped by the clock. Memory is what the process holds
at most beyond what it held before. Limits of the kernel stand behind both, so that a
runaway input harms nobody.
"""

from __future__ import annotations

import contextlib
import re
import resource
import signal
import socket
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

from clipig.errors import ClipigError

PACKAGE = Path(__file__).parents[2] / "clipig"
_STATUS = Path("/proc/self/status")
_PEAK = Path("/proc/self/clear_refs")


@dataclass(frozen=True)
class Limits:
    """seconds of the processor, seconds of the clock, bytes more than before; and bytes
    beyond which the kernel gives nothing."""

    seconds: float = 2.0
    waiting: float = 20.0
    bytes: int = 500 << 20
    hard: int = 2 << 30


class TooSlow(AssertionError):
    """A call took more time than it may."""


class TooLarge(AssertionError):
    """A call took more memory than it may."""


class Untrue(AssertionError):
    """A property does not hold."""


class _Alarm(BaseException):
    """From a signal; no `except Exception` of the watched code may catch it."""


def guarded(call: Callable[[], None], limits: Limits) -> bool:
    """Call; a `ClipigError` is fine, everything else is raised.

    Returns:
        Whether the call went through, without a `ClipigError`.

    Raises:
        TooSlow, TooLarge: The call took too much, twice in a row, so that what is
            done only once (an import, a cache) is no finding.
        Exception: Whatever the call raised.
    """
    try:
        return _once(call, limits)
    except (TooSlow, TooLarge):
        return _once(call, limits)


def _once(call: Callable[[], None], limits: Limits) -> bool:
    taken = False
    before = _memory("VmRSS")
    with contextlib.suppress(OSError):
        _PEAK.write_text("5")  # the peak begins at what is held now
    try:
        with _timed(limits), _bounded(limits), contextlib.suppress(ClipigError):
            call()
            taken = True
    except MemoryError as fault:
        raise TooLarge(f"more than {limits.hard >> 20} MB") from fault
    except _Alarm as fault:
        raise TooSlow(f"{fault}{place(fault)}") from fault
    held = _memory("VmHWM") - before
    if held > limits.bytes:
        raise TooLarge(f"{held >> 20} MB, {limits.bytes >> 20} are allowed")
    return taken


@contextlib.contextmanager
def _timed(limits: Limits) -> Iterator[None]:
    def worked(number: int, frame: FrameType | None) -> None:
        raise _Alarm(f"more than {limits.seconds:g} s")

    def waited(number: int, frame: FrameType | None) -> None:
        raise _Alarm(f"nothing after {limits.waiting:g} s")

    old = signal.signal(signal.SIGPROF, worked), signal.signal(signal.SIGALRM, waited)
    # again and again: an exception inside of a destructor or a callback is lost
    signal.setitimer(signal.ITIMER_PROF, limits.seconds, 0.1)
    signal.setitimer(signal.ITIMER_REAL, limits.waiting, 0.1)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGPROF, old[0])
        signal.signal(signal.SIGALRM, old[1])


@contextlib.contextmanager
def _bounded(limits: Limits) -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_DATA)
    resource.setrlimit(resource.RLIMIT_DATA, (_memory("VmData") + limits.hard, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_DATA, (soft, hard))


def _memory(key: str) -> int:
    """Bytes of this process; 0 where the system does not tell."""
    with contextlib.suppress(OSError):
        for line in _STATUS.read_text().splitlines():
            if line.startswith(f"{key}:"):
                return int(line.split()[1]) << 10
    return 0


def peak() -> int:
    """Bytes: the most that this process has held since it last looked."""
    return _memory("VmHWM")


@contextlib.contextmanager
def offline() -> Iterator[None]:
    """No call reaches the network; all are refused at once."""
    def refuse(*_: object, **__: object) -> None:
        raise OSError("no network while fuzzing")

    kept = socket.getaddrinfo, socket.socket.connect
    socket.getaddrinfo, socket.socket.connect = refuse, refuse  # type: ignore[assignment,method-assign]
    try:
        yield
    finally:
        socket.getaddrinfo, socket.socket.connect = kept  # type: ignore[method-assign]


def kind(fault: BaseException) -> str:
    """What makes two findings the same: the exception and the innermost function of clipig's,
    or the property that does not hold."""
    if isinstance(fault, Untrue):
        said = str(fault).splitlines()[0].partition(":")[0]
        return f"Untrue: {re.sub('[0-9]+', 'N', said)}"
    if isinstance(fault, TooSlow | TooLarge):  # in which function that is depends on chance
        return f"{type(fault).__name__}{place(fault.__cause__ or fault).partition(':')[0]}"
    return f"{type(fault).__name__}{place(fault)}"


def place(fault: BaseException) -> str:
    """` in FILE:FUNCTION`, the innermost of clipig's that the exception came through."""
    own = [
        frame for frame in traceback.extract_tb(fault.__traceback__)
        if Path(frame.filename).is_relative_to(PACKAGE)
    ]
    return f" in {Path(own[-1].filename).relative_to(PACKAGE)}:{own[-1].name}" if own else ""
