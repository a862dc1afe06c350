"""What has to be there before the first round: environments and converted weights."""

import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.benchmarks.peers.catalog import OURS, Peer
from tests.benchmarks.peers.processes import run_engine
from tests.benchmarks.peers.venvs import LeftOutError, python_with


@dataclass(frozen=True, kw_only=True, slots=True)
class Ready:
    """An engine that can be run in one dtype."""

    engine: Path
    python: Path
    folder: Path


def prepare(
    peers: Sequence[Peer],
    models: Mapping[str, Path],
    cache: Path,
    *,
    tell: Callable[[str], None],
) -> tuple[dict[tuple[str, str], Ready], dict[str, str]]:
    """Who can take part in which dtype, and why the others cannot."""
    ready: dict[tuple[str, str], Ready] = {}
    reasons: dict[str, str] = {}
    for peer in peers:
        for dtype, model in models.items():
            if dtype not in peer.dtypes:
                reasons[f"{peer.name} {dtype}"] = peer.missing[dtype]
                continue
            tell(f"preparing {peer.name} {dtype}")
            try:
                ready[peer.name, dtype] = _ready(peer, dtype, model, cache)
            except LeftOutError as error:
                reasons[f"{peer.name} {dtype}"] = str(error)
    return ready, reasons


def _ready(peer: Peer, dtype: str, model: Path, cache: Path) -> Ready:
    """Weights are converted once; our own artifact is compiled every time, for it is under test."""
    python = python_with(peer.packages, cache)
    folder = cache / "converted" / f"{peer.name}-{dtype}"
    done = folder.with_name(f"{folder.name}.done")
    if peer.name == OURS:
        done.unlink(missing_ok=True)
    if not done.exists():
        _remove(folder)
        folder.parent.mkdir(parents=True, exist_ok=True)
        exporter = python_with(peer.export, cache) if peer.export else python
        job = {"do": "prepare", "model": str(model), "folder": str(folder), "dtype": dtype}
        outcome = run_engine(exporter, peer.path, job)
        if outcome.result is None:
            message = f"its weights cannot be converted: {outcome.reason}"
            raise LeftOutError(message)
        done.touch()
    return Ready(engine=peer.path, python=python, folder=folder)


def _remove(folder: Path) -> None:
    if folder.is_symlink():
        folder.unlink()
    elif folder.exists():
        shutil.rmtree(folder)
