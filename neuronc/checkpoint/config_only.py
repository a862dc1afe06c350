"""A model of which only config.json is there: enough to make programs, which hold no weights."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from neuronc.checkpoint.folder import find_companions, read_config
from neuronc.checkpoint.remote.mirror import named_by_url
from neuronc.checkpoint.remote.url import without_secrets
from neuronc.checkpoint.source import is_gguf, resolve_source
from neuronc.dtypes import COMPUTE_DTYPES, Dtype, from_torch
from neuronc.errors import InputError


@dataclass(frozen=True, kw_only=True, slots=True)
class ConfigOnly:
    """What a folder with config.json says.

    Attributes:
        source: What the user wrote; of a URL no user, password or query.
        path: The local folder.
        config: ``config.json``.
        companions: Tokenizer, generation and chat template files beside it.
    """

    source: str
    path: Path
    config: Mapping[str, Any]
    companions: tuple[Path, ...]


def open_config_only(source: str, *, revision: str | None = None) -> ConfigOnly:
    """Open a folder or Hub id for its config.json; weights, if there are any, are not looked at.

    Of a Hub id or URL only the small files are downloaded.

    Raises:
        InputError: There is no such folder, or its config.json is missing or damaged.
        UsageError: ``revision`` is given for something that has none.
    """
    path = resolve_source(source, revision=revision, weights=False)
    if is_gguf(path):
        message = f"{without_secrets(source)!r} is a GGUF file; expected a folder with config.json"
        raise InputError(message, hint="a GGUF file has its weights: build it")
    with named_by_url(path):
        return ConfigOnly(
            source=without_secrets(source),
            path=path,
            config=read_config(path),
            companions=find_companions(path),
        )


def declared_dtype(found: ConfigOnly) -> Dtype:
    """The element type of the weights that config.json was published with.

    Raises:
        InputError: It names none, or one that neuronc does not compute in.
    """
    name = found.config.get("dtype", found.config.get("torch_dtype"))
    subject = f"config.json of {found.source}"
    if not isinstance(name, str):
        message = f"{subject} has dtype {name!r}; expected a name as 'bfloat16'"
        raise InputError(message, hint=f"pass --dtype {', '.join(COMPUTE_DTYPES)}")
    dtype = from_torch(name, subject=subject)
    if dtype.name not in COMPUTE_DTYPES:
        message = f"{subject} has dtype {dtype.name}; neuronc computes in {COMPUTE_DTYPES}"
        raise InputError(message, hint="choose one with --dtype")
    return dtype
