"""The same inputs give the same artifact: in another folder, environment, user and locale."""

import json
import os
import shutil
import site
import subprocess
import sys
import venv
from pathlib import Path
from typing import Any

import pytest

import neuronc
from neuronc.artifact.manifest import read_manifest
from neuronc.cli.app import main

SIZES = ("--tp", "2", "--max-length", "32", "--prefill-buckets", "8", "--no-verify", "--quiet")


def environment(folder: Path) -> Path:
    """A virtual environment of its own with neuronc in it; the other packages are this one's.

    Returns:
        Its Python.
    """
    venv.create(folder, symlinks=True)
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    packages = folder / "lib" / version / "site-packages"
    ignore = shutil.ignore_patterns("__pycache__")
    shutil.copytree(Path(neuronc.__file__).parent, packages / "neuronc", ignore=ignore)
    # A folder on the path, not a site: editable installs in it take no part.
    (packages / "others.pth").write_text("\n".join(site.getsitepackages()) + "\n")
    return folder / "bin" / "python"


def build(
    python: Path, checkpoint: Path, home: Path, *argv: str, **variables: str
) -> dict[str, Any]:
    home.mkdir(parents=True)
    copied = shutil.copytree(checkpoint, home / "models" / checkpoint.name)
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("PYTHON", "XDG", "NEURONC"))}
    env = {**kept, "HOME": str(home), "NEURONC_CACHE": str(home / "cache"), **variables}
    where = subprocess.check_output(
        [python, "-c", "import neuronc; print(neuronc.__file__)"], text=True, env=env, cwd=home
    )
    assert Path(where.strip()).is_relative_to(python.parent.parent)
    command: list[str | Path] = [
        python,
        "-m",
        "neuronc",
        "build",
        f"models/{copied.name}",
        "-o",
        "out",
        *SIZES,
    ]
    done = subprocess.run(
        [*command, *argv, "--json"], capture_output=True, text=True, env=env, cwd=home, check=False
    )
    assert done.returncode == 0, done.stderr
    document: dict[str, Any] = json.loads(done.stdout)
    return document["data"]  # type: ignore[no-any-return]


@pytest.mark.slow
@pytest.mark.parametrize("argv", [(), ("--target", "inf2", "--lower-only")])
def test_two_environments_at_different_paths_make_the_same_artifact(
    argv: tuple[str, ...], tiny_checkpoint: Path, tmp_path: Path
) -> None:
    one = build(
        environment(tmp_path / "a"), tiny_checkpoint, tmp_path / "home",
        *argv, USER="ada", PYTHONHASHSEED="1", TZ="UTC", LANG="C.UTF-8",
    )  # fmt: skip
    other = build(
        environment(tmp_path / "a much longer name" / "b"), tiny_checkpoint,
        tmp_path / "other" / "house", *argv, "--jobs", "1",
        USER="grace", PYTHONHASHSEED="77", TZ="Asia/Tokyo", LANG="C", OMP_NUM_THREADS="1",
    )  # fmt: skip
    assert one["made"] == other["made"] != []
    ours = read_manifest(tmp_path / "home/out")
    assert ours.files == read_manifest(tmp_path / "other/house/out").files
    assert one["artifact_digest"] == other["artifact_digest"]
    for file in ours.files:
        content = (tmp_path / "home/out" / file.path).read_bytes()
        assert str(tmp_path).encode() not in content, file.path


@pytest.mark.slow
def test_a_build_can_check_itself(
    tiny_checkpoint: Path,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    argv = ["build", str(tiny_checkpoint), *SIZES, "--check-reproducible", "--json"]
    assert main([*argv, "-o", str(tmp_path / "one")]) == 0
    assert json.loads(capfd.readouterr().out)["data"]["reproduced"]
    # From now on every executable is another file.
    site_folder = tmp_path / "site"
    site_folder.mkdir()
    (site_folder / "sitecustomize.py").write_text(
        "import os, sys\n"
        "if 'neuronc.lower.worker' in ' '.join(sys.orig_argv):\n"
        "    from neuronc.targets import cpu\n"
        "    cpu.in_fixed_order = lambda payload: payload + os.urandom(8)\n"
    )
    monkeypatch.setenv("PYTHONPATH", str(site_folder))
    assert main([*argv, "-o", str(tmp_path / "two")]) == 6
    message = json.loads(capfd.readouterr().out)["error"]["message"]
    assert message.startswith("two builds of the same differ: programs/decode_32/cpu.exe, ")
