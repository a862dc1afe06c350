"""The part of XLA's HLO proto that an artifact's programs use, as protobuf message classes.

Field numbers: openxla/xla, ``xla/service/hlo.proto`` and ``xla/xla_data.proto``. ``LEGACY`` is what
neuronx-cc reads: its bundled schema knows nothing of the newer fields that today's XLA writes.
``MODERN`` has those as well, so that they are read and dealt with, never lost unseen.
"""

from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

_PACKAGE = "xla"
_FILE = "neuronc/hlo.proto"

# message -> field -> (number, type); a star makes it repeated, and a map has string keys and values
_LEGACY: dict[str, dict[str, tuple[int, str]]] = {
    "LayoutProto": {
        "minor_to_major": (1, "int64*"),
        "tail_padding_alignment_in_elements": (16, "int64"),
    },
    "ShapeProto": {
        "element_type": (2, "int32"),
        "dimensions": (3, "int64*"),
        "tuple_shapes": (4, "ShapeProto*"),
        "layout": (5, "LayoutProto"),
        "is_dynamic_dimension": (6, "bool*"),
    },
    "ProgramShapeProto": {
        "parameters": (1, "ShapeProto*"),
        "result": (2, "ShapeProto"),
        "parameter_names": (3, "string*"),
    },
    "OpMetadata": {
        "op_type": (1, "string"),
        "op_name": (2, "string"),
        "source_file": (3, "string"),
        "source_line": (4, "int32"),
    },
    "LiteralProto": {
        "shape": (1, "ShapeProto"),
        "preds": (2, "bool*"),
        "u8s": (3, "bytes"),
        "s32s": (4, "int32*"),
        "s64s": (5, "int64*"),
        "u32s": (6, "uint32*"),
        "u64s": (7, "uint64*"),
        "f32s": (8, "float*"),
        "f64s": (9, "double*"),
        "tuple_literals": (10, "LiteralProto*"),
        "f16s": (11, "bytes"),
        "bf16s": (13, "bytes"),
        "s8s": (15, "bytes"),
        "u16s": (16, "bytes"),
        "s16s": (17, "bytes"),
    },
    "GatherDimensionNumbers": {
        "offset_dims": (1, "int64*"),
        "collapsed_slice_dims": (2, "int64*"),
        "start_index_map": (3, "int64*"),
        "index_vector_dim": (4, "int64"),
    },
    "ScatterDimensionNumbers": {
        "update_window_dims": (1, "int64*"),
        "inserted_window_dims": (2, "int64*"),
        "scatter_dims_to_operand_dims": (3, "int64*"),
        "index_vector_dim": (4, "int64"),
    },
    "DotDimensionNumbers": {
        "lhs_contracting_dimensions": (1, "int64*"),
        "rhs_contracting_dimensions": (2, "int64*"),
        "lhs_batch_dimensions": (3, "int64*"),
        "rhs_batch_dimensions": (4, "int64*"),
    },
    "PrecisionConfig": {"operand_precision": (1, "int32*")},
    "PaddingConfigDimension": {
        "edge_padding_low": (1, "int64"),
        "edge_padding_high": (2, "int64"),
        "interior_padding": (3, "int64"),
    },
    "PaddingConfig": {"dimensions": (1, "PaddingConfigDimension*")},
    "FrontendAttributes": {"map": (1, "map")},
    "ReplicaGroup": {"replica_ids": (1, "int64*")},
    "SliceDimensions": {"start": (1, "int64"), "limit": (2, "int64"), "stride": (3, "int64")},
    "HloInstructionProto": {
        "name": (1, "string"),
        "opcode": (2, "string"),
        "shape": (3, "ShapeProto"),
        "metadata": (7, "OpMetadata"),
        "literal": (8, "LiteralProto"),
        "parameter_number": (9, "int64"),
        "tuple_index": (13, "int64"),
        "dimensions": (14, "int64*"),
        "slice_dimensions": (17, "SliceDimensions*"),
        "dynamic_slice_sizes": (20, "int64*"),
        "padding_config": (21, "PaddingConfig"),
        "channel_id": (26, "int64"),
        "custom_call_target": (28, "string"),
        "dot_dimension_numbers": (30, "DotDimensionNumbers"),
        "gather_dimension_numbers": (33, "GatherDimensionNumbers"),
        "gather_slice_sizes": (34, "int64*"),
        "id": (35, "int64"),
        "operand_ids": (36, "int64*"),
        "control_predecessor_ids": (37, "int64*"),
        "called_computation_ids": (38, "int64*"),
        "backend_config": (43, "bytes"),
        "scatter_dimension_numbers": (48, "ScatterDimensionNumbers"),
        "replica_groups": (49, "ReplicaGroup*"),
        "precision_config": (51, "PrecisionConfig"),
        "is_stable": (60, "bool"),
        "comparison_direction": (63, "string"),
        "indices_are_sorted": (67, "bool"),
        "frontend_attributes": (68, "FrontendAttributes"),
        "unique_indices": (69, "bool"),
        "use_global_device_ids": (71, "bool"),
        "comparison_type": (72, "string"),
    },
    "HloComputationProto": {
        "name": (1, "string"),
        "instructions": (2, "HloInstructionProto*"),
        "program_shape": (4, "ProgramShapeProto"),
        "id": (5, "int64"),
        "root_id": (6, "int64"),
    },
    "AliasEntryProto": {
        "output_shape_index": (1, "int64*"),
        "parameter_number": (2, "int64"),
        "parameter_shape_index": (3, "int64*"),
        "kind": (4, "int32"),
    },
    "HloInputOutputAliasProto": {"entries": (1, "AliasEntryProto*")},
    "HloModuleProto": {
        "name": (1, "string"),
        "entry_computation_name": (2, "string"),
        "computations": (3, "HloComputationProto*"),
        "host_program_shape": (4, "ProgramShapeProto"),
        "id": (5, "int64"),
        "entry_computation_id": (6, "int64"),
        "input_output_alias": (8, "HloInputOutputAliasProto"),
    },
}

