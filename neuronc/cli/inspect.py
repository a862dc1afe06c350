"""neuronc inspect: what is in an artifact, a NEFF or an HLO file."""

from collections import Counter
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from neuronc.cli.options import JsonFlag, QuietFlag
from neuronc.cli.output import Report
from neuronc.errors import InputError

EXAMPLES = (
    "neuronc inspect artifact --provenance",
    "neuronc inspect artifact/programs/decode_512/neuron.hlo.pb",
)
_SHOWN = 8

Found = tuple[dict[str, object], Callable[[Any], None]]


def inspect(
    path: Annotated[Path, typer.Argument(help="An artifact, a .neff or a .hlo.pb file.")],
    *,
    provenance: Annotated[
        bool, typer.Option("--provenance", help="Show what an artifact was made of, and with what.")
    ] = False,
    _quiet: QuietFlag = False,
    _json: JsonFlag = False,
) -> Report:
    """Show what is in an artifact, a NEFF or an HLO file.

    Only what describes it is read: no weights, nothing is loaded.
    """
    if provenance:
        from neuronc.cli.inspect_provenance import show_provenance

        data, draw = show_provenance(path)
    elif path.is_dir():
        data, draw = _artifact(path)
    elif path.name.endswith(".neff"):
        data, draw = _neff(path)
    elif path.name.endswith((".hlo.pb", ".pb", ".hlo")):
        data, draw = _hlo(path)
    else:
        what = "does not exist" if not path.exists() else "is neither a folder, .neff nor .hlo.pb"
        message = f"{path} {what}"
        raise InputError(message, hint="pass an artifact, a .neff or a .hlo.pb file")
    return Report(command="inspect", data={"path": str(path), **data}, text=draw)


def _artifact(folder: Path) -> Found:
    from neuronc.artifact.manifest import read_manifest
    from neuronc.cli.built_report import artifact_lines

    manifest = read_manifest(folder)
    sizes: Counter[str] = Counter()
    for file in manifest.files:
        sizes["/".join(file.path.split("/")[:-1]) or "."] += file.size_bytes
    programs: list[dict[str, object]] = [
        {
            "name": program.name,
            "inputs": dict(Counter(tensor.kind for tensor in program.signature.inputs)),
            program.signature.outputs[0].name: list(program.signature.outputs[0].shape),
            "size_bytes": sizes[f"programs/{program.name}"],
        }
        for program in manifest.programs
    ]
    data: dict[str, object] = {
        "kind": "bundle" if manifest.is_bundle else "artifact",
        "artifact_digest": manifest.digest,
        "model": dict(manifest.model),
        "target": manifest.target,
        "tp": manifest.tp,
        "dtype": manifest.dtype,
        "quantize": manifest.quantize,
        "on_device_sampling": manifest.on_device_sampling,
        "batch_size": manifest.batch_size,
        "max_length": manifest.max_length,
        "programs": programs,
        "neuron": manifest.neuron,
        "tool_versions": dict(manifest.tool_versions),
        "host": dict(manifest.host),
        "size_bytes": dict(sizes),
        "verification": manifest.verification or "unverified",
    }

    def draw(console: Any) -> None:
        from neuronc.cli.tables import draw_pairs, draw_rows

        lines = artifact_lines(folder, manifest, took="")
        lines.pop("took")
        draw_pairs(console, {"kind": str(data["kind"]), "model": str(manifest.model), **lines})
        rows = [(name, f"{size / 1e6:,.1f}") for name, size in sorted(sizes.items())]
        draw_rows(console, ("folder", "MB"), rows)

    return data, draw


def _neff(path: Path) -> Found:
    from neuronc.targets.neuron.compiler.toolchain import is_stand_in
    from neuronc.targets.neuron.neff.check import neff_variables
    from neuronc.targets.neuron.neff.reader import list_neff, read_neff_header

    header, files, variables = read_neff_header(path), list_neff(path), neff_variables(path)
    tensors = {
        kind: {n: v.get("size") for n, v in variables.items() if v.get("type") == kind}
        for kind in ("input", "output")
    }
    data: dict[str, object] = {
        "kind": "neff",
        **asdict(header),
        "stand_in": is_stand_in(header.build_version),
        "files": files,
        **{f"{kind}s": found for kind, found in tensors.items()},
    }

    def draw(console: Any) -> None:
        from neuronc.cli.tables import draw_pairs, draw_rows

        what = "a test double's, not a NEFF" if data["stand_in"] else "NEFF"
        pairs = {"kind": what, **{k: str(v) for k, v in asdict(header).items()}}
        draw_pairs(console, pairs)
        draw_rows(console, ("file", "bytes"), [(n, str(size)) for n, size in files.items()])
        for kind, found in tensors.items():
            rows = [(n, str(size)) for n, size in list(found.items())[:_SHOWN]]
            title = f"{len(found)} {kind}s, first {len(rows)}"
            draw_rows(console, (title, "bytes"), rows)

    return data, draw


def _hlo(path: Path) -> Found:
    from neuronc.targets.neuron.hlo.summary import summarize_hlo

    found = summarize_hlo(path)
    data: dict[str, object] = {"kind": "hlo", **asdict(found)}

    def draw(console: Any) -> None:
        from neuronc.cli.tables import draw_pairs, draw_rows

        legal = "yes" if found.is_legal else "no: as XLA writes it; neuron.hlo.pb is the legal form"
        pairs = {
            "module": found.name,
            "operators": str(sum(found.opcodes.values())),
            "for neuronx-cc": legal,
            "aliased outputs": str(found.num_aliases),
            "collectives": f"{len(found.collectives)}, first {'; '.join(found.collectives[:2])}",
        }
        draw_pairs(console, pairs)
        draw_rows(console, ("operator", "number"), [(n, str(c)) for n, c in found.opcodes.items()])
        for title, names in (("input", found.inputs), ("output", found.outputs)):
            rows = [(name,) for name in names[:_SHOWN]]
            draw_rows(console, (f"{len(names)} {title}s, first {len(rows)}",), rows)

    return data, draw
