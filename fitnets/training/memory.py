"""Memory between updates."""

import ctypes
import functools

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # of malloc.h
PLENTY = 2**30  # bytes


@functools.cache
def keep_freed_memory() -> None:
    """Let glibc keep what an update frees, for the next one; a no-op where there is no glibc.

    It would give large tensors back to the system and ask for them again, page by page, at each update: about 5 % of a
    step of the 32x32 networks on a CPU. The peak of memory is the same.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):
        return
    mallopt(M_TRIM_THRESHOLD, PLENTY)
    mallopt(M_MMAP_THRESHOLD, PLENTY)
