"""All rewrites, in the order in which each leaves what the next one takes."""

from functools import partial
from typing import Any

from neuronc.targets.neuron.hlo.inline import drop_uncalled
from neuronc.targets.neuron.hlo.rewrites.argmax import rewrite_argmax
from neuronc.targets.neuron.hlo.rewrites.builder import rewrite
from neuronc.targets.neuron.hlo.rewrites.narrow_integers import narrow_integers
from neuronc.targets.neuron.hlo.rewrites.sort import rewrite_sort
from neuronc.targets.neuron.hlo.rewrites.top_k import rewrite_top_k


def rewrite_operators(module: Any, *, top_k_call: bool = False) -> None:
    """Express what neuronx-cc does not take in what it does; the numbers stay the same.

    With ``top_k_call`` they are the compiler's word for top-k: see `rewrite_top_k`.

    Raises:
        CompilerError: an operator has no such form; it is named.
    """
    rewrite(module, rewrite_argmax)
    narrow_integers(module)  # after argmax, which starts from 64-bit extremes
    rewrite(module, partial(rewrite_top_k, call=top_k_call))
    rewrite(module, rewrite_sort)
    drop_uncalled(module)
