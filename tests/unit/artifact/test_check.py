"""Every question of `neuronc check`, asked of an artifact made by hand."""

import hashlib
import struct
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from neuronc.artifact.answer import Answer
from neuronc.artifact.check import check_artifact, failure
from neuronc.artifact.contents import digest_files
from neuronc.artifact.manifest import read_manifest, write_manifest
from neuronc.provenance.keys import new_key
from neuronc.provenance.names import BOM_FILE, ENVELOPE_FILE, PROVENANCE_FILE
from neuronc.provenance.signing import sign_artifact
from neuronc.provenance.write import write_documents
from neuronc.targets.host import describe_host
from neuronc.targets.neuron import doctor
from neuronc.targets.neuron.doctor import Check
from tests.unit.provenance.small import INPUTS, make_small

COMPILER = {"version": "2.27.5334.0+f702b353", "stand_in": False}


def make_cpu(folder: Path, **changes: Any) -> Path:
    """An artifact for this very machine."""
    make_small(folder)
    for name in ("programs/decode_8/cpu.exe", "weights/split.json"):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(name)
    redo(folder, **{"host": describe_host(), "verification": {"passed": True}, **changes})
    return folder


def redo(folder: Path, **changes: Any) -> None:
    manifest = replace(read_manifest(folder), files=digest_files(folder), **changes)
    write_manifest(manifest, folder)
    write_documents(folder, manifest, INPUTS)


def of(answers: tuple[Answer, ...], words: str) -> Answer:
    return next(answer for answer in answers if words in answer.question)


def test_all_is_well(tmp_path: Path) -> None:
    answers = check_artifact(make_cpu(tmp_path))
    assert failure(tmp_path, answers) is None
    assert not [answer for answer in answers if answer.warns or answer.fault]
    yes = ("every file", "nothing else", "provenance", "runs on this CPU", "verified")
    assert [of(answers, words).verdict for words in yes] == ["yes"] * 5
    assert of(answers, "needs relinking").verdict == "no"
    assert of(answers, "signed").verdict == "no"
    assert "neuronc verify compares" in of(answers, "what else").detail


def change_byte(folder: Path) -> None:
    (folder / "weights/rank-0.safetensors").write_text("weighty")


def lose_file(folder: Path) -> None:
    (folder / "weights/config.json").unlink()


def swap_statement(folder: Path) -> None:
    write_manifest(replace(read_manifest(folder), batch_size=1, dtype="f16"), folder)


def break_statement(folder: Path) -> None:
    (folder / PROVENANCE_FILE).write_text("{}")


def break_envelope(folder: Path) -> None:
    (folder / ENVELOPE_FILE).write_text("{}")


def swap_bom(folder: Path) -> None:
    (folder / BOM_FILE).write_text("{}")


@pytest.mark.parametrize(
    ("harm", "question", "told"),
    [
        (change_byte, "every file", "1 of 7 files are not"),
        (lose_file, "every file", "is missing"),
        (swap_statement, "provenance", "does not fit"),
        (break_statement, "provenance", "_type"),
        (swap_bom, "provenance", "bom.cdx.json: expected sha256"),
        (break_envelope, "signed", "is no DSSE envelope"),
    ],
)
def test_damage_is_exit_3(
    tmp_path: Path, harm: Callable[[Path], None], question: str, told: str
) -> None:
    harm(make_cpu(tmp_path))
    answers = check_artifact(tmp_path)
    answer, error = of(answers, question), failure(tmp_path, answers)
    assert (answer.verdict, answer.fault) == ("no", "damaged")
    assert told in answer.detail
    assert error is not None
    assert error.exit_code == 3
    assert error.hint


def test_every_changed_file_is_counted(tmp_path: Path) -> None:
    make_cpu(tmp_path)
    change_byte(tmp_path)
    lose_file(tmp_path)
    detail = of(check_artifact(tmp_path), "every file").detail
    assert "2 of 7 files" in detail
    assert "(and 1 more)" in detail


