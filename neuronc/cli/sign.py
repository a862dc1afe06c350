"""neuronc sign: a signature over what an artifact is and what it was made of."""

from pathlib import Path
from typing import Annotated, Any

import typer

from neuronc.cli.options import JsonFlag, QuietFlag
from neuronc.cli.output import Report
from neuronc.errors import UsageError

EXAMPLES = (
    "neuronc sign --new-key release.key",
    "neuronc sign artifact --key release.key",
)


def sign(
    artifact: Annotated[
        Path | None, typer.Argument(help="Folder made by compile or build.")
    ] = None,
    *,
    key: Annotated[
        Path | None,
        typer.Option("--key", metavar="FILE", help="Private ed25519 key, PEM (PKCS #8)."),
    ] = None,
    new_key: Annotated[
        Path | None,
        typer.Option("--new-key", metavar="FILE", help="Make a key pair: FILE and FILE.pub."),
    ] = None,
    passphrase_file: Annotated[
        Path | None,
        typer.Option(
            "--passphrase-file",
            metavar="FILE",
            help="Its first line (default: what NEURONC_SIGN_PASSPHRASE holds, or none).",
        ),
    ] = None,
    quiet: QuietFlag = False,
    _json: JsonFlag = False,
) -> Report:
    """Sign an artifact with a key of yours, after comparing every file with its digest.

    The signature lies beside the manifest as provenance.dsse.json. --require-signature FILE.pub of
    other commands then loads nothing that FILE did not sign.
    """
    from neuronc.cli.progress import make_progress
    from neuronc.provenance.keys import is_open_to_others, read_passphrase
    from neuronc.provenance.signing import sign_artifact

    passphrase = read_passphrase(passphrase_file)
    if new_key is not None:
        if artifact is not None or key is not None:
            message = "--new-key makes a key and signs nothing"
            raise UsageError(message, hint="make the key first, then sign with --key")
        return _make_key(new_key, passphrase)
    if artifact is None or key is None:
        message = f"{'ARTIFACT' if artifact is None else '--key'} is missing"
        raise UsageError(message, hint="neuronc sign ARTIFACT --key FILE, or --new-key FILE")
    signed = sign_artifact(artifact, key, passphrase=passphrase, progress=make_progress(quiet))
    data: dict[str, object] = {
        "path": str(artifact),
        "artifact_digest": signed.artifact_digest,
        "key_id": signed.key_id,
        "signatures": signed.num_signatures,
    }
    warnings = (f"others may read the key: chmod 600 {key}",) if is_open_to_others(key) else ()

    def draw(console: Any) -> None:
        from neuronc.cli.tables import draw_pairs

        draw_pairs(console, {name.replace("_", " "): str(value) for name, value in data.items()})

    return Report(command="sign", data=data, text=draw, warnings=warnings)


def _make_key(path: Path, passphrase: bytes | None) -> Report:
    from neuronc.provenance.keys import new_key

    public, key_id = new_key(path, passphrase=passphrase)
    data: dict[str, object] = {
        "private_key": str(path),
        "public_key": str(public),
        "key_id": key_id,
        "encrypted": passphrase is not None,
    }
    return Report(command="sign", data=data)
