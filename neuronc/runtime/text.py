"""Text to token ids and back, with the artifact's own tokenizer; no torch."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from neuronc.checkpoint.paths import contained_file, read_json_object, reading
from neuronc.errors import InputError, UsageError

_SPECIAL_TOKENS = tuple(
    f"{name}_token" for name in ("bos", "eos", "unk", "sep", "pad", "cls", "mask")
)
"""What a chat template may ask for by name."""


class TextCodec:
    """The tokenizer and chat template of one artifact."""

    def __init__(self, tokenizer: Any, *, template: str | None, special: Mapping[str, str]) -> None:
        self._tokenizer, self._template, self._special = tokenizer, template, special

    @classmethod
    def open(cls, folder: Path) -> "TextCodec":
        """Read ``tokenizer.json``, ``tokenizer_config.json`` and the chat template of ``folder``.

        Raises:
            InputError: there is no usable tokenizer.json, or another of the files is damaged.
        """
        tokenizer = _read_tokenizer(folder)
        config = _read_optional(folder, "tokenizer_config.json")
        named = {**_read_optional(folder, "special_tokens_map.json"), **config}
        found = {name: _content(named.get(name)) for name in _SPECIAL_TOKENS}
        special = {name: token for name, token in found.items() if isinstance(token, str)}
        return cls(tokenizer, template=_read_template(folder, config), special=special)

    @property
    def has_chat_template(self) -> bool:
        """Whether `chat` can be used."""
        return self._template is not None

    def encode(self, text: str) -> tuple[int, ...]:
        """Token ids of ``text``, with the special tokens the tokenizer adds itself.

        Raises:
            UsageError: ``text`` is not valid Unicode.
        """
        return self._encode(text, add_special_tokens=True)

    def chat(self, prompt: str) -> tuple[int, ...]:
        """Token ids of one user message in the model's chat template, ready for its answer.

        Raises:
            InputError: there is no template, or it fails.
            UsageError: ``prompt`` is not valid Unicode.
        """
        if self._template is None:
            message = "the model has no chat template"
            raise InputError(message, hint="pass --no-chat to continue the text as it is")
        rendered = _render(self._template, prompt, self._special)
        return self._encode(rendered, add_special_tokens=False)

    def decode(self, token_ids: Sequence[int]) -> str:
        """Text of ``token_ids`` without special tokens."""
        text: str = self._tokenizer.decode(list(token_ids), skip_special_tokens=True)
        return text

    def _encode(self, text: str, *, add_special_tokens: bool) -> tuple[int, ...]:
        try:
            text.encode()
        except UnicodeEncodeError as error:  # bytes of a terminal that are no UTF-8
            message = f"the prompt is not valid Unicode: {error.reason} at {error.start}"
            raise UsageError(message, hint="pass the prompt as UTF-8") from error
        try:
            found = self._tokenizer.encode(text, add_special_tokens=add_special_tokens)
        except (KeyboardInterrupt, SystemExit):
            raise
        except BaseException as error:  # a panic of the Rust side is no Exception
            message = f"the model's tokenizer failed: {type(error).__name__}: {error}"
            hint = "use the tokenizer.json that came with the model"
            raise InputError(message, hint=hint) from error
        return tuple(found.ids)


def stop_token_ids(folder: Path) -> frozenset[int]:
    """Tokens that end an answer: of generation_config.json and of config.json.

    Raises:
        InputError: a file is damaged, or its ``eos_token_id`` is no token id.
    """
    found: set[int] = set()
    for name in ("generation_config.json", "config.json"):
        eos = _read_optional(folder, name).get("eos_token_id")
        ids = eos if isinstance(eos, list) else [] if eos is None else [eos]
        if not all(type(token) is int and 0 <= token < 2**31 for token in ids):
            message = f"{folder / name} has eos_token_id {eos!r}; expected a token id or a list"
            raise InputError(message, hint="use the file that came with the model")
        found.update(ids)
    return frozenset(found)


def _read_optional(folder: Path, name: str) -> dict[str, Any]:
    path = contained_file(folder, name)
    return read_json_object(path) if path.is_file() else {}


def _read_tokenizer(folder: Path) -> Any:
    from tokenizers import Tokenizer

    path = contained_file(folder, "tokenizer.json")
    if not path.is_file():
        message = f"{folder} has no tokenizer.json, so text cannot be tokenized"
        raise InputError(message, hint="add the model's tokenizer.json and compile again")
    try:
        tokenizer = Tokenizer.from_file(str(path))
    except Exception as error:  # the Rust side raises a bare Exception
        message = f"{path} is not a tokenizer: {error}"
        raise InputError(message, hint="use the tokenizer.json that came with the model") from error
    tokenizer.no_truncation()  # both are left over from training in some files
    tokenizer.no_padding()
    return tokenizer


def _read_template(folder: Path, config: Mapping[str, Any]) -> str | None:
    """``chat_template.jinja``, or else tokenizer_config.json's only or ``default`` template."""
    path = contained_file(folder, "chat_template.jinja")
    if path.is_file():
        try:
            with reading(path):
                return path.read_text("utf-8")
        except UnicodeDecodeError as error:
            message = f"{path} is not UTF-8 text: {error}"
            raise InputError(message, hint="use the file that came with the model") from error
    template = config.get("chat_template")
    if isinstance(template, list):
        template = {t.get("name"): t.get("template") for t in template if isinstance(t, dict)}
        template = template.get("default")
    return template if isinstance(template, str) else None


def _render(template: str, prompt: str, special: Mapping[str, str]) -> str:
    """The prompt in ``template``, which transformers runs in a sandbox."""
    from transformers.utils.chat_template_utils import render_jinja_template

    try:
        rendered, _ = render_jinja_template(
            conversations=[[{"role": "user", "content": prompt}]],
            chat_template=template,
            add_generation_prompt=True,
            **special,
        )
    except Exception as error:  # a template can fail in as many ways as a program
        message = f"the model's chat template failed: {type(error).__name__}: {error}"
        hint = "pass --no-chat, or repair the template and compile again"
        raise InputError(message, hint=hint) from error
    return str(rendered[0])


def _content(token: Any) -> Any:
    return token.get("content") if isinstance(token, dict) else token
