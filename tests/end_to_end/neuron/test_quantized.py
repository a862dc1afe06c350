"""Quantised weights for Neuron targets: legal programs, compiled and run by the doubles."""

from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from neuronc.artifact.neffs import compile_bundle
from neuronc.errors import InputError
from neuronc.pipeline import build, split
from neuronc.recipe import Recipe
from neuronc.runtime.session import Session
from neuronc.targets.neuron.hlo.schema import LEGACY
from neuronc.targets.neuron.settings import CompileOptions
from tests.neuron_doubles import CompilerDouble

S8, F8E4M3FN, F8E4M3 = 2, 20, 28  # xla.PrimitiveType
SIZES: dict[str, Any] = {"tp": 2, "max_length": 16, "prefill_buckets": (8,)}
LOWER = CompileOptions(lower_only=True)


def eight_bit_inputs(bundle: Path) -> set[int]:
    hlo = (bundle / "programs/decode_16/neuron.hlo.pb").read_bytes()
    entry = LEGACY.FromString(hlo).computations[-1]
    types = {i.shape.element_type for i in entry.instructions if i.opcode == "parameter"}
    return types & {S8, F8E4M3FN, F8E4M3}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("quantize", "target", "element"),
    [
        ("int8", "inf2", S8),
        ("fp8_e4m3", "trn2", F8E4M3),
        ("fp8_e4m3", "trn3", F8E4M3FN),
    ],
)
@pytest.mark.usefixtures("_nrtpy")
def test_ranks_give_the_cpu_targets_logits(
    tiny_checkpoint: Path,
    compiler: CompilerDouble,
    tmp_path: Path,
    quantize: str,
    target: str,
    element: int,
) -> None:
    asked = Recipe(checkpoint=str(tiny_checkpoint), quantize=quantize, target=target, **SIZES)
    bundle = build(asked, tmp_path / "bundle", options=LOWER)
    assert (bundle.manifest.verification or {})["passed"]
    assert (bundle.manifest.neuron or {})["warnings"] == []
    assert eight_bit_inputs(bundle.folder) == {element}
    compile_bundle(bundle.folder, tmp_path / "artifact", CompileOptions())
    assert compiler.compiled()
    logits = []
    for on in ("target", "cpu"):
        with closing(Session.open(tmp_path / "artifact", on=on)) as session:
            logits.append(session.prefill(0, [5, 6, 7]))
    np.testing.assert_allclose(logits[0], logits[1], rtol=1e-4, atol=1e-4)


@pytest.mark.slow
def test_a_bundle_without_weights_takes_those_of_its_scheme_only(
    tiny_checkpoint: Path, compiler: CompilerDouble, tmp_path: Path
) -> None:
    options = CompileOptions(lower_only=True, config_only=True)
    asked = Recipe(checkpoint=str(tiny_checkpoint), quantize="int8", target="trn1", **SIZES)
    bundle = build(asked, tmp_path / "bundle", options=options).folder
    for quantize in ("int8", None):
        of = Recipe(checkpoint=str(tiny_checkpoint), quantize=quantize, tp=2)
        split(of, tmp_path / f"weights-{quantize}")
    with pytest.raises(InputError, match=r"tp=2, f32; the bundle's .* tp=2, f32, int8"):
        compile_bundle(bundle, tmp_path / "x", CompileOptions(), weights=tmp_path / "weights-None")
    out = tmp_path / "artifact"
    compile_bundle(bundle, out, CompileOptions(), weights=tmp_path / "weights-int8")
    assert (out / "weights/rank-1.safetensors").is_file()
    assert compiler.compiled()
