"""The command that asks for what an artifact is, as one could give it anywhere.

Not the words that were typed: those hold paths and come from a recipe file as often as not. The
options that decided the result, each as its flag, so that the same request is the same command.
"""

from collections.abc import Mapping
from typing import Any

from neuronc.recipe import Recipe

_DEFAULTS = Recipe(checkpoint="").to_dict()
_NOT_FLAGS = ("checkpoint", "out", "cc_args", "normalize")


def command_of(asked: Mapping[str, Any], *, is_bundle: bool) -> list[str]:
    """The words of the command, program first; what has its default is left out.

    Args:
        asked: A request as `neuronc.artifact.reuse.describe_request` gives it, paths as names.
        is_bundle: The build stopped before neuronx-cc.
    """
    words = ["neuronc", "build", str(asked.get("checkpoint"))]
    for name, default in _DEFAULTS.items():
        value = asked.get(name, default)
        if name not in _NOT_FLAGS and value != default:
            words += _flag(name, value)
    if asked.get("normalize") is not None:
        words.append("--normalize" if asked["normalize"] else "--no-normalize")
    for argument in asked.get("cc_args") or ():
        words += ["--cc-arg", str(argument)]
    if is_bundle:
        words.append("--lower-only")
    if asked.get("config_only"):
        words.append("--config-only")
    return words


def _flag(name: str, value: object) -> list[str]:
    flag = f"--{name.replace('_', '-')}"
    if value is True:
        return [flag]
    return [flag, ",".join(map(str, value)) if isinstance(value, list | tuple) else str(value)]
