"""What a number was measured on. Holds no host name, user name or path."""

import os
import platform
import resource
import sys
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path

Environment = Mapping[str, object]

PACKAGES = ("neuronc", "jax", "jaxlib", "numpy")
RSS_UNIT_BYTES = 1 if sys.platform == "darwin" else 1024  # getrusage(2): kilobytes on Linux


def read_environment() -> dict[str, object]:
    """This machine and its load at this moment; what the system does not tell is None."""
    cpus = parse_cpuinfo(_read_text(Path("/proc/cpuinfo")))
    return {
        "cpu_model": _text_of(cpus, "model name") or platform.processor() or None,
        "physical_cores": count_cores(cpus),
        "logical_cores": os.cpu_count(),
        "threads_visible": threads_visible(),
        "memory_bytes": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        "platform": f"{platform.system()} {platform.release()} {platform.machine()}",
        "python": platform.python_version(),
        "packages": {name: _version(name) for name in PACKAGES},
        "load_average_1min": os.getloadavg()[0],
    }


def threads_visible() -> int | None:
    """Hardware threads this process may run on."""
    if sys.platform == "linux":
        return len(os.sched_getaffinity(0))
    return os.cpu_count()


def peak_rss_bytes() -> int:
    """Largest resident set of this process since it started."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * RSS_UNIT_BYTES


def peak_rss_of_children_bytes() -> int | None:
    """Largest resident set of any child that has ended; None if none has."""
    return resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * RSS_UNIT_BYTES or None


def parse_cpuinfo(text: str) -> list[dict[str, str]]:
    """The fields of each processor in the text of ``/proc/cpuinfo``."""
    blocks = (block for block in text.split("\n\n") if block.strip())
    pairs = ([line.partition(":") for line in block.splitlines()] for block in blocks)
    return [{key.strip(): value.strip() for key, _, value in block} for block in pairs]


def count_cores(cpus: list[dict[str, str]]) -> int | None:
    """Distinct cores among the processors; None where the system does not number its cores."""
    if not cpus or any("core id" not in cpu for cpu in cpus):
        return None
    return len({(cpu.get("physical id"), cpu["core id"]) for cpu in cpus})


def _text_of(cpus: list[dict[str, str]], field: str) -> str | None:
    return next((cpu[field] for cpu in cpus if field in cpu), None)


def _read_text(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:  # not Linux, or hidden by a sandbox
        return ""


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None
