"""What the machine could do at best: the roof that step times are held against."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

from neuronc.targets.neuron.chips import neuron_target

GIB = 2**30


@dataclass(frozen=True, kw_only=True, slots=True)
class Machine:
    """Peaks of everything that takes part in a step: all CPUs, or the cores of all ranks.

    Attributes:
        read_bytes_per_s: Of main memory or HBM.
        flops_per_s: Of matrix products by our dtype name; a dtype that is not here is unknown.
        source: ``measured`` on this machine, or ``vendor`` where it is a data sheet's figure,
            which programs come close to but do not reach.
        how: In words: the kernels, or the page.
    """

    read_bytes_per_s: float
    flops_per_s: Mapping[str, float]
    source: Literal["measured", "vendor"]
    how: str

    def to_dict(self) -> dict[str, Any]:
        """As ``machine`` in the document."""
        return asdict(self)


@dataclass(frozen=True, kw_only=True, slots=True)
class _Chip:
    """A chip's data sheet: AWS Neuron SDK, ``about-neuron/arch/neuron-hardware``."""

    cores: int
    read_bytes_per_s: float
    tflops: Mapping[str, float]


_CHIPS = {
    "Inferentia2": _Chip(cores=2, read_bytes_per_s=820 * GIB, tflops={"bf16": 190}),
    "Trainium": _Chip(cores=2, read_bytes_per_s=820 * GIB, tflops={"bf16": 190}),
    "Trainium2": _Chip(cores=8, read_bytes_per_s=2.9e12, tflops={"bf16": 667, "f8e4m3": 1299}),
    "Trainium3": _Chip(cores=8, read_bytes_per_s=4.9e12, tflops={"bf16": 671}),
}


def neuron_machine(target: str, *, ranks: int, lnc: int | None = None) -> Machine:
    """Peaks of the logical cores of ``ranks`` ranks, as the data sheet has them.

    A chip's memory and arithmetic are taken to be shared evenly by its physical cores; a logical
    core is ``lnc`` of them.

    Raises:
        PlanError: the target has no logical cores of that size.
    """
    known, size = neuron_target(target, lnc)
    chip = _CHIPS[known.chip]
    share = ranks * size / chip.cores
    return Machine(
        read_bytes_per_s=chip.read_bytes_per_s * share,
        flops_per_s={name: tflops * 1e12 * share for name, tflops in chip.tflops.items()},
        source="vendor",
        how=(
            f"{known.chip} of {chip.cores} cores, {ranks * size} of them, by the hardware pages of "
            "the AWS Neuron SDK documentation; not measured"
        ),
    )
