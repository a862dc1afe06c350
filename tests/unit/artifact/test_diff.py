"""What `neuronc diff` says of two artifacts made by hand."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from neuronc.artifact.contents import digest_files
from neuronc.artifact.diff import find_differences, open_side
from neuronc.artifact.diff_programs import ProgramDifference, compare_programs
from neuronc.artifact.diff_weights import WeightsDifference, compare_weights
from neuronc.artifact.manifest import read_manifest, write_manifest
from neuronc.errors import InputError
from neuronc.targets.neuron.hlo.schema import MODERN
from tests.unit.provenance.small import make_small


def make_hlo(path: Path, opcodes: tuple[str, ...]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    module = MODERN(name="m", entry_computation_id=1)
    computation = module.computations.add(name="main", id=1, root_id=len(opcodes))
    for number, opcode in enumerate(opcodes, start=1):
        computation.instructions.add(id=number, name=f"i{number}", opcode=opcode)
    path.write_bytes(module.SerializeToString(deterministic=True))


def make(folder: Path, *, opcodes: tuple[str, ...] = ("add", "dot"), **changes: Any) -> Path:
    make_small(folder)
    for program in ("prefill_8", "decode_8"):
        make_hlo(folder / "programs" / program / "program.hlo.pb", opcodes)
        (folder / "programs" / program / "cpu.exe").write_text("executable")
    (folder / "weights" / "config.json").write_text(
        json.dumps({"model_type": "llama", **changes.pop("config", {})})
    )
    tensors = changes.pop("tensors", {"a": "1", "b": "2"})
    write_split(folder / "weights" / "split.json", tensors, changes.pop("split", {}))
    redo(folder, **changes)
    return folder


def write_split(path: Path, tensors: dict[str, str], changes: dict[str, Any]) -> None:
    entry = {"role": "replicate", "shape": [2], "dim": None, "ranks": []}
    padding = {
        "model_params": 4, "head_copy_params": 0, "padded_params": 0, "replicated_params": 0,
        "flops_ratio": 1.0,
    }  # fmt: skip
    from dataclasses import fields

    from neuronc.parallel.cost import PaddingCost

    known = {f.name: padding.get(f.name, 1) for f in fields(PaddingCost)}
    data = {
        "split_format": 2, "layout": "neuronc", "source": "x", "tp": 1, "dtype": "f32",
        "padding": known,
        "files": [{"path": "rank-0.safetensors", "size_bytes": 7, "sha256": "0" * 64}],
        "tensors": {name: {**entry, "xxh3_128": digest} for name, digest in tensors.items()},
        **changes,
    }  # fmt: skip
    path.write_text(json.dumps(data))


def redo(folder: Path, **changes: Any) -> None:
    manifest = replace(read_manifest(folder), **changes)
    write_manifest(replace(manifest, files=digest_files(folder)), folder)


def programs_of(a: Path, b: Path) -> dict[str, ProgramDifference]:
    manifests = (open_side(a), open_side(b))
    found = compare_programs((a, b), manifests, find_differences((a, b), manifests))
    return {program.name: program for program in found}


def weights_of(a: Path, b: Path) -> WeightsDifference:
    return compare_weights((a, b), (open_side(a), open_side(b)))


def names_of(a: Path, b: Path) -> dict[str, str]:
    found = find_differences((a, b), (open_side(a), open_side(b)))
    return {difference.name: difference.effect for difference in found}


def test_an_artifact_and_itself(tmp_path: Path) -> None:
    a, b = make(tmp_path / "a"), make(tmp_path / "b")
    assert names_of(a, b) == {}
    assert {program.state for program in programs_of(a, b).values()} == {"same"}
    assert weights_of(a, b) == WeightsDifference(num_same=2)


def test_other_weights_change_no_program(tmp_path: Path) -> None:
    a, b = make(tmp_path / "a"), make(tmp_path / "b", tensors={"a": "1", "b": "3", "c": "4"})
    found = weights_of(a, b)
    assert (found.num_same, found.changed, found.only_b) == (1, ("b",), ("c",))
    for program in programs_of(a, b).values():
        assert (program.state, program.because, program.same_bytes) == ("same", (), True)


def test_another_program_is_explained_by_what_lowering_depends_on(tmp_path: Path) -> None:
    a = make(tmp_path / "a")
    b = make(
        tmp_path / "b",
        opcodes=("add", "add", "exp"),
        config={"num_hidden_layers": 3, "temperature": 0.5},
        tool_versions={"neuronc": "0.1", "torch": "3", "jaxlib": "0.9", "safetensors": "9"},
    )
    program = programs_of(a, b)["prefill_8"]
    assert program.state == "another program"
    assert program.operators == {"add": 1, "dot": -1, "exp": 1}
    told = " ".join(program.because)
    assert "num_hidden_layers None -> 3" in told
    assert "torch '2.13.0+cpu' -> '3'" in told
    assert "temperature" not in told, "sampling from a model changes no program"
    assert "safetensors" not in told
    assert names_of(a, b)["temperature"] == "nothing"


def test_no_recorded_reason_is_said(tmp_path: Path) -> None:
    a, b = make(tmp_path / "a"), make(tmp_path / "b", opcodes=("dot", "add"))
    program = programs_of(a, b)["decode_8"]
    assert (program.state, program.operators) == ("another program", {})
    assert program.because == ("no difference that is recorded says why",)


@pytest.mark.parametrize(
    ("host", "told"),
    [
        ({"isa": ["avx2"], "jaxlib": "1.0"}, "jaxlib '0.9' -> '1.0'"),
        ({"isa": ["avx2", "amx"], "jaxlib": "0.9"}, "CPU extensions [] -> ['amx']"),
    ],
)
def test_the_same_program_for_another_host_was_compiled_again(
    tmp_path: Path, host: dict[str, Any], told: str
) -> None:
    a, b = make(tmp_path / "a"), make(tmp_path / "b", host=host)
    program = programs_of(a, b)["decode_8"]
    assert (program.state, program.because) == ("compiled again", (told,))


def test_arguments_of_one_phase_concern_its_programs_only(tmp_path: Path) -> None:
    from neuronc.targets.neuron.compiler.command import compiler_args

    args = {
        p: list(a) for p, a in compiler_args("inf2", 1, (), allow_env_flags=False).by_phase.items()
    }
    told = {"lnc": 1, "args": args, "compiler": {"version": "2.27", "stand_in": False}}
    other = {**told, "args": {**args, "decode": [*args["decode"], "--x"]}}
    a = make(tmp_path / "a", target="inf2", neuron=told)
    b = make(tmp_path / "b", target="inf2", neuron=other)
    found = programs_of(a, b)
    assert found["prefill_8"].state == "same"
    assert found["decode_8"].state == "compiled again"
    assert "neuronx-cc arguments of decode" in found["decode_8"].because[0]


def test_another_compiler_compiles_again(tmp_path: Path) -> None:
    from neuronc.targets.neuron.compiler.command import compiler_args

    args = {
        p: list(a) for p, a in compiler_args("inf2", 1, (), allow_env_flags=False).by_phase.items()
    }
    told: dict[str, Any] = {"lnc": 1, "args": args}
    versions = [{"version": v, "stand_in": False} for v in ("2.26", "2.27")]
    a = make(tmp_path / "a", target="inf2", neuron={**told, "compiler": versions[0]})
    b = make(tmp_path / "b", target="inf2", neuron={**told, "compiler": versions[1]})
    assert programs_of(a, b)["decode_8"].because == ("neuronx-cc '2.26' -> '2.27'",)


def test_a_bucket_more_is_one_program_more(tmp_path: Path) -> None:
    a, b = make(tmp_path / "a"), make(tmp_path / "b")
    manifest = read_manifest(b)
    more = replace(manifest.programs[0], name="prefill_4", bucket=4)
    make_hlo(b / "programs" / "prefill_4" / "program.hlo.pb", ("add",))
    redo(b, programs=(more, *manifest.programs))
    found = programs_of(a, b)
    assert {name: program.state for name, program in found.items()} == {
        "prefill_8": "same",
        "decode_8": "same",
        "prefill_4": "only in B",
    }
    assert programs_of(b, a)["prefill_4"].state == "only in A"


@pytest.mark.parametrize(
    ("split", "told"),
    [
        ({"dtype": "bf16"}, "stored in two ways"),
        ({"tensors": {"a": {"role": "replicate", "shape": [2], "dim": None, "ranks": [],
                            "xxh3_128": ""}}}, "linked to its checkpoint"),
    ],
)  # fmt: skip
def test_values_that_cannot_be_compared_are_not_called_changed(
    tmp_path: Path, split: dict[str, Any], told: str
) -> None:
    found = weights_of(make(tmp_path / "a"), make(tmp_path / "b", split=split))
    assert told in found.unknown
    assert (found.num_same, found.changed) == (0, ())


def test_shapes_and_other_files(tmp_path: Path) -> None:
    a = make(tmp_path / "a")
    entry = {"role": "replicate", "shape": [3], "dim": None, "ranks": [], "xxh3_128": "1"}
    b = make(tmp_path / "b", split={"tensors": {"a": entry, "b": {**entry, "shape": [2]}}})
    (b / "weights" / "tokenizer.json").write_text("{}")
    redo(b)
    found = weights_of(a, b)
    assert (found.reshaped, found.changed) == (("a",), ("b",))
    assert found.files == ("weights/tokenizer.json",)


def test_an_artifact_without_weights(tmp_path: Path) -> None:
    a, b = make(tmp_path / "a"), make(tmp_path / "b")
    (b / "weights" / "split.json").unlink()
    redo(b)
    assert "b has no weights" in weights_of(a, b).unknown


@pytest.mark.parametrize(
    "name", ["weights/split.json", "weights/config.json", "programs/prefill_8/program.hlo.pb"]
)
def test_what_is_read_is_compared_with_its_digest_first(tmp_path: Path, name: str) -> None:
    folder = make(tmp_path / "a")
    (folder / name).write_bytes((folder / name).read_bytes() + b" ")
    with pytest.raises(InputError, match="expected"):
        open_side(folder)


def test_other_scales_are_other_values(tmp_path: Path) -> None:
    entry = {"role": "replicate", "shape": [2, 2], "dim": None, "ranks": [], "xxh3_128": "1"}
    splits = [
        {"quantize": "int8", "tensors": {"a": {**entry, "channel_dim": 0, "scale_xxh3_128": scale}}}
        for scale in ("8", "9")
    ]
    a, b = (make(tmp_path / n, split=s) for n, s in zip("ab", splits, strict=True))
    assert weights_of(a, b).changed == ("a",)
