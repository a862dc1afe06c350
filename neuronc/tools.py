"""Versions of the tools that decide what is compiled, read without importing them."""

import platform
from importlib import metadata

from neuronc import __version__

_TOOLS = ("torch", "torch-mlir", "jax", "jaxlib", "transformers", "safetensors")


def tool_versions() -> dict[str, str | None]:
    """Version by distribution name; None where a tool is not installed."""
    versions: dict[str, str | None] = {"neuronc": __version__}
    for name in _TOOLS:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            versions[name] = None
    return versions


def installed_versions() -> dict[str, str | None]:
    """Versions from package metadata, without importing the packages; None where absent."""
    found = tool_versions()
    return {"neuronc": found.pop("neuronc"), "python": platform.python_version(), **found}
