"""Which file describes a family: found by its name, so that adding one is adding a file."""

import importlib
import importlib.util
from collections.abc import Callable

from neuronc.families import decoders
from neuronc.families.derived import derive_family
from neuronc.families.family import Family, Fields
from neuronc.families.transformers_source import FamilySource


def find_family(source: FamilySource, fields: Fields) -> Family:
    """What is known of the family of ``source`` with the config ``fields``."""
    describe = own_file(source.model_type)
    return describe(fields) if describe else derive_family(source)


def own_file(model_type: str) -> Callable[[Fields], Family] | None:
    """The function ``family`` of the file named for ``model_type``, or None without such a file."""
    name = f"{decoders.__name__}.{model_type.replace('-', '_')}"
    if importlib.util.find_spec(name) is None:
        return None
    found: Callable[[Fields], Family] = importlib.import_module(name).family
    return found
