"""Tells a traced graph which module of the model each operator came from."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch.fx.traceback as fx_traceback
from torch import nn

_KEY = "module"


@contextmanager
def naming_modules(model: nn.Module) -> Iterator[None]:
    """Within, operators that `torch.export` sees carry the name of the module that runs them.

    Its own record covers submodules of what is exported only, and the model is none: its
    parameters are inputs.
    """
    entered: list[Any] = []

    def enter(name: str) -> Any:
        def hook(_module: Any, _inputs: Any) -> None:
            entered.append(fx_traceback.annotate({_KEY: name}))
            entered[-1].__enter__()

        return hook

    def leave(_module: Any, _inputs: Any, _output: Any) -> None:
        entered.pop().__exit__(None, None, None)

    handles = [
        handle
        for name, module in model.named_modules()
        for handle in (
            module.register_forward_pre_hook(enter(name), prepend=True),
            module.register_forward_hook(leave),
        )
    ]
    try:
        with fx_traceback.preserve_node_meta():
            yield
    finally:
        for handle in handles:
            handle.remove()


def module_of(node: Any) -> str:
    """The module that ran ``node``; empty where that is the program itself."""
    return str((node.meta.get("custom") or {}).get(_KEY, ""))
