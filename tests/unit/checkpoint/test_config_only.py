import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from neuronc.checkpoint.checkpoint import open_checkpoint
from neuronc.checkpoint.config_only import declared_dtype, open_config_only
from neuronc.errors import InputError


def config_folder(place: Path, **fields: Any) -> str:
    place.mkdir()
    (place / "config.json").write_text(json.dumps({"model_type": "llama", **fields}))
    return str(place)


def test_a_folder_without_weights_gives_its_config_and_nothing_else_takes_it(
    tmp_path: Path,
) -> None:
    source = config_folder(tmp_path / "model", hidden_size=8)

    assert open_config_only(source).config == {"model_type": "llama", "hidden_size": 8}
    with pytest.raises(InputError, match="has no weights"):
        open_checkpoint(source)


@pytest.mark.parametrize(
    ("fields", "dtype"), [({"dtype": "bfloat16"}, "bf16"), ({"torch_dtype": "float16"}, "f16")]
)
def test_the_dtype_is_the_one_it_was_published_with(
    tmp_path: Path, fields: dict[str, str], dtype: str
) -> None:
    assert declared_dtype(open_config_only(config_folder(tmp_path / "m", **fields))).name == dtype


@pytest.mark.parametrize("fields", [{}, {"dtype": None}, {"dtype": "int8"}, {"dtype": "float9"}])
def test_a_dtype_that_is_none_to_compute_in_is_refused(
    tmp_path: Path, fields: dict[str, Any]
) -> None:
    found = open_config_only(config_folder(tmp_path / "m", **fields))

    with pytest.raises(InputError, match=r"config\.json of .* has dtype"):
        declared_dtype(found)


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"model_type": 3}'])
def test_a_damaged_config_is_exit_3(tmp_path: Path, text: str) -> None:
    (tmp_path / "config.json").write_text(text)

    with pytest.raises(InputError) as caught:
        open_config_only(str(tmp_path))
    assert caught.value.exit_code == 3


def test_a_folder_without_config_and_a_gguf_file_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"has no config\.json"):
        open_config_only(str(tmp_path))
    (tmp_path / "model.gguf").write_bytes(b"GGUF")
    with pytest.raises(InputError, match="is a GGUF file"):
        open_config_only(str(tmp_path / "model.gguf"))


def test_it_imports_no_framework(tmp_path: Path) -> None:
    source = config_folder(tmp_path / "m", dtype="float16")
    code = (
        "import sys; from neuronc.checkpoint.config_only import *\n"
        f"declared_dtype(open_config_only({source!r}))\n"
        "print(sorted({'torch', 'transformers', 'jax'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
