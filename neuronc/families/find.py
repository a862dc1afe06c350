"""Which file describes a family: found by its name, so that adding one is adding a file."""

import importlib
import importlib.util
import pkgutil

from neuronc.families import decoders, encoders
from neuronc.families.derived import derive_family
from neuronc.families.family import Family, Fields
from neuronc.families.transformers_source import FamilySource, known_model_types


def find_family(source: FamilySource, fields: Fields, *, embeds: bool = False) -> Family:
    """What is known of the family of ``source`` with the config ``fields``.

    With ``embeds`` as an encoder, which is one of `encoder_types`.
    """
    name = file_of(source.model_type, embeds=embeds)
    if name is None:
        return derive_family(source)
    family: Family = importlib.import_module(name).family(fields)
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
