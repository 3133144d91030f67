"""Turn the first Ctrl-C, SIGTERM or SIGHUP into a request to stop."""

import os
import signal
import stat
import threading
from types import FrameType, TracebackType
from typing import Self

REQUESTS = ("SIGINT", "SIGTERM", "SIGHUP")  # the last: its terminal was closed; Windows has none


class StopRequest:
    """While the block runs, the first such signal is noted; a second Ctrl-C interrupts as usual.

    SIGTERM and SIGHUP stay ignored where whoever started the process wants that (nohup).

    Attributes:
        made: someone asked for the end.
    """

    def __init__(self) -> None:
        self.made = False

    def __enter__(self) -> Self:
        self._previous = {}
        if threading.current_thread() is threading.main_thread():
            for number in (getattr(signal, name) for name in REQUESTS if hasattr(signal, name)):
                if number == signal.SIGINT or signal.getsignal(number) != signal.SIG_IGN:
                    self._previous[number] = signal.signal(number, self._note)
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
        leave_closed_terminal()


def leave_closed_terminal() -> None:
    """Write nowhere from now on, where this process wrote to a terminal that was closed: writing to it would fail."""
    for number in (1, 2):  # standard output, standard error
        try:
            was_terminal = stat.S_ISCHR(os.fstat(number).st_mode) and not os.isatty(number)
        except OSError:  # there never was one
            continue
        if was_terminal:
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, number)
            os.close(nowhere)
