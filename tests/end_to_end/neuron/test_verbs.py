"""doctor, inspect, and the early ends of builds for Neuron targets, as a user meets them."""

import json
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from neuronc.artifact import reuse
from neuronc.artifact.manifest import read_manifest
from neuronc.artifact.neffs import compile_bundle
from neuronc.cli.app import main
from neuronc.errors import UsageError
from neuronc.matrix.cells import load_cells
from neuronc.recipe import Recipe
from neuronc.targets.neuron import doctor
from neuronc.targets.neuron.compiler import toolchain
from neuronc.targets.neuron.compiler.command import CompilerArgs, compiler_args
from neuronc.targets.neuron.compiler.toolchain import Compiler
from neuronc.targets.neuron.settings import CompileOptions, NeuronSettings
from tests.end_to_end.neuron.conftest import SIZES
from tests.end_to_end.resign import copy_artifact
from tests.neuron_doubles import CompilerDouble

ROOT = Path(__file__).parents[3]
RECIPES = sorted(
    str(path.relative_to(ROOT))
    for path in (ROOT / "recipes").rglob("*.toml")
    if any(cell.recipe.target != "cpu" for cell in load_cells(path))
)
CONFIGS = {"6.7b": "opt-6.7b", "3.1_8b": "llama-3.1-8b", "3.2_1b": "llama-3.2-1b"}


def run(capfd: pytest.CaptureFixture[str], *argv: str) -> tuple[int, dict[str, Any]]:
    code = main([*argv, "--json"])
    found: dict[str, Any] = json.loads(capfd.readouterr().out)
    return code, found


def test_doctor_finds_what_is_here(
    compiler: CompilerDouble, capfd: pytest.CaptureFixture[str]
) -> None:
    code, document = run(capfd, "doctor")
    assert code == 0
    checks = {check["name"]: check for check in document["data"]["checks"]}
    assert checks["neuronx-cc"]["found"].startswith("2.27.5334.0+double at ")
    assert not checks["nrtpy"]["ok"]
    able = {"lower for Neuron": True, "compile NEFFs": True, "run NEFFs": False}
    assert document["data"]["abilities"] == able


def test_doctor_tells_placeholders_and_ambient_flags(monkeypatch: pytest.MonkeyPatch) -> None:
    def installed(name: str) -> str | None:
        return toolchain.PLACEHOLDERS.get(name)

    monkeypatch.setattr(toolchain, "installed_version", installed)
    monkeypatch.setattr(doctor, "installed_version", installed)
    monkeypatch.setenv("PATH", "/nowhere")
    monkeypatch.setenv("NEURON_CC_FLAGS", "-O1")
    checks = {check.name: check for check in doctor.check_machine()}
    assert "1.0.post1 of it is PyPI's empty placeholder" in checks["neuronx-cc"].found or (
        "PyPI's empty placeholder" in checks["neuronx-cc"].found
    )
    assert checks["nrtpy"].found == "0.0.1 is PyPI's empty placeholder"
    assert "pip uninstall torch-neuronx" in checks["torch-neuronx"].hint
    assert "'-O1'" in checks["NEURON_CC_FLAGS"].found


def test_inspect_shows_artifact_neff_and_hlo(
    tiny_bundle: Path,
    compiler: CompilerDouble,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
) -> None:
    compile_bundle(tiny_bundle, tmp_path / "art", CompileOptions())
    program = tmp_path / "art/programs/decode_32"
    code, document = run(capfd, "inspect", str(tmp_path / "art"))
    data = document["data"]
    assert (code, data["kind"], data["target"], data["tp"]) == (0, "artifact", "inf2", 2)
    assert data["neuron"]["compiler"]["stand_in"] is True
    assert run(capfd, "inspect", str(tiny_bundle))[1]["data"]["kind"] == "bundle"
    data = run(capfd, "inspect", str(program / "program.neff"))[1]["data"]
    assert (data["kind"], data["stand_in"], data["logical_core_size"]) == ("neff", True, 1)
    assert data["inputs"]["rank"] == 4
    assert data["outputs"]["logits"] == 2 * 128 * 4
    data = run(capfd, "inspect", str(program / "neuron.hlo.pb"))[1]["data"]
    assert (data["is_legal"], data["num_aliases"]) == (True, 4)
    assert data["collectives"][0] == "all-reduce f32[2,1,36] over [0, 1]"
    assert "keys.0.must_alias_input: f32[2,64,2,8]" in data["inputs"]
    data = run(capfd, "inspect", str(program / "program.hlo.pb"))[1]["data"]
    assert data["is_legal"] is False


