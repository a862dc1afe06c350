"""neuronc lock: write down what a recipe's builds are made of."""

from pathlib import Path
from typing import Annotated, Any

import typer

from neuronc.cli.options import JsonFlag, QuietFlag
from neuronc.cli.output import Report

EXAMPLES = (
    "neuronc lock recipes/smollm2/135m_cpu_matrix.toml",
    "neuronc lock neuronc.toml --check --json",
)


def lock(
    file: Annotated[Path, typer.Argument(metavar="RECIPE", help="A .toml recipe.")],
    *,
    check: Annotated[
        bool, typer.Option("--check", help="Write nothing; exit 3 when the file is out of date.")
    ] = False,
    quiet: QuietFlag = False,
    _json: JsonFlag = False,
) -> Report:
    """Write RECIPE's lock file: commits and digests of all inputs, versions of the tools.

    Digests of artifacts that are in it are kept while what they were made of is the same; build
    --update-lock puts them there. A build with --locked refuses what differs from the file.
    """
    from neuronc.cli.progress import make_progress
    from neuronc.matrix.cells import load_cells
    from neuronc.matrix.lock import resolve
    from neuronc.matrix.lock_changes import require_same, update
    from neuronc.matrix.lock_file import lock_path, read_lock, write_lock
    from neuronc.preparation import DEFAULT_OPTIONS

    cells = load_cells(file)
    names = tuple(cell.name for cell in cells)
    path = lock_path(file)
    before = read_lock(path) if check or path.exists() else None
    here = resolve(cells, DEFAULT_OPTIONS, progress=make_progress(quiet))
    if check and before is not None:
        require_same(before, here, names, subject=str(path))
    written = update(before, here, names)
    if not check:
        write_lock(written, path)

    def draw(console: Any) -> None:
        from neuronc.cli.tables import draw_pairs

        built = sum(cell.artifact_digest is not None for cell in written.cells.values())
        sources = {
            key: f"{len(found.files)} files, {found.revision or 'no commit'}"
            for key, found in written.inputs.items()
        }
        draw_pairs(
            console, {"lock": str(path), "builds": f"{len(names)}, {built} built", **sources}
        )

    data: dict[str, object] = {
        "path": str(path),
        "is_written": not check,
        "builds": {name: cell.artifact_digest for name, cell in written.cells.items()},
        "inputs": {
            key: {"revision": found.revision, "files": len(found.files)}
            for key, found in written.inputs.items()
        },
        "tools": dict(written.tools),
    }
    return Report(command="lock", data=data, text=draw)
