"""Virtual environments for engines: made once in the cache folder, never neuronc's own."""

import hashlib
import subprocess
import sys
import venv
from collections.abc import Sequence
from pathlib import Path


class LeftOutError(Exception):
    """An engine cannot take part; the text says why."""


def python_with(packages: Sequence[str], cache: Path) -> Path:
    """The interpreter of an environment with ``packages``; neuronc's own if there are none.

    Raises:
        LeftOutError: they cannot be installed.
    """
    if not packages:
        return Path(sys.executable)
    digest = hashlib.sha256("\n".join(packages).encode()).hexdigest()[:8]
    folder = cache / "venvs" / f"{packages[0].split('[')[0]}-{digest}"
    python, done = folder / "bin" / "python", folder / "installed"
    if not done.exists():
        venv.create(folder, with_pip=True, clear=True)
        command = [str(python), "-m", "pip", "install", "--quiet", *packages]
        run = subprocess.run(command, capture_output=True, text=True, check=False)
        if run.returncode != 0:
            message = f"pip install {' '.join(packages)}: {last_line(run.stderr)}"
            raise LeftOutError(message)
        done.touch()
    return python


def last_line(text: str) -> str:
    """What a failed program said last."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1][:300] if lines else "it said nothing"
