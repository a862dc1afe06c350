"""Whatever a layout does to the tensors, reading it back gives the checkpoint's own bytes."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from neuronc.checkpoint.checkpoint import open_checkpoint
from neuronc.errors import InputError, UsageError
from neuronc.parallel.layouts.names import Layout
from neuronc.parallel.layouts.open_any import open_any_checkpoint
from neuronc.parallel.split_manifest import SplitManifest, check_files, read_split_manifest
from neuronc.parallel.split_options import SplitOptions
from neuronc.parallel.split_tensors import split_checkpoint
from tests.tiny_models import make_checkpoint

MODELS: dict[str, dict[str, Any]] = {
    "llama": {"dtype": "f32"},
    "untied": {"dtype": "bf16", "tie_word_embeddings": False, "vocab_size": 127},
    "replicated": {
        "dtype": "bf16",
        "hidden_size": 64,
        "num_attention_heads": 8,
        "num_key_value_heads": 2,
    },
    "qwen2": {"family": "qwen2", "dtype": "f16", "shards": 2},
    "qwen3": {"family": "qwen3", "dtype": "bf16"},
    "gemma": {"family": "gemma", "dtype": "bf16"},
    "phi3": {"family": "phi3", "dtype": "bf16"},
    "gpt2": {"family": "gpt2", "dtype": "f32"},
    "glm": {"family": "glm", "dtype": "f32"},
}


ONE_RANK_ONLY = ("glm",)
FORMS: tuple[tuple[Layout, int], ...] = (
    ("transformers-neuronx", 1), ("nxdi", 1), ("nxdi", 2), ("nxdi", 3), ("nxdi", 4),
)  # fmt: skip
CASES = [(m, *form) for m in MODELS for form in FORMS if form[1] == 1 or m not in ONE_RANK_ONLY]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Makes a model of `MODELS` when it is first asked for."""
    place = tmp_path_factory.mktemp("models")

    def make(name: str) -> Path:
        folder = place / name
        if not folder.exists():
            make_checkpoint(folder, tokenizer=False, **MODELS[name])
        return folder

    return make


def write(
    source: Path, out_dir: Path, *, layout: Layout = "neuronc", tp: int = 1, dtype: str = "auto"
) -> SplitManifest:
    out_dir.mkdir()
    checkpoint = open_any_checkpoint(str(source))
    return split_checkpoint(
        checkpoint, out_dir, tp=tp, dtype=dtype, options=SplitOptions(layout=layout)
    )


def rank_digests(manifest: SplitManifest) -> dict[str, str]:
    return {f.path: f.sha256 for f in manifest.files if f.path.startswith("rank-")}


@pytest.mark.parametrize(("name", "layout", "tp"), CASES)
def test_every_tensor_comes_back_and_splits_as_the_original(
    model: Callable[[str], Path], tmp_path: Path, name: str, layout: Layout, tp: int
) -> None:
    original = model(name)
    manifest = write(original, tmp_path / "out", layout=layout, tp=tp)
    found = open_any_checkpoint(str(tmp_path / "out"))
    expected = open_checkpoint(str(original))
    assert found.config == expected.config
    assert manifest.tensors.keys() <= found.tensors.keys()
    for key in manifest.tensors:
        assert found.tensors[key] == expected.tensors[key]
        assert found.reader.read(key).tobytes() == expected.reader.read(key).tobytes(), key
    again_tp = 1 if name in ONE_RANK_ONLY else 2
    one = write(original, tmp_path / "one", tp=again_tp)
    two = write(tmp_path / "out", tmp_path / "two", tp=again_tp)
    assert len(rank_digests(one)) == again_tp
    assert rank_digests(one) == rank_digests(two)


@pytest.mark.parametrize("layout", ["transformers-neuronx", "nxdi"])
def test_a_layout_has_the_dtype_asked_for(tiny_llama: Path, tmp_path: Path, layout: Layout) -> None:
    write(tiny_llama, tmp_path / "out", layout=layout, dtype="bf16")
    found = open_any_checkpoint(str(tmp_path / "out"))
    assert {info.dtype.name for info in found.tensors.values()} == {"bf16"}
    one = write(tiny_llama, tmp_path / "one", tp=2, dtype="bf16")
    two = write(tmp_path / "out", tmp_path / "two", tp=2)
    assert rank_digests(one) == rank_digests(two)


@pytest.mark.parametrize(("layout", "tp"), [("transformers-neuronx", 1), ("nxdi", 3)])
def test_a_layout_is_the_same_bytes_every_time_and_all_are_listed(
    tiny_llama: Path, tmp_path: Path, layout: Layout, tp: int
) -> None:
    written = []
    for name in ("one", "two"):
        manifest = write(tiny_llama, tmp_path / name, layout=layout, tp=tp)
        paths = [path for path in (tmp_path / name).rglob("*") if path.is_file()]
        files = {str(path.relative_to(tmp_path / name)): path.read_bytes() for path in paths}
        written.append(files)
        check_files(tmp_path / name, manifest.files)
        assert {file.path for file in manifest.files} == files.keys() - {"split.json"}
        assert read_split_manifest(tmp_path / name, layout=layout) == manifest
    assert written[0] == written[1]


@pytest.mark.parametrize("layout", ["transformers-neuronx", "nxdi"])
def test_a_split_in_another_layout_is_no_folder_of_rank_files(
    tiny_llama: Path, tmp_path: Path, layout: Layout
) -> None:
    write(tiny_llama, tmp_path / "out", layout=layout)
    with pytest.raises(InputError, match=f"is split in layout {layout}; expected neuronc"):
        read_split_manifest(tmp_path / "out")


def test_whole_tensors_cannot_be_split_over_ranks(tiny_llama: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"transformers-neuronx holds whole tensors; .* tp=2"):
        write(tiny_llama, tmp_path / "out", layout="transformers-neuronx", tp=2)
    assert list((tmp_path / "out").iterdir()) == []


def test_an_unknown_layout_is_a_usage_error(tiny_llama: Path, tmp_path: Path) -> None:
    layout: Any = "vllm"
    with pytest.raises(UsageError, match="found 'vllm'"):
        write(tiny_llama, tmp_path / "out", layout=layout)
    assert list((tmp_path / "out").iterdir()) == []


def test_a_manifest_with_a_layout_nobody_knows_is_refused(tiny_llama: Path, tmp_path: Path) -> None:
    write(tiny_llama, tmp_path / "out")
    path = tmp_path / "out" / "split.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "layout": "vllm"}))
    with pytest.raises(InputError, match="'vllm' is no layout"):
        read_split_manifest(tmp_path / "out")
