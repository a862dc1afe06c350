"""Rank files with quantised weights: what is in them, and that every tp degree has the same."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors import safe_open

from neuronc.checkpoint.checkpoint import open_checkpoint
from neuronc.checkpoint.safetensors_reader import SafetensorsReader, read_safetensors_header
from neuronc.dtypes import DTYPES
from neuronc.errors import InputError, PlanError, UsageError
from neuronc.parallel.layouts.names import Layout
from neuronc.parallel.plan import plan_parallelism
from neuronc.parallel.shards import join_shards
from neuronc.parallel.split_manifest import SplitManifest, read_split_manifest
from neuronc.parallel.split_options import SplitOptions
from neuronc.parallel.split_tensors import split_checkpoint
from neuronc.parallel.stored import scale_name, scale_rule
from tests.tiny_models import make_checkpoint
from tests.unit.parallel.decoder_shapes import decoder_shapes, make_config

Q, DOWN = "model.layers.0.self_attn.q_proj.weight", "model.layers.0.mlp.down_proj.weight"


def split(source: Path, out: Path, *, tp: int, quantize: str = "int8", **options: Any) -> Any:
    out.mkdir()
    checkpoint = open_checkpoint(str(source))
    options = {"dtype": "auto", **options}
    return split_checkpoint(checkpoint, out, tp=tp, quantize=quantize, **options)


def ranks(folder: Path, tp: int) -> list[SafetensorsReader]:
    paths = [folder / f"rank-{rank}.safetensors" for rank in range(tp)]
    return [SafetensorsReader(folder=folder, stored=read_safetensors_header(p)) for p in paths]


@pytest.mark.parametrize("quantize", ["int8", "fp8_e4m3"])
def test_ranks_hold_the_same_weights_at_every_tp_degree(
    tiny_llama: Path, tmp_path: Path, quantize: str
) -> None:
    found: list[SplitManifest] = [
        split(tiny_llama, tmp_path / str(tp), tp=tp, quantize=quantize) for tp in (1, 2, 4)
    ]
    digests = [{n: (t.digest, t.scale_digest) for n, t in m.tensors.items()} for m in found]
    assert digests[0] == digests[1] == digests[2]
    readers = ranks(tmp_path / "4", 4)
    whole = ranks(tmp_path / "1", 1)[0]
    for name in (Q, DOWN):
        rule = found[2].tensors[name].rule
        for rule_of in (rule, scale_rule(rule)):
            joined = join_shards([r.read(rule_of.name) for r in readers], rule_of)
            assert joined.tobytes() == whole.read(rule_of.name).tobytes()


def test_scales_go_with_the_channels_of_a_column_and_are_whole_for_a_row(
    tiny_llama: Path, tmp_path: Path
) -> None:
    split(tiny_llama, tmp_path / "out", tp=2)
    with safe_open(tmp_path / "out/rank-1.safetensors", "np") as rank:
        found = {n: rank.get_slice(n) for n in rank.keys()}  # noqa: SIM118 (it is no dict)
        shapes = {n: (s.get_dtype(), s.get_shape()) for n, s in found.items()}
    assert shapes[Q] == ("I8", [48, 36])
    assert shapes[scale_name(Q)] == ("F32", [48])
    assert shapes[DOWN] == ("I8", [36, 48])
    assert shapes[scale_name(DOWN)] == ("F32", [36])
    assert shapes["model.embed_tokens.weight"] == ("F32", [64, 36])
    assert shapes["model.norm.weight"] == ("F32", [36])


def test_padded_channels_are_zero_with_scale_1(tiny_llama: Path, tmp_path: Path) -> None:
    manifest = split(tiny_llama, tmp_path / "out", tp=2)  # 9 heads: rank 1 has an empty one
    rule = manifest.tensors[Q].rule
    padding = [(rank, p) for rank, ps in enumerate(rule.ranks) for p in ps if p.start is None]
    assert padding
    for rank, reader in enumerate(ranks(tmp_path / "out", 2)):
        offset = 0
        for piece in rule.ranks[rank]:
            place = slice(offset, offset + piece.length)
            is_padding = piece.start is None
            assert bool(reader.read(Q)[place].any()) is not is_padding
            assert bool((reader.read(scale_name(Q))[place] == 1).all()) is is_padding
            offset += piece.length


def test_weights_of_in_and_out_dims_have_their_channels_in_the_second(tmp_path: Path) -> None:
    source = make_checkpoint(tmp_path / "gpt2", family="gpt2")
    manifest = split(source, tmp_path / "out", tp=2)
    fused = "transformer.h.0.attn.c_attn.weight"
    assert manifest.tensors[fused].rule.channel_dim == 1
    reader = ranks(tmp_path / "out", 2)[0]
    assert reader.read(fused).shape == (32, 48)
    assert reader.read(scale_name(fused)).shape == (48,)


@pytest.mark.parametrize("quantize", ["int8", "fp8_e4m3"])
def test_weights_are_quantised_from_the_checkpoints_own_values(
    tiny_llama: Path, tmp_path: Path, quantize: str
) -> None:
    digests = []
    for dtype in ("f32", "bf16"):
        manifest = split(tiny_llama, tmp_path / dtype, tp=1, quantize=quantize, dtype=dtype)
        digests.append(manifest.tensors[Q].digest)
    assert digests[0] == digests[1]


def test_the_manifest_reads_back_what_was_written(tiny_llama: Path, tmp_path: Path) -> None:
    written = split(tiny_llama, tmp_path / "out", tp=2, quantize="fp8_e4m3")
    found = read_split_manifest(tmp_path / "out")
    assert found == written
    sizes = {t.rule.name: DTYPES[t.dtype].size_bytes for t in found.stored}
    assert (sizes[Q], sizes[scale_name(Q)], sizes["model.norm.weight"]) == (1, 4, 4)


def test_a_split_without_quantisation_says_nothing_of_it(tiny_llama: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    split_checkpoint(open_checkpoint(str(tiny_llama)), out, tp=2, dtype="auto")
    text = (out / "split.json").read_text()
    assert not any(word in text for word in ("quantize", "channel_dim", "scale"))


def set_top(data: dict[str, Any], **fields: Any) -> None:
    data.update(fields)


def set_q(data: dict[str, Any], **fields: Any) -> None:
    data["tensors"][Q].update(fields)


@pytest.mark.parametrize(
    ("change", "fields", "told"),
    [
        (set_top, {"quantize": "int3"}, "cannot be quantised as 'int3'"),
        (set_top, {"quantize": ["int8"]}, "cannot be quantised as"),
        (set_top, {"quantize": None}, "quantize is None, and 14 weights are quantised"),
        (set_q, {"channel_dim": 1}, f"'{Q}' is laid out as"),
        (set_q, {"channel_dim": 2}, f"'{Q}' is laid out as"),
        (set_q, {"channel_dim": True}, f"'{Q}' is laid out as"),
        (set_q, {"channel_dim": None}, f"'{Q}' has scales '"),
        (set_q, {"scale_xxh3_128": None}, f"'{Q}' has scales None"),
    ],
)
def test_a_manifest_whose_quantisation_contradicts_itself_is_refused(
    tiny_llama: Path,
    tmp_path: Path,
    change: Callable[..., None],
    fields: dict[str, Any],
    told: str,
) -> None:
    split(tiny_llama, tmp_path / "out", tp=2)
    path = tmp_path / "out/split.json"
    data = json.loads(path.read_text())
    change(data, **fields)
    path.write_text(json.dumps(data))
    with pytest.raises(InputError, match=f"is damaged: .*{told}"):
        read_split_manifest(tmp_path / "out")


@pytest.mark.parametrize(("layout", "tp"), [("nxdi", 2), ("transformers-neuronx", 1)])
def test_layouts_of_other_tools_refuse_it_by_name(
    tiny_llama: Path, tmp_path: Path, layout: Layout, tp: int
) -> None:
    with pytest.raises(UsageError, match=f"layout {layout} has no form for --quantize int8"):
        split(tiny_llama, tmp_path / "out", tp=tp, options=SplitOptions(layout=layout))


def test_a_weight_of_nan_is_refused_by_name(changed: Callable[..., Path], tmp_path: Path) -> None:
    bad = np.zeros((72, 36), np.float32)
    bad[3, 4] = np.nan
    with pytest.raises(InputError, match=f"tensor '{Q}' holds NaN"):
        split(changed({Q: bad}), tmp_path / "out", tp=2)


def test_linear_layers_are_quantised_and_nothing_else() -> None:
    config = make_config(num_hidden_layers=1, tie_word_embeddings=False)
    shapes = decoder_shapes(config, bias=("self_attn.q_proj",), norms=("self_attn.q_norm",))
    for tp in (1, 2):
        plan = plan_parallelism(config, shapes, tp, quantize="int8")
        quantized = {n for n, rule in plan.rules.items() if rule.channel_dim is not None}
        assert quantized == {n for n in shapes if n.endswith("_proj.weight")}


def test_a_family_that_nobody_described_is_refused() -> None:
    config = make_config()
    family = replace(config.family, why_not="its layers are not described")
    with pytest.raises(PlanError, match="quantize int8: nobody has described"):
        plan_parallelism(replace(config, family=family), {}, 1, quantize="int8")
