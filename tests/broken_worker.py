"""Workers that legalise wrongly, to see whether anybody notices."""

import os
import textwrap
from pathlib import Path

import pytest


def break_legalising(code: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every worker from now on runs ``code`` first; it may change what is in ``legalise``.

    Python imports ``sitecustomize`` when it starts, from a folder that is made in ``folder``.
    """
    site = folder / "site"
    site.mkdir()
    text = f"from neuronc.targets.neuron.hlo import legalise\n{textwrap.dedent(code)}"
    (site / "sitecustomize.py").write_text(text)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(site), str(Path(__file__).parents[1])]))
