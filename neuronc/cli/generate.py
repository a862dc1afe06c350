"""neuronc generate: text from an artifact."""

from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from neuronc.cli.options import (
    JsonFlag,
    OnOption,
    QuietFlag,
    RankProcessesFlag,
    RequireSignatureOption,
)
from neuronc.cli.output import Report
from neuronc.errors import UsageError

if TYPE_CHECKING:
    from neuronc.progress import Progress
    from neuronc.runtime.request import SamplingParams
    from neuronc.runtime.session import Session

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
    on: OnOption = None,
    require_signature: RequireSignatureOption = None,
    rank_processes: RankProcessesFlag = False,
    quiet: QuietFlag = False,
    _json: JsonFlag = False,
) -> Report:
    """Answer prompts with an artifact.

    Several prompts share its slots.
    """
    from neuronc.cli.progress import make_progress
    from neuronc.provenance.signing import require_signatures
    from neuronc.runtime.request import SamplingParams
    from neuronc.runtime.session import Session

    if not prompt:
        message = "--prompt is missing"
        raise UsageError(message, hint='pass --prompt "What is the capital of France?"')
    sampling = SamplingParams(temperature=temperature, top_k=top_k, top_p=top_p, seed=seed)
    progress = make_progress(quiet)
    require_signatures((artifact,), require_signature, progress=progress)
    opened = Session.open(
        artifact, on=on or "target", rank_processes=rank_processes, progress=progress
    )
    with closing(opened) as session:
        session.require(embeds=False)
        answers = _answer(
            session,
            artifact,
            prompt,
            sampling,
            max_new_tokens=max_new_tokens,
            use_chat=not no_chat,
            progress=progress,
        )
    manifest = session.manifest
    verified = bool((manifest.verification or {}).get("passed"))
    data: dict[str, object] = {
        "answers": answers,
        "target": manifest.target,
        "ran_on": session.ran_on,
        "artifact_digest": manifest.digest,
        "verified": verified,
    }

    def draw(console: Any) -> None:
        for answer in answers:
            console.print(answer["text"])

    warnings = () if verified else ("this artifact is unverified",)
    return Report(command="generate", data=data, text=draw, warnings=warnings)


def _answer(
    session: "Session",
    artifact: Path,
    prompts: list[str],
    sampling: "SamplingParams",
    *,
    max_new_tokens: int,
    use_chat: bool,
    progress: "Progress",
) -> list[dict[str, object]]:
    """Run all prompts through one engine; one row per prompt."""
    from neuronc.artifact.manifest import WEIGHTS_DIR
    from neuronc.runtime.engine import Engine
    from neuronc.runtime.request import Request
    from neuronc.runtime.text import TextCodec, stop_token_ids

    codec = TextCodec.open(artifact / WEIGHTS_DIR)
    as_chat = use_chat and codec.has_chat_template
    requests = [
        Request(
            request_id=str(number),
            prompt_ids=codec.chat(text) if as_chat else codec.encode(text),
            max_new_tokens=max_new_tokens,
            sampling=sampling,
            stop_ids=stop_token_ids(artifact / WEIGHTS_DIR),
        )
        for number, text in enumerate(prompts)
    ]
    with progress.stage("generating"):
        new_ids = Engine(session).run(requests)
    return [
        {
            "prompt": text,
            "text": codec.decode(new_ids[request.request_id]),
            "prompt_tokens": len(request.prompt_ids),
            "new_tokens": len(new_ids[request.request_id]),
        }
        for text, request in zip(prompts, requests, strict=True)
    ]
