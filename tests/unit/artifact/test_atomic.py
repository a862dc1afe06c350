import json
import os
from pathlib import Path

import pytest

from neuronc.artifact.atomic import atomic_folder, check_output
from neuronc.errors import UsageError

FIELDS = {
    "manifest.json": {"format": 1, "programs": [], "tool_versions": {}},
    "split.json": {"split_format": 2, "tensors": {}},
    "trace.json": {"torch_neuronx": "2.9", "compiler_args": []},
}


def make_artifact(folder: Path, marker: str = "manifest.json") -> Path:
    folder.mkdir()
    (folder / marker).write_text(json.dumps(FIELDS[marker]))
    (folder / "leftover").write_text("old")
    return folder


def write_half(out_dir: Path, failure: type[BaseException], *, overwrite: bool = False) -> None:
    with atomic_folder(out_dir, overwrite=overwrite) as staging:
        (staging / "sub").mkdir()
        (staging / "sub" / "file").write_text("half")
        raise failure


def test_the_folder_appears_when_the_block_ends(tmp_path: Path) -> None:
    with atomic_folder(tmp_path / "deep" / "out") as staging:
        (staging / "file").write_text("new")
        assert not (tmp_path / "deep" / "out").exists()

    assert (tmp_path / "deep" / "out" / "file").read_text() == "new"
    assert [path.name for path in (tmp_path / "deep").iterdir()] == ["out"]
    assert (tmp_path / "deep" / "out").stat().st_mode & 0o777 == 0o755


@pytest.mark.parametrize("failure", [ValueError, KeyboardInterrupt])
def test_a_failure_leaves_nothing(tmp_path: Path, failure: type[BaseException]) -> None:
    with pytest.raises(failure):
        write_half(tmp_path / "out", failure)

    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("failure", [ValueError, KeyboardInterrupt])
def test_a_failed_overwrite_leaves_the_old_folder(
    tmp_path: Path, failure: type[BaseException]
) -> None:
    out_dir = make_artifact(tmp_path / "out")

    with pytest.raises(failure):
        write_half(out_dir, failure, overwrite=True)

    assert (out_dir / "leftover").read_text() == "old"
    assert list(tmp_path.iterdir()) == [out_dir]


@pytest.mark.parametrize("failure", [OSError(28, "No space left"), KeyboardInterrupt()])
def test_an_overwrite_that_fails_between_its_two_renames_puts_the_old_folder_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failure: BaseException
) -> None:
    out_dir = make_artifact(tmp_path / "out")
    rename = Path.rename

    def fail_for_the_new_folder(self: Path, target: Path) -> Path:
        if target == out_dir and not self.name.endswith(".old"):
            raise failure
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", fail_for_the_new_folder)
    expected = UsageError if isinstance(failure, OSError) else KeyboardInterrupt
    with pytest.raises(expected), atomic_folder(out_dir, overwrite=True):
        pass

    assert (out_dir / "leftover").read_text() == "old"
    assert list(tmp_path.iterdir()) == [out_dir]


@pytest.mark.parametrize("marker", FIELDS)
def test_overwrite_replaces_a_folder_of_our_making(tmp_path: Path, marker: str) -> None:
    out_dir = make_artifact(tmp_path / "out", marker)

    with atomic_folder(out_dir, overwrite=True) as staging:
        (staging / "file").write_text("new")

    assert [path.name for path in out_dir.iterdir()] == ["file"]
    assert list(tmp_path.iterdir()) == [out_dir]


def test_overwrite_takes_an_empty_folder(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()

    with atomic_folder(tmp_path / "out", overwrite=True) as staging:
        (staging / "file").touch()

    assert (tmp_path / "out" / "file").exists()


def test_overwrite_refuses_a_folder_that_neuronc_did_not_make(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("precious")

    with pytest.raises(UsageError, match="was not made by neuronc"):
        check_output(tmp_path, overwrite=True)


@pytest.mark.parametrize("marker", FIELDS)
@pytest.mark.parametrize("text", ["", "[]", '{"format": 1, "name": "an app"}', "[" * 100_000])
def test_overwrite_refuses_a_folder_whose_manifest_is_somebody_elses(
    tmp_path: Path, marker: str, text: str
) -> None:
    out_dir = make_artifact(tmp_path / "out", marker)
    (out_dir / marker).write_text(text)

    with pytest.raises(UsageError, match="was not made by neuronc"):
        check_output(out_dir, overwrite=True)


def test_overwrite_does_not_wait_for_a_pipe_named_as_a_manifest(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "manifest.json")

    with pytest.raises(UsageError, match="was not made by neuronc"):
        check_output(tmp_path, overwrite=True)


def test_overwrite_through_a_link_replaces_what_it_leads_to(tmp_path: Path) -> None:
    out_dir = make_artifact(tmp_path / "out")
    (tmp_path / "link").symlink_to(out_dir)

    with atomic_folder(tmp_path / "link", overwrite=True) as staging:
        (staging / "file").touch()

    assert [path.name for path in out_dir.iterdir()] == ["file"]
    assert (tmp_path / "link").is_symlink()


def test_an_existing_folder_is_refused(tmp_path: Path) -> None:
    out_dir = make_artifact(tmp_path / "out")

    with pytest.raises(UsageError, match=r"out exists already") as caught, atomic_folder(out_dir):
        pytest.fail("the block must not run")

    assert caught.value.exit_code == 2
    assert "--overwrite" in caught.value.hint


@pytest.mark.parametrize("overwrite", [False, True])
def test_a_file_and_a_dangling_link_are_refused(tmp_path: Path, overwrite: bool) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")

    for name in ("file", "link"):
        with pytest.raises(UsageError, match="exists and is not a folder"):
            check_output(tmp_path / name, overwrite=overwrite)


def test_a_folder_that_came_up_meanwhile_is_not_replaced(tmp_path: Path) -> None:
    out_dir = tmp_path / "out"

    with pytest.raises(UsageError, match="exists already"), atomic_folder(out_dir):
        make_artifact(out_dir)

    assert (out_dir / "leftover").read_text() == "old"
    assert list(tmp_path.iterdir()) == [out_dir]


def test_a_parent_that_is_a_file_is_a_usage_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()

    with pytest.raises(UsageError, match="cannot make"), atomic_folder(tmp_path / "file" / "out"):
        pytest.fail("the block must not run")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_parent_that_cannot_be_written_is_a_usage_error(tmp_path: Path) -> None:
    tmp_path.chmod(0o555)

    with pytest.raises(UsageError, match="Permission denied"), atomic_folder(tmp_path / "out"):
        pytest.fail("the block must not run")


def test_a_name_that_no_folder_can_have_is_a_usage_error(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="cannot make"), atomic_folder(tmp_path / ("x" * 300)):
        pytest.fail("the block must not run")
