"""Finding neuronx-cc, and telling AWS's packages from the empty ones that PyPI has by their names.

Source of the placeholder versions: the package index itself; the real packages come from AWS's own
index (Neuron SDK, setup guide).
"""

import re
import shutil
import subprocess
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from neuronc.errors import ToolchainError

EXECUTABLE = "neuronx-cc"
AWS_INDEX = "https://pip.repos.neuron.amazonaws.com"
PLACEHOLDERS = {
    "neuronx-cc": "1.0.post1",
    "torch-neuronx": "1.0",
    "libneuronxla": "1.0",
    "nki": "0.0.1",
    "nrtpy": "0.0.1",
    "jax-neuronx": "0.0.0",
    "neuronx-distributed": "0.1",
    "neuronx-distributed-inference": "0.1.0",
    "transformers-neuronx": "0.1",
    "libtorch-neuronx-lite": "0.0.1",
}
"""Distribution -> version of the package without content that PyPI has under its name."""

_VERSION = re.compile(r"NeuronX Compiler version (\S+)")
_VERSION_TIMEOUT_S = 120
_STAND_IN = "double"


@dataclass(frozen=True, kw_only=True, slots=True)
class Compiler:
    """A neuronx-cc that answers.

    Attributes:
        path: The executable.
        version: As it says, for example ``2.27.5334.0+f702b353``.
    """

    path: Path
    version: str

    @property
    def is_stand_in(self) -> bool:
        """Whether it is no compiler but something that takes its place in a test."""
        return is_stand_in(self.version)


def is_stand_in(version: str) -> bool:
    """Whether ``version`` says of itself, in its local part, that it is a test double's."""
    return _STAND_IN in version.partition("+")[2]


def find_compiler() -> Compiler:
    """The neuronx-cc of the PATH. Starts it once, to ask for its version: about a second.

    Raises:
        ToolchainError: there is none, only PyPI's placeholder, or one that does not answer.
    """
    path = shutil.which(EXECUTABLE)
    if path is None:
        raise _missing()
    try:
        told = subprocess.run(
            [path, "--version"],
            capture_output=True,
            text=True,
            errors="replace",
            timeout=_VERSION_TIMEOUT_S,
            check=False,
            stdin=subprocess.DEVNULL,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        message = f"{path} --version cannot be run: {error}"
        raise ToolchainError(message, hint="repair the installation: " + install_hint()) from error
    found = _VERSION.search(told.stdout + told.stderr)  # its stream changed between versions
    if told.returncode != 0 or found is None:
        said = (told.stdout + told.stderr).strip()[-300:]
        message = f"{path} --version gave exit code {told.returncode} and no version: {said!r}"
        raise ToolchainError(message, hint="repair the installation: " + install_hint())
    return Compiler(path=Path(path), version=found[1])


def installed_version(distribution: str) -> str | None:
    """Version of an installed distribution, without importing it."""
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return None


def is_placeholder(distribution: str) -> bool:
    """Whether what is installed as ``distribution`` is PyPI's empty package of that name."""
    found = installed_version(distribution)
    return found is not None and found == PLACEHOLDERS.get(distribution)


def install_hint(distribution: str = EXECUTABLE) -> str:
    """How to install one of AWS's packages."""
    return f"pip install --extra-index-url {AWS_INDEX} {distribution}"


def _missing() -> ToolchainError:
    message = f"{EXECUTABLE} is not on the PATH"
    if is_placeholder(EXECUTABLE):
        message += f"; version {PLACEHOLDERS[EXECUTABLE]} of it is PyPI's empty placeholder"
    hint = f"{install_hint()}, or pass --lower-only and compile the bundle where it is"
    return ToolchainError(message, hint=hint)
