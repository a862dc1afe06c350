"""How an encoder's outputs become one embedding, as config.json of a split folder or artifact says.

config.json of a checkpoint does not: sentence-transformers keeps it in files of its own beside it,
which `neuronc.checkpoint.sentence` reads. From there on it travels as one more field.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal, get_args

from neuronc.errors import InputError

FIELD = "neuronc_embedding"
"""In config.json; a model with it is an encoder."""

Pooling = Literal["mean", "cls"]
"""The mean over a text's tokens, or the first token's output."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Embedding:
    """What is done with the last hidden state.

    Attributes:
        pooling: See `Pooling`.
        normalize: Whether the embedding is scaled to length 1.
    """

    pooling: Pooling = "mean"
    normalize: bool = True


def with_embedding(config: Mapping[str, Any], embedding: Embedding) -> dict[str, Any]:
    """``config`` that says so."""
    return {**config, FIELD: asdict(embedding)}


def read_embedding(config: Mapping[str, Any], *, source: str) -> Embedding | None:
    """What ``config`` says of it; None for a decoder.

    Raises:
        InputError: the field is not what `with_embedding` writes.
    """
    found = config.get(FIELD)
    if found is None:
        return None
    is_whole = isinstance(found, dict) and found.keys() == {"pooling", "normalize"}
    if is_whole and found["pooling"] in get_args(Pooling) and type(found["normalize"]) is bool:
        return Embedding(**found)
    message = f"config of {source}: {FIELD} cannot be {found!r}"
    raise InputError(message, hint="split or compile the checkpoint again")
