"""What a rank file holds for the parameters of a plan: each as it is, or quantised with its scale."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from neuronc.parallel.quantize import SCHEMES, channel_scales, quantize
from neuronc.parallel.rules import ParamRule

Array = np.ndarray[Any, Any]


@dataclass(frozen=True, kw_only=True, slots=True)
class StoredTensor:
    """One tensor of the rank files.

    Attributes:
        rule: Its own layout; ``rule.name`` is its name in the files.
        dtype: Our name of its element type.
    """

    rule: ParamRule
    dtype: str


def scale_name(name: str) -> str:
    """Name of the scales of weight ``name``."""
    return f"{name}_scale"


def scale_rule(rule: ParamRule) -> ParamRule:
    """The layout of a quantised weight's scales ``[channels]``: they go where their channels go."""
    assert rule.channel_dim is not None, "only a quantised weight has scales"
    shape = (rule.shape[rule.channel_dim],)
    name = scale_name(rule.name)
    if rule.dim != rule.channel_dim:
        return ParamRule(name=name, role="replicate", shape=shape)
    return ParamRule(name=name, role=rule.role, shape=shape, dim=0, ranks=rule.ranks, padding=1)


def stored_tensors(
    rules: Iterable[ParamRule], *, dtype: str, scheme: str | None
) -> list[StoredTensor]:
    """The tensors of a rank file in order; a weight's scales come right after it.

    Args:
        rules: Of the parameters.
        dtype: Element type of what is not quantised.
        scheme: Key of `SCHEMES`, or None.
    """
    found = []
    for rule in rules:
        if rule.channel_dim is None or scheme is None:
            found.append(StoredTensor(rule=rule, dtype=dtype))
            continue
        found.append(StoredTensor(rule=rule, dtype=SCHEMES[scheme].dtype))
        found.append(StoredTensor(rule=scale_rule(rule), dtype="f32"))
    return found


def store(whole: Array, rule: ParamRule, scheme: str | None) -> list[tuple[str, Array, ParamRule]]:
    """Name, whole array and layout of every tensor that the rank files hold for one parameter.

    Args:
        whole: The parameter; one that is quantised in the checkpoint's own dtype, any other in
            the dtype to store.
        rule: Its layout.
        scheme: Key of `SCHEMES`, or None.

    Raises:
        InputError: a value of a weight that is quantised is NaN or infinite.
    """
    dim = rule.channel_dim
    if dim is None or scheme is None:
        return [(rule.name, whole, rule)]
    scales = channel_scales(whole, dim, SCHEMES[scheme], name=rule.name)
    stored = quantize(whole, scales, dim, SCHEMES[scheme])
    return [(rule.name, stored, rule), (scale_name(rule.name), scales, scale_rule(rule))]
