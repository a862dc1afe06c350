"""neuronc doctor: what is here of what Neuron needs."""

from dataclasses import asdict
from typing import Any

from neuronc.cli.options import JsonFlag, QuietFlag
from neuronc.cli.output import Report

EXAMPLES = ("neuronc doctor", "neuronc doctor --json")


def doctor(*, quiet: QuietFlag = False, _json: JsonFlag = False) -> Report:
    """Look for the Neuron compiler, runtime and devices.

    Missing ones are no failure: neuronc lowers, verifies and runs on the CPU without them.
    """
    from neuronc.cli.progress import make_progress
    from neuronc.targets.neuron.doctor import abilities, check_machine
    from neuronc.tools import tool_versions

    with make_progress(quiet).stage("looking for the Neuron tools"):
        checks = check_machine()
    able, versions = abilities(checks), tool_versions()
    data: dict[str, object] = {
        "checks": [asdict(check) for check in checks],
        "abilities": able,
        "versions": versions,
    }

    def draw(console: Any) -> None:
        from neuronc.cli.tables import draw_pairs

        lines = {
            f"{'✓' if check.ok else '✗'} {check.name}": "\n".join(
                filter(None, (check.found, check.hint))
            )
            for check in checks
        }
        able_here = {name: "yes" if yes else "not here" for name, yes in able.items()}
        found = ", ".join(f"{n} {v}" for n, v in versions.items() if v is not None)
        draw_pairs(console, {**lines, **able_here, "versions": found})

    return Report(command="doctor", data=data, text=draw)
