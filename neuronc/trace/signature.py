"""The inputs and outputs of a program on one rank."""

from collections.abc import Sequence

from neuronc.families.model_config import ModelConfig
from neuronc.parallel.plan import ParallelPlan
from neuronc.parallel.stored import stored_tensors
from neuronc.trace.kv_cache import LayerCache
from neuronc.trace.program_spec import TOKENS, ProgramSignature, ProgramSpec, TensorSpec


def make_signature(
    config: ModelConfig,
    plan: ParallelPlan,
    spec: ProgramSpec,
    layers: Sequence[LayerCache | None],
    *,
    dtype: str,
) -> ProgramSignature:
    """Inputs and outputs of ``spec`` on one rank whose ``layers`` keep keys and values.

    Weights are in the order of the rank files, in the dtypes that they are stored in.

    Prefill data: ``token_ids [1, bucket]``, ``slot [1]``, ``start [1]`` (position of the first
    token), ``length [1]`` (valid tokens). Decode data: ``token_ids [batch]``,
    ``positions [batch]``. All i32. Output: ``logits`` (``[1, vocab]`` of the last valid token, or
    ``[batch, vocab]``), then the caches, each in place of its input, then ``tokens`` (``[1]`` or
    ``[batch]`` i32) where the program samples.

    Embed data: ``token_ids [batch, bucket]`` and ``lengths [batch]`` i32. Output: ``embedding``
    ``[batch, hidden]`` f32.
    """
    weights = [
        TensorSpec(name=t.rule.name, kind="weight", shape=t.rule.rank_shape, dtype=t.dtype)
        for t in stored_tensors(plan.rules.values(), dtype=dtype, scheme=plan.quantize)
    ]
    slots = (spec.batch_size, spec.max_length)
    caches = [
        TensorSpec(
            name=f"{part}.{number}", kind="cache", shape=(*slots, *getattr(kept, part)), dtype=dtype
        )
        for part in ("keys", "values")
        for number, kept in enumerate(layers)
        if kept is not None
    ]
    rank = [TensorSpec(name="rank", kind="rank", shape=(1,), dtype="i32")] if plan.tp > 1 else []
    inputs = (*weights, *caches, *rank, *data_specs(spec))
    out = _output(config, spec, dtype)
    aliases = {1 + i: len(weights) + i for i in range(len(caches))}
    outputs = (out, *caches, *_tokens(spec))
    return ProgramSignature(inputs=inputs, outputs=outputs, aliases=aliases)


def _output(config: ModelConfig, spec: ProgramSpec, dtype: str) -> TensorSpec:
    if spec.phase == "embed":
        shape = (spec.batch_size, config.hidden_size)
        return TensorSpec(name="embedding", kind="data", shape=shape, dtype="f32")
    shape = (_rows(spec), config.vocab_size)
    return TensorSpec(name="logits", kind="data", shape=shape, dtype=dtype)


def _tokens(spec: ProgramSpec) -> tuple[TensorSpec, ...]:
    """After the caches, so that their numbers are the same with and without it."""
    if not spec.on_device_sampling:
        return ()
    return (TensorSpec(name=TOKENS, kind="data", shape=(_rows(spec),), dtype="i32"),)


def _rows(spec: ProgramSpec) -> int:
    return 1 if spec.phase == "prefill" else spec.batch_size


def data_specs(spec: ProgramSpec) -> tuple[TensorSpec, ...]:
    """What the caller gives a program at every step."""
    if spec.phase == "prefill":
        shapes = {"token_ids": (1, spec.bucket), "slot": (1,), "start": (1,), "length": (1,)}
    elif spec.phase == "embed":
        shapes = {"token_ids": (spec.batch_size, spec.bucket), "lengths": (spec.batch_size,)}
    else:
        shapes = {"token_ids": (spec.batch_size,), "positions": (spec.batch_size,)}
    return tuple(TensorSpec(name=n, kind="data", shape=s, dtype="i32") for n, s in shapes.items())
