"""The doubles are as strict as the documented tools: each trap closes."""

import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from neuronc.artifact.neffs import compile_bundle
from neuronc.targets.neuron.hlo.schema import LEGACY, MODERN
from neuronc.targets.neuron.settings import CompileOptions
from tests.doubles.strict_hlo import read_strictly
from tests.neuron_doubles import CompilerDouble


def legal_hlo(bundle: Path) -> Any:
    return LEGACY.FromString((bundle / "programs/decode_32/neuron.hlo.pb").read_bytes())


def ncc(compiler: CompilerDouble, cwd: Path, *argv: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(compiler.folder / "neuronx-cc"), *argv],
        cwd=cwd,
        capture_output=True,
        text=True,
        check=False,
        env={"PATH": "/usr/bin:/bin"},
    )


@pytest.mark.parametrize(
    ("argv", "told"),
    [
        (("compile", "x.hlo.pb", "--target=inf2"), "NCC_EARG002] illegal arguments"),
        (("compile", "x.hlo.pb", "--framework=XLA", "--target=inf3"), "NCC_EARG002"),
        (("compile", "x.hlo.pb", "--framework=XLA", "--target=inf2", "--fast"), "NCC_EARG002"),
        (("compile", "x.hlo.pb", "--framework=XLA", "--target=inf2", "--lnc=2"), "NCC_EARG001"),
        (("translate",), "expected the command compile"),
    ],
)
def test_compiler_double_takes_documented_arguments_only(
    compiler: CompilerDouble, tmp_path: Path, argv: tuple[str, ...], told: str
) -> None:
    done = ncc(compiler, tmp_path, *argv)
    assert done.returncode == 70
    assert told in done.stdout


def test_compiler_double_refuses_hlo_as_xla_writes_it(
    tiny_bundle: Path, compiler: CompilerDouble, tmp_path: Path
) -> None:
    raw = (tiny_bundle / "programs/decode_32/program.hlo.pb").read_bytes()
    (tmp_path / "x.hlo.pb").write_bytes(raw)
    done = ncc(compiler, tmp_path, "compile", "x.hlo.pb", "--framework=XLA", "--target=inf2")
    assert done.returncode == 70
    assert "[NCC_INLA001]" in done.stdout
    assert not (tmp_path / "file.neff").exists()


def _wide_id(module: Any) -> None:
    module.computations[0].instructions[0].id = 2**31


def _no_groups(module: Any) -> None:
    for instruction in module.computations[-1].instructions:
        instruction.ClearField("replica_groups")


def _channel(module: Any) -> None:
    module.computations[-1].instructions[-2].channel_id = 1


def _column_major(module: Any) -> None:
    shape = module.computations[-1].instructions[0].shape
    shape.layout.minor_to_major[:] = list(range(len(shape.dimensions)))


def _wide_integers(module: Any) -> None:
    module.computations[-1].instructions[0].shape.element_type = 5


def _dynamic(module: Any) -> None:
    module.computations[-1].instructions[0].shape.is_dynamic_dimension.append(True)


def _no_alias(module: Any) -> None:
    module.ClearField("input_output_alias")


def _sort(module: Any) -> None:
    module.computations[-1].instructions[-2].opcode = "sort"


@pytest.mark.parametrize(
    ("damage", "code"),
    [
        (_wide_id, "NCC_INLA001"),
        (_no_groups, "NCC_INLA001"),
        (_channel, "NCC_INLA001"),
        (_column_major, "NCC_INLA001"),
        (_wide_integers, "NCC_ESPP004"),
        (_dynamic, "NCC_EMOD025"),
        (_no_alias, "NCC_INLA001"),
        (_sort, "NCC_EVRF001"),
    ],
)
def test_compiler_double_refuses_every_illegal_form(
    tiny_bundle: Path, damage: Any, code: str
) -> None:
    module = legal_hlo(tiny_bundle)
    read_strictly(module.SerializeToString())
    damage(module)
    with pytest.raises(ValueError, match=f"^{code} "):
        read_strictly(module.SerializeToString())


