"""Shared by all tests: no network, four host devices, and one tiny artifact built once."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from neuronc.cache.cache import Cache

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["NEURONC_CACHE"] = "off"  # a test that wants a store names one
# A shell starts what runs in its background with Ctrl-C ignored, and children inherit that.
signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session", autouse=True)
def _four_host_devices() -> None:
    """JAX fixes its number of devices at first use; the largest tp degree of any test decides."""
    import jax

    jax.config.update("jax_num_cpu_devices", 4)


@pytest.fixture(scope="session")
def tiny_checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A two-layer llama with 9 query and 3 KV heads, as SmolLM2 has, and a tokenizer."""
    from tests.tiny_models import make_checkpoint

    return make_checkpoint(tmp_path_factory.mktemp("checkpoint") / "tiny-llama")


@pytest.fixture(scope="session")
def shared_cache(tmp_path_factory: pytest.TempPathFactory) -> "Cache | None":
    """For the artifacts that many tests use: one process of the run compiles them, others wait."""
    from neuronc.cache.cache import open_cache

    base = tmp_path_factory.getbasetemp()
    is_distributed = "PYTEST_XDIST_WORKER" in os.environ
    return open_cache(str((base.parent if is_distributed else base) / "shared-cache"))


@pytest.fixture(scope="session")
def tiny_artifact(
    tiny_checkpoint: Path,
    tmp_path_factory: pytest.TempPathFactory,
    shared_cache: "Cache | None",
) -> Iterator[Path]:
    """The tiny llama at tp=2 with 2 slots of 64 tokens, prefill buckets 8 and 16, decode 32 and 64.

    Built with the whole pipeline, verification included. Tests that change it copy it first; one
    that forgets fails the session's last test, since later ones would be told what it left.
    """
    from neuronc.pipeline import build
    from neuronc.recipe import Recipe

    recipe = Recipe(
        checkpoint=str(tiny_checkpoint),
        tp=2,
        batch_size=2,
        max_length=64,
        prefill_buckets=(8, 16),
        decode_buckets=(32, 64),
    )
    out = tmp_path_factory.mktemp("artifact") / "tiny-llama-tp2"
    folder = build(recipe, out, cache=shared_cache).folder
    before = _states(folder)
    yield folder
    assert _states(folder) == before, "a test changed the artifact that all tests share"


def _states(folder: Path) -> dict[str, tuple[int, int]]:
    stats = {str(p): p.stat() for p in folder.rglob("*") if p.is_file()}
    return {path: (stat.st_mtime_ns, stat.st_size) for path, stat in stats.items()}
