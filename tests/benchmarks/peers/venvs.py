"""Virtual environments for engines: made once in the cache folder, never neuronc's own."""

import hashlib
import os
import subprocess
import sys
import venv
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

_NOTHING: Mapping[str, str] = {}


class LeftOutError(Exception):
    """An engine cannot take part; the text says why."""


def python_with(
    packages: Sequence[str],
    cache: Path,
    *,
    tell: Callable[[str], None],
    build: Mapping[str, str] = _NOTHING,
) -> Path:
    """The interpreter of an environment with ``packages``; neuronc's own if there are none.

    Args:
        packages: For pip.
        cache: Where environments are kept.
        tell: Gets a line if there is something to install.
        build: Variables with which the first package is compiled here from its source; if there
            are none, pip chooses.

    Raises:
        LeftOutError: they cannot be installed.
    """
    if not packages:
        return Path(sys.executable)
    told = [*packages, *(f"{name}={value}" for name, value in sorted(build.items()))]
    digest = hashlib.sha256("\n".join(told).encode()).hexdigest()[:8]
    folder = cache / "venvs" / f"{packages[0].split('[')[0]}-{digest}"
    python, done = folder / "bin" / "python", folder / "installed"
    if not done.exists():
        tell(f"installing {', '.join(packages)}{' from source' if build else ''}")
        venv.create(folder, with_pip=True, clear=True)
        command = [str(python), "-m", "pip", "install", "--quiet", *_from_source(packages, build)]
        run = subprocess.run(
            [*command, *packages],
            env={**os.environ, **build},
            capture_output=True,
            text=True,
            check=False,
        )
        if run.returncode != 0:
            log = folder.with_name(f"{folder.name}.log")
            log.write_text(run.stderr)
            message = f"pip install {' '.join(packages)}: {pip_error(run.stderr)} (see {log})"
            raise LeftOutError(message)
        done.touch()
    return python


def _from_source(packages: Sequence[str], build: Mapping[str, str]) -> list[str]:
    """pip's cache knows no build variables, so it would give what was built with others."""
    return ["--no-binary", packages[0], "--no-cache-dir"] if build else []


def pip_error(text: str) -> str:
    """The last thing that pip calls an error; hints may follow it."""
    errors = [line for line in text.splitlines() if line.strip().lower().startswith("error:")]
    return last_line(errors[-1] if errors else text)


def last_line(text: str) -> str:
    """What a failed program said last."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1][:300] if lines else "it said nothing"