def test_compiler_double_refuses_fields_it_does_not_know(tiny_bundle: Path) -> None:
    module = MODERN.FromString(legal_hlo(tiny_bundle).SerializeToString())
    module.computations[-1].instructions[-2].collective_device_list.replica_groups.add()
    with pytest.raises(ValueError, match="unknown field 87 in HloInstructionProto"):
        read_strictly(module.SerializeToString())


@pytest.fixture
def neff(tiny_bundle: Path, compiler: CompilerDouble, tmp_path: Path) -> Path:
    compile_bundle(tiny_bundle, tmp_path / "art", CompileOptions())
    return tmp_path / "art/programs/decode_32/program.neff"


@pytest.mark.usefixtures("_nrtpy")
def test_nrtpy_double_keeps_the_documented_traps(neff: Path) -> None:
    import nrtpy

    with pytest.raises(TypeError):
        nrtpy.configure(visible_cores=["0"])
    with pytest.raises(ValueError, match="negative"):
        nrtpy.configure(visible_cores=[-1])
    nrtpy.configure(visible_cores=range(2))
    tensor = nrtpy.NrtpyTensor.from_numpy(np.zeros(4, np.float32), name="x", core_id=1)
    with pytest.raises(nrtpy.NrtpyError, match="before the runtime is used"):
        nrtpy.configure(visible_cores=range(1))
    with pytest.raises(nrtpy.NrtError, match=r"NRT_INVALID\(2\): core 2"):
        nrtpy.NrtpyTensor.from_numpy(np.zeros(1), core_id=2)
    with pytest.raises(ValueError, match="8 bytes, the tensor 16"):
        tensor.write_from_numpy(np.zeros(2, np.float32))
    with pytest.raises(nrtpy.NrtError, match=r"NRT_FAILURE\(1\): Failed to load model"):
        nrtpy.NrtpyModel.load_from_neff("nowhere.neff")
    with pytest.raises(nrtpy.NrtError, match="need cc_enabled"):
        nrtpy.NrtpyModel.load_from_neff(str(neff), rank_id=1, world_size=2)
    nrtpy.get_nrtpy_singleton().free_tensor(tensor)
    with pytest.raises(nrtpy.NrtError, match=r"NRT_INVALID_HANDLE\(3\)"):
        tensor.numpy()
    nrtpy.reset()


@pytest.mark.usefixtures("_nrtpy")
def test_nrtpy_double_compares_names_sizes_and_cores_and_returns_bare_bytes(neff: Path) -> None:
    import nrtpy

    model = nrtpy.NrtpyModel.load_from_neff(
        str(neff)
    )  # one rank alone: the collectives are its own
    given = {
        name: nrtpy.NrtpyTensor.from_numpy(np.zeros(info.size, np.uint8), name=name)
        for name, info in model.input_tensors_info.items()
    }
    with pytest.raises(nrtpy.NrtError, match=r"1002\): input names differ"):
        model({**given, "more": given["rank"]})
    short = nrtpy.NrtpyTensor.from_numpy(np.zeros(1, np.uint8))
    with pytest.raises(nrtpy.NrtError, match=r"1002\): input rank has 1 bytes"):
        model({**given, "rank": short})
    away = nrtpy.NrtpyTensor.from_numpy(np.zeros(4, np.uint8), core_id=1)
    with pytest.raises(nrtpy.NrtError, match=r"1002\): input rank is on another core"):
        model({**given, "rank": away})
    outputs = {
        name: nrtpy.NrtpyTensor.from_numpy(np.zeros(info.size, np.uint8), name=name)
        for name, info in model.output_tensors_info.items()
    }
    with pytest.raises(nrtpy.NrtError, match=r"1002\): keys\.0 must alias its input"):
        model(given, outputs)
    with pytest.raises(ValueError, match="mode 'both'"):
        model.benchmark(given, mode="both")
    nrtpy.reset()
