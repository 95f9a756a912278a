"""Ctrl-C between two steps, not in the middle of one."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Iterable, Sequence
from types import FrameType, TracebackType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from clipig.engine.events import Event
    from clipig.outputs import Sink
    from clipig.session import Group

_SIGNALS = tuple(
    getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)
)
_NOTE = b"\nstopping after this step; once more stops at once\n"


class Stop:
    """Puts Ctrl-C, SIGTERM and SIGHUP off until `check`, while `patient`; the second one is not.

    A step changes canvas and moments in place: one that is broken off leaves a state
    that no other run can continue. Until something is worth keeping nothing is put off.
    """

    def __init__(self) -> None:
        self.patient = False
        self.asked = False
        self._before: dict[signal.Signals, Any] = {}

    def __enter__(self) -> Stop:
        if threading.current_thread() is threading.main_thread():
            for kind in _SIGNALS:
                before = signal.getsignal(kind)
                if before not in (signal.SIG_IGN, None):  # nohup, a shell's background
                    self._before[kind] = signal.signal(kind, self._note)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, fault: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for number, before in self._before.items():
            signal.signal(number, before)

    def check(self) -> None:
        """Here one may stop. Raises `KeyboardInterrupt` if that was asked for."""
        if self.asked:
            raise KeyboardInterrupt

    def _note(self, number: int, frame: FrameType | None) -> None:
        if self.asked or not self.patient:
            raise KeyboardInterrupt
        self.asked = True
        os.write(2, _NOTE)


def tell(events: Iterable[tuple[Group, Event]], sinks: Sequence[Sink]) -> bool:
    """Tell sinks all events and close them; whether Ctrl-C ended that early."""
    from clipig.engine.events import Finished, Step

    interrupted = False
    try:
        with Stop() as stop:
            for group, event in events:
                stop.patient |= isinstance(event, Step)
                for sink in sinks:
                    sink(group, event)
                if not isinstance(event, Finished):  # what is finished is not interrupted
                    stop.check()
    except KeyboardInterrupt:
        interrupted = True
    finally:
        for sink in sinks:
            sink.close(interrupted or sys.exc_info()[0] is not None)
    return interrupted
