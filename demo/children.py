"""Runs the tool's commands, so that a signal to the demo ends them too."""

import os
import shlex
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from types import FrameType

SIGNALS = ("SIGINT", "SIGTERM", "SIGHUP")  # Windows has no SIGHUP


class Children:
    """Runs one command at a time; a signal is passed on to it, waited for, and then ends this process.

    Commands get a process group of their own (not on Windows): a Ctrl-C reaches the whole group, and one that gets it
    twice does not save.
    """

    def __init__(self) -> None:
        self._child: subprocess.Popen[bytes] | None = None
        self._received = 0
        self._is_starting = False
        for number in (getattr(signal, name) for name in SIGNALS if hasattr(signal, name)):
            if number == signal.SIGINT or signal.getsignal(number) != signal.SIG_IGN:
                signal.signal(number, self._note)

    def run(self, command: Sequence[str]) -> int:
        """Run a command to its end; return its exit code.

        Raises:
            SystemExit: a signal came, with 128 and its number; the command has ended.
        """
        self._is_starting = True
        group = 0 if os.name != "nt" else None
        self._child = subprocess.Popen(command, stdin=subprocess.DEVNULL, process_group=group)
        self._is_starting = False
        if self._received:
            self._child.send_signal(self._received)
        code = self._child.wait()
        self._child = None
        if self._received:
            sys.exit(128 + self._received)
        return code

    def _note(self, number: int, frame: FrameType | None) -> None:
        self._received = number
        if self._child is not None:
            self._child.send_signal(number)
        elif not self._is_starting:
            sys.exit(128 + number)


def run(children: Children, *arguments: str) -> None:
    """Run one command of the tool as a user would.

    Raises:
        SystemExit: it failed, with its exit code; or a signal came.
    """
    print(f"\n$ python cli.py {shlex.join(arguments)}", flush=True)
    cli = Path(__file__).resolve().parent.parent / "cli.py"
    code = children.run([sys.executable, str(cli), *arguments])
    if code:
        sys.exit(code)
