"""License and base model of a checkpoint, where it says them: the model card, or GGUF metadata."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from neuronc.checkpoint.paths import contained_file
from neuronc.checkpoint.source import is_gguf
from neuronc.checkpoint.used_files import CARD_FILE

UNKNOWN = "unknown"
_MAX_CARD_BYTES = 5_000_000
_MAX_BASE_MODELS = 100
_MAX_TEXT = 300


@dataclass(frozen=True, kw_only=True, slots=True)
class ModelCard:
    """What a checkpoint says of itself.

    Attributes:
        license: As it is written there (the Hub writes ``apache-2.0``); None where nothing is said.
        base_models: What it was trained or quantised from, as named there.
        found_in: ``README.md``, ``GGUF metadata``, or empty.
    """

    license: str | None = None
    base_models: tuple[str, ...] = ()
    found_in: str = ""


def read_model_card(path: Path) -> ModelCard:
    """The card of the checkpoint folder or ``.gguf`` file ``path``; an unreadable one says nothing.

    The front matter of a README is YAML (Hugging Face Hub, "Model Cards"); ``general.license`` and
    ``general.base_model.N.*`` are in the GGUF specification, "Metadata".
    """
    if is_gguf(path):
        return _of_gguf(path)
    return _of_front_matter(contained_file(path, CARD_FILE))


def _of_front_matter(readme: Path) -> ModelCard:
    if not readme.is_file() or readme.stat().st_size > _MAX_CARD_BYTES:
        return ModelCard()
    import huggingface_hub

    try:
        found: Any = huggingface_hub.metadata_load(readme)
    except Exception:  # noqa: BLE001 (YAML of strangers fails in many ways, and is not needed)
        return ModelCard()
    if not isinstance(found, dict):
        return ModelCard()
    name = _text(found.get("license"))
    if name == "other":  # then the license has a name of its own
        name = _text(found.get("license_name")) or name
    base = found.get("base_model")
    bases = base if isinstance(base, list) else [base]
    return _card(name, bases, CARD_FILE)


def _of_gguf(path: Path) -> ModelCard:
    from neuronc.checkpoint.gguf_header import read_gguf_header

    pairs = read_gguf_header(path).pairs
    values = {name: pair.value for name, pair in pairs.items() if not pair.is_array}
    count = values.get("general.base_model.count", 0)
    numbers = range(min(count, _MAX_BASE_MODELS) if type(count) is int else 0)
    bases = [_gguf_base(values, f"general.base_model.{number}") for number in numbers]
    return _card(_text(values.get("general.license")), bases, "GGUF metadata")


def _gguf_base(values: Mapping[str, Any], prefix: str) -> str | None:
    url = _text(values.get(f"{prefix}.repo_url"))
    name, owner = (_text(values.get(f"{prefix}.{key}")) for key in ("name", "organization"))
    return url or (f"{owner}/{name}" if owner and name else name)


def _card(name: str | None, bases: list[Any], found_in: str) -> ModelCard:
    told = tuple(filter(None, map(_text, bases[:_MAX_BASE_MODELS])))
    if name is None and not told:
        return ModelCard()
    return ModelCard(license=name, base_models=told, found_in=found_in)


def _text(value: object) -> str | None:
    if not isinstance(value, str) or not value.strip() or len(value) > _MAX_TEXT:
        return None
    return value.strip().encode("utf-8", "replace").decode()
