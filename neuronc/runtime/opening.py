"""What opening an artifact takes: its files are listed and compared, its ranks are found."""

from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

from neuronc.artifact.manifest import MANIFEST_FILE, PROGRAMS_DIR, WEIGHTS_DIR, Manifest
from neuronc.errors import InputError
from neuronc.lower.program_files import EXECUTABLE
from neuronc.parallel.split_manifest import SPLIT_FILE, check_files, read_split_manifest
from neuronc.runtime.ranks import Ranks
from neuronc.targets.neuron.compiler.toolchain import installed_version, is_stand_in

_RANK_FILES = f"{WEIGHTS_DIR}/rank-"


def device_name(manifest: Manifest) -> str:
    """The target, unless a test double stands for its compiler or runtime: then that is said."""
    compiler = (manifest.neuron or {}).get("compiler") or {}
    nrtpy = installed_version("nrtpy") or ""
    if is_stand_in(str(compiler.get("version", ""))) or is_stand_in(nrtpy):
        return f"{manifest.target} test double"
    return manifest.target


def open_ranks(folder: Path, manifest: Manifest, target: str, *, rank_processes: bool) -> Ranks:
    """The ranks of ``manifest`` on ``target``, a process each if so wanted."""
    if target == "cpu":
        from neuronc.runtime.cpu_ranks import open_cpu_ranks

        return open_cpu_ranks(folder, manifest)
    from neuronc.runtime.device_ranks import DeviceProcesses, DeviceThreads

    return (DeviceProcesses if rank_processes else DeviceThreads)(folder, manifest)


@contextmanager
def comparing(folder: Path, manifest: Manifest) -> Iterator[Future[None]]:
    """Compare digests: of the weights in a thread that may outlive the block, of the rest first."""
    rest = tuple(file for file in manifest.files if not file.path.startswith(_RANK_FILES))
    check_files(folder, rest)
    ranks = tuple(file for file in manifest.files if file.path.startswith(_RANK_FILES))
    pool = ThreadPoolExecutor(max_workers=1)
    checked = pool.submit(check_files, folder, ranks)
    pool.shutdown(wait=False)
    try:
        yield checked
    except Exception:
        checked.result()  # a changed file is the better explanation
        raise
    if checked.done():
        checked.result()


def require_listed(folder: Path, manifest: Manifest, executable: str) -> None:
    """What is going to be loaded has to be among the files whose digests are compared."""
    if not manifest.has_weights:
        message = f"{folder} has no weights: it was lowered from a config alone"
        hint = "compile its bundle with neuronc compile BUNDLE --weights SPLIT -o DIR"
        raise InputError(message, hint=hint)
    listed = {file.path for file in manifest.files}
    programs = {f"{PROGRAMS_DIR}/{entry.name}/{executable}" for entry in manifest.programs}
    if not listed & programs and manifest.target != "cpu":
        what = "programs for the CPU" if executable == EXECUTABLE else "NEFFs: it is a bundle"
        message = f"{folder} has no {what}"
        hint = "neuronc compile BUNDLE -o DIR compiles it, where neuronx-cc is"
        if executable == EXECUTABLE:
            hint = f"neuronc compile --relink {folder} makes them"
        raise InputError(message, hint=hint)
    splits = (file for file in manifest.files if file.path == f"{WEIGHTS_DIR}/{SPLIT_FILE}")
    check_files(folder, tuple(splits))
    split = read_split_manifest(folder / WEIGHTS_DIR)
    ranks = [split.rank_files(rank) for rank in range(split.tp)]
    weights = {f"{WEIGHTS_DIR}/{path}" for paths in ranks for path in paths}
    missing = sorted((programs | weights) - listed)
    if split.tp != manifest.tp:
        missing = [f"weights for {split.tp} ranks"]
    if missing:
        what = f"does not list {', '.join(missing)}"
        message = f"{folder / MANIFEST_FILE} is damaged: it {what}"
        raise InputError(message, hint="compile the artifact again")
