"""Which programs two artifacts share, and why they do not share the others."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from neuronc.artifact.diff import Difference
from neuronc.artifact.manifest import PROGRAMS_DIR, Manifest, ProgramEntry
from neuronc.checkpoint.paths import shown
from neuronc.lower.program_files import EXECUTABLE, HLO, NEFF, NEURON_HLO
from neuronc.progress import SILENT, Progress

State = Literal["same", "compiled again", "another program", "only in A", "only in B"]


@dataclass(frozen=True, kw_only=True, slots=True)
class ProgramDifference:
    """One program of two artifacts.

    Attributes:
        name: Of the program.
        state: ``same``: the same lowered program, compiled alike. ``compiled again``: the same
            lowered program, and something the compiler was told or is differs. Weights change
            neither.
        because: The differences that can explain it; all of them, since one build tells no more.
        operators: Opcode to how many more (less, negative) the second has.
        same_bytes: Whether what was compiled is the same to the byte; None where one has nothing.
    """

    name: str
    state: State
    because: tuple[str, ...] = ()
    operators: Mapping[str, int]
    same_bytes: bool | None = None


def compare_programs(
    sides: tuple[Path, Path],
    manifests: tuple[Manifest, Manifest],
    differences: Sequence[Difference],
    *,
    progress: Progress = SILENT,
) -> tuple[ProgramDifference, ...]:
    """Every program of either artifact, those of the first one first.

    Args:
        sides: The artifacts' folders.
        manifests: Of both, from `neuronc.artifact.diff.open_side`.
        differences: From `neuronc.artifact.diff.find_differences`.
        progress: Told of every program that is read.

    Raises:
        InputError: an HLO file cannot be read.
    """
    by_name = [{p.name: p for p in manifest.programs} for manifest in manifests]
    names = list(dict.fromkeys((*by_name[0], *by_name[1])))
    found = []
    with progress.stage("comparing programs", total=len(names), unit="programs") as stage:
        for name in names:
            entries = tuple(programs.get(name) for programs in by_name)
            found.append(_compare(name, entries, sides, manifests, differences))
            stage.advance(1, note=name)
    return tuple(found)


def _compare(
    name: str,
    entries: tuple[ProgramEntry | None, ...],
    sides: tuple[Path, Path],
    manifests: tuple[Manifest, Manifest],
    differences: Sequence[Difference],
) -> ProgramDifference:
    entry = next(entry for entry in entries if entry is not None)
    if None in entries:
        state: State = "only in B" if entries[0] is None else "only in A"
        because = (f"{entry.phase} bucket {entry.bucket} is {state}",)
        return ProgramDifference(name=name, state=state, because=because, operators={})
    digests = [_digests(manifest, name) for manifest in manifests]
    same_bytes = _have_same(digests, (NEFF,)) if manifests[0].neuron else None
    same_bytes = _have_same(digests, (EXECUTABLE,)) if same_bytes is None else same_bytes
    about = [d for d in differences if d.phase in ("", entry.phase)]
    told = tuple(_shown(d) for d in about if d.effect == "compiling")
    if _have_same(digests, _common(digests)):
        state = "compiled again" if told else "same"
        return ProgramDifference(
            name=name, state=state, because=told, operators={}, same_bytes=same_bytes
        )
    lowering = tuple(_shown(d) for d in about if d.effect == "lowering")
    return ProgramDifference(
        name=name,
        state="another program",
        because=lowering or ("no difference that is recorded says why",),
        operators=_operator_changes(sides, name, _common(digests)[0]),
        same_bytes=same_bytes,
    )


def _digests(manifest: Manifest, program: str) -> dict[str, str]:
    prefix = f"{PROGRAMS_DIR}/{program}/"
    return {
        f.path.removeprefix(prefix): f.sha256 for f in manifest.files if f.path.startswith(prefix)
    }


def _common(digests: Sequence[Mapping[str, str]]) -> tuple[str, ...]:
    """The lowered forms that both have; every artifact has `HLO`, those for Neuron another one."""
    both = tuple(name for name in (NEURON_HLO, HLO) if all(name in found for found in digests))
    return both or (HLO,)


def _have_same(digests: Sequence[Mapping[str, str]], names: Sequence[str]) -> bool | None:
    a, b = ([found.get(name) for name in names] for found in digests)
    return None if None in (*a, *b) else a == b


def _operator_changes(sides: tuple[Path, Path], program: str, file: str) -> dict[str, int]:
    from neuronc.targets.neuron.hlo.summary import summarize_hlo

    a, b = (summarize_hlo(folder / PROGRAMS_DIR / program / file).opcodes for folder in sides)
    changes = {name: b.get(name, 0) - a.get(name, 0) for name in sorted(a.keys() | b.keys())}
    return {name: change for name, change in changes.items() if change}


def _shown(found: Difference) -> str:
    return f"{found.name} {shown(found.a)} -> {shown(found.b)}"
