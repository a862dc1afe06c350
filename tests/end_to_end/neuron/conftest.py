"""Bundles lowered once, and the doubles of AWS's tools in their places."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from neuronc.cache.cache import Cache
from neuronc.pipeline import build
from neuronc.recipe import Recipe
from neuronc.targets.neuron.settings import CompileOptions
from tests.neuron_doubles import CompilerDouble, nrtpy_site

SIZES = {"batch_size": 2, "max_length": 64, "prefill_buckets": (8, 16), "decode_buckets": (32, 64)}


@pytest.fixture(scope="session")
def tiny_bundle(
    tiny_checkpoint: Path,
    tmp_path_factory: pytest.TempPathFactory,
    shared_cache: Cache | None,
) -> Path:
    """The tiny llama lowered for inf2 at tp=2, and verified on the CPU."""
    recipe = Recipe(checkpoint=str(tiny_checkpoint), tp=2, target="inf2", **SIZES)  # type: ignore[arg-type]
    options = CompileOptions(lower_only=True)
    out = tmp_path_factory.mktemp("bundle") / "inf2"
    return build(recipe, out, options=options, cache=shared_cache).folder


@pytest.fixture
def compiler(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> CompilerDouble:
    """A neuronx-cc on the PATH, and an empty cache."""
    double = CompilerDouble(tmp_path / "bin")
    monkeypatch.setenv("PATH", double.path)
    monkeypatch.setenv("NEURONC_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("NEURON_CC_FLAGS", raising=False)
    return double


@pytest.fixture
def _nrtpy(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """``import nrtpy`` finds the double."""
    monkeypatch.syspath_prepend(str(nrtpy_site()))
    monkeypatch.delenv("NEURON_LOGICAL_NC_CONFIG", raising=False)
    monkeypatch.delenv("NEURON_RT_VISIBLE_CORES", raising=False)
    yield
    for name in [name for name in sys.modules if name.split(".")[0] == "nrtpy"]:
        del sys.modules[name]
