"""How many programs may be made at once: as many as the memory that is left allows.

The limit is the smaller of the host's available memory and what every control group above this
process still grants (Linux, ``Documentation/admin-guide/cgroup-v2.rst``, memory interface files).
"""

from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

GUESS_BYTES = 3 * 2**29
"""Of a program that nothing is known of. XLA:CPU took 0.6 to 1.3 GiB for the models of the tests."""

_RESERVE_BYTES = 2**28
"""Left to everybody else: with less available, memory is short."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Demand:
    """What one running program needs of memory.

    Attributes:
        predicted_bytes: Before it began.
        observed_bytes: That it holds now, of its own.
    """

    predicted_bytes: int
    observed_bytes: int

    @property
    def growth_bytes(self) -> int:
        """What it is still expected to take."""
        return max(0, self.predicted_bytes - self.observed_bytes)


@dataclass(kw_only=True, slots=True)
class Admission:
    """Decides whether another program begins, and whether one has to give way.

    Attributes:
        num_parallel: Never more at once.
        available_bytes: Asked for whenever something is decided.
        guess_bytes: Memory of the first program where nothing is known.
        peaks: Memory, in bytes, of the programs that ended; what is not known is predicted by the
            largest of them.
    """

    num_parallel: int
    available_bytes: Callable[[], int]
    guess_bytes: int = GUESS_BYTES
    peaks: list[int] = field(default_factory=list)

    def predict(self, known_bytes: int | None) -> int:
        """Memory of a program: what such a one took before, else the largest here, else a guess."""
        if known_bytes is not None:
            return known_bytes
        return max(self.peaks, default=self.guess_bytes)

    def ended(self, peak_bytes: int) -> None:
        """Take note of the most that a program held; 0 where nobody looked in time."""
        if peak_bytes > 0:
            self.peaks.append(peak_bytes)

    def may_start(self, predicted_bytes: int, running: Iterable[Demand]) -> bool:
        """Whether a program begins beside those that run. One alone always may: it has to be tried."""
        demands = list(running)
        if not demands:
            return True
        if len(demands) >= self.num_parallel:
            return False
        growth = sum(demand.growth_bytes for demand in demands)
        return predicted_bytes + growth + _RESERVE_BYTES <= self.available_bytes()

    def is_short(self, num_running: int) -> bool:
        """Whether the youngest of several running programs has to give way, to be made again later."""
        return num_running > 1 and self.available_bytes() < _RESERVE_BYTES


def available_memory_bytes(root: Path = Path("/")) -> int:
    """What this process and its children may still take, in bytes.

    Args:
        root: Where ``proc`` and ``sys`` are.
    """
    import psutil

    return min([psutil.virtual_memory().available, *_granted_by_groups(root)])


def _granted_by_groups(root: Path) -> list[int]:
    """What each control group of version 2 above this process has left; none where unlimited."""
    granted = []
    mount = root / "sys/fs/cgroup"
    for group in _own_groups(root, mount):
        with suppress(OSError, ValueError, KeyError):
            limit = (group / "memory.max").read_text().strip()
            if limit != "max":
                used = int((group / "memory.current").read_text())
                # Pages of files that nobody used lately are given back before anybody is killed.
                stat = dict(
                    line.split() for line in (group / "memory.stat").read_text().splitlines()
                )
                granted.append(max(0, int(limit) - used + int(stat["inactive_file"])))
    return granted


def _own_groups(root: Path, mount: Path) -> list[Path]:
    with suppress(OSError):
        for line in (root / "proc/self/cgroup").read_text().splitlines():
            if line.startswith("0::/"):
                own = mount / line[len("0::/") :]
                return [own, *(p for p in own.parents if p.is_relative_to(mount))]
    return []
