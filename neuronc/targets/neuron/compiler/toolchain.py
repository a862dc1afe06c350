"""Finding neuronx-cc, and telling AWS's packages from the empty ones that PyPI has by their names.

Source of the placeholder versions: the package index itself; the real packages come from AWS's own
index (Neuron SDK, setup guide).
"""

import re
import shutil
import subprocess
import tempfile
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
_VERSION_BYTES = 64 * 2**10
_LOWER_INSTEAD = "pass --lower-only and compile the bundle where it is"
_VERSION_TIMEOUT_S = 60
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


def find_compiler(*, instead: str = _LOWER_INSTEAD) -> Compiler:
    """The neuronx-cc of the PATH. Starts it once, to ask for its version: about a second.

    Args:
        instead: What else can be done where there is none.

    Raises:
        ToolchainError: there is none, only PyPI's placeholder, or one that does not answer.
    """
    path = shutil.which(EXECUTABLE)
    if path is None:
        raise _missing(instead)
    try:
        with tempfile.TemporaryFile() as output:  # however much it prints
            exit_code = subprocess.run(
                [path, "--version"],
                stdout=output,
                stderr=subprocess.STDOUT,
                timeout=_VERSION_TIMEOUT_S,
                check=False,
                stdin=subprocess.DEVNULL,
            ).returncode
            output.seek(0)
            told = output.read(_VERSION_BYTES).decode(errors="replace")
    except (OSError, subprocess.TimeoutExpired) as error:
        message = f"{path} --version cannot be run: {error}"
        raise ToolchainError(message, hint="repair the installation: " + install_hint()) from error
    found = _VERSION.search(told)  # on either stream: that changed between versions
    if exit_code != 0 or found is None:
        said = told.strip()[-300:]
        message = f"{path} --version gave exit code {exit_code} and no version: {said!r}"
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


def _missing(instead: str) -> ToolchainError:
    message = f"{EXECUTABLE} is not on the PATH"
    if is_placeholder(EXECUTABLE):
        message += f"; version {PLACEHOLDERS[EXECUTABLE]} of it is PyPI's empty placeholder"
    hint = f"{install_hint()}, or {instead}"
    return ToolchainError(message, hint=hint)
