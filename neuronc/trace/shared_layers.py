"""Layers that compute the same, traced once: in a program's graph each of them is one operator.

A first run of the program on tensors without memory tells which layers are alike (see
`neuronc.trace.layer_print`) and what each is called with. Lowering then makes one function of each
body and a call of each layer, so that its cost does not grow with depth.
"""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensor
from torch.utils import _pytree as pytree
from transformers.cache_utils import Cache

from neuronc.trace.collectives import NAMESPACE
from neuronc.trace.context import ProgramContext, current_program
from neuronc.trace.layer_print import LayerPrint

_CACHE = "the cache"  # in its place among a layer's arguments and results
_CACHE_ROLES = ("keys.", "values.")


@torch.library.custom_op(f"{NAMESPACE}::layer", mutates_args=())
def layer_operator(inputs: list[torch.Tensor], body: str, results: str) -> list[torch.Tensor]:
    """A call of the function that ``body`` becomes; exists in graphs only.

    ``results`` is JSON: shape and torch's name of the dtype of each.
    """
    message = f"{body} is not lowered"
    raise RuntimeError(message)


@layer_operator.register_fake
def _(inputs: list[torch.Tensor], body: str, results: str) -> list[torch.Tensor]:
    kinds = json.loads(results)
    return [inputs[0].new_empty(shape, dtype=getattr(torch, dtype)) for shape, dtype in kinds]


@dataclass(frozen=True, kw_only=True)
class LayerCall:
    """One layer's call as the first run saw it.

    Attributes:
        number: Of the layer.
        body: Name of the function that it is a call of.
        inputs: What the function takes, by role; see `flat_inputs`.
        arguments: Leaves of the layer's own arguments, and their tree.
        caches: Layers whose keys and values it uses.
        results: Leaves of what it gives back, and their tree.
        kinds: Shapes and dtypes of what the function gives back, for `layer_operator`.
        program: The program it is part of.
    """

    layer: nn.Module
    number: int
    body: str
    inputs: Mapping[str, torch.Tensor]
    arguments: tuple[list[Any], Any]
    caches: tuple[int, ...]
    results: tuple[list[Any], Any]
    kinds: str
    program: ProgramContext


@contextmanager
def as_operators(calls: Sequence[LayerCall]) -> Iterator[None]:
    """Within, every layer is one operator."""
    with _forwards({call.layer: partial(_call_body, call) for call in calls}):
        yield


