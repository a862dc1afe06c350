"""A document whose free texts are attacks, as a model's name or an error message may be."""

from typing import Any

HOSTILE = "</script><img src=x onerror=document.title=1>"


def hostile(value: Any) -> Any:
    """A document of which every free text is an attack."""
    free = {"source", "model_type", "headline", "cpu_model", "why_stopped", "error", "request_id"}
    if isinstance(value, dict):
        return {k: HOSTILE if k in free else hostile(v) for k, v in value.items()}
    if isinstance(value, list):
        return [hostile(item) for item in value]
    return value
