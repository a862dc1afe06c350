"""Text to token ids and back, with the artifact's own tokenizer; no torch."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from neuronc.errors import InputError


class TextCodec:
    """The tokenizer and chat template of one artifact."""

    def __init__(self, tokenizer: Any, *, template: str | None, special: dict[str, Any]) -> None:
        self._tokenizer, self._template, self._special = tokenizer, template, special

    @classmethod
    def open(cls, folder: Path) -> "TextCodec":
        """Read ``tokenizer.json``, ``tokenizer_config.json`` and the chat template of ``folder``.

        Raises:
            InputError: there is no usable tokenizer.json.
        """
        import json

        from tokenizers import Tokenizer

        path = folder / "tokenizer.json"
        if not path.is_file():
            message = f"{folder} has no tokenizer.json, so text cannot be tokenized"
            raise InputError(message, hint="add the model's tokenizer.json and compile again")
        try:
            tokenizer = Tokenizer.from_file(str(path))
        except Exception as error:  # the Rust side raises a bare Exception
            message = f"{path} is not a tokenizer: {error}"
            raise InputError(
                message, hint="use the tokenizer.json that came with the model"
            ) from error
        config_path = folder / "tokenizer_config.json"
        config = json.loads(config_path.read_text("utf-8")) if config_path.is_file() else {}
        template_path = folder / "chat_template.jinja"
        template = config.get("chat_template")
        if template_path.is_file():
            template = template_path.read_text("utf-8")
        special = {k: _plain(v) for k, v in config.items() if k.endswith("_token")}
        return cls(tokenizer, template=template, special=special)

    @property
    def has_chat_template(self) -> bool:
        """Whether `chat` can be used."""
        return isinstance(self._template, str)

    def encode(self, text: str) -> tuple[int, ...]:
        """Token ids of ``text``, with the special tokens the tokenizer adds itself."""
        return tuple(self._tokenizer.encode(text).ids)

    def chat(self, prompt: str) -> tuple[int, ...]:
        """Token ids of one user message in the model's chat template, ready for its answer."""
        from transformers.utils.chat_template_utils import render_jinja_template

        rendered, _ = render_jinja_template(
            conversations=[[{"role": "user", "content": prompt}]],
            chat_template=self._template,
            add_generation_prompt=True,
            **self._special,
        )
        return tuple(self._tokenizer.encode(rendered[0], add_special_tokens=False).ids)

    def decode(self, token_ids: Sequence[int]) -> str:
        """Text of ``token_ids`` without special tokens."""
        text: str = self._tokenizer.decode(list(token_ids), skip_special_tokens=True)
        return text


def stop_token_ids(folder: Path) -> frozenset[int]:
    """Tokens that end an answer: of generation_config.json and of config.json."""
    import json

    found: set[int] = set()
    for name in ("generation_config.json", "config.json"):
        path = folder / name
        eos = json.loads(path.read_text("utf-8")).get("eos_token_id") if path.is_file() else None
        if eos is not None:
            found.update(eos if isinstance(eos, list) else [eos])
    return frozenset(found)


def _plain(token: Any) -> Any:
    return token.get("content") if isinstance(token, dict) else token