# Read and then dropped or rewritten; ``bytes`` stands for a message that is not looked into.
_NEWER: dict[str, dict[str, tuple[int, str]]] = {
    "IotaReplicaGroupListProto": {
        "num_replica_groups": (1, "int64"),
        "num_devices_per_group": (2, "int64"),
        "iota_reshape_dims": (3, "int64*"),
        "iota_transpose_perm": (4, "int32*"),
    },
    "CollectiveDeviceListProto": {
        "replica_groups": (1, "ReplicaGroup*"),
        "iota_replica_group_list": (2, "IotaReplicaGroupListProto"),
    },
    "OpMetadata": {
        "stack_frame_id": (15, "int32"),
        "scheduling_name": (16, "string"),
        "source_end_line": (17, "int32"),
        "source_column": (18, "int32"),
        "source_end_column": (19, "int32"),
    },
    "HloInstructionProto": {
        "sharding": (40, "bytes"),
        "statistics_viz": (82, "bytes"),
        "collective_device_list": (87, "CollectiveDeviceListProto"),
        "original_value": (88, "bytes"),
        "result_accuracy": (91, "bytes"),
    },
    "HloComputationProto": {"execution_thread": (8, "string")},
    "HloModuleProto": {
        "schedule": (7, "bytes"),
        "spmd_output_sharding": (12, "bytes"),
        "spmd_parameters_shardings": (14, "bytes*"),
        "device_assignment": (15, "bytes"),
        "stack_frame_index": (17, "bytes"),
        "buffer_donor": (18, "bytes"),
        "frontend_attributes": (19, "FrontendAttributes"),
    },
}

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


def _make(*tables: dict[str, dict[str, tuple[int, str]]]) -> Any:
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


LEGACY = _make(_LEGACY)
"""``HloModuleProto`` as neuronx-cc reads it."""

MODERN = _make(_LEGACY, _NEWER)
"""``HloModuleProto`` as today's XLA writes it."""
