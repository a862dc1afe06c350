"""License and base model from a README's front matter or from GGUF metadata."""

from pathlib import Path

import pytest
from gguf import GGUFWriter

from neuronc.provenance.model_card import ModelCard, read_model_card


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            "---\nlicense: apache-2.0\nbase_model: org/base\n---\n# hi\n",
            ModelCard(license="apache-2.0", base_models=("org/base",), found_in="README.md"),
        ),
        (
            "---\nbase_model:\n- a/b\n- c/d\n---\n",
            ModelCard(base_models=("a/b", "c/d"), found_in="README.md"),
        ),
        (
            "---\nlicense: other\nlicense_name: qwen\n---\n",
            ModelCard(license="qwen", found_in="README.md"),
        ),
        ("---\nlicense: other\n---\n", ModelCard(license="other", found_in="README.md")),
        ("---\nlicense: [a, b]\nbase_model: {x: 1}\n---\n", ModelCard()),
        ("---\nlicense: ''\n---\n", ModelCard()),
        ("---\n- 1\n---\n", ModelCard()),
        ("---\nlicense: !!python/object/apply:os.system ['true']\n---\n", ModelCard()),
        ("---\nlicense: {{{\n---\n", ModelCard()),
        ("---\n" + "[" * 10_000 + "\n---\n", ModelCard()),
        ("# no front matter\n", ModelCard()),
        ("---\nlicense: " + "x" * 1000 + "\n---\n", ModelCard()),
    ],
)
def test_front_matter(tmp_path: Path, text: str, expected: ModelCard) -> None:
    (tmp_path / "README.md").write_text(text)
    assert read_model_card(tmp_path) == expected


def test_no_readme_and_bytes_that_are_no_text(tmp_path: Path) -> None:
    assert read_model_card(tmp_path) == ModelCard()
    (tmp_path / "README.md").write_bytes(b"---\nlicense: \xff\xfe\n---\n")
    assert read_model_card(tmp_path) == ModelCard()


def test_gguf_metadata(tmp_path: Path) -> None:
    path = tmp_path / "model.gguf"
    writer = GGUFWriter(path, "llama")
    writer.add_license("mit")
    writer.add_base_model_count(2)
    writer.add_base_model_repo_url(0, "https://huggingface.co/org/base")
    writer.add_base_model_name(1, "Other")
    writer.add_base_model_organization(1, "Org")
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    assert read_model_card(path) == ModelCard(
        license="mit",
        base_models=("https://huggingface.co/org/base", "Org/Other"),
        found_in="GGUF metadata",
    )
