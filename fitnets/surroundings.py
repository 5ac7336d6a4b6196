"""What a command finds around it: a terminal that lacks letters, a pipe that closes, a launcher's variables."""

import io
import os
import sys
from typing import Any


class Lasting(io.TextIOWrapper):
    """Standard output. After `| head` has gone, what would be written goes nowhere."""

    def write(self, text: str) -> int:
        return self._unbroken(super().write, text) or len(text)

    def flush(self) -> None:
        self._unbroken(super().flush)

    def _unbroken(self, call: Any, *args: Any) -> Any:
        try:
            return call(*args)
        except BrokenPipeError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), self.fileno())
            return None


def lasting() -> None:
    """Make standard output so."""
    if isinstance(sys.stdout, io.TextIOWrapper) and not isinstance(sys.stdout, Lasting):
        encoding = sys.stdout.encoding
        sys.stdout = Lasting(sys.stdout.detach(), encoding=encoding, errors="replace", line_buffering=True)


def as_utf8() -> None:
    """In a locale that knows no accents start again in Python's UTF-8 mode, in which names of files are letters."""
    if sys.getfilesystemencoding() == "ascii" and os.environ.get("PYTHONUTF8") != "1":
        os.environ["PYTHONUTF8"] = "1"  # of the processes that it starts too
        os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])


def without_odd_ranks() -> None:
    """Drop ranks that are no numbers: Lightning reads them as it is imported; one device's training asks for none."""
    for name in ("RANK", "LOCAL_RANK", "SLURM_PROCID", "JSM_NAMESPACE_RANK"):
        if not os.environ.get(name, "0").isdigit():
            del os.environ[name]
