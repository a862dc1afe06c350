"""Which file describes a family: found by its name, so that adding one is adding a file."""

import importlib
import importlib.util
import pkgutil
from dataclasses import replace

from neuronc.families import decoders, encoders
from neuronc.families.derived import AFTER_PADDING, derive_family
from neuronc.families.family import Family, Fields
from neuronc.families.parts import stacked_experts
from neuronc.families.transformers_source import (
    FamilySource,
    checkpoint_pattern,
    known_model_types,
)


def find_family(source: FamilySource, fields: Fields, *, embeds: bool = False) -> Family:
    """What is known of the family of ``source`` with the config ``fields``.

    With ``embeds`` as an encoder, which is one of `encoder_types`.
    """
    name = file_of(source.model_type, embeds=embeds)
    if name is not None:
        return _described(name, fields)
    derived, encoder = _with_experts(source), file_of(source.model_type, embeds=True)
    if source.model_type in AFTER_PADDING:
        return replace(derived, first_position=fields.size("pad_token_id") + 1)
    if encoder is None:
        return derived
    # An encoder told to be a decoder counts its positions as it does otherwise.
    like = _described(encoder, fields)
    return replace(derived, first_position=like.first_position, sizes=like.sizes)


def _with_experts(source: FamilySource) -> Family:
    """A family without a file, whose checkpoints may have each expert in tensors of its own."""
    derived = derive_family(source)
    if checkpoint_pattern(source.model_type) == "qwen2_moe":
        return replace(derived, stacked=stacked_experts())
    return derived


def _described(module: str, fields: Fields) -> Family:
    family: Family = importlib.import_module(module).family(fields)
    return family


def encoder_types() -> tuple[str, ...]:
    """The families of encoders that there are files for, as transformers calls them."""
    files = {module.name for module in pkgutil.iter_modules(encoders.__path__)}
    return tuple(name for name in known_model_types() if name.replace("-", "_") in files)


def file_of(model_type: str, *, embeds: bool = False) -> str | None:
    """The module named for ``model_type`` that describes it, or None without such a file."""
    package = encoders if embeds else decoders
    name = f"{package.__name__}.{model_type.replace('-', '_')}"
    return name if importlib.util.find_spec(name) else None
