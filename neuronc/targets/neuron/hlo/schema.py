"""XLA's HLO proto as protobuf message classes.

``LEGACY`` is what neuronx-cc reads: its bundled schema knows nothing of the newer fields that
today's XLA writes. ``MODERN`` has those as well, so that they are read and dealt with, never lost
unseen.
"""

from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

from neuronc.targets.neuron.hlo.fields import LEGACY_FIELDS, NEWER_FIELDS, Fields

_PACKAGE = "xla"
_FILE = "neuronc/hlo.proto"

_Field = descriptor_pb2.FieldDescriptorProto
_SCALARS = {
    "int32": _Field.TYPE_INT32,
    "int64": _Field.TYPE_INT64,
    "uint32": _Field.TYPE_UINT32,
    "uint64": _Field.TYPE_UINT64,
    "float": _Field.TYPE_FLOAT,
    "double": _Field.TYPE_DOUBLE,
    "bool": _Field.TYPE_BOOL,
    "string": _Field.TYPE_STRING,
    "bytes": _Field.TYPE_BYTES,
}


def _make(*tables: Fields) -> Any:
    """The class of ``HloModuleProto`` with the fields of all ``tables``."""
    file = descriptor_pb2.FileDescriptorProto(name=_FILE, package=_PACKAGE, syntax="proto3")
    for name in dict.fromkeys(name for table in tables for name in table):
        message = file.message_type.add(name=name)
        for table in tables:
            for field, (number, kind) in table.get(name, {}).items():
                _add_field(message, field, number, kind)
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName(f"{_PACKAGE}.HloModuleProto"))


def _add_field(message: Any, name: str, number: int, kind: str) -> None:
    repeated = kind.endswith("*") or kind == "map"
    label = _Field.LABEL_REPEATED if repeated else _Field.LABEL_OPTIONAL
    field = message.field.add(name=name, number=number, label=label)
    if kind == "map":
        entry = message.nested_type.add(name="MapEntry")
        entry.options.map_entry = True
        _add_field(entry, "key", 1, "string")
        _add_field(entry, "value", 2, "string")
        kind = f"{message.name}.MapEntry"
    kind = kind.rstrip("*")
    if kind in _SCALARS:
        field.type = _SCALARS[kind]
    else:
        field.type, field.type_name = _Field.TYPE_MESSAGE, f".{_PACKAGE}.{kind}"


LEGACY = _make(LEGACY_FIELDS)
"""``HloModuleProto`` as neuronx-cc reads it."""

MODERN = _make(LEGACY_FIELDS, NEWER_FIELDS)
"""``HloModuleProto`` as today's XLA writes it."""
