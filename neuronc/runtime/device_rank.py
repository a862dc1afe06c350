"""One rank on one NeuronCore: its NEFFs, weights and caches on the device, through nrtpy.

Contract: Neuron SDK 2.32, nrtpy API reference. Element types come from our manifest: nrtpy gives
some back as plain bytes.
"""

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from neuronc.artifact.manifest import PROGRAMS_DIR, WEIGHTS_DIR, Manifest, ProgramEntry
from neuronc.dtypes import DTYPES, numpy_dtype
from neuronc.errors import CompilerError, InputError, NeuroncError, PlanError, ToolchainError
from neuronc.lower.program_files import NEFF
from neuronc.parallel.rank_files import open_rank
from neuronc.targets.neuron.compiler.toolchain import install_hint, is_placeholder
from neuronc.targets.neuron.hlo.interface import input_names
from neuronc.targets.neuron.neff.check import tensor_bytes
from neuronc.targets.neuron.nrt_status import describe_status
from neuronc.trace.program_spec import Phase, TensorSpec

Array = np.ndarray[Any, Any]
_USED_OF_NRTPY = ("NrtpyModel", "NrtpyTensor", "configure", "reset")
CORES_ENV = "NEURON_RT_VISIBLE_CORES"
LNC_ENV = "NEURON_LOGICAL_NC_CONFIG"
_STATUS = re.compile(r"\((\d+)\)")


class DeviceRank:
    """Loads in one thread; `run` and `benchmark` are called by one thread at a time.

    Args:
        folder: The artifact.
        manifest: Its manifest.
        rank: Which shard.
        core: The core, counted among those this process sees.
    """

    def __init__(self, folder: Path, manifest: Manifest, *, rank: int, core: int) -> None:
        self._nrtpy = import_nrtpy()
        self._rank, self._core = rank, core
        self._programs: dict[tuple[Phase, int], _Loaded] = {}
        with nrt_errors(f"rank {rank}"):
            kept = self._place_kept(folder, manifest)
            for entry in manifest.programs:
                loaded = self._load(folder, manifest, entry, kept)
                self._programs[entry.phase, entry.bucket] = loaded

    def run(
        self, phase: Phase, bucket: int, data: list[Array], *, wanted: Sequence[int]
    ) -> list[Array]:
        """Run a program; rank 0 reads the outputs ``wanted`` from the device, the others none."""
        program = self._programs[phase, bucket]
        with nrt_errors(f"rank {self._rank}, program {phase}_{bucket}"):
            program.write(data)
            program.model(program.inputs, program.outputs)
            return [program.read(number) for number in wanted] if self._rank == 0 else []

    def benchmark(self, phase: Phase, bucket: int, data: list[Array], *, iterations: int) -> Any:
        """Device times of a program as nrtpy measures them: its ``BenchmarkResult``."""
        program = self._programs[phase, bucket]
        with nrt_errors(f"rank {self._rank}, program {phase}_{bucket}"):
            program.write(data)
            return program.model.benchmark(
                program.inputs, program.outputs, warmup_iter=2, benchmark_iter=iterations
            )

    def _place_kept(self, folder: Path, manifest: Manifest) -> dict[str, Any]:
        """Weights, caches and the rank's number: on the device for as long as this object lives."""
        reader = open_rank(folder / WEIGHTS_DIR, self._rank)
        kept = {}
        for tensor in manifest.programs[0].signature.inputs:
            if tensor.kind == "weight":
                kept[tensor.name] = self._put(reader.read(tensor.name), tensor.name)
            elif tensor.kind == "cache":
                dtype = numpy_dtype(DTYPES[tensor.dtype])
                kept[tensor.name] = self._put(np.zeros(tensor.shape, dtype), tensor.name)
            elif tensor.kind == "rank":
                kept[tensor.name] = self._put(np.array([self._rank], np.int32), tensor.name)
        return kept

    def _load(
        self, folder: Path, manifest: Manifest, entry: ProgramEntry, kept: Mapping[str, Any]
    ) -> "_Loaded":
        model = self._nrtpy.NrtpyModel.load_from_neff(
            str(folder / PROGRAMS_DIR / entry.name / NEFF),
            name=entry.name,
            core_id=self._core,
            cc_enabled=manifest.tp > 1,
            rank_id=self._rank,
            world_size=manifest.tp,
        )
        signature = entry.signature
        names = input_names(signature)
        _check_names(
            entry, model.input_tensors_info, dict(zip(names, signature.inputs, strict=True))
        )
        _check_names(entry, model.output_tensors_info, {t.name: t for t in signature.outputs})
        data = [tensor for tensor in signature.inputs if tensor.kind == "data"]
        given = {tensor.name: self._empty(tensor) for tensor in data}
        inputs = {
            name: given[tensor.name] if tensor.kind == "data" else kept[tensor.name]
            for name, tensor in zip(names, signature.inputs, strict=True)
        }
        outputs = {
            tensor.name: kept[tensor.name] if tensor.kind == "cache" else self._empty(tensor)
            for tensor in signature.outputs
        }
        fed = [given[tensor.name] for tensor in data]
        return _Loaded(model, inputs, outputs, fed, signature.outputs)

    def _put(self, array: Array, name: str) -> Any:
        if array.dtype == numpy_dtype(DTYPES["f8e4m3fn"]):
            array = array.view(np.int8)  # what the runtime takes 8-bit floats for
        return self._nrtpy.NrtpyTensor.from_numpy(
            np.ascontiguousarray(array), name=name, core_id=self._core
        )

    def _empty(self, tensor: TensorSpec) -> Any:
        return self._put(np.zeros(tensor.shape, numpy_dtype(DTYPES[tensor.dtype])), tensor.name)


