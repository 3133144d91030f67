"""Ctrl-C and SIGTERM as a request to come to an end, not as a blow."""

import signal
import threading
from types import FrameType, TracebackType
from typing import Self


class StopRequest:
    """While the block runs, the first Ctrl-C or SIGTERM is noted; a second Ctrl-C interrupts as usual.

    Attributes:
        made: someone asked for the end.
    """

    def __init__(self) -> None:
        self.made = False

    def __enter__(self) -> Self:
        self._previous = {}
        if threading.current_thread() is threading.main_thread():
            self._previous = {s: signal.signal(s, self._note) for s in (signal.SIGINT, signal.SIGTERM)}
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    def _note(self, number: int, frame: FrameType | None) -> None:
        if self.made and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.made = True
