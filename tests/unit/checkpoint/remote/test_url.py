from pathlib import Path

import pytest

from neuronc.checkpoint.remote.url import is_url, local_form, parse_url, without_secrets
from neuronc.checkpoint.source import portable_source, resolve_source
from neuronc.errors import InputError, UsageError
from neuronc.recipe_file import load_recipe


@pytest.mark.parametrize("source", ["s3://b/p", "hf://org/name@v1", "https://h/p", "memory://x"])
def test_what_has_a_scheme_and_two_slashes_is_a_url(source: str) -> None:
    assert is_url(source)


@pytest.mark.parametrize(
    "source", ["org/name", "/a//b", "package:x/y", "a:b", "./s3:/b", "", "://x"]
)
def test_paths_packages_and_hub_ids_are_no_urls(source: str) -> None:
    assert not is_url(source)


@pytest.mark.parametrize(
    ("source", "shown"),
    [
        ("https://me:PASS@host:8080/a/b/", "https://host:8080/a/b"),
        ("https://TOKEN@host/a", "https://host/a"),
        ("https://host/a?sig=TOKEN#x", "https://host/a"),
        ("https://a@b:PASS@host/a", "https://host/a"),
        ("sftp://me:PASS@host/a", "sftp://host/a"),
        ("s3://KEY:SECRET@bucket/a", "s3://bucket/a"),
        ("hf://org/name@v1", "hf://org/name@v1"),
        ("HTTPS://host", "https://host"),
        ("org/name@v1", "org/name@v1"),
    ],
)
def test_a_url_is_shown_without_user_password_and_query(source: str, shown: str) -> None:
    assert without_secrets(source) == shown
    assert portable_source(source) == shown


def test_the_query_goes_to_every_file() -> None:
    url = parse_url("https://me:pw@host/a?sig=1")
    assert url.child("config.json").full == "https://me:pw@host/a/config.json?sig=1"
    assert url.child("config.json").shown == "https://host/a/config.json"


@pytest.mark.parametrize(
    ("source", "fault"),
    [
        ("simplecache::https://me:PASS@host/a", "chains file systems"),
        ("zip://a.zip::s3://b/c", "chains file systems"),
        ("https:///a", "names no host"),
        ("s3://", "names no host or bucket"),
        ("s3://KEY:PASS@bucket/a", "a password or a query"),
        ("s3://bucket/a?versionId=PASS", "a password or a query"),
        ("https://host/a b?PASS", "blanks or control"),
        ("https://host/a?PASS#b", "a '#' part"),
    ],
)
def test_a_url_that_cannot_be_used_is_refused_without_its_secrets(source: str, fault: str) -> None:
    with pytest.raises(InputError, match=fault) as caught:
        resolve_source(source)
    assert "PASS" not in caught.value.message + caught.value.hint


def test_an_unknown_kind_of_url_is_refused() -> None:
    with pytest.raises(InputError, match=r"URL nope://x/y is of no kind"):
        resolve_source("nope://x/y")


def test_a_library_s_text_is_scrubbed_of_other_urls_secrets_as_well() -> None:
    url = parse_url("https://host/a?sig=TOP-SECRET")
    text = "no 'https://me:PASS@cdn/a?key=OTHER' for sig=TOP-SECRET"
    assert url.scrub(text) == "no 'https://cdn/a' for ..."


def test_a_revision_is_for_the_hub_alone_and_given_once() -> None:
    with pytest.raises(UsageError, match=r"'v1' is given, but URL s3://b/c has none"):
        resolve_source("s3://b/c", revision="v1")
    with pytest.raises(UsageError, match=r"hf://org/name@v2 names one already"):
        resolve_source("hf://org/name@v2", revision="v1")


@pytest.mark.parametrize(
    ("url", "path"),
    [("file:///a/b", "/a/b"), ("file://localhost/a%20b/", "/a b"), ("/a/b", "/a/b")],
)
def test_a_file_url_is_a_local_path(url: str, path: str) -> None:
    assert local_form(url) == path


def test_a_file_of_another_machine_is_refused() -> None:
    with pytest.raises(InputError, match="names no path of this machine"):
        local_form("file://server/a")


def test_the_url_in_a_recipe_file_stays_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "r.toml").write_text('checkpoint = "s3://bucket/a"\n')
    assert load_recipe(tmp_path / "r.toml").checkpoint == "s3://bucket/a"
