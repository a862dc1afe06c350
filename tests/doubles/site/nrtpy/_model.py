"""Loaded NEFFs. The payload of one of the compiler double's is its HLO, which XLA:CPU runs."""

import os
import tarfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from nrtpy._group import join_group
from nrtpy._runtime import get_nrtpy_singleton, status
from nrtpy._tensor import NrtpyTensor
from tests.doubles.neff_writer import HEADER_BYTES, PAYLOAD, entry_tensors, shape_bytes

_ALIAS = ".must_alias_input"


@dataclass
class TensorMetadata:
    shape: tuple[int, ...]
    size: int


@dataclass
class BenchmarkResult:
    mean_ms: float
    min_ms: float
    max_ms: float
    std_dev_ms: float
    iterations: int
    warmup_iterations: int
    durations_ms: list[float] = field(default_factory=list)


class NrtpyModel:
    def __init__(self, hlo: bytes, core_id: int, rank_id: int, world_size: int) -> None:
        from neuronc.targets.neuron.hlo.schema import LEGACY

        inputs, outputs = entry_tensors(LEGACY.FromString(hlo))
        self.input_tensors_info = {n: _metadata(s) for n, s in inputs.items()}
        self.output_tensors_info = {n: _metadata(s) for n, s in outputs.items()}
        self._core_id, self._rank_id = core_id, rank_id
        self._group = join_group(hlo, inputs, outputs, rank_id, world_size)

    @classmethod
    def load_from_neff(
        cls,
        neff_path: str,
        name: str | None = None,
        core_id: int = 0,
        cc_enabled: bool = False,
        rank_id: int = 0,
        world_size: int = 1,
    ) -> "NrtpyModel":
        runtime = get_nrtpy_singleton()
        path = Path(neff_path)
        if not path.is_file():
            raise status(1, "Failed to load model")
        if not 0 <= core_id < len(runtime.cores):
            raise status(2, f"core {core_id} is not visible")
        if not cc_enabled and (rank_id, world_size) != (0, 1):
            raise status(2, "rank and world size need cc_enabled")
        raw = path.read_bytes()
        lnc = int.from_bytes(raw[552:556], "little")
        if int(os.environ.get("NEURON_LOGICAL_NC_CONFIG", lnc)) != lnc:
            raise status(10, "logical core size differs")
        return cls(_payload(path), core_id, rank_id, world_size)

    def __call__(
        self,
        inputs: dict[str, NrtpyTensor],
        outputs: dict[str, NrtpyTensor] | None = None,
        save_trace: bool = False,
        ntff_name: str | None = None,
    ) -> dict[str, NrtpyTensor] | None:
        self._check("input", inputs, self.input_tensors_info)
        if outputs is not None:
            self._check("output", outputs, self.output_tensors_info)
            for name, tensor in inputs.items():
                plain = name.removesuffix(_ALIAS)
                if plain != name and outputs[plain] is not tensor:
                    raise status(1002, f"{plain} must alias its input")
        arrays = [inputs[name].tensor_ref for name in self.input_tensors_info]
        found = self._group.execute(self._rank_id, arrays)
        made = dict(zip(self.output_tensors_info, found, strict=True))
        if outputs is None:
            return {name: self._allocated(name, array) for name, array in made.items()}
        for name, array in made.items():
            outputs[name].write_from_numpy(array)
        return None

    def benchmark(
        self,
        inputs: dict[str, NrtpyTensor],
        outputs: dict[str, NrtpyTensor] | None = None,
        warmup_iter: int = 5,
        benchmark_iter: int = 5,
        mode: str = "device",
    ) -> BenchmarkResult:
        if mode not in ("device", "host") or benchmark_iter < 1:
            message = f"mode {mode!r}, benchmark_iter {benchmark_iter}"
            raise ValueError(message)
        durations_ms = []
        for _ in range(warmup_iter + benchmark_iter):
            begin = time.perf_counter()
            self(inputs, outputs)
            durations_ms.append(1000 * (time.perf_counter() - begin))
        kept = durations_ms[warmup_iter:]
        return BenchmarkResult(
            mean_ms=float(np.mean(kept)),
            min_ms=min(kept),
            max_ms=max(kept),
            std_dev_ms=float(np.std(kept)),
            iterations=len(kept),
            warmup_iterations=warmup_iter,
            durations_ms=kept,
        )

    def _check(
        self, kind: str, given: dict[str, NrtpyTensor], known: dict[str, TensorMetadata]
    ) -> None:
        if given.keys() != known.keys():
            odd = sorted(given.keys() ^ known.keys())
            raise status(1002, f"{kind} names differ: {odd[:3]}")
        for name, tensor in given.items():
            tensor._require_alive()
            if tensor.tensor_ref.nbytes != known[name].size:
                text = f"{kind} {name} has {tensor.tensor_ref.nbytes} bytes"
                raise status(1002, text)
            if tensor._core_id != self._core_id:
                raise status(1002, f"{kind} {name} is on another core")

    def _allocated(self, name: str, array: np.ndarray[Any, Any]) -> NrtpyTensor:
        void = np.dtype(f"V{array.dtype.itemsize}")  # the runtime does not know what it holds
        memory = np.frombuffer(array.tobytes(), dtype=np.uint8).copy()
        return NrtpyTensor(memory, array.shape, void, name, _core_id=self._core_id)


def _metadata(shape: Any) -> TensorMetadata:
    return TensorMetadata(shape=tuple(shape.dimensions), size=shape_bytes(shape))


def _payload(path: Path) -> bytes:
    with path.open("rb") as file:
        file.seek(HEADER_BYTES)
        try:
            with tarfile.open(fileobj=file, mode="r|*") as archive:
                for member in archive:
                    if member.name == PAYLOAD and (content := archive.extractfile(member)):
                        return content.read()
        except tarfile.TarError:
            pass
    raise status(10, f"no payload in {path.name}")


__all__ = ["BenchmarkResult", "NrtpyModel", "TensorMetadata"]
