"""What each Neuron target is: its chip's memory, and the logical cores it can be cut into.

Figures: AWS Neuron SDK 2.32, ``about-neuron/arch/neuron-hardware`` and ``.../data-types``. A logical core (LNC) of 2 is
two physical cores that act as one.
"""

from dataclasses import dataclass

from neuronc.errors import PlanError

_GIB = 2**30


@dataclass(frozen=True, kw_only=True, slots=True)
class NeuronTarget:
    """A ``--target`` of neuronx-cc.

    Attributes:
        name: As neuronx-cc takes it.
        chip: Product name.
        hbm_bytes_by_lnc: Device memory that one logical core can use, by logical core size; its
            keys are the sizes that are legal.
        default_lnc: What neuronx-cc takes when it is told nothing.
        has_f8e4m3fn: Whether it has the 8-bit float that ends at 448 (NCC_EVRF051); all have
            f8e4m3, which ends at 240.
        documented: Whether the compiler's reference page lists it.
    """

    name: str
    chip: str
    hbm_bytes_by_lnc: dict[int, int]
    default_lnc: int
    has_f8e4m3fn: bool = False
    documented: bool = True


NEURON_TARGETS = {
    target.name: target
    for target in (
        NeuronTarget(
            name="inf2", chip="Inferentia2", hbm_bytes_by_lnc={1: 16 * _GIB}, default_lnc=1
        ),
        NeuronTarget(name="trn1", chip="Trainium", hbm_bytes_by_lnc={1: 16 * _GIB}, default_lnc=1),
        NeuronTarget(name="trn1n", chip="Trainium", hbm_bytes_by_lnc={1: 16 * _GIB}, default_lnc=1),
        # At LNC 1 two cores share a bank: half each is what both can count on.
        NeuronTarget(
            name="trn2",
            chip="Trainium2",
            hbm_bytes_by_lnc={1: 12 * _GIB, 2: 24 * _GIB},
            default_lnc=2,
        ),
        NeuronTarget(
            name="trn3",
            chip="Trainium3",
            hbm_bytes_by_lnc={1: 18 * _GIB, 2: 36 * _GIB},
            default_lnc=2,
            has_f8e4m3fn=True,
            documented=False,
        ),
    )
}


def neuron_target(name: str, lnc: int | None = None) -> tuple[NeuronTarget, int]:
    """The target ``name`` and the logical core size to compile for.

    Raises:
        PlanError: the target has no logical cores of size ``lnc`` (NCC_EARG001).
    """
    target = NEURON_TARGETS[name]
    size = target.default_lnc if lnc is None else lnc
    if size not in target.hbm_bytes_by_lnc:
        legal = ", ".join(map(str, target.hbm_bytes_by_lnc))
        message = f"NCC_EARG001: {name} has logical cores of size {legal}; asked for --lnc {size}"
        raise PlanError(message, hint=f"pass --lnc {target.default_lnc}, or none")
    return target, size
