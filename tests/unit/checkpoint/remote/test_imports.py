"""What is imported, and what is left behind, in processes of their own."""

import subprocess
import sys
from pathlib import Path

import pytest

_LIBRARIES = "{'fsspec', 's3fs', 'aiohttp', 'botocore', 'huggingface_hub'}"


def _run(code: str, *argv: str) -> list[str]:
    done = subprocess.run(
        [sys.executable, "-c", code, *argv], capture_output=True, text=True, check=True
    )
    return done.stdout.splitlines()


def test_a_local_path_imports_nothing_that_reads_urls(folder: Path) -> None:
    code = (
        "import sys\n"
        "from neuronc.checkpoint.checkpoint import open_checkpoint\n"
        "from neuronc.checkpoint.source import portable_source\n"
        "checkpoint = open_checkpoint(sys.argv[1])\n"
        "checkpoint.reader.read('model.a.weight')\n"
        "portable_source(sys.argv[1])\n"
        f"print({_LIBRARIES} & set(sys.modules))\n"
    )
    assert _run(code, str(folder)) == ["set()"]
    assert _run(code, folder.as_uri()) == ["set()"]


def test_help_imports_nothing_that_reads_urls() -> None:
    code = (
        "import sys\n"
        "from neuronc.cli.app import main\n"
        "main(['split', '--help'])\n"
        f"print({_LIBRARIES} & set(sys.modules))\n"
    )
    assert _run(code)[-1] == "set()"


def test_the_copies_are_deleted_when_the_process_ends(folder: Path) -> None:
    code = (
        "import pathlib, sys, fsspec\n"
        "from neuronc.checkpoint.source import resolve_source\n"
        "for file in pathlib.Path(sys.argv[1]).iterdir():\n"
        "    fsspec.filesystem('memory').pipe(f'/m/{file.name}', file.read_bytes())\n"
        "path = resolve_source('memory://m')\n"
        "print(path, path.is_dir())\n"
    )
    ((path, existed),) = (line.split() for line in _run(code, str(folder)))
    assert existed == "True"
    assert not Path(path).exists()


@pytest.mark.parametrize(
    ("url", "library", "extra"),
    [
        ("https://host/a", "aiohttp", "neuronc[http]"),
        ("s3://bucket/a", "s3fs", "neuronc[s3]"),
        ("gs://bucket/a", "gcsfs", "gcsfs"),
    ],
)
def test_a_missing_library_is_a_toolchain_error_with_the_command_that_installs_it(
    url: str, library: str, extra: str
) -> None:
    code = (
        "import sys\n"
        "sys.modules[sys.argv[2]] = None\n"
        "from neuronc.checkpoint.source import resolve_source\n"
        "from neuronc.errors import ToolchainError\n"
        "try:\n    resolve_source(sys.argv[1])\n"
        "except ToolchainError as error:\n    print(error.message); print(error.hint)\n"
    )
    message, hint = _run(code, url, library)
    assert "needs a library that is not installed" in message
    assert extra in hint
