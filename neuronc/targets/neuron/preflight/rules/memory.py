"""Device memory that inputs and outputs take, against what a logical core has."""

from neuronc.targets.neuron.chips import NEURON_TARGETS
from neuronc.targets.neuron.preflight.rules.base import Context, Problem, ProgramRule

_GIB = 2**30
# SDK ``neuron-runtime/explore/device-memory``: microcode, about 96 MB on each physical core.
_MICROCODE_BYTES = 96 * 10**6


def _split(context: Context) -> dict[str, int]:
    """Bytes of weights, KV caches and everything else; an aliased output takes none."""
    program = context.program
    caches = set(program.aliases.values())
    sizes = {"weights": 0, "KV caches": 0, "other": 0}
    for operator in program.entry.operators:
        if operator.opcode == "parameter":
            name = operator.message.frontend_attributes.map.get("neff_input_names", "")
            kind = "weights" if name in context.weight_names else "other"
            kind = "KV caches" if operator.message.parameter_number in caches else kind
            sizes[kind] += operator.shape.size_bytes
    root = program.entry.root.shape
    outputs = root.parts if root.dtype == "tuple" else (root,)
    single = len(outputs) == 1
    for number, output in enumerate(outputs):
        if (number,) not in program.aliases and not (single and () in program.aliases):
            sizes["other"] += output.size_bytes
    return sizes


def _available_bytes(context: Context) -> int | None:
    """None for a logical core size that the target does not have; EARG001 says so."""
    return NEURON_TARGETS[context.target].hbm_bytes_by_lnc.get(context.lnc)


def too_much(context: Context) -> Problem | None:
    """Certain to fail: scratch space comes on top."""
    sizes, available = _split(context), _available_bytes(context)
    needed = sum(sizes.values())
    if available is None or needed <= available:
        return None
    return Problem(f"{_needs(context, sizes, available)}, {_gib(needed - available)} too much")


def no_room_for_scratch(context: Context) -> Problem | None:
    """Likely to fail: inputs and outputs fit, and leave less than the microcode takes."""
    sizes, available = _split(context), _available_bytes(context)
    needed, reserved = sum(sizes.values()), _MICROCODE_BYTES * context.lnc
    if available is None or not available - reserved < needed <= available:
        return None
    told = "no room for microcode and scratch space"
    return Problem(f"{_needs(context, sizes, available)}, {told}", "warning")


def _needs(context: Context, sizes: dict[str, int], available: int) -> str:
    parts = ", ".join(f"{name} {_gib(size)}" for name, size in sizes.items())
    return (
        f"inputs and outputs need {_gib(sum(sizes.values()))} of device memory ({parts}); a core"
        f" of {context.target} at --lnc {context.lnc} has {_gib(available)}"
    )


def _gib(size: int) -> str:
    return f"{size / _GIB:.3g} GiB" if size >= _GIB / 10 else f"{size / 2**20:.3g} MiB"


RULES = (
    ProgramRule(codes=("EVRF009", "EXSP001"), check=too_much),
    ProgramRule(codes=("EOOM001", "EOOM002"), check=no_room_for_scratch),
)
