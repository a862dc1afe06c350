"""What an XLA:CPU executable needs of the machine that opens it."""

import os
import platform
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

from neuronc.errors import ToolchainError

_ISA_PREFIXES = (
    *("sse", "ssse", "avx", "amx", "fma", "f16c", "bmi", "popcnt"),  # x86
    *("asimd", "sve", "bf16"),  # Arm
)
_BF16_PRODUCTS = {"avx512_bf16", "amx_bf16", "bf16", "svebf16"}


def describe_host() -> dict[str, Any]:
    """Architecture, instruction-set extensions, jaxlib version and CPUs of this machine.

    XLA:CPU divides loops by the number of CPUs when it compiles; what it made runs on others, too.
    """
    return {
        "machine": platform.machine(),
        "system": platform.system(),
        "jaxlib": metadata.version("jaxlib"),
        "isa": list(_isa_extensions()),
        "cpus": len(os.sched_getaffinity(0)),
    }


def multiplies_bf16() -> bool:
    """Whether this machine has instructions for products of bf16; False where it does not tell."""
    return not _BF16_PRODUCTS.isdisjoint(_isa_extensions())


def require_host(recorded: Mapping[str, Any]) -> None:
    """Refuse executables compiled for something this machine lacks.

    Raises:
        ToolchainError: says every difference that matters.
    """
    here = describe_host()
    differences = [
        f"{key}: compiled for {recorded[key]}, here {here[key]}"
        for key in ("machine", "system", "jaxlib")
        if recorded[key] != here[key]
    ]
    missing = sorted(set(recorded["isa"]) - set(here["isa"]))
    if missing:
        differences.append(f"this CPU lacks {', '.join(missing)}")
    if differences:
        message = f"these executables cannot run here: {'; '.join(differences)}"
        hint = "neuronc compile --relink ARTIFACT compiles them again from the artifact's own IR"
        raise ToolchainError(message, hint=hint)


def _isa_extensions() -> tuple[str, ...]:
    cpuinfo = Path("/proc/cpuinfo")
    if not cpuinfo.is_file():
        return ()
    for line in cpuinfo.read_text(encoding="utf-8").splitlines():
        if line.startswith(("flags", "Features")):
            flags = line.partition(":")[2].split()
            return tuple(sorted(f for f in flags if f.startswith(_ISA_PREFIXES)))
    return ()
