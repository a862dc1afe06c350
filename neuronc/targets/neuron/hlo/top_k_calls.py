"""The compiler's own top-k in legalised HLO: how many there are, and what stands for them here."""

from typing import Any

from neuronc.errors import UsageError
from neuronc.targets.neuron.hlo.legalise import legalise_shapes, renumber
from neuronc.targets.neuron.hlo.rewrites.builder import rewrite
from neuronc.targets.neuron.hlo.rewrites.top_k import CALL, rewrite_call
from neuronc.targets.neuron.hlo.schema import LEGACY


def count_calls(hlo: bytes) -> int:
    """How many `CALL` are in legalised HLO."""
    return _count(LEGACY.FromString(hlo))


def require_calls(hlo: bytes) -> None:
    """Refuse a program in which a call of top-k was asked for and there is none.

    Raises:
        UsageError: there is none.
    """
    if not count_calls(hlo):
        message = f"--top-k-call: the model takes no top-k that {CALL} could"
        raise UsageError(message, hint="leave out --top-k-call; it is for mixtures of experts")


def with_rounds(hlo: bytes) -> bytes:
    """Legalised HLO with rounds of maxima in the place of every `CALL`, for XLA:CPU.

    Nothing else of the program is another; one without calls comes back as it is.
    """
    module = LEGACY.FromString(hlo)
    if not _count(module):
        return hlo
    rewrite(module, rewrite_call)
    legalise_shapes(module)
    renumber(module)
    return bytes(module.SerializeToString(deterministic=True))


def _count(module: Any) -> int:
    found = (i for c in module.computations for i in c.instructions)
    return sum(i.custom_call_target == CALL for i in found)