@pytest.mark.parametrize("name", ["x.neff", "x.hlo.pb", "x.txt", "none.neff"])
def test_inspect_refuses_what_is_none_of_these(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], name: str
) -> None:
    if name != "none.neff":
        (tmp_path / name).write_bytes(b"\x0a\x80\x80\x80\x80garbage")
    code, document = run(capfd, "inspect", str(tmp_path / name))
    assert code == 3
    assert name in document["error"]["message"]


def test_model_too_large_for_a_core_ends_before_anything_is_written(
    tiny_checkpoint: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    begin = time.perf_counter()
    argv = ("compile", str(tiny_checkpoint), "-o", str(tmp_path / "out"), "--target", "inf2")
    sizes = ("--batch-size", "2000000", "--max-length", "128", "--lower-only")
    code, document = run(capfd, *argv, *sizes)
    assert code == 4
    told = document["error"]["message"]
    assert "NCC_EVRF009" in told
    assert "has 16 GiB" in told
    assert not (tmp_path / "out").exists()
    assert time.perf_counter() - begin < 2


def test_illegal_core_size_ends_before_anything_is_written(
    tiny_checkpoint: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    argv = ("compile", str(tiny_checkpoint), "-o", str(tmp_path / "out"), "--lower-only")
    code, document = run(capfd, *argv, "--target", "inf2", "--lnc", "2")
    assert code == 4
    assert "NCC_EARG001" in document["error"]["message"]
    code, document = run(capfd, *argv, "--lnc", "1")
    assert code == 2
    assert "lnc is for Neuron targets" in document["error"]["message"]


@pytest.mark.parametrize(
    ("flags", "told"),
    [
        (("--cc-arg=--target=trn1",), "holds '--target=trn1', which neuronc passes itself"),
        (("--cc-arg=--output=x",), "--output=x"),
        (("--cc-arg=-lnc=2",), "-lnc=2"),
        (("--cc-arg=-lnc2",), "-lnc2"),
        (("--cc-arg=--targ=trn2",), "--targ=trn2"),
        (("--cc-arg=-o",), "'-o'"),
        (("--cc-arg= --target=trn2",), "expected an argument of printable text"),
        (("--cc-arg=",), "expected an argument"),
        (("--cc-arg=--x\n",), "expected an argument"),
        (("--cc-arg=--x\udcff",), "expected an argument"),
        (("--compile-timeout=0",), "--compile-timeout is 0"),
        (("--compile-timeout=nan",), "--compile-timeout is nan"),
        (("--compile-timeout=-inf",), "--compile-timeout is -inf"),
        (("--compile-timeout=1e400",), "--compile-timeout is inf"),
    ],
)
def test_arguments_that_neuronc_gives_itself_are_refused(
    tiny_checkpoint: Path,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
    flags: tuple[str, ...],
    told: str,
) -> None:
    argv = ("compile", str(tiny_checkpoint), "-o", str(tmp_path / "out"), "--target", "inf2")
    code, document = run(capfd, *argv, "--lower-only", *flags)
    assert code == 2
    assert told in document["error"]["message"]


@pytest.mark.slow
def test_ambient_flags_are_refused_or_taken_and_recorded(
    tiny_checkpoint: Path,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("NEURON_CC_FLAGS", "--cache_dir=/x --enable-saturate-infinity -O3")
    base = ("compile", str(tiny_checkpoint), "-o", str(tmp_path / "out"), "--target", "trn1")
    argv = (*base, "--max-length", "16", "--prefill-buckets", "8", "--lower-only", "--no-verify")
    code, document = run(capfd, *argv)
    assert code == 2
    assert "--allow-env-flags" in document["error"]["hint"]
    code, document = run(capfd, *argv, "--allow-env-flags", "--cc-arg=-O1")
    assert code == 0
    neuron = document["data"]["neuron"]
    assert neuron["neuron_cc_flags"] == ["--enable-saturate-infinity", "-O3"]
    assert neuron["args"]["decode"][:2] == ["--enable-saturate-infinity", "-O3"]
    assert neuron["args"]["decode"][-1] == "-O1"


def test_bundle_takes_no_other_settings(
    tiny_bundle: Path,
    compiler: CompilerDouble,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
) -> None:
    code, document = run(capfd, "compile", str(tiny_bundle), "-o", str(tmp_path / "a"), "--tp", "4")
    assert code == 2
    assert "--tp comes too late" in document["error"]["message"]
    code, document = run(capfd, "compile", str(tiny_bundle), "-o", str(tmp_path / "a"))
    assert code == 0
    assert document["data"]["neuron"]["compiler"]["version"] == "2.27.5334.0+double"
    assert document["data"]["verification"]["passed"]


def test_bundle_is_compiled_without_torch_and_transformers(
    tiny_bundle: Path, compiler: CompilerDouble, tmp_path: Path
) -> None:
    script = (
        "import sys; sys.modules.update(torch=None, transformers=None, torch_mlir=None);"
        "from neuronc.cli.app import main; sys.exit(main(sys.argv[1:]))"
    )
    argv = ["compile", str(tiny_bundle), "-o", str(tmp_path / "art"), "--json"]
    subprocess.run([sys.executable, "-c", script, *argv], check=True, capture_output=True, cwd=ROOT)
    assert not read_manifest(tmp_path / "art").is_bundle


@pytest.mark.slow
def test_config_alone_is_lowered_and_takes_weights_later(
    tiny_checkpoint: Path,
    compiler: CompilerDouble,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
) -> None:
    config, bundle = tmp_path / "config", tmp_path / "bundle"
    config.mkdir()
    (config / "config.json").write_bytes((tiny_checkpoint / "config.json").read_bytes())
    sizes = ("--tp", "2", "--max-length", "32", "--prefill-buckets", "8", "--dtype", "f32")
    argv = ("compile", str(config), "-o", str(bundle), "--target", "inf2", *sizes)
    code, document = run(capfd, *argv)
    assert code == 3
    assert "has no weights" in document["error"]["message"]
    code, document = run(capfd, *argv, "--lower-only")
    assert code == 0
    assert "no weights" in document["warnings"][0]
    code, document = run(capfd, "compile", str(bundle), "-o", str(tmp_path / "bare"))
    assert code == 0
    assert any("--weights DIR" in warning for warning in document["warnings"])
    weights = str(tmp_path / "weights")
    assert run(capfd, "split", str(tiny_checkpoint), "-o", weights, "--tp", "2")[0] == 0
    out = str(tmp_path / "whole")
    assert run(capfd, "compile", str(bundle), "-o", out, "--weights", weights)[0] == 0
    assert run(capfd, "compile", "--relink", out)[0] == 0
    code, document = run(capfd, "verify", out, "--checkpoint", str(tiny_checkpoint))
    assert code == 0
    assert document["data"]["passed"]


def test_neuron_section_of_a_manifest_is_checked(
    tiny_bundle: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    copied = copy_artifact(tiny_bundle, tmp_path / "copy")
    path = copied / "manifest.json"
    whole = json.loads(path.read_text())
    for key, value in (("lnc", 2), ("lnc", True), ("args", []), ("args", {"prefill": ["x"]})):
        path.write_text(json.dumps({**whole, "neuron": {**whole["neuron"], key: value}}))
        code, document = run(capfd, "inspect", str(copied))
        assert code == 3
        assert f"neuron.{key}" in document["error"]["message"]
    del whole["neuron"]
    path.write_text(json.dumps(whole))
    assert run(capfd, "inspect", str(copied))[0] == 3


@pytest.mark.slow
@pytest.mark.parametrize("recipe", RECIPES)
def test_recipe_lowers_and_passes_the_pre_flight_from_config_alone(
    recipe: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    text = (ROOT / recipe).read_text()
    assert "not verified on hardware" in text
    config = next(folder for size, folder in CONFIGS.items() if Path(recipe).name.startswith(size))
    checkpoint = str(ROOT / "recipes/configs" / config)
    argv = ("build", str(ROOT / recipe), "--checkpoint", checkpoint, "--lower-only")
    code, document = run(capfd, *argv, "-o", str(tmp_path / "bundle"))
    assert code == 0, document["error"]
    data = document["data"]
    assert data["elapsed_s"] < 180
    assert data["worker_peak_rss_bytes"] < 6e9
    assert Path(recipe).stem.endswith(f"{data['target']}_tp{read_manifest(tmp_path / 'bundle').tp}")


@pytest.mark.slow
def test_bundle_and_artifact_are_not_taken_for_each_other(
    tiny_checkpoint: Path,
    compiler: CompilerDouble,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
) -> None:
    out = str(tmp_path / "out")
    sizes = ("--max-length", "16", "--prefill-buckets", "8", "--target", "inf2", "--no-verify")
    argv = ("build", str(tiny_checkpoint), "-o", out, *sizes)
    assert run(capfd, *argv)[1]["data"]["reused"] is False
    assert run(capfd, *argv)[1]["data"]["reused"] is True
    code, document = run(capfd, *argv, "--lower-only")
    assert code == 2
    assert "it is compiled already" in document["error"]["message"]


def test_config_that_cannot_fit_ends_before_anything_is_lowered(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    begin = time.perf_counter()
    argv = ("compile", str(ROOT / "recipes/configs/llama-3.1-8b"), "-o", str(tmp_path / "out"))
    sizes = ("--tp", "1", "--max-length", "32768", "--target", "inf2", "--lower-only")
    code, document = run(capfd, *argv, *sizes)
    assert code == 4
    assert "weights 15.0, KV caches of 1 x 32768 tokens 4.0" in document["error"]["message"]
    assert time.perf_counter() - begin < 2
    code, document = run(capfd, *argv, "--target", "inf2", "--config-only")
    assert code == 2
    assert "--lower-only" in document["error"]["hint"]


def test_what_another_compiler_made_is_not_kept(
    tiny_bundle: Path,
    tiny_checkpoint: Path,
    compiler: CompilerDouble,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    manifest = read_manifest(tiny_bundle)
    recipe = Recipe(checkpoint=str(tiny_checkpoint), tp=2, target="inf2", **SIZES)  # type: ignore[arg-type]
    options = CompileOptions(lower_only=True)
    flags = compiler_args("inf2", 1, (), allow_env_flags=False)

    def difference(args: CompilerArgs, found: Compiler | None, made: str | None) -> str:
        told = {"version": made, "stand_in": True} if made else None
        there = replace(manifest, neuron={**(manifest.neuron or {}), "compiler": told})
        settings = NeuronSettings(target="inf2", flags=args, compiler=found)
        return reuse._neuron_difference(there, settings)

    here = Compiler(path=Path("neuronx-cc"), version="2.28")
    assert difference(flags, None, None) == ""
    assert difference(flags, here, "2.28") == ""
    assert "by neuronx-cc 2.27, here is 2.28" in difference(flags, here, "2.27")
    monkeypatch.setenv("NEURON_CC_FLAGS", "-O1")
    other = compiler_args("inf2", 1, (), allow_env_flags=True)
    assert "its arguments are" in difference(other, here, "2.28")
    with pytest.raises(UsageError, match="its arguments are"):
        reuse.find_reusable(
            tiny_bundle,
            recipe,
            options,
            NeuronSettings(target="inf2", flags=other, compiler=None),
            need_verified=True,
        )


@pytest.mark.parametrize(
    "text", ["[ERROR] [NCC_EVRF007] too many instructions", "ncc_evrf007", "EVRF007"]
)
def test_explain_takes_a_line_of_the_log(capfd: pytest.CaptureFixture[str], text: str) -> None:
    code, document = run(capfd, "explain", text)
    assert code == 0
    assert document["data"]["codes"][0]["code"] == "EVRF007"
