"""What this process took of the machine's memory."""

import re
from pathlib import Path


def peak_rss_bytes() -> int:
    """The most memory that was resident at once, mapped files included; 0 where nobody counts.

    ``VmHWM`` of Linux counts from the start of the program; ``getrusage`` would start from the peak
    of the process that it was forked from.
    """
    status = Path("/proc/self/status")
    found = re.search(r"VmHWM:\s+(\d+)", status.read_text()) if status.is_file() else None
    return int(found[1]) * 1024 if found else 0
