"""Why something is missing: the nearest entry and what differs first."""

from pathlib import Path
from typing import Any

import pytest

from neuronc.cache.cache import Cache, open_answering
from neuronc.cache.explain import explain, frozen_error, known_bytes
from neuronc.cache.key import Key
from neuronc.cache.local_store import LocalStore
from neuronc.cache.program_keys import lowered_key
from neuronc.cache.reports import keep_report, take_report
from neuronc.cache.transfer import transfer
from tests.entries import FACTS, entry_of, make_files, make_job, make_key, write_raw


@pytest.fixture
def cache(tmp_path: Path) -> Cache:
    return Cache(local=LocalStore(root=tmp_path / "store"))


def keep_job(cache: Cache, tmp_path: Path, facts: dict[str, Any] | None = None, **job: Any) -> Key:
    key = lowered_key(make_job(**job))
    names = make_files(tmp_path / "made", "lowered")
    assert cache.put(key, tmp_path / "made", names, FACTS if facts is None else facts)
    return key


def test_of_several_the_one_with_the_fewest_differences_is_named(
    cache: Cache, tmp_path: Path
) -> None:
    keep_job(cache, tmp_path, tp=4, dtype="bf16", config={"hidden_size": 64})
    near = keep_job(cache, tmp_path, spec={"bucket": 32})
    keep_job(cache, tmp_path, spec={"phase": "prefill", "bucket": 32})
    asked = lowered_key(make_job())
    miss = explain(cache, asked)
    assert miss.nearest is not None
    assert miss.nearest.key.digest == near.digest
    assert miss.differences == (("bucket", 64, 32),)
    assert str(miss) == f"bucket is 64; nearest entry {near.digest[:12]} has 32"
    assert miss.to_dict()["differences"] == [{"input": "bucket", "asked": 64, "there": 32}]


def test_the_first_of_several_differences_is_told_and_the_rest_counted(
    cache: Cache, tmp_path: Path
) -> None:
    keep_job(cache, tmp_path, tp=4, dtype="bf16", config={"hidden_size": 64})
    told = str(explain(cache, lowered_key(make_job())))
    assert told.startswith("tp is 2; nearest entry")
    assert told.endswith("has 4 (and 2 more differ)")


def test_an_entry_is_not_the_nearest_to_itself(cache: Cache, tmp_path: Path) -> None:
    key = keep_job(cache, tmp_path)  # there, but its files may be damaged
    assert explain(cache, key).nearest is None
    near = keep_job(cache, tmp_path, tp=4)
    miss = explain(cache, key)
    assert miss.nearest is not None
    assert miss.nearest.key.digest == near.digest


def test_entries_of_other_kinds_are_not_near(cache: Cache, tmp_path: Path) -> None:
    keep_job(cache, tmp_path)
    miss = explain(cache, make_key())
    assert str(miss) == "the store has no executable entry at all"
    assert miss.to_dict()["nearest"] is None


def test_what_only_the_url_has_is_near_too(bucket: Any, cache: Cache, tmp_path: Path) -> None:
    near = keep_job(cache, tmp_path, tp=4)
    remote = open_answering("s3://models/team")
    transfer(cache.local, remote)
    elsewhere = Cache(local=LocalStore(root=tmp_path / "second"), remote=remote)
    miss = explain(elsewhere, lowered_key(make_job()))
    assert miss.nearest is not None
    assert miss.nearest.key.digest == near.digest
    said = frozen_error(elsewhere, {"decode_64": miss.key})
    assert said.exit_code == 10
    assert "s3://models/team" in said.message
    assert "decode_64: tp is 2; nearest entry" in said.message


def test_damaged_entries_are_not_near_and_stay_where_they_are(cache: Cache, tmp_path: Path) -> None:
    key = keep_job(cache, tmp_path, tp=4)
    (entry,) = cache.local.entries()
    (cache.local.root / entry.place / "entry.json").write_text("{}")
    assert explain(cache, lowered_key(make_job())).nearest is None
    assert (cache.local.root / entry.place).exists()
    assert key.digest == entry.key.digest


@pytest.mark.parametrize(("peak", "known"), [(5_000, 5_000), (True, None), ("5", None), (-1, None)])
def test_memory_of_a_neighbour_is_known_where_the_model_is_the_same(
    cache: Cache, tmp_path: Path, peak: Any, known: int | None
) -> None:
    keep_job(cache, tmp_path, facts={"peak_rss_bytes": peak}, spec={"bucket": 32})
    assert known_bytes(cache, lowered_key(make_job())) == known
    assert known_bytes(cache, lowered_key(make_job(config={"hidden_size": 64}))) is None


def test_only_reports_of_what_passed_come_and_go(cache: Cache, tmp_path: Path) -> None:
    key = make_key(kind="verification")
    keep_report(cache, key, {"passed": False})
    assert take_report(cache, key) is None
    assert list(cache.local.scan()) == []
    keep_report(cache, key, {"passed": True, "cosine": float("nan")})
    found = take_report(cache, key)
    assert found is not None
    assert found["passed"] is True


@pytest.mark.parametrize("text", ["[]", "no json", '{"passed": "yes"}', "[" * 5000, "null"])
def test_a_report_that_is_none_is_a_miss(cache: Cache, tmp_path: Path, text: str) -> None:
    key = make_key(kind="verification")
    (tmp_path / "made").mkdir()
    (tmp_path / "made" / "verification.json").write_text(text)
    entry = entry_of(key, tmp_path / "made", ["verification.json"])
    write_raw(cache.local, tmp_path / "made", entry)
    assert take_report(cache, key) is None
