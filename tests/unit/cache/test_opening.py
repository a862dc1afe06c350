"""Which store ``--cache`` and the environment name."""

from pathlib import Path
from typing import Any

import pytest

from neuronc.cache.cache import (
    REMOTE_VARIABLE,
    VARIABLE,
    open_cache,
    open_folder_named,
    open_place,
    open_stores,
    user_folder,
)
from neuronc.cache.remote_store import RemoteStore
from neuronc.errors import InputError, UsageError


@pytest.fixture(autouse=True)
def _clean(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv(VARIABLE)
    monkeypatch.delenv(REMOTE_VARIABLE, raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))


def places(place: str | None) -> tuple[str, str | None]:
    cache = open_cache(place)
    assert cache is not None
    return str(cache.local.root), None if cache.remote is None else cache.remote.shown


def test_without_a_word_it_is_the_user_s_cache_folder(tmp_path: Path) -> None:
    assert places(None) == (str(tmp_path / "xdg" / "neuronc"), None)
    assert not (tmp_path / "xdg").exists()


def test_a_cache_folder_that_is_not_absolute_is_ignored(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", "here")
    assert user_folder() == Path.home() / ".cache" / "neuronc"


def test_the_option_wins_over_the_environment(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv(VARIABLE, str(tmp_path / "env"))
    assert places(None)[0] == str(tmp_path / "env")
    assert places(str(tmp_path / "option"))[0] == str(tmp_path / "option")
    assert places((tmp_path / "a b").as_uri())[0] == str(tmp_path / "a b")
    assert open_cache("off") is None
    monkeypatch.setenv(VARIABLE, "off")
    assert open_cache(None) is None


def test_a_url_is_read_through_the_folder_of_the_environment_or_the_user_s(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, memory: Any
) -> None:
    assert places("memory://team") == (str(tmp_path / "xdg" / "neuronc"), "memory://team")
    for named, folder in (
        (str(tmp_path / "env"), tmp_path / "env"),
        ("off", tmp_path / "xdg" / "neuronc"),
        ("memory://other", tmp_path / "xdg" / "neuronc"),
    ):
        monkeypatch.setenv(VARIABLE, named)
        assert places("memory://team") == (str(folder), "memory://team")


def test_a_url_of_the_environment_is_behind_whichever_folder_is_used(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, memory: Any
) -> None:
    monkeypatch.setenv(REMOTE_VARIABLE, "memory://team")
    assert places(str(tmp_path / "x")) == (str(tmp_path / "x"), "memory://team")
    assert places(None)[1] == "memory://team"
    assert places("memory://asked")[1] == "memory://asked"
    assert open_cache("off") is None
    monkeypatch.setenv(REMOTE_VARIABLE, str(tmp_path / "nfs"))
    assert places(None)[1] == str(tmp_path / "nfs")
    monkeypatch.setenv(REMOTE_VARIABLE, "off")
    assert places(None)[1] is None


def test_a_url_that_does_not_answer_is_told_when_it_is_opened(bucket: Any) -> None:
    with pytest.raises(InputError, match="s3://absent"):
        open_cache("s3://absent/x")


def test_another_process_opens_the_same(tmp_path: Path, memory: Any) -> None:
    cache = open_stores(str(tmp_path), "memory://team/x")
    assert open_stores(**cache.address) == cache  # type: ignore[arg-type]
    assert open_stores(**open_stores(str(tmp_path), str(tmp_path)).address).remote is not None  # type: ignore[arg-type]


def test_passwords_of_a_url_are_not_shown(tmp_path: Path) -> None:
    cache = open_stores(str(tmp_path), "https://me:pass-w0rd@host/cache?token=t0ken")
    assert "pass-w0rd" not in cache.shown
    assert "t0ken" not in cache.shown


def test_a_file_is_no_cache(tmp_path: Path) -> None:
    (tmp_path / "x").touch()
    with pytest.raises(UsageError, match="is not a folder"):
        open_cache(str(tmp_path / "x"))


def test_what_is_for_folders_refuses_urls_and_nothing(memory: Any, tmp_path: Path) -> None:
    for named in ("memory://team", "off"):
        with pytest.raises(UsageError, match="a cache in a folder"):
            open_folder_named(named)
    assert isinstance(open_place("memory://team"), RemoteStore)
    assert open_place(str(tmp_path)).shown == str(tmp_path)
