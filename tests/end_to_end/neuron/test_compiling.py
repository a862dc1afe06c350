"""From bundle to NEFFs: what neuronx-cc is asked, and every way it can fail."""

import json
import shlex
import subprocess
from pathlib import Path
from typing import Any

import pytest

from neuronc.artifact import neffs
from neuronc.artifact.manifest import Manifest, read_manifest
from neuronc.cache.cache import open_cache
from neuronc.errors import (
    CompilerError,
    DeadlineError,
    HostMemoryError,
    InputError,
    NeuroncError,
    ToolchainError,
    UsageError,
)
from neuronc.parallel.split_manifest import check_files
from neuronc.targets.neuron.settings import CompileOptions
from tests.neuron_doubles import CompilerDouble

PROGRAMS = ["prefill_8", "prefill_16", "decode_32", "decode_64"]
ONE_BY_ONE = CompileOptions(num_parallel=1)


def compile_bundle(*args: Any, **fields: Any) -> Manifest:
    """With the store that the fixture `compiler` names."""
    return neffs.compile_bundle(*args, cache=open_cache(None), **fields)


def record(artifact: Path, program: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(
        (artifact / "programs" / program / "neuronx-cc.json").read_text()
    )
    return found


def refused(bundle: Path, out: Path, options: CompileOptions = ONE_BY_ONE) -> NeuroncError:
    with pytest.raises(NeuroncError) as caught:
        compile_bundle(bundle, out, options)
    assert not out.exists()
    assert [p for p in out.parent.iterdir() if p.name.startswith(f".{out.name}")] == []
    return caught.value


def test_bundle_is_lowered_verified_and_says_how_to_compile_it(tiny_bundle: Path) -> None:
    manifest = read_manifest(tiny_bundle)
    assert manifest.is_bundle
    assert (manifest.verification or {})["passed"]
    lines = (tiny_bundle / "commands.txt").read_text().splitlines()
    assert [line.split(" && ")[0] for line in lines] == [f"(cd programs/{n}" for n in PROGRAMS]


def test_commands_of_a_bundle_compile_it(
    tiny_bundle: Path, compiler: CompilerDouble, tmp_path: Path
) -> None:
    for line in (tiny_bundle / "commands.txt").read_text().splitlines():
        change, copy, command = line.strip("()").split(" && ")
        folder = tmp_path / shlex.split(change)[1]
        folder.mkdir(parents=True)
        _, source, target = shlex.split(copy)
        program = tiny_bundle / shlex.split(change)[1]
        (folder / target).write_bytes((program / source).read_bytes())
        subprocess.run(shlex.split(command), cwd=folder, check=True, env={"PATH": compiler.path})
        assert (folder / f"{folder.name}.neff").is_file()


def test_compiled_bundle_holds_neffs_and_how_they_came_to_be(
    tiny_bundle: Path, compiler: CompilerDouble, tmp_path: Path
) -> None:
    manifest = compile_bundle(tiny_bundle, tmp_path / "art", CompileOptions())
    assert not manifest.is_bundle
    assert manifest.verification == read_manifest(tiny_bundle).verification
    check_files(tmp_path / "art", manifest.files)
    for program in PROGRAMS:
        found = record(tmp_path / "art", program)
        assert found["command"][1:3] == ["compile", f"{program}.hlo.pb"]
        assert found["command"][0].endswith("neuronx-cc")
        assert (found["exit_code"], found["attempts"]) == (0, 1)
        assert found["wall_s"] > 0
        assert found["peak_rss_bytes"] > 2**20
        assert found["neff_checked"] == ["header", "archive", "hash", "names and sizes"]
        assert "PASS" in (tmp_path / "art/programs" / program / "neuronx-cc.log").read_text()
    litter = [p for p in (tmp_path / "art").rglob("*") if "neuronxcc-" in p.name]
    assert litter == []


def test_what_a_double_made_says_so_everywhere(
    tiny_bundle: Path, compiler: CompilerDouble, tmp_path: Path
) -> None:
    manifest = compile_bundle(tiny_bundle, tmp_path / "art", CompileOptions())
    neuron = manifest.neuron or {}
    assert neuron["compiler"] == {"version": "2.27.5334.0+double", "stand_in": True}
    assert neuron["hardware"] == "not run on a Neuron device"
    assert all(record(tmp_path / "art", program)["stand_in"] for program in PROGRAMS)


def test_flags_differ_by_phase_and_integers_are_pinned(tiny_bundle: Path) -> None:
    args = (read_manifest(tiny_bundle).neuron or {})["args"]
    assert "--optlevel=1" in args["prefill"]
    assert "--optlevel=2" in args["decode"]
    for phase in ("prefill", "decode"):
        assert {"--native-int64=disabled", "--implicit-integer-downcast=all"} <= set(args[phase])
        assert "--logical-nc-config=1" in args[phase]


def test_smallest_bucket_first_and_nothing_is_compiled_twice(
    tiny_bundle: Path, compiler: CompilerDouble, tmp_path: Path
) -> None:
    compile_bundle(tiny_bundle, tmp_path / "one", ONE_BY_ONE)
    assert compiler.compiled() == PROGRAMS
    compile_bundle(tiny_bundle, tmp_path / "two", ONE_BY_ONE)
    assert compiler.compiled() == PROGRAMS
    neff = "programs/decode_64/program.neff"
    assert (tmp_path / "one" / neff).read_bytes() == (tmp_path / "two" / neff).read_bytes()


def test_damaged_neff_in_the_cache_is_compiled_again(
    tiny_bundle: Path, compiler: CompilerDouble, tmp_path: Path
) -> None:
    compile_bundle(tiny_bundle, tmp_path / "one", ONE_BY_ONE)
    kept = sorted((tmp_path / "cache").rglob("program.neff"))
    assert len(kept) == len(PROGRAMS)
    kept[0].write_bytes(b"rotten")
    compile_bundle(tiny_bundle, tmp_path / "two", ONE_BY_ONE)
    assert len(compiler.compiled()) == len(PROGRAMS) + 1


def test_finished_programs_survive_a_failure(
    tiny_bundle: Path, compiler: CompilerDouble, tmp_path: Path
) -> None:
    compiler.tell(mode="crash", program="decode_32")
    refused(tiny_bundle, tmp_path / "art")
    compiler.behave()
    compile_bundle(tiny_bundle, tmp_path / "art", ONE_BY_ONE)
    again = ["decode_32", "decode_64"]
    assert compiler.compiled() == ["prefill_8", "prefill_16", "decode_32", *again]


@pytest.mark.parametrize(
    ("behaviour", "kind", "told"),
    [
        ({"mode": "crash"}, CompilerError, "died of SIGSEGV; it crashed (segmentation fault)"),
        ({"mode": "kill"}, HostMemoryError, "killed for lack of host memory: it held 0."),
        ({"mode": "silent"}, CompilerError, "is not a file"),
        ({"mode": "garbage"}, CompilerError, "ended well, but"),
        ({"mode": "busy"}, CompilerError, "failed with exit code 1"),
        ({"mode": "error", "code": "NCC_EVRF007"}, CompilerError, "NCC_EVRF007: "),
        ({"mode": "error", "code": "NCC_EXYZ999"}, CompilerError, "[NCC_EXYZ999] refused as told"),
    ],
)
def test_failure_is_told_and_can_be_repeated(
    tiny_bundle: Path,
    compiler: CompilerDouble,
    tmp_path: Path,
    behaviour: dict[str, str],
    kind: type[NeuroncError],
    told: str,
) -> None:
    compiler.tell(program="prefill_16", **behaviour)
    error = refused(tiny_bundle, tmp_path / "art")
    assert type(error) is kind
    assert "program prefill_16" in error.message
    assert told in error.message
    repeat = shlex.split(error.hint.partition("to repeat: ")[2])
    assert repeat[0] == "cd"
    assert (Path(repeat[1]) / "prefill_16.hlo.pb").is_file()
    assert repeat[2] == "&&"
    compiler.behave()
    subprocess.run(repeat[3:], cwd=repeat[1], check=True, env={"PATH": compiler.path})


def test_out_of_memory_is_told_with_the_memory_it_held(
    tiny_bundle: Path, compiler: CompilerDouble, tmp_path: Path
) -> None:
    compiler.tell(mode="kill", program="prefill_8")
    error = refused(tiny_bundle, tmp_path / "art")
    assert error.exit_code == 8
    held_gib = float(error.message.partition("it held ")[2].split()[0])
    assert 0.05 < held_gib < 0.2  # the double fills 64 MiB; this process holds more than both
    assert "pass --jobs 1" in error.hint


def test_remedy_of_a_known_code_is_in_the_hint(
    tiny_bundle: Path, compiler: CompilerDouble, tmp_path: Path
) -> None:
    compiler.tell(mode="error", code="NCC_EVRF007", program="prefill_16")
    assert "--prefill-buckets" in refused(tiny_bundle, tmp_path / "art").hint


def test_hanging_compiler_is_stopped_with_all_it_started(
    tiny_bundle: Path, compiler: CompilerDouble, tmp_path: Path
) -> None:
    compiler.tell(mode="hang", program="prefill_8")
    error = refused(tiny_bundle, tmp_path / "art", CompileOptions(timeout_s=1.0))
    assert type(error) is DeadlineError
    assert error.exit_code == 9
    assert "--compile-timeout is 1 s" in error.message
    left = subprocess.run(["pgrep", "-f", str(compiler.folder)], capture_output=True, check=False)
    assert left.stdout == b""


def test_transient_failure_is_tried_once_more(
    tiny_bundle: Path, compiler: CompilerDouble, tmp_path: Path
) -> None:
    compiler.tell(mode="busy", program="decode_32", once=True)
    compile_bundle(tiny_bundle, tmp_path / "art", ONE_BY_ONE)
    assert record(tmp_path / "art", "decode_32")["attempts"] == 2
    assert record(tmp_path / "art", "decode_64")["attempts"] == 1


def test_lasting_trouble_is_tried_twice_only(
    tiny_bundle: Path, compiler: CompilerDouble, tmp_path: Path
) -> None:
    compiler.tell(mode="busy", program="prefill_8")
    refused(tiny_bundle, tmp_path / "art")
    assert compiler.compiled() == ["prefill_8", "prefill_8"]


def test_ambient_variables_do_not_reach_the_compiler(
    tiny_bundle: Path, compiler: CompilerDouble, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XLA_FLAGS", "--xla_force_host_platform_device_count=4")
    monkeypatch.setenv("NEURON_PLATFORM_TARGET_OVERRIDE", "trn2")
    compile_bundle(tiny_bundle, tmp_path / "art", ONE_BY_ONE)  # the double fails on any of these


def test_absent_compiler_is_exit_5_with_the_way_to_get_it(
    tiny_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ToolchainError, match="not on the PATH") as caught:
        compile_bundle(tiny_bundle, tmp_path / "art", ONE_BY_ONE)
    assert "pip install --extra-index-url" in caught.value.hint


def test_changed_bundle_and_finished_artifact_are_refused(
    tiny_bundle: Path, compiler: CompilerDouble, tmp_path: Path
) -> None:
    compile_bundle(tiny_bundle, tmp_path / "art", ONE_BY_ONE)
    with pytest.raises(InputError, match="compiled already"):
        compile_bundle(tmp_path / "art", tmp_path / "again", ONE_BY_ONE)
    changed = tmp_path / "changed"
    subprocess.run(["cp", "-r", str(tiny_bundle), str(changed)], check=True)
    hlo = changed / "programs/decode_32/neuron.hlo.pb"
    hlo.write_bytes(hlo.read_bytes() + b"\0")
    with pytest.raises(InputError, match=r"neuron\.hlo\.pb: expected"):
        compile_bundle(changed, tmp_path / "again", ONE_BY_ONE)


def test_weights_of_another_split_are_refused(
    tiny_bundle: Path, tiny_artifact: Path, compiler: CompilerDouble, tmp_path: Path
) -> None:
    weights = tiny_artifact / "weights"
    found = compile_bundle(tiny_bundle, tmp_path / "art", ONE_BY_ONE, weights=weights)
    check_files(tmp_path / "art", found.files)
    assert found.verification is None
    check_files(tiny_bundle, read_manifest(tiny_bundle).files)  # links did not write through
    (tmp_path / "other").mkdir()
    with pytest.raises(InputError, match="split"):
        compile_bundle(tiny_bundle, tmp_path / "no", ONE_BY_ONE, weights=tmp_path / "other")


def test_cpu_has_no_neuron_options(tiny_checkpoint: Path, tmp_path: Path) -> None:
    from neuronc.pipeline import build
    from neuronc.recipe import Recipe

    recipe = Recipe(checkpoint=str(tiny_checkpoint))
    with pytest.raises(UsageError, match="for Neuron targets"):
        build(recipe, tmp_path / "art", options=CompileOptions(lower_only=True))
