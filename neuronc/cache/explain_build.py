"""Which programs of a build the store has, and for each that it lacks the reason."""

import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from neuronc.artifact.weights import open_source
from neuronc.cache.cache import Cache
from neuronc.cache.entry import DamagedEntryError
from neuronc.cache.explain import Miss, explain
from neuronc.cache.key import Key, Kind
from neuronc.cache.program_keys import executable_key, lowered_key, neff_key
from neuronc.errors import InputError
from neuronc.lower.program_files import NEURON_HLO
from neuronc.preparation import job_of, programs_of, require_fit_of, settings_for
from neuronc.progress import SILENT, Progress
from neuronc.recipe import Recipe
from neuronc.sizes import complete
from neuronc.targets.neuron.settings import CompileOptions, NeuronSettings

State = Literal["hit", "remote", "miss", "unknown"]
"""In this machine's store, behind the URL, in neither, or not to be told before it is lowered."""

_UNKNOWN = "not known before it is lowered"


@dataclass(frozen=True, kw_only=True, slots=True)
class Part:
    """One thing that a build looks for.

    Attributes:
        program: Its name in the artifact.
        kind: What of it.
        state: Whether it was found.
        key: Digest of its key; None where that is not known.
        why: Of a miss; empty otherwise.
        miss: The nearest entry and all that differs; None where nothing was looked for.
    """

    program: str
    kind: Kind
    state: State
    key: str | None
    why: str = ""
    miss: Miss | None = None

    def to_dict(self) -> dict[str, object]:
        """The same in JSON terms."""
        told = {"program": self.program, "kind": self.kind, "state": self.state, "key": self.key}
        return {**told, "why": self.why, "miss": None if self.miss is None else self.miss.to_dict()}


def explain_build(
    recipe: Recipe, options: CompileOptions, cache: Cache, *, progress: Progress = SILENT
) -> list[Part]:
    """Look for every program that a build of ``recipe`` needs; nothing is made, kept or changed.

    Raises:
        NeuroncError: what a build of it refuses before it begins.
    """
    settings = settings_for(recipe, options)
    source = open_source(recipe, lower_only=options.lower_only, config_only=options.config_only)
    recipe = complete(recipe, source.config)
    if settings is not None:
        require_fit_of(source, recipe, settings)
    specs = programs_of(recipe)
    parts: list[Part] = []
    with progress.stage("looking for programs", total=len(specs), unit="programs") as stage:
        for spec in specs:
            with tempfile.TemporaryDirectory(prefix="neuronc-cache-") as scratch:
                job = asdict(job_of(spec, source, recipe, None))
                parts += _parts(job, settings, cache, Path(scratch))
            stage.advance(1, note=spec.name)
    return parts


def _parts(
    job: Mapping[str, Any], settings: NeuronSettings | None, cache: Cache, scratch: Path
) -> Iterator[Part]:
    lowered, folder = _look(job["name"], lowered_key(job), cache, scratch)
    yield lowered
    makes_neff = settings is not None and settings.compiler is not None
    if folder is None:
        later: dict[Kind, bool] = {"executable": job["make_executable"], "neff": makes_neff}
        for kind in (kind for kind, is_made in later.items() if is_made):
            yield Part(program=job["name"], kind=kind, state="unknown", key=None, why=_UNKNOWN)
        return
    if job["make_executable"]:
        key = executable_key(folder, target=job["target"], tp=job["tp"])
        yield _look(job["name"], key, cache, scratch)[0]
    if settings is not None and settings.compiler is not None:
        key = neff_key(
            (folder / NEURON_HLO).read_bytes(),
            args=settings.flags.of(job["spec"]["phase"]),
            compiler=settings.compiler.version,
        )
        yield _look(job["name"], key, cache, scratch)[0]


def _look(program: str, key: Key, cache: Cache, scratch: Path) -> tuple[Part, Path | None]:
    """Whether there is an entry of ``key``, and the folder that holds its files then."""
    damage = ""
    try:
        entry = cache.local.look(key)
        if entry is not None:
            cache.local.check(entry)
            found = Part(program=program, kind=key.kind, state="hit", key=key.digest)
            return found, cache.local.root / entry.place
    except InputError as error:  # damaged, or nobody may read it
        damage = error.message
    try:
        if cache.remote is not None and cache.remote.fetch(key, scratch) is not None:
            found = Part(program=program, kind=key.kind, state="remote", key=key.digest)
            return found, scratch
    except DamagedEntryError as error:
        damage = error.message
    miss = explain(cache, key)
    why = damage or str(miss)
    return Part(
        program=program, kind=key.kind, state="miss", key=key.digest, why=why, miss=miss
    ), None
