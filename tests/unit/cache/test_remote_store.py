"""Stores behind URLs: S3 on loopback, fsspec's memory, a folder, and a double of the Hub."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from neuronc.cache.cache import Cache, open_answering
from neuronc.cache.entry import ENTRY_FILE, DamagedEntryError, Entry
from neuronc.cache.local_store import Damage, LocalStore
from neuronc.cache.remote_store import RemoteStore
from neuronc.cache.transfer import transfer
from neuronc.errors import InputError, ToolchainError, UsageError
from tests.entries import edit_entry, keep, make_files, make_key

PLACES = ["s3://models/team/cache", "s3://models", "memory://cache/deep", "file"]


@pytest.fixture(params=PLACES)
def remote(request: pytest.FixtureRequest, tmp_path: Path) -> Any:
    if request.param == "file":
        return open_answering((tmp_path / "a folder").as_uri())
    request.getfixturevalue("bucket" if request.param.startswith("s3") else "memory")
    return open_answering(request.param)


@pytest.fixture
def s3(bucket: Any) -> RemoteStore:
    store = open_answering("s3://models/team")
    assert isinstance(store, RemoteStore)
    return store


@pytest.fixture
def store(tmp_path: Path) -> LocalStore:
    return LocalStore(root=tmp_path / "store")


def object_of(bucket: Any, entry: Entry, name: str) -> Any:
    return bucket.Object(f"team/{entry.place}/{name}")


def test_what_is_pushed_is_found_and_copied_elsewhere(
    remote: Any, store: LocalStore, tmp_path: Path
) -> None:
    entries = [keep(store, tmp_path / "made", n) for n in range(3)]
    neff = keep(store, tmp_path / "neff", 9, "neff")
    moved = transfer(store, remote)
    assert {e.key.digest for e in moved.copied} == {e.key.digest for e in [*entries, neff]}
    assert moved.there == 0
    again = transfer(store, remote)
    assert (again.copied, again.there) == ((), 4)

    other = LocalStore(root=tmp_path / "other machine")
    assert transfer(remote, other, ["neff"]).copied == (neff,)
    back = transfer(remote, other)
    assert (len(back.copied), back.there) == (3, 1)
    out = tmp_path / "out"
    out.mkdir()
    assert other.take(entries[1].key, out) == entries[1]
    assert (out / "cpu.exe").read_text() == "content 1 of cpu.exe"


def test_layout_is_that_of_a_folder(
    s3: Any, bucket: Any, store: LocalStore, tmp_path: Path
) -> None:
    keep(store, tmp_path / "made")
    transfer(store, s3)
    here = {str(path.relative_to(store.root)) for path in store.root.rglob("*") if path.is_file()}
    assert {o.key.removeprefix("team/") for o in bucket.objects.all()} == here


def test_reading_through_copies_to_this_machine_once(
    remote: Any, store: LocalStore, tmp_path: Path
) -> None:
    entry = keep(store, tmp_path / "made")
    transfer(store, remote)
    cache = Cache(local=LocalStore(root=tmp_path / "second"), remote=remote)
    for number in range(2):
        out = tmp_path / f"out{number}"
        out.mkdir()
        assert cache.take(entry.key, out) == entry
        assert (out / "cpu.exe").read_text() == "content 0 of cpu.exe"
        remote.remove(entry.place)  # the second time it is here
    assert cache.take(make_key(5), tmp_path) is None
    assert cache.damage == ()


def test_reading_through_serves_also_where_nothing_can_be_kept(
    s3: Any, store: LocalStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    entry = keep(store, tmp_path / "made")
    transfer(store, s3)
    monkeypatch.setattr(LocalStore, "adopt", lambda *_: False)
    cache = Cache(local=LocalStore(root=tmp_path / "second"), remote=s3)
    (tmp_path / "out").mkdir()
    assert cache.take(entry.key, tmp_path / "out") == entry
    assert (tmp_path / "out" / "merged.json").exists()


def test_an_interrupted_upload_is_invisible_and_the_next_push_completes_it(
    s3: RemoteStore,
    bucket: Any,
    store: LocalStore,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    entry = keep(store, tmp_path / "made")

    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(s3.store.fs, "pipe_file", interrupted)
        with pytest.raises(KeyboardInterrupt):
            transfer(store, s3)
    assert len(list(bucket.objects.all())) == 2  # both files, and nothing that says so

    assert s3.find(entry.key) is None
    assert list(s3.scan()) == []
    (tmp_path / "out").mkdir()
    assert (
        Cache(local=LocalStore(root=tmp_path / "second"), remote=s3).take(
            entry.key, tmp_path / "out"
        )
        is None
    )
    object_of(bucket, entry, "cpu.exe").put(Body=b"half of")  # cut short by the network
    assert transfer(store, s3).copied == (entry,)
    assert s3.fetch(entry.key, tmp_path / "out") == entry


def test_what_arrives_damaged_never_counts_as_an_entry(
    s3: RemoteStore, store: LocalStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    entry, good = keep(store, tmp_path / "made"), keep(store, tmp_path / "made", 1)
    put = s3.store.fs.put_file

    def bad(local: str, place: str) -> None:
        if entry.key.digest in place:
            Path(local).write_text("bits fell over")
        put(local, place)

    monkeypatch.setattr(s3.store.fs, "put_file", bad)
    moved = transfer(store, s3)
    assert moved.copied == (good,)
    assert [d.digest for d in moved.damaged] == [entry.key.digest]
    assert s3.find(entry.key) is None
    assert s3.find(good.key) == good


def test_what_is_damaged_here_is_not_pushed(s3: Any, store: LocalStore, tmp_path: Path) -> None:
    bad, good = keep(store, tmp_path / "made"), keep(store, tmp_path / "made", 1)
    (store.root / bad.place / "cpu.exe").write_text("content 0 OF cpu.exe")
    moved = transfer(store, s3)
    assert moved.copied == (good,)
    assert "cpu.exe is not the file that was kept" in moved.damaged[0].why


def _other_content(bucket: Any, entry: Entry) -> None:
    object_of(bucket, entry, "cpu.exe").put(Body=b"CONTENT 0 of cpu.exe")


def _file_missing(bucket: Any, entry: Entry) -> None:
    object_of(bucket, entry, "cpu.exe").delete()


def _entry_cut(bucket: Any, entry: Entry) -> None:
    object_of(bucket, entry, ENTRY_FILE).put(Body=b'{"format": 1')


def _entry_of_another(bucket: Any, entry: Entry) -> None:
    body = json.loads(object_of(bucket, entry, ENTRY_FILE).get()["Body"].read())
    body["inputs"]["tp"] = 16
    object_of(bucket, entry, ENTRY_FILE).put(Body=json.dumps(body).encode())


def _leads_outside(bucket: Any, entry: Entry) -> None:
    body = json.loads(object_of(bucket, entry, ENTRY_FILE).get()["Body"].read())
    body["files"][0]["path"] = "../../outside"
    object_of(bucket, entry, ENTRY_FILE).put(Body=json.dumps(body).encode())


@pytest.mark.parametrize(
    "damage", [_other_content, _file_missing, _entry_cut, _entry_of_another, _leads_outside]
)
def test_a_damaged_entry_there_is_told_by_name_and_never_served(
    s3: RemoteStore,
    bucket: Any,
    store: LocalStore,
    tmp_path: Path,
    damage: Callable[[Any, Entry], None],
) -> None:
    entry, good = keep(store, tmp_path / "made"), keep(store, tmp_path / "made", 1)
    transfer(store, s3)
    damage(bucket, entry)
    cache = Cache(local=LocalStore(root=tmp_path / "second"), remote=s3)
    (tmp_path / "out").mkdir()
    assert cache.take(entry.key, tmp_path / "out") is None  # a miss, so that a build goes on
    (said,) = cache.damage
    assert said.startswith(f"s3://models/team/{entry.place}/") or "there is no s3://" in said
    assert list((tmp_path / "out").iterdir()) == []
    assert list(cache.local.scan()) == []
    with pytest.raises(DamagedEntryError, match=entry.key.digest):
        s3.fetch(entry.key, tmp_path / "out")

    moved = transfer(s3, cache.local)
    assert moved.copied == (good,)
    assert [d.digest for d in moved.damaged] == [entry.key.digest]
    assert not (tmp_path / "outside").exists()


def test_half_an_entry_here_is_replaced_by_a_whole_one(
    s3: RemoteStore, store: LocalStore, tmp_path: Path
) -> None:
    entry = keep(store, tmp_path / "made")
    transfer(store, s3)
    (store.root / entry.place / ENTRY_FILE).unlink()
    assert transfer(s3, store).copied == (entry,)
    store.check(entry)


def test_a_place_that_does_not_answer_is_told_before_any_work(
    bucket: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(InputError, match="s3://no-such-bucket") as caught:
        open_answering("s3://no-such-bucket/x")
    assert caught.value.exit_code == 3
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    with pytest.raises(InputError, match="cannot read s3://models"):
        open_answering("s3://models/team")


def test_a_place_that_stops_answering_is_no_miss(
    s3: RemoteStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def gone(*_: object, **__: object) -> None:
        raise ConnectionResetError

    monkeypatch.setattr(s3.store.fs, "cat_file", gone)
    cache = Cache(local=LocalStore(root=tmp_path / "second"), remote=s3)
    with pytest.raises(InputError, match="cannot read s3://models/team/v1/executable"):
        cache.take(make_key(), tmp_path)


def test_a_place_that_may_not_be_written_says_so(
    s3: RemoteStore, store: LocalStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def denied(*_: object, **__: object) -> None:
        raise PermissionError("Access Denied")  # noqa: EM101

    keep(store, tmp_path / "made")
    monkeypatch.setattr(s3.store.fs, "put_file", denied)
    with pytest.raises(InputError, match=r"access to s3://models/team.*cpu.exe is denied"):
        transfer(store, s3)


@pytest.mark.parametrize("url", ["nonsense://x", "s3://", "s3://user:pw@bucket/x", "s3://a b"])
def test_a_url_that_is_none_is_refused(url: str) -> None:
    with pytest.raises(InputError) as caught:
        open_answering(url)
    assert "pw" not in caught.value.message


def test_a_library_that_is_not_installed_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    import fsspec

    def absent(*_: object, **__: object) -> None:
        raise ImportError

    monkeypatch.setattr(fsspec, "filesystem", absent)
    with pytest.raises(ToolchainError, match="s3://"):
        open_answering("s3://models/x")


def test_a_file_in_place_of_a_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "x").touch()
    with pytest.raises(UsageError, match="is not a folder"):
        open_answering((tmp_path / "x").as_uri())


def test_scan_of_a_url_tells_damage_and_ignores_the_rest(
    s3: RemoteStore, bucket: Any, store: LocalStore, tmp_path: Path
) -> None:
    bad, good = keep(store, tmp_path / "made"), keep(store, tmp_path / "made", 1)
    transfer(store, s3)
    _entry_cut(bucket, bad)
    for name in ("notes.txt", "v1/executable/zz/readme/entry.json", "v1/executable/entry.json"):
        bucket.Object(f"team/{name}").put(Body=b"{}")
    found = list(s3.scan())
    assert [one for one in found if isinstance(one, Entry)] == [good]
    (damage,) = (one for one in found if isinstance(one, Damage))
    assert damage.digest == bad.key.digest
    assert list(s3.scan("executable", without={bad.key.digest})) == [good]
    assert list(s3.scan("neff")) == []


def test_removing_takes_what_says_that_it_is_whole_first(
    s3: RemoteStore, bucket: Any, store: LocalStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    entry, other = keep(store, tmp_path / "made"), keep(store, tmp_path / "made", 1)
    transfer(store, s3)
    gone: list[str] = []
    rm_file = s3.store.fs.rm_file

    def remember(place: str) -> None:
        gone.append(place.rpartition("/")[2])
        rm_file(place)

    monkeypatch.setattr(s3.store.fs, "rm_file", remember)
    s3.remove(entry.place)
    assert gone[0] == ENTRY_FILE
    assert len(gone) == 3
    assert list(s3.scan()) == [other]


class HubDouble:
    """HfFileSystem as far as a store uses it, and as strict: paths have no ``hf://``, no commits."""

    def __init__(self) -> None:
        import fsspec

        self.fs = fsspec.filesystem("memory")
        self.asked: list[str] = []

    def _place(self, url: str) -> str:
        assert url.startswith("hf://org/cache"), url
        assert "@" not in url  # a commit cannot be written to
        return url.removeprefix("hf://")

    def resolve_path(self, path: str) -> object:
        self.asked.append(path)
        if not path.startswith("org/cache"):
            message = f"{path}: repository not found"
            raise FileNotFoundError(message)
        return object()

    def cat_file(self, url: str) -> bytes:
        return bytes(self.fs.cat_file(self._place(url)))

    def get_file(self, url: str, local: str) -> None:
        self.fs.get_file(self._place(url), local)

    def put_file(self, local: str, url: str) -> None:
        self.fs.put_file(local, self._place(url))

    def pipe_file(self, url: str, value: bytes) -> None:
        self.fs.pipe_file(self._place(url), value)

    def makedirs(self, url: str, exist_ok: bool) -> None:
        pass

    def find(self, url: str) -> list[str]:
        return [path.lstrip("/") for path in self.fs.find(self._place(url))]