def test_unlisted_files_and_missing_provenance_are_warnings(tmp_path: Path) -> None:
    make_cpu(tmp_path)
    (tmp_path / "weights" / "more.json").write_text("{}")
    (tmp_path / PROVENANCE_FILE).unlink()
    answers = check_artifact(tmp_path)
    assert failure(tmp_path, answers) is None
    assert [a.question for a in answers if a.warns] == [
        "nothing else lies in it",
        "provenance is complete and fits",
    ]


def test_unknown_inputs_are_incomplete(tmp_path: Path) -> None:
    write_documents(tmp_path, read_manifest(make_cpu(tmp_path)), ())
    answer = of(check_artifact(tmp_path), "provenance")
    assert (answer.verdict, answer.fault, answer.warns) == ("no", "", True)
    assert "does not say which checkpoint" in answer.detail


@pytest.mark.parametrize(
    ("host", "told"),
    [
        ({"jaxlib": "0.1"}, "jaxlib: compiled for 0.1"),
        ({"machine": "riscv64"}, "machine: compiled for riscv64"),
        ({"isa": ["avx1024"]}, "this CPU lacks avx1024"),
        ({"machine": None}, "machine: compiled for None"),
    ],
)
def test_another_machine_is_exit_5_and_relinking(
    tmp_path: Path, host: dict[str, Any], told: str
) -> None:
    answers = check_artifact(make_cpu(tmp_path, host={**describe_host(), **host}))
    answer, error = of(answers, "runs on this CPU"), failure(tmp_path, answers)
    assert told in answer.detail
    assert of(answers, "needs relinking").verdict == "yes"
    assert error is not None
    assert error.exit_code == 5
    assert "--relink" in error.hint


def test_a_host_that_says_nothing_of_the_machine_ends_in_no_traceback(tmp_path: Path) -> None:
    answers = check_artifact(make_cpu(tmp_path, host={"isa": [], "jaxlib": "0"}))
    assert "does not say for which machine" in of(answers, "runs on this CPU").detail


def test_damage_comes_before_another_machine(tmp_path: Path) -> None:
    make_cpu(tmp_path, host={**describe_host(), "jaxlib": "0.1"})
    change_byte(tmp_path)
    error = failure(tmp_path, check_artifact(tmp_path))
    assert error is not None
    assert error.exit_code == 3


def test_unverified_and_failed_and_odd_records_are_warnings(tmp_path: Path) -> None:
    make_cpu(tmp_path)
    records: list[Any] = [None, {"passed": False}, {}, {"passed": "yes", "target": ["x"]}]
    for record in records:
        redo(tmp_path, verification=record)
        answer = of(check_artifact(tmp_path), "verified against")
        assert (answer.verdict, answer.warns) == ("no", True)


def test_signature_with_and_without_a_key_to_compare(tmp_path: Path) -> None:
    folder = make_cpu(tmp_path / "artifact")
    public, key_id = new_key(tmp_path / "k")
    other, _ = new_key(tmp_path / "other")
    missing = of(check_artifact(folder, public_key=public), "signed")
    assert (missing.verdict, missing.fault) == ("no", "damaged")
    sign_artifact(folder, tmp_path / "k")
    told = of(check_artifact(folder), "signed")
    assert (told.verdict, told.fault) == ("not checked", "")
    assert key_id[:16] in told.detail
    assert of(check_artifact(folder, public_key=public), "signed").verdict == "yes"
    wrong = of(check_artifact(folder, public_key=other), "signed")
    assert (wrong.verdict, wrong.fault) == ("no", "damaged")


def test_a_changed_file_under_a_good_signature_is_not_called_signed(tmp_path: Path) -> None:
    folder = make_cpu(tmp_path / "artifact")
    public, _ = new_key(tmp_path / "k")
    sign_artifact(folder, tmp_path / "k")
    change_byte(folder)
    assert of(check_artifact(folder, public_key=public), "signed").verdict == "no"


def make_neff(path: Path, archive: bytes = b"archive") -> None:
    values = (2, 1024, len(archive), 2, 0, b"", 1, hashlib.sha256(archive).digest(), b"", b"")
    head = struct.pack("<QQQQQ128sI32s16s256sI64sQI468s", *values, 0, b"", 0, 1, b"")
    path.write_bytes(head + archive)


