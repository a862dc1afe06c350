"""A NEFF is compared with the program it should be."""

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest

from neuronc.errors import InputError
from neuronc.targets.neuron.neff.check import check_neff
from neuronc.trace.program_spec import ProgramSignature, TensorSpec
from tests.unit.targets.neuron.neff.test_reader import neff

CACHE = TensorSpec(name="keys.0", kind="cache", shape=(2, 4), dtype="bf16")
TOKENS = TensorSpec(name="token_ids", kind="data", shape=(2,), dtype="i32")
LOGITS = TensorSpec(name="logits", kind="data", shape=(2, 8), dtype="f32")
SIGNATURE = ProgramSignature(inputs=(CACHE, TOKENS), outputs=(LOGITS, CACHE), aliases={1: 0})
VARIABLES: dict[str, dict[str, Any]] = {
    "keys.0.must_alias_input": {"type": "input", "size": 16},
    "token_ids": {"type": "input", "size": 8},
    "logits": {"type": "output", "size": 64},
    "keys.0": {"type": "output", "size": 16},
    "scratch": {"type": "virtual", "size": 999},
}


def write(path: Path, definition: Any) -> Path:
    text = definition if isinstance(definition, bytes) else json.dumps(definition).encode()
    path.write_bytes(neff({"neff.json": b"{}", "sg00/def.json": text}))
    return path


def test_names_and_sizes_that_fit_are_said_to_be_checked(tmp_path: Path) -> None:
    path = write(tmp_path / "x.neff", {"var": VARIABLES})
    assert check_neff(path, SIGNATURE, lnc=1) == ("header", "archive", "names and sizes")


def test_sizes_that_are_not_there_are_not_said_to_be_checked(tmp_path: Path) -> None:
    for name in ("token_ids", "logits"):
        bare = {**VARIABLES, name: {"type": VARIABLES[name]["type"]}}
        path = write(tmp_path / "x.neff", {"var": bare})
        assert check_neff(path, SIGNATURE, lnc=1) == ("header", "archive", "names")


@pytest.mark.parametrize("kind", ["input", "output"])
def test_tensor_that_the_program_has_not_is_named(tmp_path: Path, kind: str) -> None:
    more = {**VARIABLES, "odd": {"type": kind, "size": 4}}
    path = write(tmp_path / "x.neff", {"var": more})
    with pytest.raises(InputError, match=f"has {kind} 'odd', which the program has not"):
        check_neff(path, SIGNATURE, lnc=1)


@pytest.mark.parametrize(
    ("digest", "compared"),
    [
        (lambda data: hashlib.sha256(data).digest(), True),
        (lambda data: hashlib.md5(data).digest() + bytes(16), True),
        (lambda data: hashlib.md5(data).digest() + bytes(15) + b"x", False),
        (lambda data: hashlib.sha256(data + b"x").digest(), False),
        (lambda _: bytes(32), False),
    ],
)
def test_hash_counts_as_compared_only_if_it_is_one_of_the_archive(
    tmp_path: Path, digest: Any, compared: bool
) -> None:
    path = write(tmp_path / "x.neff", {"var": VARIABLES})
    raw = path.read_bytes()
    path.write_bytes(raw[:172] + digest(raw[1024:]) + raw[204:])
    assert ("hash" in check_neff(path, SIGNATURE, lnc=1)) == compared


def test_archive_that_lists_no_outputs_is_not_said_to_be_checked_for_them(tmp_path: Path) -> None:
    path = write(tmp_path / "x.neff", {"var": {"scratch": VARIABLES["scratch"]}})
    assert check_neff(path, SIGNATURE, lnc=1) == ("header", "archive")


@pytest.mark.parametrize("name", [n for n in VARIABLES if n != "scratch"])
def test_missing_tensor_is_named(tmp_path: Path, name: str) -> None:
    left = {n: v for n, v in VARIABLES.items() if n != name}
    path = write(tmp_path / "x.neff", {"var": left})
    with pytest.raises(InputError, match=f"has no (input|output) '{name}'"):
        check_neff(path, SIGNATURE, lnc=1)


@pytest.mark.parametrize("name", [n for n in VARIABLES if n != "scratch"])
def test_tensor_of_another_size_is_named(tmp_path: Path, name: str) -> None:
    path = write(tmp_path / "x.neff", {"var": {**VARIABLES, name: {**VARIABLES[name], "size": 3}}})
    with pytest.raises(InputError, match=rf"'{name}' of 3 bytes; expected \d+"):
        check_neff(path, SIGNATURE, lnc=1)


def test_another_logical_core_size_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "x.neff", {"var": VARIABLES})
    with pytest.raises(InputError, match="logical cores of size 1; expected 2"):
        check_neff(path, SIGNATURE, lnc=2)


@pytest.mark.parametrize(
    "definition", [b"{", b"[]", b'{"var": 1}', b'{"var": {"x": 1}}', b"{}", b"[" * 100_000]
)
def test_definition_that_is_none_is_refused(tmp_path: Path, definition: bytes) -> None:
    path = write(tmp_path / "x.neff", definition)
    with pytest.raises(InputError, match="without a table of variables"):
        check_neff(path, SIGNATURE, lnc=1)
