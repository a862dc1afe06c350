"""The one runtime of a process: its cores, and the groups of ranks that run together."""

import os
from typing import Any


class NrtpyError(RuntimeError):
    """Anything nrtpy refuses."""


class NrtError(NrtpyError):
    """A status of the runtime library."""


_NAMES = {
    1: "NRT_FAILURE",
    2: "NRT_INVALID",
    3: "NRT_INVALID_HANDLE",
    5: "NRT_TIMEOUT",
    14: "NRT_CLOSED",
    10: "NRT_UNSUPPORTED_NEFF_VERSION",
    1002: "NRT_EXEC_BAD_INPUT",
}


def status(number: int, text: str) -> NrtError:
    """The error of a status, in nrtpy's words."""
    return NrtError(f"NRT Error {_NAMES[number]}({number}): {text}")


class _Runtime:
    def __init__(self) -> None:
        self.cores = _visible_cores()
        self.freed: set[int] = set()
        self.groups: dict[Any, Any] = {}

    def free_tensor(self, tensor: Any) -> None:
        self.freed.add(id(tensor))


_active: list[_Runtime] = []


def runtime_is_active() -> bool:
    return bool(_active)


def get_nrtpy_singleton() -> _Runtime:
    if not _active:
        _active.append(_Runtime())
    return _active[0]


def reset() -> None:
    """Close the runtime; what it held is invalid, and who waits for other ranks is told."""
    for runtime in _active:
        for group in runtime.groups.values():
            group.close()
    _active.clear()


def _visible_cores() -> list[int]:
    told = os.environ.get("NEURON_RT_VISIBLE_CORES", "")
    if not told:
        return list(range(32))
    cores: list[int] = []
    for part in told.split(","):
        first, _, last = part.partition("-")
        cores += range(int(first), int(last or first) + 1)
    if cores != list(range(cores[0], cores[0] + len(cores))):
        raise status(2, f"visible cores {told} are not contiguous")
    return cores
