"""The sizes of a build that the user left open, decided from the model's."""

from dataclasses import replace

from neuronc.errors import PlanError, UsageError
from neuronc.families.model_config import ModelConfig
from neuronc.recipe import Recipe

DEFAULT_MAX_LENGTH = 2048
"""Cache positions per slot where neither the user nor the model says less."""
DEFAULT_PREFILL_BUCKETS = (32, 128, 512)
DEFAULT_TEXT_LENGTH = 512
"""Longest text to embed where neither the user nor the model says less."""
DEFAULT_EMBED_BUCKETS = (32, 128)


def complete(recipe: Recipe, config: ModelConfig) -> Recipe:
    """``recipe`` with every size decided.

    Raises:
        PlanError: max length beyond the model's positions, or beyond those up to which its rotary
            frequencies stay as they are; or a bucket beyond max length.
        UsageError: on-device sampling of an encoder.
    """
    if config.embedding is not None:
        return _complete_embed(recipe, config)
    positions = config.max_positions or DEFAULT_MAX_LENGTH
    fixed = config.fixed_rope_positions or positions
    max_length = recipe.max_length or min(positions, fixed, DEFAULT_MAX_LENGTH)
    if fixed < max_length <= positions:
        message = (
            f"max length {max_length} is beyond the {fixed} positions whose rotary frequencies"
        )
        message += " are fixed: this model's change with the length of the sequence"
        raise PlanError(message, hint=f"pass --max-length {fixed} or less")
    if max_length > positions:
        message = f"max length {max_length} is beyond the model's {positions} positions"
        raise PlanError(message, hint=f"pass --max-length {positions} or less")
    prefill = recipe.prefill_buckets or tuple(
        sorted({min(b, max_length) for b in DEFAULT_PREFILL_BUCKETS})
    )
    decode = recipe.decode_buckets or (max_length,)
    for name, buckets in (("prefill", prefill), ("decode", decode)):
        if buckets[-1] > max_length:
            message = f"{name} bucket {buckets[-1]} is larger than max length {max_length}"
            raise PlanError(message, hint="drop it or raise --max-length")
    if decode[-1] < max_length:
        decode = (*decode, max_length)  # the last positions need a program too
    return replace(recipe, max_length=max_length, prefill_buckets=prefill, decode_buckets=decode)


def _complete_embed(recipe: Recipe, config: ModelConfig) -> Recipe:
    if recipe.prefill_buckets or recipe.decode_buckets:
        message = "prefill and decode buckets are for generating, and the model is an encoder"
        raise PlanError(message, hint="pass --buckets")
    if recipe.on_device_sampling:
        message = "on_device_sampling is for generating, and the model is an encoder"
        raise UsageError(message, hint="leave out --on-device-sampling")
    positions = config.max_positions or DEFAULT_TEXT_LENGTH
    asked = recipe.buckets[-1] if recipe.buckets else min(positions, DEFAULT_TEXT_LENGTH)
    max_length = recipe.max_length or asked
    if max_length > positions:
        message = f"max length {max_length} is beyond the model's {positions} positions"
        raise PlanError(message, hint=f"pass --max-length {positions} or less")
    buckets = recipe.buckets or DEFAULT_EMBED_BUCKETS
    kept = tuple(bucket for bucket in buckets if bucket < max_length)
    return replace(recipe, max_length=max_length, buckets=(*kept, max_length))
