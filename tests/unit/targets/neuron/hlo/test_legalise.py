from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest

from neuronc.artifact.manifest import PROGRAMS_DIR, ProgramEntry, read_manifest
from neuronc.dtypes import DTYPES, numpy_dtype
from neuronc.errors import CompilerError
from neuronc.lower.program_files import HLO, STABLEHLO
from neuronc.lower.stablehlo_to_hlo import to_hlo_proto
from neuronc.targets.cpu import compile_cpu, make_mesh, open_cpu, sharding
from neuronc.targets.cpu_merge import merge_inputs
from neuronc.targets.neuron.hlo.legalise import legalise
from neuronc.targets.neuron.hlo.schema import LEGACY, MODERN
from neuronc.targets.neuron.hlo.to_stablehlo import to_stablehlo
from neuronc.trace.program_spec import ProgramSignature, TensorSpec

TP = 2


def entries(artifact: Path) -> dict[str, ProgramEntry]:
    return {entry.name: entry for entry in read_manifest(artifact).programs}


def hlo_of(artifact: Path, name: str) -> bytes:
    return (artifact / PROGRAMS_DIR / name / HLO).read_bytes()


def legal(artifact: Path, name: str) -> Any:
    return LEGACY.FromString(legalise(hlo_of(artifact, name), entries(artifact)[name].signature))


def run(text: str, entry: ProgramEntry) -> list[Any]:
    """All outputs of one rank's program on ``TP`` real ranks, for seeded inputs."""
    payload, merged = compile_cpu(text, entry.signature, tp=TP, as_written=True)
    program = open_cpu(payload, merge_inputs(entry.signature, merged), tp=TP)
    rng, mesh, given = np.random.default_rng(0), make_mesh(TP), {}
    for tensor in entry.signature.inputs:
        shape = tensor.shape
        if tensor.kind != "data":
            shape = (shape[0] * TP, *shape[1:])
        dtype = numpy_dtype(DTYPES[tensor.dtype])
        if tensor.kind == "rank":
            value = np.arange(TP, dtype=dtype)
        elif tensor.kind == "data":
            value = np.full(shape, {"length": 5, "slot": 1}.get(tensor.name, 3), dtype)
        else:
            value = (0.1 * rng.standard_normal(shape)).astype(dtype)
        given[tensor.name] = (tensor, value)
    for group in merged:
        ranks = [np.split(given[name][1], TP) for name in group]
        value = np.concatenate([part for rank in zip(*ranks, strict=True) for part in rank])
        given[group[0]] = (given[group[0]][0], value)
        for name in group[1:]:
            del given[name]
    arrays = [jax.device_put(value, sharding(mesh, tensor)) for tensor, value in given.values()]
    return [np.asarray(output) for output in program(*arrays)]


@pytest.mark.parametrize("name", ["prefill_8", "decode_64"])
def test_legal_hlo_computes_the_same_numbers(tiny_artifact: Path, name: str) -> None:
    entry = entries(tiny_artifact)[name]
    expected = run((tiny_artifact / PROGRAMS_DIR / name / STABLEHLO).read_text(), entry)
    found = run(to_stablehlo(legalise(hlo_of(tiny_artifact, name), entry.signature)), entry)
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", ["prefill_8", "decode_64"])
def test_ids_are_dense_and_of_32_bits(tiny_artifact: Path, name: str) -> None:
    module = legal(tiny_artifact, name)
    raw = MODERN.FromString(hlo_of(tiny_artifact, name))
    assert min(i.id for c in raw.computations for i in c.instructions) > 2**31
    ids = [i.id for c in module.computations for i in c.instructions]
    assert ids == list(range(len(ids)))
    assert [c.id for c in module.computations] == list(range(len(module.computations)))
    defined: set[int] = set()
    for computation in module.computations:
        for instruction in computation.instructions:
            assert set(instruction.operand_ids) <= defined
            assert all(n < computation.id for n in instruction.called_computation_ids)
            defined.add(instruction.id)
        assert computation.root_id == computation.instructions[-1].id
    assert module.entry_computation_id == module.computations[-1].id


def test_collectives_name_every_rank_in_the_older_field(tiny_artifact: Path) -> None:
    module = legal(tiny_artifact, "decode_64")
    collectives = [
        i
        for c in module.computations
        for i in c.instructions
        if i.opcode in ("all-reduce", "all-gather")
    ]
    assert len(collectives) == 6  # embedding, two per layer, and the head
    for instruction in collectives:
        assert [list(g.replica_ids) for g in instruction.replica_groups] == [[0, 1]]
        assert instruction.channel_id == 0
        assert not instruction.use_global_device_ids


def test_groups_that_are_in_both_fields_stay_single(tiny_artifact: Path) -> None:
    module = MODERN.FromString(hlo_of(tiny_artifact, "decode_64"))
    for computation in module.computations:
        for instruction in computation.instructions:
            for group in instruction.collective_device_list.replica_groups:
                instruction.replica_groups.add(replica_ids=group.replica_ids)
    signature = entries(tiny_artifact)["decode_64"].signature
    legal_module = LEGACY.FromString(legalise(module.SerializeToString(), signature))
    found = [
        [list(g.replica_ids) for g in i.replica_groups]
        for c in legal_module.computations
        for i in c.instructions
        if i.replica_groups
    ]
    assert found == [[[0, 1]]] * 6


def test_caches_must_alias_and_every_name_is_ours(tiny_artifact: Path) -> None:
    module = legal(tiny_artifact, "decode_64")
    entry = module.computations[-1]
    names = {
        i.parameter_number: i.frontend_attributes.map["neff_input_names"]
        for i in entry.instructions
        if i.opcode == "parameter"
    }
    outputs = entry.instructions[-1].frontend_attributes.map["neff_output_names"].split(",")
    aliases = module.input_output_alias.entries
    assert len(aliases) == 4
    for alias in aliases:
        assert alias.kind == 2
        (output,) = alias.output_shape_index
        assert names[alias.parameter_number] == f"{outputs[output]}.must_alias_input"
    assert names[0] == entries(tiny_artifact)["decode_64"].signature.inputs[0].name
    assert len(set(names.values())) == len(names)


def test_an_output_that_is_an_input_is_copied() -> None:
    kind = "tensor<3xf32>"
    x = TensorSpec(name="x", kind="data", shape=(3,), dtype="f32")
    for num_outputs, opcodes in ((1, ["copy"]), (2, ["copy", "copy", "tuple"])):
        values, kinds = ", ".join(["%x"] * num_outputs), ", ".join([kind] * num_outputs)
        text = f"func.func public @main(%x: {kind}) -> ({kinds}) {{ return {values} : {kinds} }}"
        signature = ProgramSignature(inputs=(x,), outputs=(x,) * num_outputs, aliases={})
        module = LEGACY.FromString(legalise(to_hlo_proto(text, signature), signature))
        instructions = module.computations[-1].instructions
        assert [i.opcode for i in instructions] == ["parameter", *opcodes]
        assert module.computations[-1].root_id == instructions[-1].id


def test_a_field_nobody_knows_is_refused(tiny_artifact: Path) -> None:
    name = "decode_64"
    hlo = hlo_of(tiny_artifact, name) + bytes([0xFA, 0x3E, 0x01, 0x00])  # field 1007
    with pytest.raises(CompilerError, match="field 1007 of HloModuleProto"):
        legalise(hlo, entries(tiny_artifact)[name].signature)