def find_shared_layers(model: Any, run: Callable[[], object]) -> tuple[LayerCall, ...]:
    """The layers of ``model``, alike ones calls of one body, as ``run`` calls them without memory.

    None of them where no two are alike, or where one takes or changes what is not handed to it.
    """
    layers = [layer for _, layer in decoder_layers(model)]
    calls: list[LayerCall | None] = []
    names: dict[str, str] = {}

    def watch(number: int, forward: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        call, returned = _watch(layers[number], number, forward, names, args, kwargs)
        calls.append(call)
        return returned

    with _forwards({layer: partial(watch, i, layer.forward) for i, layer in enumerate(layers)}):
        run()
    whole = tuple(call for call in calls if call is not None)
    each_once = [call.number for call in whole] == list(range(len(layers)))
    return whole if each_once and len(calls) == len(whole) > len(names) else ()


def decoder_layers(model: Any) -> list[tuple[str, nn.Module]]:
    """The layers by name: the first list of modules that is as long as the model has layers."""
    wanted = model.config.get_text_config().num_hidden_layers
    for name, module in model.named_modules():
        if isinstance(module, nn.ModuleList) and len(module) == wanted:
            return [(f"{name}.{i}", layer) for i, layer in enumerate(module)]
    return []


def flat_inputs(
    layer: nn.Module, leaves: Sequence[Any], caches: Sequence[int], number: int
) -> dict[str, torch.Tensor]:
    """All tensors that a layer can see, by role.

    ``argument.K``: its arguments; ``weight.NAME``: its parameters; ``keys.+0`` and ``values.+0``:
    those of its own layer, ``-1`` of the layer before; the rest are the running program's.
    """
    found = {f"argument.{k}": t for k, t in enumerate(leaves) if isinstance(t, torch.Tensor)}
    own = (*layer.named_parameters(), *layer.named_buffers())
    found |= {f"weight.{name}": t for name, t in own if isinstance(t, FakeTensor)}
    program, slots = current_program(), None
    for cache in (leaf for leaf in leaves if isinstance(leaf, Cache)):
        kept: Any = cache.layers
        slots = kept[0].slots
        for i in caches:
            found |= {
                f"keys.{i - number:+}": kept[i].keys,
                f"values.{i - number:+}": kept[i].values,
            }
    of_program = {"positions": program.positions_NS, "slots": slots}
    of_program |= {"rank": program.rank, "last": program.last, "lengths": program.lengths}
    return found | {name: t for name, t in of_program.items() if t is not None}


def as_real(tensor: torch.Tensor) -> torch.Tensor:
    """A complex tensor as a pair of real ones, which is all that functions take."""
    return torch.view_as_real(tensor) if tensor.is_complex() else tensor


def flat_results(leaves: Sequence[Any], cache: Any, caches: Sequence[int]) -> list[torch.Tensor]:
    """The tensors that a layer gave back, then the caches as it left them."""
    kept = [cache.layers[number] for number in caches]
    returned = [leaf for leaf in leaves if isinstance(leaf, torch.Tensor)]
    return [*returned, *(part for layer in kept for part in (layer.keys, layer.values))]


def find_cache(leaves: Sequence[Any]) -> Any:
    """The cache among a layer's arguments, or None."""
    return next((leaf for leaf in leaves if isinstance(leaf, Cache)), None)


def _watch(
    layer: nn.Module,
    number: int,
    forward: Callable[..., Any],
    names: dict[str, str],
    args: Any,
    kwargs: Any,
) -> tuple[LayerCall | None, Any]:
    leaves, tree = pytree.tree_flatten((args, kwargs))
    cache = find_cache(leaves)
    kept = [] if cache is None else cache.layers
    filled = [i for i, layer in enumerate(kept) if layer.keys is not None]
    with LayerPrint(flat_inputs(layer, leaves, filled, number)) as watched:
        returned = forward(*args, **kwargs)
    used = {number + int(r.split(".")[1]) for r in watched.used if r.startswith(_CACHE_ROLES)}
    new = {i for i, layer in enumerate(kept) if layer.keys is not None} - set(filled)
    caches = tuple(sorted(used | new))
    inputs = flat_inputs(layer, leaves, caches, number)
    result_leaves, result_tree = pytree.tree_flatten(returned)
    outputs = flat_results(result_leaves, cache, caches)
    digest = watched.digest(inputs, outputs)
    if not watched.is_whole:
        return None, returned
    call = LayerCall(
        layer=layer,
        number=number,
        body=names.setdefault(digest, f"layer_{len(names)}"),
        inputs=inputs,
        arguments=(leaves, tree),
        caches=caches,
        results=([_CACHE if leaf is cache else leaf for leaf in result_leaves], result_tree),
        kinds=json.dumps([(list(t.shape), str(t.dtype).split(".")[1]) for t in outputs]),
        program=current_program(),
    )
    return call, returned


def _call_body(call: LayerCall, *args: Any, **kwargs: Any) -> Any:
    """In place of a layer's forward: the operator, and its results where the layer puts them."""
    leaves = pytree.tree_leaves((args, kwargs))
    cache = find_cache(leaves)
    inputs = flat_inputs(call.layer, leaves, call.caches, call.number)
    real = [as_real(tensor) for tensor in inputs.values()]
    results = iter(layer_operator(real, call.body, call.kinds))
    template, tree = call.results
    returned = [next(results) if isinstance(leaf, torch.Tensor) else leaf for leaf in template]
    for number in call.caches:
        cache.layers[number].keys = next(results)
        cache.layers[number].values = next(results)
    return pytree.tree_unflatten([cache if leaf is _CACHE else leaf for leaf in returned], tree)


@contextmanager
def _forwards(replaced: Mapping[nn.Module, Callable[..., Any]]) -> Iterator[None]:
    """Within, calling a module calls what takes its forward's place."""
    for module, forward in replaced.items():
        module.forward = forward
    try:
        yield
    finally:
        for module in replaced:
            del module.__dict__["forward"]
