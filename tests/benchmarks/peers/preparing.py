"""What has to be there before the first round: environments and converted weights."""

import hashlib
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from neuronc.cache.program_keys import code_digest, digest_json
from neuronc.tools import tool_versions
from tests.benchmarks.peers.catalog import OURS, Peer
from tests.benchmarks.peers.process import Setting
from tests.benchmarks.peers.processes import prepare_engine
from tests.benchmarks.peers.venvs import LeftOutError, python_with


@dataclass(frozen=True, kw_only=True, slots=True)
class Ready:
    """An engine that can be run in one dtype."""

    engine: Path
    python: Path
    folder: Path


@dataclass(frozen=True, kw_only=True, slots=True)
class _Pythons:
    """The interpreters that measure an engine and that convert its weights."""

    runs: Path
    converts: Path


def prepare(
    peers: Sequence[Peer],
    models: Mapping[str, Path],
    cache: Path,
    *,
    prompt_tokens: int,
    new_tokens: int,
    tell: Callable[[str], None],
) -> tuple[dict[tuple[str, str], Ready], dict[str, str]]:
    """Who can take part in which dtype, and why the others cannot.

    Args:
        peers: The engines.
        models: The folder with the weights, by dtype.
        cache: Folder of environments and of what is converted.
        prompt_tokens: Length of every prompt.
        new_tokens: How many follow.
        tell: Gets a line for everything that may take long.
    """
    ready: dict[tuple[str, str], Ready] = {}
    reasons: dict[str, str] = {}
    for peer in peers:
        wanted = {dtype: model for dtype, model in models.items() if dtype in peer.dtypes}
        reasons |= {f"{peer.name} {d}": peer.missing[d] for d in models if d not in wanted}
        if not wanted:
            continue
        try:
            pythons = _pythons(peer, cache, tell)  # once: some fail after a quarter of an hour
        except LeftOutError as error:
            reasons[peer.name] = str(error)
            continue
        for dtype, model in wanted.items():
            setting = Setting(dtype=dtype, prompt_tokens=prompt_tokens, new_tokens=new_tokens)
            tell(f"preparing {peer.name} {dtype}")
            try:
                ready[peer.name, dtype] = _ready(peer, setting, model, cache, pythons)
            except LeftOutError as error:
                reasons[f"{peer.name} {dtype}"] = str(error)
    return ready, reasons


def _pythons(peer: Peer, cache: Path, tell: Callable[[str], None]) -> _Pythons:
    runs = python_with(peer.packages, cache, build=peer.build, tell=tell)
    converts = python_with(peer.export, cache, tell=tell) if peer.export else runs
    return _Pythons(runs=runs, converts=converts)


def _ready(peer: Peer, setting: Setting, model: Path, cache: Path, pythons: _Pythons) -> Ready:
    """Converted once, and again when what it was made with or for is another."""
    folder = cache / "converted" / f"{peer.name}-{setting.dtype}"
    done, key = folder.with_name(f"{folder.name}.done"), preparation_key(peer, setting)
    if not done.exists() or done.read_text() != key:
        done.unlink(missing_ok=True)
        _remove(folder)
        folder.parent.mkdir(parents=True, exist_ok=True)
        job = {
            "do": "prepare",
            "model": str(model),
            "folder": str(folder),
            "setting": asdict(setting),
        }
        reason = prepare_engine(pythons.converts, peer.path, job)
        if reason:
            message = f"its weights cannot be converted: {reason}"
            raise LeftOutError(message)
        done.write_text(key)
    return Ready(engine=peer.path, python=pythons.runs, folder=folder)


def preparation_key(peer: Peer, setting: Setting) -> str:
    """Of what an engine's folder depends on: sha256, hex.

    Our own artifact is under test, so it depends on all of neuronc's code and on its tools.
    """
    inputs: dict[str, object] = {
        "engine": hashlib.sha256(peer.path.read_bytes()).hexdigest(),
        "packages": [*peer.packages, *peer.export],
        "build": dict(peer.build),
        "setting": asdict(setting),
    }
    if peer.name == OURS:
        inputs |= {"code": code_digest(("*",)), "tools": tool_versions()}
    return digest_json(inputs)


def _remove(folder: Path) -> None:
    if folder.is_symlink():
        folder.unlink()
    elif folder.exists():
        shutil.rmtree(folder)
