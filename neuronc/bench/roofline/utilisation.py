"""How close a step comes to what the machine could do."""

from dataclasses import asdict, dataclass

from neuronc.bench.roofline.machine import Machine
from neuronc.bench.roofline.needed import Work


@dataclass(frozen=True, kw_only=True, slots=True)
class Utilisation:
    """Of one step class, over all ranks; fields as in a `Cell` of the document.

    Attributes:
        bytes: Moved by the program, padding and all.
        flops: Computed by it.
        needed_bytes: Without the padding.
        needed_flops: Without the padding.
        intensity: FLOPs per byte of the program; where it meets the roofline.
        mbu: ``needed_bytes / (time * bandwidth)``.
        mfu: ``needed_flops / (time * peak)``; None where the dtype's peak is unknown.
        floor_ms: ``max(bytes / bandwidth, flops / peak)``: no time of this program on this machine
            is shorter, unless its weights stay in a cache. An unknown peak is left out.
        over_floor: Time over ``floor_ms``; None where either is unknown or nothing is done.
    """

    bytes: int
    flops: int
    needed_bytes: int
    needed_flops: int
    intensity: float | None
    mbu: float | None
    mfu: float | None
    floor_ms: float
    over_floor: float | None

    def to_dict(self) -> dict[str, float | int | None]:
        """The same by name."""
        return asdict(self)


def utilisation(
    program: Work, needed: Work, *, ms: float | None, machine: Machine, dtype: str, ranks: int
) -> Utilisation:
    """Utilisation of a step of ``ms`` milliseconds, None if it is not known.

    Args:
        program: The compiled program's work, on one rank.
        needed: The work of its real tokens, on one rank.
        ms: Usually the median.
        machine: Peaks of all ranks together.
        dtype: Of the arithmetic, our name.
        ranks: That take part; all do the same work at the same time.
    """
    bandwidth, peak = machine.read_bytes_per_s, machine.flops_per_s.get(dtype)
    moved, computed = program.bytes * ranks, program.flops * ranks
    needed_bytes, needed_flops = needed.bytes * ranks, needed.flops * ranks
    time_s = None if not ms else ms / 1e3
    floor_s = max(moved / bandwidth, 0.0 if peak is None else computed / peak)
    return Utilisation(
        bytes=moved,
        flops=computed,
        needed_bytes=needed_bytes,
        needed_flops=needed_flops,
        intensity=program.intensity,
        mbu=None if time_s is None else needed_bytes / (time_s * bandwidth),
        mfu=None if time_s is None or peak is None else needed_flops / (time_s * peak),
        floor_ms=floor_s * 1e3,
        over_floor=time_s / floor_s if time_s and floor_s else None,
    )
