"""The engines: what they are installed from and what they can compute in."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from tests.benchmarks.peers.process import OWN

ENGINES = Path(__file__).with_name("engines")
OURS = "neuronc"
_CONVERTS = ("torch==2.13.0", "transformers==5.23.0", "safetensors==0.8.0")

_LLAMA_CPP = {
    "CMAKE_ARGS": "-DGGML_NATIVE=ON -DGGML_LLAMAFILE=ON -DLLAVA_BUILD=OFF -DLLAMA_OPENSSL=OFF",
    "SKBUILD_BUILD_TARGETS": "llama;llama-common",  # what is installed; no tools, no server
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Peer:
    """One engine.

    Attributes:
        name: As in the table.
        file: Under ``engines``.
        packages: Of its virtual environment; none means neuronc's own.
        build: Variables with which its first package is compiled here, where no wheel will do.
        export: Of a second one in which its weights are converted, where the first cannot.
        dtypes: What it computes in here; `OWN` is what it chooses.
        missing: Why not in the others.
    """

    name: str
    file: str
    packages: tuple[str, ...] = ()
    build: Mapping[str, str] = field(default_factory=dict)
    export: tuple[str, ...] = ()
    dtypes: tuple[str, ...] = ("f32", "bf16", OWN)
    missing: Mapping[str, str] = field(default_factory=dict)

    @property
    def path(self) -> Path:
        """Its file."""
        return ENGINES / self.file


PEERS = (
    Peer(name=OURS, file="neuronc.py"),
    Peer(name="transformers", file="transformers.py"),
    Peer(name="torch.compile", file="torch_compile.py"),
    Peer(
        name="OpenVINO",
        file="openvino.py",
        packages=("openvino-genai", "numpy"),
        export=("optimum-intel[openvino]",),
    ),
    Peer(
        name="ONNX Runtime",
        file="onnxruntime.py",
        packages=("onnxruntime-genai", "onnx", "onnx_ir", "numpy", *_CONVERTS),
        dtypes=("f32", OWN),
        missing={"bf16": "its builder exports bf16 for other providers only"},
    ),
    Peer(name="CTranslate2", file="ctranslate2.py", packages=("ctranslate2", "numpy", *_CONVERTS)),
    Peer(
        name="llama.cpp",
        file="llama_cpp.py",
        packages=("llama-cpp-python", "gguf", "numpy"),
        build=_LLAMA_CPP,
    ),
)
