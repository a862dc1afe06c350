"""From an opened checkpoint to the slices that a linked split refers to."""

from collections.abc import Mapping

from neuronc.checkpoint.checkpoint import Checkpoint
from neuronc.checkpoint.folder import has_weights, open_weights
from neuronc.checkpoint.safetensors_reader import SafetensorsReader, StoredTensor
from neuronc.dtypes import Dtype
from neuronc.errors import InputError, UsageError
from neuronc.parallel.linked_slices import LinkedWeights, link_weights
from neuronc.parallel.rules import ParamRule


def link_checkpoint(
    checkpoint: Checkpoint, rules: Mapping[str, ParamRule], element: Dtype
) -> LinkedWeights:
    """Where the parameters of ``rules`` lie in the files of ``checkpoint``.

    Raises:
        InputError: the checkpoint is not a folder of safetensors.
        UsageError: its element type is not ``element``, or an adapter is merged: nothing could be
            changed on the way.
    """
    if checkpoint.adapter is not None:
        message = (
            f"adapter {checkpoint.adapter.name} is merged into the tensors that --link refers to"
        )
        raise UsageError(message, hint="leave out --link, or --adapter")
    stored = _stored_tensors(checkpoint)
    parts = {
        name: [_checked(stored, origin.name, element) for origin in origins]
        for name, origins in (
            (name, checkpoint.origins.get(name) or (checkpoint.tensors[name],)) for name in rules
        )
    }
    return link_weights(rules, parts)


def _stored_tensors(checkpoint: Checkpoint) -> Mapping[str, StoredTensor]:
    """Where the tensors lie that opening the checkpoint found, and no others of its folder."""
    path = checkpoint.path
    reader = open_weights(path)[1] if path.is_dir() and has_weights(path) else None
    if not isinstance(reader, SafetensorsReader):
        message = f"{checkpoint.source} has no safetensors files that could be linked"
        raise InputError(message, hint="leave out --link")
    return reader.stored


def _checked(stored: Mapping[str, StoredTensor], name: str, element: Dtype) -> StoredTensor:
    if name not in stored:
        message = f"tensor {name!r} is not in the safetensors files as it is; it cannot be linked"
        raise InputError(message, hint="leave out --link")
    if stored[name].info.dtype != element:
        message = f"tensor {name!r} is {stored[name].info.dtype.name}; --link to {element.name}"
        hint = "links cannot change the dtype: leave out --link, or --dtype"
        raise UsageError(message, hint=hint)
    return stored[name]
