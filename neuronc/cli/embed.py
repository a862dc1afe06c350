"""neuronc embed: embeddings of texts from an artifact."""

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
from neuronc.errors import InputError, UsageError

if TYPE_CHECKING:
    from neuronc.runtime.embedder import Embedded

EXAMPLES = (
    'neuronc embed artifact --text "A man is eating." --text "Somebody has lunch."',
    "neuronc embed artifact --file texts.txt -o embeddings.npy",
)
_SHOWN = 8


def embed(
    artifact: Annotated[Path, typer.Argument(help="Folder made by compile or build.")],
    *,
    text: Annotated[
        list[str] | None,
        typer.Option("--text", metavar="TEXT", help="What to embed; may be given again."),
    ] = None,
    file: Annotated[
        Path | None, typer.Option("--file", metavar="FILE", help="UTF-8, a text per line.")
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", metavar="FILE.npy", help="Write the embeddings there."),
    ] = None,
    truncate: Annotated[
        bool, typer.Option("--truncate", help="Cut texts beyond the artifact's max length.")
    ] = False,
    on: OnOption = None,
    require_signature: RequireSignatureOption = None,
    rank_processes: RankProcessesFlag = False,
    quiet: QuietFlag = False,
    _json: JsonFlag = False,
) -> Report:
    """Embed texts with an artifact of an encoder.

    Prints how similar the texts are; the embeddings themselves go to --out, or into --json.
    """
    from neuronc.cli.progress import make_progress
    from neuronc.provenance.signing import require_signatures
    from neuronc.runtime.embedder import embed_texts
    from neuronc.runtime.session import Session

    texts = [*(text or []), *(_lines(file) if file else [])]
    if not texts:
        message = "there is no text"
        raise UsageError(message, hint='pass --text "A man is eating.", or --file FILE')
    if out is not None and out.suffix != ".npy":
        message = f"--out is {str(out)!r}; embeddings are written as .npy"
        raise UsageError(message, hint=f"pass -o {out.with_suffix('.npy')}")
    if out is not None and not out.parent.is_dir():
        message = f"there is no folder {out.parent} for --out"
        raise UsageError(message, hint="make it first, or choose another")
    progress = make_progress(quiet)
    require_signatures((artifact,), require_signature, progress=progress)
    opened = Session.open(
        artifact, on=on or "target", rank_processes=rank_processes, progress=progress
    )
    with closing(opened) as session:
        session.require(embeds=True)
        found = embed_texts(session, artifact, texts, truncate=truncate, progress=progress)
    manifest = session.manifest
    if out is not None:
        _write(out, found)
    verified = bool((manifest.verification or {}).get("passed"))
    data: dict[str, object] = {
        "num_texts": len(texts),
        "dimensions": int(found.embeddings.shape[1]),
        "num_tokens": list(found.num_tokens),
        "truncated": list(found.truncated),
        **({"out": str(out)} if out else {"embeddings": found.embeddings.tolist()}),
        "target": manifest.target,
        "ran_on": session.ran_on,
        "artifact_digest": manifest.digest,
        "verified": verified,
    }

    def draw(console: Any) -> None:
        _draw(console, texts, found, out)

    warnings = [] if verified else ["this artifact is unverified"]
    if found.truncated:
        warnings.append(f"{len(found.truncated)} texts were cut to {session.max_length} tokens")
    return Report(command="embed", data=data, text=draw, warnings=tuple(warnings))


def _lines(file: Path) -> list[str]:
    try:
        return [line for line in file.read_text(encoding="utf-8").splitlines() if line.strip()]
    except (OSError, UnicodeDecodeError) as error:
        message = f"cannot read texts from {file}: {error}"
        raise InputError(message, hint="pass a UTF-8 file with a text per line") from error


def _write(out: Path, found: "Embedded") -> None:
    import numpy as np

    part = out.with_name(f"{out.name}.part")
    with part.open("wb") as file:
        np.save(file, found.embeddings)
    part.replace(out)


def _draw(console: Any, texts: list[str], found: "Embedded", out: Path | None) -> None:
    """Cosine similarity of the first texts with each other."""
    import numpy as np

    from neuronc.cli.tables import draw_rows

    shown = found.embeddings[:_SHOWN]
    lengths = np.linalg.norm(shown, axis=1, keepdims=True)
    cosines = (shown / lengths) @ (shown / lengths).T
    columns = [str(number + 1) for number in range(len(shown))]
    rows = [
        (f"{number + 1} {_short(texts[number])}", str(found.num_tokens[number]), *cells)
        for number, cells in enumerate([f"{value:.3f}" for value in row] for row in cosines)
    ]
    draw_rows(console, ("cosine similarity", "tokens", *columns), rows)
    size = f"{len(texts)} embeddings of {found.embeddings.shape[1]} dimensions"
    console.print(f"{size} in {out}" if out else f"{size}; -o FILE.npy or --json gives them out")


def _short(text: str) -> str:
    return text if len(text) <= 40 else f"{text[:37]}..."