def test_a_repository_of_the_hub_is_written_by_its_branch(
    memory: Any, store: LocalStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import fsspec

    hub = HubDouble()
    real = fsspec.filesystem
    monkeypatch.setattr(
        fsspec, "filesystem", lambda kind, **kw: hub if kind == "hf" else real(kind, **kw)
    )
    remote = open_answering("hf://org/cache/neuronc")
    assert hub.asked == ["org/cache/neuronc"]
    entry = keep(store, tmp_path / "made")
    assert transfer(store, remote).copied == (entry,)
    assert transfer(remote, LocalStore(root=tmp_path / "second")).copied == (entry,)
    with pytest.raises(InputError, match="there is no hf://org/absent"):
        open_answering("hf://org/absent")


def test_the_same_entry_made_twice_stays_the_first_one_there(
    remote: Any, store: LocalStore, tmp_path: Path
) -> None:
    first = keep(store, tmp_path / "made")
    transfer(store, remote)
    other = LocalStore(root=tmp_path / "other")
    names = make_files(tmp_path / "again", text="made again")
    second = other.put(make_key(), tmp_path / "again", names, {"wall_s": 9.0})
    assert second is not None
    assert transfer(other, remote).there == 1
    assert not remote.write(second, tmp_path / "again")
    (tmp_path / "out").mkdir()
    assert remote.fetch(make_key(), tmp_path / "out") == first


def test_edited_facts_of_an_entry_are_read_as_they_are(store: LocalStore, tmp_path: Path) -> None:
    entry = keep(store, tmp_path / "made")
    edit_entry(store, entry.key, lambda told: told["facts"].update(what="x" * 10))
    found = store.find(entry.key)
    assert found is not None
    assert found.facts["what"] == "x" * 10
