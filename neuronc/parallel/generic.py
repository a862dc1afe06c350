"""A plan for families that nobody has described: exact whatever their layers mean.

Every linear layer keeps a part of its output rows on each rank and gathers the parts; what lies
between the layers is computed by every rank. That costs a collective per linear layer and saves no
arithmetic in attention, but a rank holds only its share of the weights.
"""

import json
import subprocess
import sys
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from neuronc.errors import InputError, ToolchainError
from neuronc.parallel.rules import ParamRule, Role, even_pieces

_ROLES: Mapping[str, Role] = {
    "linear": "gather",
    "embedding": "vocab_embedding",
    "head": "vocab_head",
}


def generic_rules(
    config: Mapping[str, Any], shapes: Mapping[str, tuple[int, ...]], tp: int
) -> dict[str, ParamRule]:
    """A rule for every parameter of ``shapes`` over ``tp`` ranks.

    Describes the model of ``config`` first, in a process of its own where torch is not imported yet
    (some seconds, once).

    Raises:
        InputError: the model has no such parameter, or transformers makes no model of ``config``.
        ToolchainError: the describing process failed.
    """
    kinds = _describe(json.dumps(dict(config), sort_keys=True))
    rules = {}
    for name, shape in shapes.items():
        if name not in kinds:
            message = f"the model has no parameter {name!r} {list(shape)}"
            raise InputError(message, hint="the checkpoint has a tensor too many, or is another's")
        role = _ROLES.get(kinds[name])
        if role is None or not shape:
            rules[name] = ParamRule(name=name, role="replicate", shape=shape)
        else:
            pieces = even_pieces(shape[0], tp)
            rules[name] = ParamRule(name=name, role=role, shape=shape, dim=0, ranks=pieces)
    return rules


@lru_cache(maxsize=4)
def _describe(config: str) -> Mapping[str, str]:
    if "torch" in sys.modules:
        from neuronc.trace.describe_model import describe_model

        return describe_model(json.loads(config))
    command = [sys.executable, "-m", "neuronc.trace.describe_model"]
    done = subprocess.run(command, input=config, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        told = "\n".join(done.stderr.splitlines()[-5:])
        message = f"the process that describes the model failed: {told}"
        raise ToolchainError(message, hint="use --tp 1 for this family")
    answer = json.loads(done.stdout.splitlines()[-1])
    if "error" in answer:
        message, hint = answer["error"]
        raise InputError(message, hint=hint)
    kinds: Mapping[str, str] = answer["kinds"]
    return kinds
