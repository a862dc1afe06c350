"""neuronc generate: text from an artifact."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from neuronc.cli.options import JsonFlag, QuietFlag
from neuronc.cli.output import Report
from neuronc.errors import UsageError

if TYPE_CHECKING:
    from neuronc.runtime.text import TextCodec

EXAMPLES = (
    'neuronc generate artifact --prompt "What is the capital of France?" --max-new-tokens 16',
    'neuronc generate artifact --prompt "Once upon a time" --no-chat --temperature 0.8 --seed 7',
)


def generate(
    artifact: Annotated[Path, typer.Argument(help="Folder made by compile or build.")],
    *,
    prompt: Annotated[
        list[str] | None,
        typer.Option("--prompt", metavar="TEXT", help="What to answer; may be given again."),
    ] = None,
    max_new_tokens: Annotated[int, typer.Option("--max-new-tokens", metavar="N", min=1)] = 64,
    no_chat: Annotated[
        bool, typer.Option("--no-chat", help="Continue the text; do not use the chat template.")
    ] = False,
    temperature: Annotated[float, typer.Option("--temperature", help="0 is greedy.")] = 0.0,
    top_k: Annotated[int, typer.Option("--top-k", metavar="N", help="0 keeps all.")] = 0,
    top_p: Annotated[float, typer.Option("--top-p")] = 1.0,
    seed: Annotated[int, typer.Option("--seed", metavar="N")] = 0,
    quiet: QuietFlag = False,
    _json: JsonFlag = False,
) -> Report:
    """Answer prompts with an artifact; several prompts share its slots."""
    from neuronc.artifact.manifest import WEIGHTS_DIR
    from neuronc.cli.progress import make_progress
    from neuronc.runtime.engine import Engine
    from neuronc.runtime.request import Request, SamplingParams
    from neuronc.runtime.session import Session
    from neuronc.runtime.text import TextCodec, stop_token_ids

    if not prompt:
        message = "--prompt is missing"
        raise UsageError(message, hint='pass --prompt "What is the capital of France?"')
    progress = make_progress(quiet)
    session = Session.open(artifact, progress=progress)
    codec = TextCodec.open(artifact / WEIGHTS_DIR)
    sampling = SamplingParams(temperature=temperature, top_k=top_k, top_p=top_p, seed=seed)
    requests = [
        Request(
            request_id=str(number),
            prompt_ids=_encode(codec, text, chat=not no_chat),
            max_new_tokens=max_new_tokens,
            sampling=sampling,
            stop_ids=stop_token_ids(artifact / WEIGHTS_DIR),
        )
        for number, text in enumerate(prompt)
    ]
    with progress.stage("generating"):
        answers = Engine(session).run(requests)
    texts = [codec.decode(answers[request.request_id]) for request in requests]
    answered = [
        {
            "prompt": p,
            "text": t,
            "prompt_tokens": len(r.prompt_ids),
            "new_tokens": len(answers[r.request_id]),
        }
        for p, t, r in zip(prompt, texts, requests, strict=True)
    ]
    data: dict[str, object] = {
        "answers": answered,
        "target": session.manifest.target,
        "artifact_digest": session.manifest.digest,
        "verified": bool((session.manifest.verification or {}).get("passed")),
    }
    warnings = () if data["verified"] else ("this artifact is unverified",)

    def draw(console: Any) -> None:
        for text in texts:
            console.print(text)

    return Report(command="generate", data=data, text=draw, warnings=warnings)


def _encode(codec: "TextCodec", text: str, *, chat: bool) -> tuple[int, ...]:
    return codec.chat(text) if chat and codec.has_chat_template else codec.encode(text)
