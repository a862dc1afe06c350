"""Prefill by blocks of keys: the numbers it had, from the filled part of the cache alone."""

import re
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from neuronc.lower import make_program
from neuronc.targets import cpu_attention
from neuronc.targets.cpu_attention import attend_to_filled, block_size
from neuronc.targets.cpu_last_row import keep_last_row
from neuronc.targets.cpu_rewrites import rewrite_for_cpu
from neuronc.trace.program_spec import ProgramSignature
from tests.tiny_families import TINY_FAMILIES
from tests.unit.targets.family_programs import BUCKET, LENGTH, inputs, lowered
from tests.unit.targets.linear_programs import compiled

BLOCK = 16
SOME = ("llama", "gemma2")
WITHOUT = {"gpt_oss": "its attention has sinks"}


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cpu_attention, "_BLOCKS", (8, BLOCK, BLOCK))


def product_sizes(text: str) -> int:
    """Elements of the results of all products."""
    products = re.findall(r"stablehlo\.dot(?:_general)?\"?[ (].*-> tensor<([0-9x]+)xf32>", text)
    return sum(prod(int(size) for size in shape.split("x")) for shape in products)


def outputs(program: Any, given: dict[str, Any]) -> list[Any]:
    """Logits, and what the caches hold of slot 1 afterwards as far as it is filled."""
    logits, *caches = (np.asarray(value).astype(np.float32) for value in program(*given.values()))
    filled = int(given["start"][0] + given["length"][0])
    return [logits, *(cache[1, :filled] for cache in caches if cache.ndim == 4)]


@pytest.mark.filterwarnings("ignore::FutureWarning")  # of torch about itself
@pytest.mark.parametrize(
    "variant",
    [
        pytest.param(variant, marks=() if variant in SOME else pytest.mark.slow)
        for variant in TINY_FAMILIES
    ],
)
def test_every_family_has_the_numbers_that_it_had(variant: str) -> None:
    """Also where the last layer is made for the last token only, as it is in an artifact."""
    text, signature = lowered(variant)
    one_row = keep_last_row(text, signature)
    assert product_sizes(one_row) < 0.75 * product_sizes(text), "one of two layers, but its keys"
    by_blocks = attend_to_filled(one_row, signature)
    if variant in WITHOUT:
        assert by_blocks == one_row
    else:
        assert by_blocks.count("stablehlo.while") == 2, "both layers"
    before, after = compiled(text, signature), compiled(by_blocks, signature)
    for start in (0, 13, 40, LENGTH - BUCKET):
        for length in (3, BUCKET):
            given = inputs(signature, slot=1, start=start, length=length)
            for found, expected in zip(outputs(after, given), outputs(before, given), strict=True):
                np.testing.assert_allclose(
                    found, expected, rtol=0, atol=1e-5 * np.abs(expected).max()
                )


def test_blocks_behind_the_last_key_are_not_looked_at() -> None:
    text, signature = lowered("llama")
    given = inputs(signature, slot=1, start=13, length=BUCKET)
    expected = outputs(compiled(text, signature), given)
    for name in ("keys.0", "values.0", "keys.1", "values.1"):
        given[name][1, 2 * BLOCK :] = np.nan
    assert np.isnan(outputs(compiled(text, signature), given)[0]).any()
    found = outputs(compiled(attend_to_filled(text, signature), signature), given)
    np.testing.assert_allclose(found[0], expected[0], atol=1e-5)
    given["values.0"][1, 2 * BLOCK - 1] = np.nan  # behind the last key, but in its block
    assert np.isnan(outputs(compiled(attend_to_filled(text, signature), signature), given)[0]).any()


@pytest.mark.parametrize("dtype", ["bf16", pytest.param("f16", marks=pytest.mark.slow)])
def test_half_precision_is_as_near_to_f32_as_before(dtype: str) -> None:
    text, signature = lowered("llama", dtype=dtype)
    exact = compiled(*lowered("llama"))
    starts = (0, 5, 13, 22, 31, 40, 49, LENGTH - BUCKET)

    def error(program: str) -> float:
        rounded, squares = compiled(rewrite_for_cpu(program, signature), signature), []
        for start in starts:
            given = inputs(signature, slot=1, start=start, length=BUCKET)
            wide = {n: v if v.dtype == np.int32 else v.astype(np.float32) for n, v in given.items()}
            squares.append((outputs(rounded, given)[0] - outputs(exact, wide)[0]) ** 2)
        return float(np.sqrt(np.mean(squares)))

    assert 0 < error(attend_to_filled(text, signature)) <= 1.25 * error(text)


def test_a_decode_step_and_a_cache_without_equal_blocks_stay(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    text, signature = lowered("llama", "decode")
    assert attend_to_filled(text, signature) == text
    text, signature = lowered("llama")
    monkeypatch.setattr(cpu_attention, "_BLOCKS", (LENGTH, LENGTH, LENGTH))
    assert attend_to_filled(text, signature) == text


def test_a_softmax_over_anything_but_a_cache_stays() -> None:
    """Experts that are picked by a softmax, as many as the cache has positions."""
    text, signature = lowered("llama")
    caches = tuple(t for t in signature.inputs if t.kind == "cache")
    renamed = tuple(
        tensor
        if tensor not in caches
        else type(tensor)(name=tensor.name, kind="weight", shape=tensor.shape, dtype=tensor.dtype)
        for tensor in signature.inputs
    )
    other = ProgramSignature(inputs=renamed, outputs=signature.outputs, aliases={})
    assert attend_to_filled(text, other) == text


@pytest.mark.parametrize(
    ("length", "size"),
    [
        (64, 64), (96, 96), (128, 128), (192, 64), (256, 128), (1000, 1000), (1024, 128),
        (2048, 256), (4096, 512), (131_072, 512),
    ],
)  # fmt: skip
def test_blocks_are_equal_parts_of_the_cache(
    length: int, size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.undo()
    assert block_size(length) == size


@pytest.mark.parametrize(("target", "as_written"), [("cpu", False), ("inf2", True)])
def test_what_proves_a_neuron_program_looks_at_every_key(
    target: str, as_written: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found: list[bool] = []

    def compile_cpu(*_: Any, tp: int, as_written: bool) -> tuple[bytes, tuple[()]]:
        found.append(as_written)
        return b"", ()

    monkeypatch.setattr("neuronc.targets.cpu.compile_cpu", compile_cpu)
    monkeypatch.setattr(make_program, "_as_it_will_run", lambda *_: "")
    (tmp_path / "signature.json").write_text('{"inputs": [], "outputs": [], "aliases": {}}')
    make_program._make_executable({"target": target, "tp": 1}, tmp_path, lambda _: None)
    assert found == [as_written]
