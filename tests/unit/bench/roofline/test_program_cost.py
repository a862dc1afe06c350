from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from neuronc.artifact.manifest import Manifest, ProgramEntry, read_manifest
from neuronc.bench.roofline.program_cost import (
    ProgramCost,
    costs_by_class,
    count_cost,
    read_program_cost,
)
from neuronc.dtypes import DTYPES, numpy_dtype
from neuronc.errors import InputError
from neuronc.lower.program_files import STABLEHLO
from neuronc.lower.stablehlo_to_hlo import as_jax_function
from neuronc.targets.cpu import make_mesh, sharding
from neuronc.trace.program_spec import Phase, ProgramSignature, TensorSpec

# The tiny llama over 2 ranks: hidden 36, 2 layers, vocabulary 128, 2 slots of 64 tokens. A rank
# has 6 of 9 (padded) query heads of 8, 2 of 3 (padded) KV heads, 48 of 96 inner features.
H, L, V, D, Q, KV, I = 36, 2, 64, 8, 6, 2, 48
LINEAR = L * (H * Q * D + 2 * H * KV * D + Q * D * H + 3 * H * I)  # weights of one rank's layers


@pytest.fixture(scope="module")
def manifest(tiny_artifact: Path) -> Manifest:
    return read_manifest(tiny_artifact)


@pytest.fixture(scope="module")
def costs(tiny_artifact: Path, manifest: Manifest) -> dict[str, ProgramCost]:
    return costs_by_class(tiny_artifact, manifest.programs, max_length=manifest.max_length)


def test_every_program_has_a_step_class(costs: dict[str, ProgramCost]) -> None:
    assert list(costs) == ["prefill/8", "prefill/16", "decode/32", "decode/64"]


@pytest.mark.parametrize("bucket", [32, 64])
def test_decode_is_the_closed_formula(costs: dict[str, ProgramCost], bucket: int) -> None:
    """harness.md 5: F = 2 B (L W + V H) + 4 L B ctx nh hd; KV = 2 L B ctx hd nkv b."""
    cost, batch = costs[f"decode/{bucket}"], 2
    assert cost.token_flops == 2 * batch * (LINEAR + V * H)
    assert cost.last_flops == 0
    assert cost.attention_flops == 4 * L * batch * bucket * Q * D
    assert cost.flops == cost.token_flops + cost.attention_flops
    assert cost.cache_read_bytes == 2 * L * batch * bucket * KV * D * 4
    assert cost.cache_written_bytes == 2 * L * batch * KV * D * 4
    assert cost.token_io_bytes == batch * 2 * 4 + batch * 128 * 4
    assert (cost.rows, cost.tokens_per_row, cost.keys_per_token) == (2, 1, bucket)


@pytest.mark.parametrize("bucket", [8, 16])
def test_prefill_is_the_closed_formula(costs: dict[str, ProgramCost], bucket: int) -> None:
    """F = 2 S L W + 2 V H (the last token's logits) + 4 L S length nh hd, unmasked."""
    cost = costs[f"prefill/{bucket}"]
    assert cost.token_flops == 2 * bucket * LINEAR
    assert cost.last_flops == 2 * V * H
    assert cost.attention_flops == 4 * L * bucket * 64 * Q * D
    assert cost.cache_read_bytes == 2 * L * 64 * KV * D * 4  # one slot of two
    assert cost.cache_written_bytes == 2 * L * bucket * KV * D * 4
    assert (cost.rows, cost.tokens_per_row, cost.keys_per_token) == (1, bucket, 64)


def test_every_weight_is_read_once(costs: dict[str, ProgramCost], manifest: Manifest) -> None:
    """The embedding too: it is the head as well here, so looking rows up costs nothing more."""
    weights = [t for t in manifest.programs[0].signature.inputs if t.kind == "weight"]
    total = 4 * sum(int(np.prod(t.shape)) for t in weights)
    assert total == 4 * (LINEAR + V * H + (2 * L + 1) * H)
    for cost in costs.values():
        assert (cost.weight_bytes, cost.picked_bytes) == (total, 0)
        assert cost.bytes == total + (
            cost.cache_read_bytes + cost.cache_written_bytes + cost.token_io_bytes
        )


def test_xla_counts_about_the_same(tiny_artifact: Path, manifest: Manifest) -> None:
    """XLA adds the arithmetic beside products, and the traffic between operators.

    It counts products the same way, so its FLOPs are more, here by a tenth; its bytes are each
    operator's operands and results, which for so small a model are several times the floor.
    """
    for entry in manifest.programs:
        cost = read_program_cost(tiny_artifact, entry, max_length=manifest.max_length)
        found = _xla_analysis(tiny_artifact, entry)
        assert cost.flops <= found["flops"] <= 1.25 * cost.flops
        assert cost.bytes <= found["bytes accessed"] <= 10 * cost.bytes


