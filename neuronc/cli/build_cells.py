"""neuronc build with a file of several builds: which of them, the lock, and one report of all."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from neuronc.cli.build_flags import BuildFlags
from neuronc.cli.cells_report import Plan, report_cells
from neuronc.cli.options import require_out
from neuronc.cli.output import Report
from neuronc.errors import UsageError

if TYPE_CHECKING:
    from neuronc.matrix.cells import Cell
    from neuronc.matrix.run import BuildOne, Outcome
    from neuronc.pipeline import Built
    from neuronc.progress import Progress

OnlyOption = Annotated[
    list[str] | None,
    typer.Option("--only", metavar="NAME", help="This build of the file; may be given again."),
]
ShardOption = Annotated[
    str | None,
    typer.Option("--shard", metavar="K/N", help="Part K of N equal parts of the file's builds."),
]
LockedFlag = Annotated[
    bool, typer.Option("--locked", help="Refuse inputs or tools that differ from the lock file.")
]
UpdateLockFlag = Annotated[
    bool, typer.Option("--update-lock", help="Write what is built, and of what, to the lock file.")
]
KeepGoingFlag = Annotated[
    bool,
    typer.Option(
        "--keep-going/--fail-fast", help="After a failed build the others (default), or none."
    ),
]
JunitOption = Annotated[
    Path | None,
    typer.Option("--junit", metavar="FILE", help="Write a test case for each build."),
]


@dataclass(frozen=True, kw_only=True, slots=True)
class CellFlags:
    """What the command line said about the builds of a file."""

    only: tuple[str, ...] = ()
    shard: str | None = None
    locked: bool = False
    update_lock: bool = False
    keep_going: bool = True
    junit: Path | None = None


def has_cells(recipe: str, given: CellFlags) -> bool:
    """Whether ``recipe`` is to be built cell by cell: it has several, or a flag is about them.

    Raises:
        InputError: the file cannot be read.
        UsageError: such a flag for what is no recipe file.
    """
    is_asked = given != CellFlags()
    if recipe.endswith(".toml"):
        from neuronc.matrix.cells import has_builds

        return is_asked or has_builds(Path(recipe))
    if is_asked:
        names = [field.replace("_", "-") for field in given.__slots__]
        message = f"{recipe} is no .toml file, and --{', --'.join(names[:4])}, --fail-fast and"
        message += " --junit are about the builds of one"
        raise UsageError(message, hint="write a recipe file, or leave them out")
    return False


def build_cells(
    file: Path, overrides: Mapping[str, Any], given: CellFlags, flags: BuildFlags
) -> Report:
    """Build the cells of ``file`` that were asked for, and report on each.

    Raises:
        NeuroncError: what is wrong with the file, its lock or the flags, before anything is built.
    """
    from neuronc.cli.progress import make_progress
    from neuronc.matrix.run import run_cells

    progress = make_progress(flags.quiet)
    plan = _plan(file, {**flags.overrides, **overrides}, given, flags, progress)
    outcomes: list[Outcome] = []
    build_one = _builder(flags, progress)
    try:
        for outcome in run_cells(
            plan.cells, build_one, fail_fast=not given.keep_going, progress=progress
        ):
            outcomes.append(outcome)  # noqa: PERF402 (what is known at an interrupt counts)
    finally:  # an interrupt too: what is whole stays, and is told
        _write_files(plan, outcomes, given)
    return report_cells(plan, outcomes)


def _plan(
    file: Path,
    overrides: Mapping[str, Any],
    given: CellFlags,
    flags: BuildFlags,
    progress: "Progress",
) -> Plan:
    from neuronc.matrix.cells import load_cells
    from neuronc.matrix.shard import parse_shard, select

    shard = None if given.shard is None else parse_shard(given.shard)
    _check_flags(given, flags)
    every = load_cells(file, overrides)
    names = tuple(cell.name for cell in every)
    for cell in every:
        require_out(cell.recipe.out)
    cells = select(every, only=given.only, shard=shard)
    plan = Plan(file=file, names=names, cells=cells, shard=given.shard)
    if not (given.locked or given.update_lock):
        return plan
    return _with_lock(plan, given, flags, progress)


def _check_flags(given: CellFlags, flags: BuildFlags) -> None:
    if given.locked and given.update_lock:
        message = "--locked keeps to the lock file, and --update-lock writes it"
        raise UsageError(message, hint="pass one of the two")
    if flags.allow_env_flags and (given.locked or given.update_lock):
        message = "--allow-env-flags lets in NEURON_CC_FLAGS, which no lock file holds"
        raise UsageError(message, hint="pass the arguments with --cc-arg, or in the recipe")
    if given.junit is not None:
        from neuronc.checkpoint.paths import require_writable

        require_writable("junit", given.junit)


def _with_lock(plan: Plan, given: CellFlags, flags: BuildFlags, progress: "Progress") -> Plan:
    from neuronc.checkpoint.paths import require_writable
    from neuronc.matrix.lock import pinned, resolve
    from neuronc.matrix.lock_changes import require_same
    from neuronc.matrix.lock_file import lock_path, read_lock

    path = lock_path(plan.file)
    if given.update_lock:
        require_writable("update-lock: the lock file", path)
    before = read_lock(path) if given.locked or path.exists() else None
    commits = {}
    if before is not None and given.locked:
        commits = {key: found.revision for key, found in before.inputs.items()}
    here = resolve(plan.cells, flags.compile_options, commits=commits, progress=progress)
    if before is not None and given.locked:
        require_same(before, here, plan.names, subject=str(path))
    cells = tuple(pinned(cell, here) for cell in plan.cells)
    return replace(plan, cells=cells, before=before, here=here)


def _builder(flags: BuildFlags, progress: "Progress") -> "BuildOne":
    from neuronc.cli.build_one import build_one
    from neuronc.cli.failures import known_failure
    from neuronc.errors import error_of

    def build_cell(cell: "Cell") -> "Built":
        try:
            return build_one(cell.recipe, cell.out, flags, progress, name=cell.name)
        except (OSError, MemoryError) as error:  # a full disk is no bug: as main() tells it
            failure = known_failure(error)
            if failure is None:
                raise
            message, hint = failure.message, failure.hint
            raise error_of(failure.exit_code, message, hint=hint) from error

    return build_cell


def _write_files(plan: Plan, outcomes: "Sequence[Outcome]", given: CellFlags) -> None:
    from neuronc.matrix.report import write_cells_junit

    if given.update_lock and plan.here is not None:
        from neuronc.matrix.lock_changes import update, with_artifact
        from neuronc.matrix.lock_file import lock_path, read_lock, write_lock

        path = lock_path(plan.file)
        # Read again: another shard may have written it meanwhile.
        lock = update(read_lock(path) if path.exists() else None, plan.here, plan.names)
        for outcome in outcomes:
            if outcome.built is not None:
                lock = with_artifact(lock, outcome.cell.name, outcome.built.manifest)
        write_lock(lock, path)
    if given.junit is not None:
        write_cells_junit(plan.file, outcomes, given.junit, shard=given.shard)
