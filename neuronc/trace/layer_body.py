"""A layer as a function of flat tensors, for a trace of its own."""

from typing import Any

import torch
from torch import nn
from torch.utils import _pytree as pytree
from transformers.cache_utils import Cache

from neuronc.trace.context import ProgramContext, running
from neuronc.trace.kv_cache import slot_cache
from neuronc.trace.shared_layers import LayerCall, flat_results


class LayerBody(nn.Module):
    """What ``call`` does with its inputs, in the order of their roles; gives `flat_results`.

    Complex ones come as pairs; see `as_real`.

    Args:
        call: The layer's call; its layer has its own forward again.
        num_layers: Of the model, for the cache.
    """

    def __init__(self, call: LayerCall, num_layers: int) -> None:
        super().__init__()
        self.held = (call, _ForwardOf(call.layer))  # in a tuple: weights are inputs, not state
        self.num_layers = num_layers

    def forward(self, *inputs: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """See the class."""
        call, module = self.held
        given = {
            role: torch.view_as_complex(tensor) if seen.is_complex() else tensor
            for (role, seen), tensor in zip(call.inputs.items(), inputs, strict=True)
        }
        leaves, tree = call.arguments
        cache = self._cache(given)
        own = [given.get(f"argument.{k}", leaf) for k, leaf in enumerate(leaves)]
        own = [cache if isinstance(leaf, Cache) else leaf for leaf in own]
        args, kwargs = pytree.tree_unflatten(own, tree)
        weights = {
            role.replace("weight.", "layer.", 1): tensor
            for role, tensor in given.items()
            if role.startswith("weight.")
        }
        program = ProgramContext(
            positions_NS=given["positions"],
            key_length=call.program.key_length,
            rank=given.get("rank"),
            lengths=given.get("lengths"),
            last=given.get("last"),
        )
        with running(program):
            returned = torch.func.functional_call(module, weights, args, kwargs)
        return tuple(flat_results(pytree.tree_leaves(returned), cache, call.caches))

    def _cache(self, given: dict[str, torch.Tensor]) -> Cache:
        call, _ = self.held
        kept = {
            f"{part}.{number}": given[f"{part}.{number - call.number:+}"]
            for number in call.caches
            for part in ("keys", "values")
        }
        return slot_cache(
            kept,
            self.num_layers,
            slots=given.get("slots"),
            positions_NS=given["positions"],
            key_length=call.program.key_length,
        )


class _ForwardOf(nn.Module):
    """A layer's forward without its hooks, which run where the layer is called."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        return self.layer.forward(*args, **kwargs)
