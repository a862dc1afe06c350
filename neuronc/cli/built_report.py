"""What the commands that make an artifact say of it."""

from pathlib import Path
from typing import TYPE_CHECKING

from neuronc.cli.output import Report
from neuronc.cli.split import describe_padding, describe_split
from neuronc.cli.verify import describe_cost, describe_verification, top_k_caveat

if TYPE_CHECKING:
    from neuronc.artifact.manifest import Manifest
    from neuronc.built import Built
    from neuronc.lower.jobs import Programs


def report_built(command: str, built: "Built") -> Report:
    """The report of a command that made an artifact."""
    manifest = built.manifest
    data: dict[str, object] = {
        "path": str(built.folder),
        "artifact_digest": manifest.digest,
        "target": manifest.target,
        "quantize": manifest.quantize,
        "on_device_sampling": manifest.on_device_sampling,
        "batch_size": manifest.batch_size,
        "max_length": manifest.max_length,
        "prefill_buckets": list(manifest.prefill_buckets),
        "decode_buckets": list(manifest.decode_buckets),
        "embed_buckets": list(manifest.embed_buckets),
        "programs": [program.name for program in manifest.programs],
        "weights": None if built.split is None else describe_split(built.split),
        "neuron": manifest.neuron,
        "reused": built.reused,
        "reproduced": built.reproduced,
        **describe_programs(built.programs),
        "elapsed_s": round(built.elapsed_s, 2),
        "verification": manifest.verification or "unverified",
    }
    warnings = [] if manifest.verification else [_UNVERIFIED]
    if built.split is None:
        warnings = ["lowered from config alone: there are no weights to verify or run with"]
    warnings += top_k_caveat(_num_unverified_calls(manifest))
    warnings += [] if built.programs is None else built.programs.damage
    warnings += (manifest.neuron or {}).get("warnings", [])

    def draw(console: object) -> None:
        from neuronc.cli.tables import draw_pairs

        took = "nothing to do" if built.reused else f"{built.elapsed_s:.1f} s"
        lines = artifact_lines(built.folder, manifest, took=took)
        if built.split is not None:
            lines["padding"] = describe_padding(built.split.padding)
        draw_pairs(console, lines)

    return Report(command=command, data=data, text=draw, warnings=tuple(warnings))


def describe_programs(programs: "Programs | None") -> dict[str, object]:
    """Which programs were made now and which the store had, in JSON terms."""
    if programs is None:
        return {"made": [], "from_cache": [], "worker_peak_rss_bytes": 0}
    return {
        "made": list(programs.made),
        "from_cache": list(programs.reused),
        "worker_peak_rss_bytes": programs.peak_rss_bytes,
    }


def _num_unverified_calls(manifest: "Manifest") -> int:
    is_device = (manifest.verification or {}).get("target") == manifest.target
    return 0 if is_device else manifest.num_top_k_calls


def artifact_lines(folder: Path, manifest: "Manifest", *, took: str) -> dict[str, str]:
    """What every command that made an artifact says of it, a name and a value per line."""
    neuron = {} if manifest.neuron is None else {"neuron": describe_neuron(manifest)}
    if manifest.num_top_k_calls:
        verified = "not verified" if _num_unverified_calls(manifest) else "verified"
        neuron["top-k"] = f"{manifest.num_top_k_calls} AwsNeuronTopK calls, {verified} on a device"
    return {
        "bundle" if manifest.is_bundle else "artifact": str(folder),
        "target": f"{manifest.target}, tp={manifest.tp}, {manifest.dtype}",
        **({} if manifest.quantize is None else {"weights of linear layers": manifest.quantize}),
        **neuron,
        **({"sampling": "greedy on the device"} if manifest.on_device_sampling else {}),
        "programs": ", ".join(program.name for program in manifest.programs),
        ("texts" if manifest.embeds else "slots"): (
            f"{manifest.batch_size} of {manifest.max_length} tokens"
        ),
        "digest": manifest.digest[:16],
        "took": took,
        "verification": describe_verification(manifest.verification),
        **describe_cost(manifest.verification),
    }


def describe_neuron(manifest: "Manifest") -> str:
    """Core size, compiler, and what has been proven on hardware, in one line."""
    neuron = manifest.neuron or {}
    compiler = neuron.get("compiler")
    made = "to be compiled" if compiler is None else f"neuronx-cc {compiler['version']}"
    if compiler is not None and compiler["stand_in"]:
        made += " (a test double: no real NEFF)"
    return f"logical cores of size {manifest.lnc}; {made}; {neuron.get('hardware')}"


_UNVERIFIED = "the artifact is unverified: run neuronc verify before trusting it"
