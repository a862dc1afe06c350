"""What a layer computes, as a digest: two layers with one digest have one graph.

Tracing follows the operators that a call runs, so the operators and the tensors that go from one
to the next are the graph. They are watched on tensors without memory, which costs milliseconds a
layer where tracing and lowering it costs a second.
"""

import hashlib
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch._subclasses.fake_tensor import FakeTensor
from torch.utils import _pytree as pytree
from torch.utils._python_dispatch import TorchDispatchMode, _disable_current_modes


class LayerPrint(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Watches the operators that run within, and numbers tensors as they appear.

    Args:
        inputs: What the layer is called with, by role: an argument, a weight, a cache.

    Attributes:
        is_whole: False once an operator has taken or changed a tensor that is none of the roles;
            then the layer's graph is not its own.
        used: Roles in the order of their first use.
    """

    def __init__(self, inputs: Mapping[str, torch.Tensor]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.is_whole = True
        self.used: dict[str, None] = {}
        self._digest = hashlib.sha256()
        self._kept: list[Any] = []  # so that no other tensor gets the id of one that is gone
        self._names: dict[int, str] = {}
        self._roles: dict[int, str] = {}
        for role, tensor in inputs.items():
            self._roles.setdefault(id(tensor), role)
            self._kept.append(tensor)

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        """Run ``func`` and put it on record."""
        if func._schema.is_mutable:
            self._check_changed(func, args)
        told = [self.name_of(args), self.name_of(list((kwargs or {}).items()))]
        result = func(*args, **(kwargs or {}))
        self._digest.update(f"{func}{told}".encode())
        for leaf in (result,) if isinstance(result, torch.Tensor) else pytree.tree_leaves(result):
            if isinstance(leaf, torch.Tensor) and id(leaf) not in self._names:
                self._name(leaf, f"%{len(self._names)}")
        return result

    def name_of(self, leaf: Any) -> Any:
        """The number of a tensor, its role, or its value where it is a constant; lists by item."""
        if isinstance(leaf, list | tuple):
            return [self.name_of(item) for item in leaf]
        if not isinstance(leaf, torch.Tensor):
            return leaf
        known = self._names.get(id(leaf))
        if known is not None:
            return known
        role = self._roles.get(id(leaf))
        if role is not None:
            self.used[role] = None
            return self._name(leaf, role)
        constant = leaf.constant if isinstance(leaf, FakeTensor) else leaf
        if constant is None:
            self.is_whole = False
            return "?"
        return self._name(leaf, _value(constant))

    def digest(self, inputs: Mapping[str, torch.Tensor], outputs: Iterable[torch.Tensor]) -> str:
        """Of all that was watched, of what goes in, and of which tensors come out."""
        kinds = [(role, tensor.shape, tensor.dtype) for role, tensor in inputs.items()]
        end = self._digest.copy()
        end.update(f"{kinds} -> {[self.name_of(tensor) for tensor in outputs]}".encode())
        return end.hexdigest()

    def _name(self, tensor: torch.Tensor, name: str) -> str:
        self._kept.append(tensor)
        self._names[id(tensor)] = name
        return name

    def _check_changed(self, func: Any, args: tuple[Any, ...]) -> None:
        for argument, value in zip(func._schema.arguments, args, strict=False):
            changed = argument.alias_info is not None and argument.alias_info.is_write
            if changed and id(value) not in self._names:
                self.is_whole = False


def _value(constant: torch.Tensor) -> str:
    """What tells ``constant`` from one of other values."""
    with _disable_current_modes():
        elements = constant.detach().contiguous().flatten().view(torch.uint8)
        digest = hashlib.sha256(elements.numpy().tobytes()).hexdigest()
    return f"{constant.dtype}{list(constant.shape)}{digest}"
