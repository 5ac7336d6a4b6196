"""How a command ends before its end: by a signal, a full disk, a training that diverges. One line, no traceback.

Imports no torch.
"""

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

SIGNALS = {signal.SIGINT: "Ctrl-C", signal.SIGTERM: "SIGTERM", signal.SIGHUP: "the terminal closing"}
AT_ONCE = 20.0  # seconds that cleaning up may take


class Stopped(BaseException):
    """Ends the whole command: no Exception, so that Hydra, Lightning and a sweep do not go on after it."""

    def __init__(self, why: str, code: int):
        super().__init__(why, code)
        self.why, self.code = why, code


class StageError(RuntimeError):
    """A training that cannot go on; the message says why and what to try."""


class Diverged(StageError):
    """Its loss is not finite."""


def in_a_line(error: BaseException) -> str:
    """An error's kind and the first line of what it says."""
    return f"{type(error).__name__}: {next(iter(str(error).splitlines()), '')}"


@contextmanager
def stoppable() -> Iterator[None]:
    """Inside, Ctrl-C and SIGTERM raise Stopped; a second one ends the process where it is.

    A signal that was ignored when the process began (nohup) stays so. An exception can get lost in a library's
    callback, so the process ends after AT_ONCE in any case: what is on disk outlives that.
    """

    stopping: list[threading.Timer] = []

    def stop(number: int, _frame: FrameType | None) -> None:
        if stopping:
            os._exit(128 + number)
        stopping.append(threading.Timer(AT_ONCE, os._exit, [128 + number]))
        stopping[0].daemon = True
        stopping[0].start()
        raise Stopped(f"Stopped by {SIGNALS[signal.Signals(number)]}", 128 + number)

    before = {number: signal.getsignal(number) for number in SIGNALS}
    heard = [number for number in SIGNALS if before[number] != signal.SIG_IGN]
    for number in heard:
        signal.signal(number, stop)
    try:
        yield
    finally:
        for number in heard:
            signal.signal(number, before[number])
        for timer in stopping:
            timer.cancel()