def _xla_analysis(folder: Path, entry: ProgramEntry) -> dict[str, float]:
    """XLA's own figures for one rank of the program, compiled for two."""
    text = (folder / "programs" / entry.name / STABLEHLO).read_text(encoding="utf-8")
    mesh = make_mesh(2)
    placed = [sharding(mesh, t) for t in entry.signature.inputs]
    shapes = [
        jax.ShapeDtypeStruct(
            t.shape if t.kind == "data" else (2 * t.shape[0], *t.shape[1:]),
            numpy_dtype(DTYPES[t.dtype]),
            sharding=place,
        )
        for t, place in zip(entry.signature.inputs, placed, strict=True)
    ]
    function = jax.shard_map(
        as_jax_function(text, entry.signature),
        mesh=mesh,
        in_specs=tuple(place.spec for place in placed),
        out_specs=tuple(sharding(mesh, t).spec for t in entry.signature.outputs),
        check_vma=False,
    )
    found: Any = jax.jit(function, keep_unused=True).lower(*shapes).compile().cost_analysis()
    return dict(found)


def test_a_file_that_is_no_hlo_is_named(tmp_path: Path, manifest: Manifest) -> None:
    entry = manifest.programs[0]
    with pytest.raises(InputError, match=r"prefill_8.*program\.hlo\.pb"):
        read_program_cost(tmp_path, entry, max_length=64)
    folder = tmp_path / "programs" / entry.name
    folder.mkdir(parents=True)
    (folder / "program.hlo.pb").write_bytes(b"no proto")
    with pytest.raises(InputError, match="not a serialized HLO module"):
        read_program_cost(tmp_path, entry, max_length=64)


def _count(function: Any, *inputs: tuple[str, str, tuple[int, ...], str]) -> ProgramCost:
    """Cost of ``function`` as a decode program; inputs are (kind, name, shape, dtype)."""
    specs = tuple(
        TensorSpec(kind=kind, name=name, shape=shape, dtype=dtype)  # type: ignore[arg-type]
        for kind, name, shape, dtype in (*inputs, TOKENS)
    )
    shapes = [jax.ShapeDtypeStruct(t.shape, numpy_dtype(DTYPES[t.dtype])) for t in specs]
    lowered = jax.jit(function, keep_unused=True).lower(*shapes)
    computation: Any = lowered.compiler_ir("hlo")
    phase: Phase = "decode"
    signature = ProgramSignature(inputs=specs, outputs=(), aliases={})
    entry = ProgramEntry(name="x", phase=phase, bucket=8, signature=signature)
    return count_cost(computation.as_serialized_hlo_module_proto(), entry, max_length=8)


TOKENS = ("data", "token_ids", (4,), "i32")


def test_of_a_weight_that_is_looked_up_only_rows_count() -> None:
    cost = _count(lambda table, ids: table[ids].sum(), ("weight", "table", (100, 6), "f32"))
    assert (cost.weight_bytes, cost.picked_bytes) == (0, 4 * 6 * 4)


def test_rows_that_two_readers_share_count_once() -> None:
    def twice(table: Any, ids: Any) -> Any:
        rows = table[ids]
        return rows.sum(), jnp.sin(rows)

    assert _count(twice, ("weight", "table", (100, 6), "f32")).picked_bytes == 4 * 6 * 4


def test_many_lookups_never_read_more_than_the_weight() -> None:
    cost = _count(
        lambda table, ids: [jnp.sin(table[ids + k]) for k in range(9)],
        ("weight", "table", (5, 6), "f32"),
    )
    assert cost.weight_bytes + cost.picked_bytes == 5 * 6 * 4


def test_a_slice_of_a_cache_is_all_that_is_read_of_it() -> None:
    cost = _count(
        lambda cache, ids: cache.at[0, ids].set(1.0)[:, :8].sum(),
        ("cache", "keys.0", (2, 50, 3), "f32"),
    )
    assert cost.cache_read_bytes == 2 * 8 * 3 * 4
    assert cost.cache_written_bytes == 4 * 3 * 4


