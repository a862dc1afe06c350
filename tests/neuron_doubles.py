"""Puts the doubles of neuronx-cc and nrtpy where the program looks for the real ones."""

import json
import os
import sys
from pathlib import Path
from typing import Any

_DOUBLES = Path(__file__).parent / "doubles"
_SCRIPT = """#!{python}
import sys
from pathlib import Path
sys.path.insert(0, {root!r})
from tests.doubles.neuronx_cc import main
sys.exit(main(sys.argv[1:], Path(__file__).parent))
"""


class CompilerDouble:
    """A folder with an executable ``neuronx-cc``; `tell` says how it behaves from now on."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir()
        script = folder / "neuronx-cc"
        script.write_text(_SCRIPT.format(python=sys.executable, root=str(_DOUBLES.parent.parent)))
        script.chmod(0o755)

    @property
    def path(self) -> str:
        """A PATH on which it comes first."""
        return os.pathsep.join([str(self.folder), os.environ["PATH"]])

    def tell(self, **behaviour: Any) -> None:
        """``mode``: crash, kill, slow, hang, busy, error, silent or garbage.

        ``program`` and ``once`` say for which program, and whether for its first run only.
        """
        (self.folder / "behaviour.json").write_text(json.dumps(behaviour))

    def behave(self) -> None:
        """Back to normal."""
        (self.folder / "behaviour.json").unlink(missing_ok=True)

    def compiled(self) -> list[str]:
        """Programs it was called for, in order."""
        calls = self.folder / "calls.jsonl"
        lines = calls.read_text().splitlines() if calls.exists() else []
        argvs = [json.loads(line)["argv"] for line in lines]
        return [argv[1].removesuffix(".hlo.pb") for argv in argvs if argv[0] == "compile"]


def nrtpy_site() -> Path:
    """The folder that makes ``import nrtpy`` find the double."""
    return _DOUBLES / "site"
