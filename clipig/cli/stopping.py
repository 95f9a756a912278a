"""Delays Ctrl-C to the end of a step."""

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
    """Delays the first Ctrl-C, SIGTERM or SIGHUP until `check`, while `patient` is set.

    A step changes canvas and optimizer moments in place, so an interrupted step would leave
    a state that no run can continue. Before the first step there is nothing to protect. A
    second signal stops the program at once.
    """

    def __init__(self) -> None:
        self.patient = False
        self.asked = False
        self._before: dict[signal.Signals, Any] = {}

    def __enter__(self) -> Stop:
        if threading.current_thread() is threading.main_thread():
            for kind in _SIGNALS:
                before = signal.getsignal(kind)
                if before not in (signal.SIG_IGN, None):  # ignored by nohup or for background jobs
                    self._before[kind] = signal.signal(kind, self._note)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, fault: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for number, before in self._before.items():
            signal.signal(number, before)

    def check(self) -> None:
        """Stop here if a signal was received, by raising `KeyboardInterrupt`."""
        if self.asked:
            raise KeyboardInterrupt

    def _note(self, number: int, frame: FrameType | None) -> None:
        if self.asked or not self.patient:
            raise KeyboardInterrupt
        self.asked = True
        os.write(2, _NOTE)


def tell(events: Iterable[tuple[Group, Event]], sinks: Sequence[Sink]) -> bool:
    """Pass all events to the sinks and close them; returns whether Ctrl-C ended it early."""
    from clipig.engine.events import Finished, Step

    interrupted = False
    try:
        with Stop() as stop:
            for group, event in events:
                stop.patient |= isinstance(event, Step)
                for sink in sinks:
                    sink(group, event)
                if not isinstance(event, Finished):  # a finished run cannot be interrupted
                    stop.check()
    except KeyboardInterrupt:
        interrupted = True
    finally:
        for sink in sinks:
            sink.close(interrupted or sys.exc_info()[0] is not None)
    return interrupted