def test_an_update_of_a_cache_writes_what_is_new() -> None:
    def update(cache: Any, ids: Any) -> Any:
        new = jax.lax.dynamic_update_slice(cache, jnp.ones((2, 1, 3)), (0, ids[0], 0))
        return new[:, :8].sum()

    cost = _count(update, ("cache", "keys.0", (2, 50, 3), "f32"))
    assert (cost.cache_read_bytes, cost.cache_written_bytes) == (2 * 8 * 3 * 4, 2 * 3 * 4)


def test_a_weight_that_is_an_index_is_read_whole() -> None:
    def look_up(places: Any, cache: Any, ids: Any) -> Any:
        found = cache.at[places].get(mode="promise_in_bounds", wrap_negative_indices=False)
        return found + ids.sum()

    cost = _count(look_up, ("weight", "w", (3,), "i32"), ("cache", "keys.0", (50, 7), "f32"))
    assert (cost.weight_bytes, cost.picked_bytes) == (3 * 4, 0)
    assert cost.cache_read_bytes == 3 * 7 * 4


def test_a_quantised_weight_counts_as_it_is_stored() -> None:
    cost = _count(
        lambda w, scale, ids: (w.astype(jnp.float32) * scale) @ ids.astype(jnp.float32),
        ("weight", "w", (10, 4), "i8"),
        ("weight", "scale", (10, 1), "f32"),
    )
    assert cost.weight_bytes == 10 * 4 + 10 * 4
    assert (cost.token_flops + cost.last_flops, cost.attention_flops) == (2 * 10 * 4, 0)


def test_a_product_without_weights_is_attention() -> None:
    def scores(cache: Any, ids: Any) -> Any:
        return (ids[:, None] * jnp.ones(3)) @ cache.reshape(32, 3).T

    cost = _count(scores, ("cache", "keys.0", (4, 8, 3), "f32"))
    assert (cost.token_flops, cost.last_flops) == (0, 0)
    assert cost.attention_flops == 2 * 4 * 3 * 32


def test_picked_experts_go_with_the_tokens() -> None:
    """Each of 4 tokens has an expert of its own: 4 rows of batch, one row each."""
    cost = _count(
        lambda w, x, ids: jnp.einsum("th,tfh->tf", x, w[ids % 9]),
        ("weight", "experts", (9, 5, 6), "f32"),
        ("cache", "x", (4, 6), "f32"),
    )
    assert cost.token_flops == 2 * 4 * 5 * 6
    assert (cost.weight_bytes, cost.picked_bytes) == (0, 4 * 5 * 6 * 4)


def test_rows_of_the_embedding_are_tokens_in_the_first_product() -> None:
    def first(table: Any, w: Any, ids: Any) -> Any:
        return table[ids] @ w.T

    weights = (("weight", "table", (100, 6), "f32"), ("weight", "w", (5, 6), "f32"))
    cost = _count(first, *weights)
    assert (cost.token_flops, cost.last_flops) == (2 * 4 * 5 * 6, 0)


def test_a_loop_counts_as_often_as_it_runs() -> None:
    def loop(w: Any, ids: Any) -> Any:
        x = ids.astype(jnp.float32)
        return jax.lax.while_loop(lambda s: s[0] < 9, lambda s: (s[0] + 1, w @ s[1]), (2, x))

    cost = _count(loop, ("weight", "w", (4, 4), "f32"))
    assert (cost.flops, cost.unknown_loops) == (7 * 2 * 4 * 4, 0)


def test_a_loop_that_does_not_tell_counts_once_and_is_said() -> None:
    def loop(w: Any, ids: Any) -> Any:
        x = ids.astype(jnp.float32)
        return jax.lax.while_loop(lambda x: x.sum() < 5, lambda x: w @ x, x)

    cost = _count(loop, ("weight", "w", (4, 4), "f32"))
    assert (cost.flops, cost.unknown_loops) == (2 * 4 * 4, 1)


def test_a_loop_in_strides_counts_once_and_is_said() -> None:
    def loop(w: Any, ids: Any) -> Any:
        x = ids.astype(jnp.float32)
        return jax.lax.while_loop(lambda s: s[0] < 8, lambda s: (s[0] + 2, w @ s[1]), (0, x))

    cost = _count(loop, ("weight", "w", (4, 4), "f32"))
    assert (cost.flops, cost.unknown_loops) == (2 * 4 * 4, 1)


def test_of_two_branches_the_larger_counts() -> None:
    def branch(w: Any, ids: Any) -> Any:
        x = ids.astype(jnp.float32)
        return jax.lax.cond(ids[0] > 0, lambda: w @ (w @ x), lambda: w @ x)

    assert _count(branch, ("weight", "w", (4, 4), "f32")).flops == 2 * 2 * 4 * 4