@pytest.fixture
def neuron(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An inf2 artifact, and runtime and two cores to run it on."""
    make_cpu(tmp_path)
    for name in ("prefill_8", "decode_8"):
        make_neff(tmp_path / "programs" / name / "program.neff")
    from neuronc.targets.neuron.compiler.command import compiler_args

    flags = compiler_args("inf2", 1, (), allow_env_flags=False)
    told = {"lnc": 1, "args": {p: list(a) for p, a in flags.by_phase.items()}}
    redo(tmp_path, target="inf2", neuron={**told, "compiler": COMPILER})
    well = tuple(Check(name=name, ok=True, found="x") for name in ("nrtpy", "libnrt"))
    monkeypatch.setattr(doctor, "check_runtime", lambda: well)
    monkeypatch.setattr(doctor, "num_cores", lambda: 2)
    return tmp_path


def test_neuron_artifact(neuron: Path) -> None:
    answers = check_artifact(neuron)
    assert failure(neuron, answers) is None
    assert of(answers, "runs on inf2").verdict == "yes"
    assert of(answers, "needs compiling").verdict == "no"
    runtime = of(answers, "which Neuron runtime")
    assert runtime.verdict == "unknown"
    assert "NEFF 2.0" in runtime.detail
    assert "SDK 2.32 and runtime 2.34.10" in runtime.detail
    assert "AWS documents no least runtime" in runtime.detail


def test_a_compiler_that_is_not_known(neuron: Path) -> None:
    told = dict(read_manifest(neuron).neuron or {})
    redo(neuron, neuron={**told, "compiler": {"version": "9.9", "stand_in": False}})
    assert "an SDK that is not known here" in of(check_artifact(neuron), "which Neuron").detail


def test_a_double_s_neffs_need_compiling(neuron: Path) -> None:
    told = dict(read_manifest(neuron).neuron or {})
    redo(neuron, neuron={**told, "compiler": {"version": "2.27+double", "stand_in": True}})
    answer = of(check_artifact(neuron), "needs compiling")
    assert (answer.verdict, answer.warns) == ("yes", True)


def test_without_device_it_is_exit_5_and_the_cpu_still_does(
    neuron: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lacking = (Check(name="nrtpy", ok=False, found="not installed", hint="pip install nrtpy"),)
    monkeypatch.setattr(doctor, "check_runtime", lambda: lacking)
    answers = check_artifact(neuron)
    error = failure(neuron, answers)
    assert error is not None
    assert error.exit_code == 5
    assert "nrtpy: not installed" in error.message
    assert "--on cpu" in error.hint
    assert failure(neuron, check_artifact(neuron, on="cpu")) is None


def test_too_few_cores(neuron: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "num_cores", lambda: 0)
    answer = of(check_artifact(neuron), "runs on")
    assert (answer.verdict, answer.fault) == ("no", "cannot load")
    monkeypatch.setattr(doctor, "num_cores", lambda: None)
    assert "does not say how many cores" in of(check_artifact(neuron), "runs on").detail


def test_a_bundle_needs_compiling(neuron: Path) -> None:
    for path in neuron.rglob("program.neff"):
        path.unlink()
    redo(neuron, neuron={**(read_manifest(neuron).neuron or {}), "compiler": None})
    answers = check_artifact(neuron)
    error = failure(neuron, answers)
    assert of(answers, "needs compiling").verdict == "yes"
    assert error is not None
    assert error.exit_code == 5


def test_a_neff_that_is_none_is_damage(neuron: Path) -> None:
    (neuron / "programs" / "decode_8" / "program.neff").write_bytes(b"no NEFF")
    redo(neuron)
    answer = of(check_artifact(neuron), "which Neuron runtime")
    assert (answer.verdict, answer.fault) == ("no", "damaged")


def test_nothing_is_opened_but_to_be_hashed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An executable is unpickled by XLA when it is loaded; checking must not come near it."""
    import pickle

    def refuse(*_args: object) -> None:
        message = "unpickled"
        raise AssertionError(message)

    for name in ("load", "loads", "Unpickler"):
        monkeypatch.setattr(pickle, name, refuse)
    assert failure(tmp_path, check_artifact(make_cpu(tmp_path))) is None
