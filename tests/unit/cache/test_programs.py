"""Programs to and from the store: by one process, by its worker, and where one of them fails."""

import json
from pathlib import Path
from typing import Any

import pytest

from neuronc.cache.cache import Cache
from neuronc.cache.local_store import LocalStore
from neuronc.cache.locks import if_free
from neuronc.cache.program_keys import lowered_key
from neuronc.errors import CompilerError, FrozenError
from neuronc.lower import jobs, make_program
from neuronc.lower.cached_program import take_program_files
from neuronc.lower.jobs import ProgramJob, run_jobs
from tests.entries import make_job

_SIGNATURE: dict[str, Any] = {
    "inputs": [["weight", "q", [4, 4], "f32"], ["weight", "k", [4, 4], "f32"]],
    "outputs": [["data", "logits", [1, 128], "f32"]],
    "aliases": {},
    "merged_weights": [],
}
_FILES = ["cpu.exe", "program.hlo.pb", "program.mlir", "signature.json"]


@pytest.fixture
def cache(tmp_path: Path) -> Cache:
    return Cache(local=LocalStore(root=tmp_path / "store"))


@pytest.fixture
def done(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What was lowered and compiled: both stages only write files, with no torch and no XLA."""
    done: list[str] = []

    def lower(job: Any, folder: Path, say: Any) -> None:
        done.append(f"lower {job['name']}")
        (folder / "program.mlir").write_text(f"module @{job['name']} {{ {job['spec']} }}")
        (folder / "program.hlo.pb").write_bytes(b"hlo")
        if job["source"] == "fails late":
            message = "lowering failed"
            raise CompilerError(message)
        (folder / "signature.json").write_text(json.dumps(_SIGNATURE))

    def compile_it(job: Any, folder: Path, say: Any) -> None:
        done.append(f"compile {job['name']}")
        if job["source"] == "does not compile":
            (folder / "cpu.exe").write_bytes(b"half")
            message = "compiling failed"
            raise CompilerError(message)
        (folder / "cpu.exe").write_bytes(b"machine code")
        merged = {**_SIGNATURE, "merged_weights": [["q", "k"]]}
        (folder / "signature.json").write_text(json.dumps(merged))

    monkeypatch.setattr(make_program, "_trace_and_lower", lower)
    monkeypatch.setattr(make_program, "_make_executable", compile_it)
    monkeypatch.setattr("neuronc.targets.cpu.set_device_count", lambda _: None)
    return done


def make(cache: Cache | None, folder: Path, **job: Any) -> list[str]:
    """Files of the program that the worker makes in ``folder``."""
    folder.mkdir()
    make_program.make_program(make_job(**job), folder, cache, lambda _: None)
    return sorted(path.name for path in folder.iterdir())


def test_what_one_build_made_another_takes_whole(
    cache: Cache, done: list[str], tmp_path: Path
) -> None:
    assert make(cache, tmp_path / "one") == _FILES
    assert done == ["lower decode_64", "compile decode_64"]
    assert make(cache, tmp_path / "two") == _FILES
    (tmp_path / "three").mkdir()
    assert take_program_files(make_job(), tmp_path / "three", cache) is None
    assert len(done) == 2
    for name in _FILES:
        one = (tmp_path / "one" / name).read_bytes()
        assert (tmp_path / "two" / name).read_bytes() == one
        assert (tmp_path / "three" / name).read_bytes() == one
    assert json.loads(one)["merged_weights"] == [["q", "k"]]


def test_other_weights_of_the_same_shapes_make_nothing(
    cache: Cache, done: list[str], tmp_path: Path
) -> None:
    make(cache, tmp_path / "one")
    make(cache, tmp_path / "two", source="a fine-tune", config={"_name_or_path": "elsewhere"})
    assert len(done) == 2


def test_another_bucket_makes_one_program(cache: Cache, done: list[str], tmp_path: Path) -> None:
    make(cache, tmp_path / "one")
    make(cache, tmp_path / "two", name="decode_32", spec={"bucket": 32})
    assert done[2:] == ["lower decode_32", "compile decode_32"]


def test_merged_weights_are_kept_by_place_and_come_back_by_the_names_here(
    cache: Cache, done: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make(cache, tmp_path / "one")
    renamed = [["weight", "query", [4, 4], "f32"], ["weight", "key", [4, 4], "f32"]]
    monkeypatch.setitem(_SIGNATURE, "inputs", renamed)
    make(cache, tmp_path / "two", config={"layer_names": "others"})  # another lowered program
    assert done == ["lower decode_64", "compile decode_64", "lower decode_64"]
    signature = json.loads((tmp_path / "two" / "signature.json").read_text())
    assert signature["merged_weights"] == [["query", "key"]]


@pytest.mark.parametrize(
    ("source", "kept"), [("fails late", []), ("does not compile", ["lowered"])]
)
def test_what_fails_leaves_no_entry_and_no_lock(
    cache: Cache, done: list[str], tmp_path: Path, source: str, kept: list[str]
) -> None:
    with pytest.raises(CompilerError):
        make(cache, tmp_path / "one", source=source)
    found = list(cache.local.scan())
    assert [one.key.kind for one in found if not hasattr(one, "why")] == kept
    assert len(found) == len(kept)
    for lock in (cache.local.root / "locks").glob("*.lock"):
        with if_free(lock) as is_free:
            assert is_free
    assert make(cache, tmp_path / "two") == _FILES


def test_without_a_cache_nothing_is_kept(done: list[str], tmp_path: Path) -> None:
    assert make(None, tmp_path / "one") == _FILES
    assert make(None, tmp_path / "two") == _FILES
    assert len(done) == 4


def _no_worker(*_: object, **__: object) -> int:
    message = "a worker was started"
    raise AssertionError(message)


def _jobs(**fields: Any) -> list[ProgramJob]:
    from neuronc.trace.program_spec import ProgramSpec

    job = make_job(**fields)
    return [ProgramJob(**{**job, "spec": ProgramSpec(**job["spec"])})]


def test_frozen_takes_what_is_there_and_refuses_to_make_the_rest(
    cache: Cache, done: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(jobs, "run_worker", _no_worker)
    make(cache, tmp_path / "one")
    programs = run_jobs(_jobs(), tmp_path / "programs", cache=cache, frozen=True)
    assert (programs.made, programs.reused) == ((), ("decode_64",))
    with pytest.raises(FrozenError, match=r"decode_32: bucket is 32; nearest entry \w+ has 64"):
        run_jobs(
            _jobs(name="decode_32", spec={"bucket": 32}), tmp_path / "p", cache=cache, frozen=True
        )


@pytest.mark.parametrize("kind", ["lowered", "executable"])
def test_a_poisoned_entry_is_made_again_and_told(
    cache: Cache,
    done: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    kind: str,
) -> None:
    make(cache, tmp_path / "one")
    (entry,) = (one for one in cache.local.entries() if one.key.kind == kind)
    name = {"lowered": "program.mlir", "executable": "cpu.exe"}[kind]
    (cache.local.root / entry.place / name).write_bytes(b"evil")
    asked: list[Any] = []

    def worker(needed: Any, programs_dir: Path, *_: object) -> int:
        asked.extend(needed.values())
        for each in needed.values():
            make_program.make_program(each, programs_dir / each["name"], cache, lambda _: None)
        return 5

    monkeypatch.setattr(jobs, "run_worker", worker)
    programs = run_jobs(_jobs(), tmp_path / "programs", cache=cache)
    assert programs.made == ("decode_64",)
    assert f"{entry.key.digest[:16]} was damaged" in programs.damage[0]
    assert done[2:] == {"lowered": ["lower decode_64"], "executable": ["compile decode_64"]}[kind]
    assert bool(asked[0]["signature"]) == (kind == "executable")  # then torch is not needed
    built = tmp_path / "programs" / "decode_64"
    assert (built / name).read_bytes() == (tmp_path / "one" / name).read_bytes()
    assert run_jobs(_jobs(), tmp_path / "again", cache=cache).made == ()


def test_a_worker_is_told_how_much_memory_a_neighbour_took(
    cache: Cache, done: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make(cache, tmp_path / "one")
    told: list[Any] = []

    def worker(needed: Any, *_: object) -> int:
        told.extend(needed.values())
        return 0

    monkeypatch.setattr(jobs, "run_worker", worker)
    run_jobs(_jobs(name="decode_32", spec={"bucket": 32}), tmp_path / "programs", cache=cache)
    assert told[0]["known_bytes"] > 1_000_000
    assert told[0]["cache"] == {"folder": str(cache.local.root), "behind": None}
    assert lowered_key(told[0]).kind == "lowered"
