"""Arguments of neuronx-cc that the target does not take."""

from neuronc.targets.neuron.chips import NEURON_TARGETS
from neuronc.targets.neuron.preflight.rules.base import Context, Problem, ProgramRule


def logical_core_size(context: Context) -> Problem | None:
    """``--lnc``, ours or among the compiler's arguments."""
    legal = [str(size) for size in NEURON_TARGETS[context.target].hbm_bytes_by_lnc]
    for asked in (str(context.lnc), context.flags.lnc):
        if asked is not None and asked not in legal:
            expected = " or ".join(legal)
            return Problem(f"--lnc {asked}: {context.target} has cores of size {expected}")
    return None


RULES = (ProgramRule(codes=("EARG001",), check=logical_core_size),)