class _Loaded:
    """A loaded program with all its tensors; a cache is the same tensor on both sides."""

    def __init__(
        self,
        model: Any,
        inputs: dict[str, Any],
        outputs: dict[str, Any],
        fed: list[Any],
        specs: Sequence[TensorSpec],
    ) -> None:
        self.model, self.inputs, self.outputs = model, inputs, outputs
        self.fed, self.specs = fed, specs

    def write(self, data: list[Array]) -> None:
        for tensor, array in zip(self.fed, data, strict=True):
            tensor.write_from_numpy(np.ascontiguousarray(array))

    def read(self, number: int) -> Array:
        """Output ``number`` of the program, brought to the host."""
        spec = self.specs[number]
        raw = np.ascontiguousarray(self.outputs[spec.name].numpy())
        dtype = numpy_dtype(DTYPES[spec.dtype])
        return raw.reshape(-1).view(np.uint8).view(dtype).reshape(spec.shape)


def import_nrtpy() -> Any:
    """The nrtpy module.

    Raises:
        ToolchainError: it is not installed, is PyPI's placeholder, or finds no Neuron runtime.
    """
    hint = (
        f"{install_hint('nrtpy')} on an inf2 or trn instance; --on cpu runs the same programs here"
    )
    if is_placeholder("nrtpy"):
        message = "nrtpy is PyPI's empty placeholder, not AWS's package"
        raise ToolchainError(message, hint=hint)
    try:
        import nrtpy
    except (ImportError, OSError) as error:  # the latter where a library of its is missing
        message = f"nrtpy, which runs NEFFs, cannot be imported: {error}"
        raise ToolchainError(message, hint=hint) from error
    lost = [name for name in _USED_OF_NRTPY if not hasattr(nrtpy, name)]
    if lost:
        message = f"nrtpy lacks {', '.join(lost)}: it is another version than neuronc knows"
        raise ToolchainError(message, hint=hint)
    return nrtpy


def visible_cores(tp: int) -> list[int]:
    """The cores for ``tp`` ranks: the first of NEURON_RT_VISIBLE_CORES, or of the machine.

    Raises:
        ToolchainError: the variable names fewer, or is no increasing list without gaps, such as
            ``0-3`` or ``4,5`` (Neuron SDK, runtime configuration guide).
    """
    text = os.environ.get(CORES_ENV, "").strip()
    if not text:
        return list(range(tp))
    cores: list[int] = []
    for part in text.split(","):
        match = re.fullmatch(r"\s*(\d{1,5})(?:-(\d{1,5}))?\s*", part)
        if match is None or int(match[2] or match[1]) < int(match[1]):
            raise _odd_cores(text, f"{part.strip()!r} is neither a core nor a range")
        cores += range(int(match[1]), int(match[2] or match[1]) + 1)
    if cores != list(range(cores[0], cores[0] + len(cores))):
        raise _odd_cores(text, "the runtime takes cores in increasing order, without gaps")
    if len(cores) < tp:
        message = f"{CORES_ENV} is {text!r}, {len(cores)} cores; the artifact has {tp} ranks"
        raise ToolchainError(message, hint="name a core for each rank")
    return cores[:tp]


def _odd_cores(text: str, why: str) -> ToolchainError:
    message = f"{CORES_ENV} is {text!r}; expected cores such as 0-3 or 4,5: {why}"
    return ToolchainError(message, hint=f"set it so, or unset {CORES_ENV}")


def require_lnc(lnc: int) -> None:
    """Make this process's runtime use logical cores of size ``lnc``, as the NEFFs do.

    Raises:
        ToolchainError: the environment says otherwise.
    """
    found = os.environ.setdefault(LNC_ENV, str(lnc))
    if found != str(lnc):
        message = f"{LNC_ENV} is {found}; the artifact was compiled with --lnc {lnc}"
        raise ToolchainError(message, hint=f"unset {LNC_ENV}, or compile with --lnc {found}")


@contextmanager
def nrt_errors(subject: str) -> Iterator[None]:
    """Turn nrtpy's errors into ours, with the status number and its meaning."""
    try:
        yield
    except NeuroncError:
        raise
    except (TypeError, AttributeError) as error:
        message = f"{subject}: nrtpy does not take what its documentation says: {error}"
        raise ToolchainError(message, hint=install_hint("nrtpy")) from error
    except RuntimeError as error:  # NrtpyError and NrtError are both
        found = _STATUS.search(str(error))
        number = int(found[1]) if found else None  # by number: its name is not always the right one
        meaning, hint, kind = describe_status(number)
        told = f" (status {number}: {meaning})" if found else ""
        message = f"{subject}: {error}{told}"
        classes = {"memory": PlanError, "input": InputError, "toolchain": ToolchainError}
        raise classes.get(kind, CompilerError)(message, hint=hint) from error


def _check_names(
    entry: ProgramEntry, found: Mapping[str, Any], expected: Mapping[str, TensorSpec]
) -> None:
    if found.keys() != expected.keys():
        odd = sorted(found.keys() ^ expected.keys())
        message = f"the NEFF of {entry.name} has other tensors than the manifest: {odd[:3]}"
        raise InputError(message, hint="compile the artifact again")
    for name, tensor in expected.items():
        if found[name].size != tensor_bytes(tensor):
            what = (
                f"{name!r} has {found[name].size} bytes; the manifest says {tensor_bytes(tensor)}"
            )
            message = f"the NEFF of {entry.name}: {what}"
            raise InputError(message, hint="compile the artifact again")
        if tuple(found[name].shape) != tensor.shape:
            what = f"{name!r} has shape {list(found[name].shape)}"
            message = f"the NEFF of {entry.name}: {what}; the manifest says {list(tensor.shape)}"
            raise InputError(message, hint="compile the artifact again")
