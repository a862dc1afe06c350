"""Whether a model can fit a core at all, told from its plan before anything is written or lowered."""

from math import prod

from neuronc.dtypes import DTYPES
from neuronc.errors import PlanError
from neuronc.families.model_config import ModelConfig
from neuronc.parallel.plan import ParallelPlan
from neuronc.parallel.stored import stored_tensors
from neuronc.targets.neuron.chips import NEURON_TARGETS

_GIB = 2**30


def require_fit(
    plan: ParallelPlan,
    config: ModelConfig,
    *,
    dtype: str,
    batch_size: int,
    max_length: int,
    target: str,
    lnc: int,
) -> None:
    """Compare one rank's weights and KV caches with the memory of a core: a lower bound.

    Raises:
        PlanError: they are more, with the numbers (NCC_EVRF009).
    """
    element_bytes = DTYPES[dtype].size_bytes
    stored = stored_tensors(plan.rules.values(), dtype=dtype, scheme=plan.quantize)
    weights = sum(DTYPES[t.dtype].size_bytes * prod(t.rule.rank_shape) for t in stored)
    of_heads = 2 * plan.heads.kv_per_rank * config.head_dim
    per_position = config.num_layers * (config.family.cache_width or of_heads)
    caches = element_bytes * per_position * batch_size * max_length
    caches = caches if config.embedding is None else 0
    available = NEURON_TARGETS[target].hbm_bytes_by_lnc[lnc]
    if weights + caches > available:
        message = (
            f"NCC_EVRF009: a rank of tp={plan.tp} needs {(weights + caches) / _GIB:.1f} GiB of"
            f" device memory (weights {weights / _GIB:.1f}, KV caches of {batch_size} x"
            f" {max_length} tokens {caches / _GIB:.1f}); a core of {target} at --lnc {lnc} has"
            f" {available / _GIB:.0f} GiB"
        )
        raise PlanError(message, hint=_way_out(plan))


def _way_out(plan: ParallelPlan) -> str:
    more = "" if plan.quantize or not plan.rules else ", or store weights with --quantize"
    return f"raise --tp, or lower --batch-size or --max-length{more}"
