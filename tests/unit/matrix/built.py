"""Cells and artifacts by hand, for what is decided around a build."""

from pathlib import Path

from neuronc.artifact.manifest import Manifest
from neuronc.matrix.cells import Cell
from neuronc.pipeline import Built
from neuronc.recipe import Recipe
from neuronc.tools import tool_versions


def make_cell(name: str, **recipe: object) -> Cell:
    out = Path("out") / name
    asked = {"checkpoint": "model", **recipe}
    return Cell(
        name=name,
        recipe=Recipe(**asked, out=out),  # type: ignore[arg-type]
        out=out,
        source=str(asked["checkpoint"]),
    )


def make_manifest(*, max_length: int = 8, machine: str = "x86_64") -> Manifest:
    return Manifest(
        model={"model_type": "llama", "source": "model"},
        tp=1,
        batch_size=1,
        max_length=max_length,
        dtype="f32",
        target="cpu",
        programs=(),
        tool_versions=tool_versions(),
        host={"machine": machine},
        files=(),
    )


def make_built(cell: Cell, *, reused: bool = False, manifest: Manifest | None = None) -> Built:
    return Built(
        folder=cell.out,
        manifest=manifest or make_manifest(),
        split=None,
        programs=None,
        elapsed_s=1.0,
        reused=reused,
    )
