"""What this process took of the machine's memory, and what it gives back."""

import ctypes
import re
from contextlib import suppress
from pathlib import Path

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # of glibc's malloc.h

_MAX_MMAP_THRESHOLD = 32 << 20  # the largest that glibc takes


def keep_freed_memory(total_bytes: int, *, array_bytes: int) -> None:
    """From now on up to ``total_bytes`` that are freed stay with this process, to be used again.

    Otherwise malloc gives every array of a megabyte back to the system, which clears each page that
    the next one touches: that takes as long as filling it. Larger ones than ``array_bytes`` are given
    back as before. Does nothing where malloc is another.
    """
    with suppress(AttributeError, OSError):
        mallopt = ctypes.CDLL(None).mallopt
        mallopt(_M_MMAP_THRESHOLD, min(array_bytes, _MAX_MMAP_THRESHOLD))
        mallopt(_M_TRIM_THRESHOLD, total_bytes)


def peak_rss_bytes() -> int:
    """The most memory that was resident at once, mapped files included; 0 where nobody counts.

    ``VmHWM`` of Linux counts from the start of the program; ``getrusage`` would start from the peak
    of the process that it was forked from.
    """
    status = Path("/proc/self/status")
    found = re.search(r"VmHWM:\s+(\d+)", status.read_text()) if status.is_file() else None
    return int(found[1]) * 1024 if found else 0
